//! Reading the peer's memory.
//!
//! Mechanism: `process_vm_readv` reads memory of processes that one may trace: those of the same user. Source:
//! process_vm_readv(2). Stopped by: `seccomp`, `namespaces`, `user-namespace`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{own_pid, victims};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "read-memory",
    title: "memory of the peer (process_vm_readv)",
    stopped_by: &["seccomp", "namespaces", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    let secret = args.own_secret().into_bytes().into_boxed_slice();
    let told = format!("{} {}", own_pid(), secret.as_ptr().addr());
    Ok(Offer { told, kept: Box::new(secret) })
}

fn take(args: &Args) -> Result<String, Why> {
    let (pid, address) = args.told.split_once(' ').unwrap_or_default();
    let secret = args.own_secret().into_bytes();
    let mut seen = vec![0; secret.len()];
    let pids = victims(args).ok().filter(|pids| !pids.is_empty());
    let mut last = Why::of("no process of the victim");
    for pid in pids.unwrap_or_else(|| vec![pid.parse().unwrap_or(1)]) {
        match casemate_sys::attack::read_memory(pid, address.parse().unwrap_or(4096), &mut seen) {
            Ok(_) if seen == secret => return Ok(format!("the secret in the memory of process {pid}")),
            Ok(_) => last = Why::of("other memory than the victim's"),
            Err(errno) => last = errno.into(),
        }
    }
    Err(last)
}
