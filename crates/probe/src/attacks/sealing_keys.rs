//! Sealing keys of the peer, which are in the memory of the box's own process.
//!
//! Mechanism: secrets are sealed to a key of each agent that the warden alone has; root of the box may read the memory of any process.
//! The attacker looks for the process behind the box's socket, by the socket itself and among all that `/proc` shows, and opens its
//! memory. Nothing of what is read is kept. Source: proc(5), `/proc/PID/mem`; unix(7), `SO_PEERCRED`. Stopped by: `namespaces`,
//! `private-root`, `user-namespace`, `no-privileges`. Positive control: between processes of root. No victim is needed: the keys are the
//! box's to keep, so there is no negative control. Keys are used, not kept, by an agent: there is none in its compartment.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

use rustix::net::sockopt::socket_peercred;

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};
use crate::attacks::others;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "sealing-keys",
    title: "sealing keys of the peer in the box's memory",
    stopped_by: &["namespaces", "private-root", "user-namespace", "no-privileges"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Box, take },
};

/// How the process that has them is named (`/proc/PID/comm`).
const KEEPER: &str = "casemate-warden";

fn take(args: &Args) -> Result<String, Why> {
    if args.box_socket.is_empty() {
        return Err(Why::of("no box runs"));
    }
    let behind = UnixStream::connect(&args.box_socket)
        .ok()
        .and_then(|stream| Some(socket_peercred(stream.as_fd()).ok()?.pid.as_raw_nonzero().get()));
    let named = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == KEEPER)
    };
    let mut last = Why::of("no process of the box in sight");
    for pid in behind.into_iter().chain(others().unwrap_or_default().into_iter().filter(named)) {
        match first_bytes(pid) {
            Ok(()) => return Ok(format!("a way to read the memory of process {pid}, which has the keys")),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Reads what every process has at the beginning of its first mapping: the head of its program.
fn first_bytes(pid: i32) -> Result<(), Why> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let start = maps.split('-').next().unwrap_or_default();
    let address = u64::from_str_radix(start, 16)?;
    Ok(File::open(format!("/proc/{pid}/mem"))?.read_exact_at(&mut [0; 4], address)?)
}
