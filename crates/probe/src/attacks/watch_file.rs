//! Seeing when the peer opens a file.
//!
//! Mechanism: inotify tells of every open of an inode that one can read. Source: inotify(7). Stopped by: `private-root` (no inode
//! in common).

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "watch-file",
    title: "events of the peer's reads of a file (inotify)",
    stopped_by: &["private-root"],
    through: Through::Root,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Time between two reads of the victim, and how long the attacker watches.
const PAUSE: Duration = Duration::from_millis(5);
const WATCH: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

fn offer(args: &Args) -> Result<Offer, Why> {
    std::fs::File::open(&args.file)?;
    let file = args.file.clone();
    // Ends with the process.
    std::thread::Builder::new().spawn(move || {
        loop {
            let _ = std::fs::File::open(&file);
            std::thread::sleep(PAUSE);
        }
    })?;
    Ok(Offer::silent(()))
}

fn take(args: &Args) -> Result<String, Why> {
    let watcher = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    inotify::add_watch(&watcher, args.file.as_str(), inotify::WatchFlags::OPEN)?;
    match poll(&mut [PollFd::new(&watcher, PollFlags::IN)], Some(&WATCH))? {
        0 => Err(Why::of("no event in 200 ms")),
        _ => Ok(format!("events of {}", args.file)),
    }
}
