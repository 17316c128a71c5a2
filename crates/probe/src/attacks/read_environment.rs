//! Reading the peer's environment, where many programs have their keys.
//!
//! Mechanism: `/proc/PID/environ` is open to processes of the same user. Source: proc(5). Stopped by: `namespaces`,
//! `user-namespace`, `proc`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::victims;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "read-environment",
    title: "environment of the peer's processes",
    stopped_by: &["namespaces", "user-namespace", "proc"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(_: &Args) -> Result<Offer, Why> {
    Ok(Offer::silent(()))
}

fn take(args: &Args) -> Result<String, Why> {
    match victims(args)?.first() {
        Some(pid) => Ok(format!("the secret in the environment of process {pid}")),
        None => Err(Why::of("no environment with the victim's secret in /proc")),
    }
}
