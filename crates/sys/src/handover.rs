//! What the launcher is handed when it starts: one packet of descriptors on the socket that is its standard input.
//!
//! What it is: the way from the warden to a launcher that runs already, so that a start needs no work between `fork` and
//! `exec` (the warden is a large process, and copying its memory map takes longer than building a namespace), and so
//! that the launcher can be started before all that it needs is there. What it is not: the specification itself, which
//! is in a sealed memory file among the descriptors.
//! Who trusts it: warden and launcher.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::Signal;

use crate::descriptors::{receive_packet, send_packet};
use crate::syscall;

/// First descriptor that is not a standard stream.
pub(crate) const FIRST_DESCRIPTOR: i32 = 3;
/// Most descriptors of the packet.
const HANDED_MAX: usize = 7;

/// What one descriptor is for; the packet has one such byte for each, in their order.
const SPEC: u8 = b's';
const OBJECT: u8 = b'o';
const METADATA: u8 = b'm';
const PROGRAM: u8 = b'p';
const STREAMS: [u8; 3] = *b"012";

/// What the warden hands over.
pub(crate) struct Handed<'a> {
    /// The root image's data or a shared mount, or, to join, the pidfd of the compartment's first process.
    pub(crate) object: BorrowedFd<'a>,
    /// The root image's metadata, where the object is its data.
    pub(crate) metadata: Option<BorrowedFd<'a>>,
    /// The sandbox's program.
    pub(crate) program: Option<BorrowedFd<'a>>,
    /// Standard streams; `/dev/null` where there is none.
    pub(crate) streams: [Option<BorrowedFd<'a>>; 3],
}

impl Handed<'_> {
    /// Sends it, with this specification.
    pub(crate) fn send(&self, control: &OwnedFd, spec: &[u8]) -> std::io::Result<()> {
        let mut file = File::from(memfd_create("spec", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(spec)?;
        std::io::Seek::rewind(&mut file)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let one = |name: u8, descriptor: Option<BorrowedFd<'_>>| (name, descriptor.is_some());
        let named = [one(METADATA, self.metadata), one(PROGRAM, self.program)];
        let streams = STREAMS.iter().zip(self.streams).map(|(name, stream)| one(*name, stream));
        let names: Vec<u8> = [SPEC, OBJECT]
            .into_iter()
            .chain(named.into_iter().chain(streams).filter(|(_, given)| *given).map(|(name, _)| name))
            .collect();
        let descriptors: Vec<BorrowedFd<'_>> = [Some(file.as_fd()), Some(self.object)]
            .into_iter()
            .chain([self.metadata, self.program])
            .chain(self.streams)
            .flatten()
            .collect();
        Ok(send_packet(control, &names, &descriptors)?)
    }
}

/// What the launcher got.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) spec: Option<OwnedFd>,
    pub(crate) object: Option<OwnedFd>,
    pub(crate) metadata: Option<OwnedFd>,
    pub(crate) program: Option<OwnedFd>,
}

/// The launcher's first step: closes all that it inherited but its three streams, takes its control socket from the
/// first of them, and sees to it that it ends with the thread of the warden that started it.
pub(crate) fn control_socket() -> Result<OwnedFd, Errno> {
    syscall::close_from(FIRST_DESCRIPTOR.cast_unsigned())?;
    let control = fcntl_dupfd_cloexec(std::io::stdin(), FIRST_DESCRIPTOR)?;
    // The launcher's output is `/dev/null`, open for reading, too.
    rustix::stdio::dup2_stdin(std::io::stdout())?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Whoever made the socket started the launcher; if it ended before the line above, nothing would tell.
    let warden = rustix::net::sockopt::socket_peercred(&control)?.pid;
    if rustix::process::getppid() == Some(warden) { Ok(control) } else { Err(Errno::SRCH) }
}

/// Receives the packet, and puts the streams in their places.
pub(crate) fn receive(control: &OwnedFd) -> Result<Received, Errno> {
    let (names, descriptors) = receive_packet(control, HANDED_MAX)?;
    if names.len() != descriptors.len() {
        return Err(Errno::PROTO);
    }
    let mut received = Received::default();
    for (name, descriptor) in names.into_iter().zip(descriptors) {
        let place = match name {
            SPEC => &mut received.spec,
            OBJECT => &mut received.object,
            METADATA => &mut received.metadata,
            PROGRAM => &mut received.program,
            b'0' => {
                rustix::stdio::dup2_stdin(&descriptor)?;
                continue;
            }
            b'1' => {
                rustix::stdio::dup2_stdout(&descriptor)?;
                continue;
            }
            b'2' => {
                rustix::stdio::dup2_stderr(&descriptor)?;
                continue;
            }
            _ => return Err(Errno::PROTO),
        };
        if place.replace(descriptor).is_some() {
            return Err(Errno::PROTO);
        }
    }
    Ok(received)
}
