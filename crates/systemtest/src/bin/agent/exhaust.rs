//! Taking all that one can get of something, and the little of everything that a well-behaved program needs.

use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify};
use nix::sys::timer::Timer;
use nix::time::ClockId;
use rustix::fs::inotify;

/// Most things that are taken: a limit that is not reached by then is no limit.
const THINGS_MAX: usize = 1 << 17;
/// Bytes written at once.
static PIECE: [u8; 64 << 10] = [7; 64 << 10];
/// Capacity that each pipe is given.
const PIPE_BYTES: usize = 1 << 20;
/// Time between two beats.
const BEAT: Duration = Duration::from_millis(100);

/// Takes all of `what`, keeps it, and says how much it was and why not more.
pub(crate) fn all(what: &str) -> Result<String, Box<dyn Error>> {
    let (kind, place) = what.split_once(' ').unwrap_or((what, ""));
    let (count, why) = match kind {
        "files" => hold(|| File::open("/dev/null")),
        "inotify" => hold(|| inotify::init(inotify::CreateFlags::empty())),
        "pipes" => hold(large_pipe),
        "timers" => hold(timer),
        "sockets" => hold(full_pair),
        "connections" => hold(|| TcpStream::connect(place)),
        "tcp" => hold(full_connection),
        "disk" => {
            let mut file = File::create(format!("{place}/fill"))?;
            hold(move || file.write_all(&PIECE))
        }
        _ => return Err("no such thing".into()),
    };
    Ok(format!("{kind} held at {count}: {why}"))
}

fn hold<T, E: Display>(mut take: impl FnMut() -> Result<T, E>) -> (usize, String) {
    let mut all = Vec::new();
    let why = loop {
        match take() {
            Ok(one) => all.push(one),
            Err(error) => break error.to_string(),
        }
        if all.len() == THINGS_MAX {
            break "no limit".to_owned();
        }
    };
    let count = all.len();
    // Kept until the program ends.
    std::mem::forget(all);
    (count, why)
}

fn large_pipe() -> std::io::Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES)?;
    Ok((read, write))
}

fn timer() -> nix::Result<Timer> {
    Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(SigevNotify::SigevNone))
}

/// Two joined sockets, with as much in them as they take.
fn full_pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let (mut from, to) = UnixStream::pair()?;
    from.set_nonblocking(true)?;
    while from.write(&PIECE).is_ok() {}
    Ok((from, to))
}

/// Likewise with TCP over loopback.
fn full_connection() -> std::io::Result<(TcpStream, TcpStream)> {
    let (mut from, to) = connection()?;
    from.set_nonblocking(true)?;
    while from.write(&PIECE).is_ok() {}
    Ok((from, to))
}

fn connection() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let from = TcpStream::connect(listener.local_addr()?)?;
    Ok((from, listener.accept()?.0))
}

/// Starts itself without end, in each process that it starts.
pub(crate) fn bomb(say: impl Fn(&str)) -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    let mut told = false;
    loop {
        match Command::new(&own).arg("bomb").spawn() {
            Err(error) if !told => {
                told = true;
                say(&format!("bomb held: {error}"));
            }
            // Without pause the log alone would be what others notice.
            _ => std::thread::sleep(Duration::from_micros(100)),
        }
    }
}

/// A little of everything, again and again: `beat N`, or what failed. `endpoint` is called each time.
pub(crate) fn beat(endpoint: &str, say: impl Fn(&str)) -> Result<(), Box<dyn Error>> {
    for count in 1_u64.. {
        match once(endpoint) {
            Ok(()) => say(&format!("beat {count}")),
            Err((what, error)) => say(&format!("beat {count} failed: {what}: {error}")),
        }
        std::thread::sleep(BEAT);
    }
    Ok(())
}

fn once(endpoint: &str) -> Result<(), (&'static str, String)> {
    fn named<T, E: Display>(what: &'static str, result: Result<T, E>) -> Result<T, (&'static str, String)> {
        result.map_err(|error| (what, error.to_string()))
    }
    let own = named("program", std::env::current_exe())?;
    named("file", File::open("/dev/null"))?;
    named("inotify", inotify::init(inotify::CreateFlags::empty()))?;
    named("pipe", large_pipe())?;
    named("timer", timer())?;
    named("memory", Ok::<_, String>(vec![1_u8; 4 << 20]))?;
    let (mut from, mut to) = named("sockets", UnixStream::pair())?;
    named("sockets", from.write_all(b"x").and_then(|()| to.read_exact(&mut [0])))?;
    let (mut from, mut to) = named("tcp", connection())?;
    named("tcp", from.write_all(b"x").and_then(|()| to.read_exact(&mut [0])))?;
    named("disk", std::fs::write("/tmp/beat", PIECE))?;
    named("process", Command::new(own).arg("exit 0").status())?;
    let mut stream = named("connection", TcpStream::connect(endpoint))?;
    named("connection", stream.set_read_timeout(Some(Duration::from_secs(10))))?;
    let mut answer = String::new();
    named("connection", stream.read_to_string(&mut answer))?;
    if answer.is_empty() {
        return Err(("connection", "no answer".into()));
    }
    Ok(())
}
