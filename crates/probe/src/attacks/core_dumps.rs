//! Core dumps: memory of a program, with its secrets, in a file or in the hands of a program of the box.
//!
//! Mechanism: a process that may raise its limit of core files is dumped as `/proc/sys/kernel/core_pattern` says, which is one
//! for all. Source: core(5). Stopped by: `no-privileges` (limits of 0 that nobody inside can raise).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "core-dumps",
    title: "core dumps",
    stopped_by: &["no-privileges"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

fn take(_: &Args) -> Result<String, Why> {
    let most = getrlimit(Resource::Core).maximum;
    if most == Some(0) {
        return Err(Why::of("the limit is 0 for good"));
    }
    setrlimit(Resource::Core, Rlimit { current: most, maximum: most })?;
    Ok("core files of any size".into())
}
