//! Taking an open file or socket out of the peer's process.
//!
//! Mechanism: `pidfd_getfd` copies descriptors of processes that one may trace. Source: pidfd_getfd(2). Stopped by: `seccomp`,
//! `namespaces`, `user-namespace`.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{own_pid, victims};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "steal-descriptor",
    title: "open files of the peer (pidfd_getfd)",
    stopped_by: &["seccomp", "namespaces", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    let (read, mut write) = std::io::pipe()?;
    write.write_all(args.own_secret().as_bytes())?;
    Ok(Offer { told: format!("{} {}", own_pid(), read.as_raw_fd()), kept: Box::new((read, write)) })
}

fn take(args: &Args) -> Result<String, Why> {
    let (pid, number) = args.told.split_once(' ').unwrap_or_default();
    let pid = victims(args).ok().and_then(|pids| pids.first().copied()).or(pid.parse().ok());
    let descriptor = casemate_sys::attack::take_descriptor(pid.unwrap_or(1), number.parse().unwrap_or(0))?;
    let mut content = [0; 100];
    let read = std::fs::File::from(descriptor).read(&mut content)?;
    let content = String::from_utf8_lossy(content.get(..read).unwrap_or_default()).into_owned();
    if content == args.own_secret() {
        Ok("the secret in a pipe of the victim".into())
    } else {
        Err(Why::of("another's"))
    }
}
