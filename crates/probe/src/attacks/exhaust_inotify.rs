//! Watchers of files without end.
//!
//! Mechanism: each user has 128 inotify instances, counted where its namespace was made. Source: user_namespaces(7), `ucounts`. Stopped by: `user-namespace`.

use rustix::fs::inotify;

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-inotify",
    title: "exhaustion: inotify instances",
    stopped_by: &["user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Exhaust { need, take },
};

fn need(_: &Args) -> Result<Need, Why> {
    Ok(Box::new(|| {
        inotify::init(inotify::CreateFlags::CLOEXEC)?;
        Ok(())
    }))
}

fn take(_: &Args) -> Result<Offer, Why> {
    let mut all = Vec::new();
    let why = loop {
        match inotify::init(inotify::CreateFlags::CLOEXEC) {
            Ok(one) => all.push(one),
            Err(errno) => break errno,
        }
    };
    Ok(Offer { told: format!("{} instances: {why}", all.len()), kept: Box::new(all) })
}
