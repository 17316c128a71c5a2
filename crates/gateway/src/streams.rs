//! Sockets that connections are made of, TCP or Unix: one type for those that carry, so that what is carried and how much may
//! pass is decided in one place.
//!
//! What it is: a choice at each call. What it is not: a reader of anything but bytes. Descriptors and credentials that come
//! with bytes on a Unix socket are the kernel's to drop: no call here gives it room for them.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::sleep;

/// A silent peer is asked whether it is still there after this long, and each ten seconds from then on.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 6;
/// How often a Unix socket is looked at whose other end may be gone.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Where connections arrive.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Stream {
    /// Best effort: without these the connection is slower to send or to notice a dead peer, not wrong.
    pub(crate) fn tune(&self) {
        let Self::Tcp(stream) = self else { return };
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE);
        let _ = sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL);
        let _ = sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES);
        let _ = sockopt::set_socket_keepalive(stream, true);
    }

    /// Sees to it that closing it resets it, where its kind has that. A Unix stream whose bytes were all read just ends.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_zero_linger();
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    pub(crate) fn try_read(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(space),
            Self::Unix(stream) => stream.try_read(space),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Passes an end of stream on.
    pub(crate) fn end(&self) -> io::Result<()> {
        let ended = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
        match ended {
            // The other side is gone altogether; reading from it says so.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends when it is reset or its peer no longer answers.
    pub(crate) async fn gone(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await.map(drop),
            // It has no error: its other end is closed, which readiness tells together with much else.
            Self::Unix(stream) => loop {
                let mut look = [PollFd::new(stream, PollFlags::empty())];
                poll(&mut look, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                if look.iter().any(|one| one.revents().intersects(PollFlags::HUP | PollFlags::ERR)) {
                    return Ok(());
                }
                sleep(LOOK_INTERVAL).await;
            },
        }
    }
}
