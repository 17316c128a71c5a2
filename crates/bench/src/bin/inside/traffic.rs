//! Traffic over TCP: a server, a client that is told what to do by files, and a proxy that copies.
//!
//! The first byte of a connection says what it is for: `e` each 1024 bytes come back, `s` everything is read and one
//! byte comes back at its end, `c` the connection is closed at once by the client.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;

/// Bytes of one message there and back.
const MESSAGE_BYTES: usize = 1024;
/// Bytes of one write or read of a stream.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that the proxy copies at once.
const PROXY_BYTES: usize = 64 << 10;
/// Time between two looks for something to do.
const POLL: Duration = Duration::from_millis(2);

/// Serves for ever.
pub(crate) fn serve(address: &str) -> Outcome {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming().flatten() {
        // A client that goes away is no concern.
        std::thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0; 1];
    stream.read_exact(&mut what)?;
    match what {
        [b'e'] => {
            let mut message = [0; MESSAGE_BYTES];
            while stream.read_exact(&mut message).is_ok() {
                stream.write_all(&message)?;
            }
        }
        [b's'] => {
            let mut chunk = vec![0; CHUNK_BYTES];
            while stream.read(&mut chunk)? > 0 {}
            stream.write_all(b"k")?;
        }
        _ => stream.write_all(b"k")?,
    }
    Ok(())
}

/// Does what `ask` in the folder says, writes `told` there, for ever.
pub(crate) fn drive(folder: &str) -> Outcome {
    let (ask, told) = (Path::new(folder).join("ask"), Path::new(folder).join("told"));
    let beside = Path::new(folder).join("telling");
    fs::write(Path::new(folder).join("ready"), "")?;
    loop {
        let Ok(line) = fs::read_to_string(&ask) else {
            std::thread::sleep(POLL);
            continue;
        };
        fs::remove_file(&ask)?;
        fs::write(&beside, obey(&line).unwrap_or_else(|error| format!("failed {line}: {error}")))?;
        fs::rename(&beside, &told)?;
    }
}

fn obey(line: &str) -> Result<String, Box<dyn std::error::Error>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [what, host, port, count] = words.as_slice() else { return Err("four words".into()) };
    let address = SocketAddr::new(find(host)?, port.parse()?);
    let count: u32 = count.parse()?;
    match *what {
        "trips" => trips(address, count),
        "stream" => stream(address, count),
        "connect" => connect(address, count),
        _ => Err("no such thing".into()),
    }
}

/// An address, or a name of `/etc/hosts`.
fn find(host: &str) -> Result<IpAddr, Box<dyn std::error::Error>> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let hosts = fs::read_to_string("/etc/hosts")?;
    let mut lines = hosts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|words| words.iter().skip(1).any(|word| *word == host));
    Ok(line.and_then(|words| words.first().map(|word| word.parse())).ok_or("no such host")??)
}

/// Microseconds of each of `count` trips of 1 KiB there and back, on one connection.
fn trips(address: SocketAddr, count: u32) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(b"e")?;
    let mut message = [1; MESSAGE_BYTES];
    let mut all = String::new();
    for _ in 0..count {
        let began = Instant::now();
        stream.write_all(&message)?;
        stream.read_exact(&mut message)?;
        all.push_str(&format!("{:.2} ", began.elapsed().as_secs_f64() * 1e6));
    }
    Ok(all)
}

/// Megabytes a second of `count` megabytes.
fn stream(address: SocketAddr, count: u32) -> Result<String, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(address)?;
    let chunk = vec![1; CHUNK_BYTES];
    let mut left = u64::from(count) * 1_000_000;
    let began = Instant::now();
    stream.write_all(b"s")?;
    while left > 0 {
        let next =
            chunk.get(..usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES)).unwrap_or(&chunk);
        stream.write_all(next)?;
        left -= next.len() as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0; 1])?;
    Ok(format!("{:.2}", f64::from(count) / began.elapsed().as_secs_f64()))
}

/// Connections a second, each with one byte there and one back, one after the other.
fn connect(address: SocketAddr, count: u32) -> Result<String, Box<dyn std::error::Error>> {
    let began = Instant::now();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"c")?;
        stream.read_exact(&mut [0; 1])?;
    }
    Ok(format!("{:.2}", f64::from(count) / began.elapsed().as_secs_f64()))
}

/// A plain proxy in user space: two threads a connection, each reads and writes.
pub(crate) fn proxy(listen: &str, target: &str) -> Outcome {
    let target: SocketAddr = target.parse()?;
    for near in TcpListener::bind(listen)?.incoming().flatten() {
        std::thread::spawn(move || -> std::io::Result<()> {
            let far = TcpStream::connect(target)?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
            std::thread::spawn(move || copy(near_too, far_too));
            copy(far, near)
        });
    }
    Ok(())
}

fn copy(mut from: impl Read, mut to: TcpStream) -> std::io::Result<()> {
    let mut bytes = vec![0; PROXY_BYTES];
    loop {
        match from.read(&mut bytes)? {
            0 => return to.shutdown(Shutdown::Write),
            count => to.write_all(bytes.get(..count).unwrap_or(&bytes))?,
        }
    }
}
