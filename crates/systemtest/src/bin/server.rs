//! A threaded HTTP/1.1 server of the system tests: `server PORT THREADS` answers each request with its path.
//!
//! What it is: an ordinary threaded Rust program in a compartment. What it is not: part of the project. Who trusts it:
//! nobody.

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

/// Longest head of a request in bytes.
const HEAD_BYTES_MAX: u64 = 16 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [port, threads] = words.as_slice() else { return Err("two words: PORT THREADS".into()) };
    let listener = TcpListener::bind(("0.0.0.0", port.parse::<u16>()?))?;
    let (give, take) = mpsc::channel::<TcpStream>();
    let take = Arc::new(Mutex::new(take));
    for _ in 0..threads.parse::<u32>()? {
        let take = Arc::clone(&take);
        std::thread::spawn(move || {
            loop {
                let Ok(Ok(stream)) = take.lock().map(|take| take.recv()) else { return };
                // A caller that goes away is no concern.
                let _ = serve(&stream);
            }
        });
    }
    println!("serving on {port}");
    for stream in listener.incoming().flatten() {
        give.send(stream)?;
    }
    Ok(())
}

/// Answers all requests of a connection.
fn serve(stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = (&mut reader).take(HEAD_BYTES_MAX);
        let mut first = String::new();
        if head.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut line = String::new();
        while head.read_line(&mut line)? > 2 {
            line.clear();
        }
        let body = format!("you asked for {}\n", first.split(' ').nth(1).ok_or("no path")?);
        write!(&mut &*stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    }
}
