//! Steps about Unix sockets: a server, a caller, and what neither may get over an edge.

use std::error::Error;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves at this path: reads until its caller ends its stream, then answers with what came.
pub(crate) fn serve(path: &str) -> Result<(), Box<dyn Error>> {
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream) {
    let (mut text, mut descriptors) = (Vec::new(), 0);
    let mut buffer = [0; 16 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&stream, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors += rights.count();
            }
        }
        match received {
            Ok(received) if received.bytes > 0 => text.extend(buffer.iter().take(received.bytes)),
            _ => break,
        }
    }
    // A process that has no number here is not told at all.
    let peer = match rustix::net::sockopt::socket_peercred(&stream) {
        Ok(peer) => format!("user {}", peer.uid.as_raw()),
        Err(_) => "unseen".to_owned(),
    };
    let start = String::from_utf8_lossy(&text).chars().take(40).collect::<String>();
    // A caller that goes away is no concern.
    let _ = write!(stream, "{} bytes {start} descriptors {descriptors} peer {peer}", text.len());
}

/// Calls: says this text, ends its stream, reads the answer.
pub(crate) fn call(path: &str, text: &str) -> String {
    let answer = || -> Result<String, std::io::Error> {
        let mut stream = connect(path)?;
        stream.write_all(text.as_bytes())?;
        rest(stream)
    };
    told(path, answer())
}

/// As [`call`], with so many kilobytes.
pub(crate) fn call_with(path: &str, kilobytes: usize) -> String {
    call(path, &"x".repeat(kilobytes << 10))
}

/// As [`call`], with a descriptor beside the first byte.
pub(crate) fn call_with_descriptor(path: &str) -> String {
    let mut sent = String::new();
    let mut answer = || -> Result<String, std::io::Error> {
        let mut stream = connect(path)?;
        let own = std::fs::File::open("/proc/self/status")?;
        let rights = [own.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&rights));
        sent = match sendmsg(&stream, &[IoSlice::new(b"d")], &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(_) => "sent".to_owned(),
            Err(errno) => format!("{:?}", std::io::Error::from(errno).kind()),
        };
        stream.write_all(b"ata")?;
        rest(stream)
    };
    let text = told(path, answer());
    format!("descriptor {sent}: {text}")
}

fn connect(path: &str) -> std::io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

fn rest(mut stream: UnixStream) -> std::io::Result<String> {
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn told(path: &str, answer: std::io::Result<String>) -> String {
    match answer {
        Ok(text) if text.is_empty() => format!("call {path} ended"),
        Ok(text) => format!("call {path} answered {text}"),
        Err(error) => format!("call {path} failed {:?}", error.kind()),
    }
}

/// Tries to put something else at this path or at a folder above it.
pub(crate) fn tamper(path: &str) -> String {
    let mut done = Vec::new();
    for place in Path::new(path).ancestors().take_while(|place| *place != Path::new("/run")) {
        let moved = place.with_extension("moved");
        if std::fs::rename(place, &moved).is_ok() {
            done.push(format!("renamed {}", place.display()));
        }
        if std::fs::remove_file(place).is_ok() || std::fs::remove_dir(place).is_ok() {
            done.push(format!("removed {}", place.display()));
        }
        if UnixListener::bind(place.with_extension("own")).is_ok() {
            done.push(format!("made a socket beside {}", place.display()));
        }
    }
    if done.is_empty() { "changed nothing".to_owned() } else { done.join(", ") }
}
