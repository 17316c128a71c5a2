//! Seeing for which names the peer has looked that are not there.
//!
//! Mechanism: the kernel remembers names that a folder does not have (negative dentries), so that the second look is quick, whoever had
//! the first. Source: path_lookup in the kernel's documentation, `d_is_negative`. Stopped by: `private-root` (a file system
//! instance, and so names, of its own). Positive control: one folder on a disk for both. Negative control: the victim looks for nothing.

use std::path::Path;
use std::time::Instant;

use rustix::fs::{AtFlags, CWD, statat};

use crate::attack::{Args, Attack, Kind, Length, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "missing-names",
    title: "channel: names that a folder does not have",
    stopped_by: &["private-root"],
    through: Through::Root,
    length: Length::Full,
    kind: Kind::OneShot { bits: 240, forget, send, receive },
};

/// Long, so that comparing takes its time.
fn name(args: &Args, number: usize) -> String {
    let folder = Path::new(&args.file).parent().unwrap_or(Path::new("/")).display();
    format!("{folder}/{:=>120}-{}-{number}", "", args.mark)
}

/// Each run has names of its own.
fn forget(_: &Args) -> Result<(), Why> {
    Ok(())
}

fn send(args: &Args, bits: &[bool]) -> Result<(), Why> {
    for (number, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
        let _ = statat(CWD, name(args, number).as_str(), AtFlags::empty());
    }
    Ok(())
}

fn receive(args: &Args, count: usize) -> Result<Vec<f64>, Why> {
    let look = |name: &str| {
        let begun = Instant::now();
        match statat(CWD, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(begun.elapsed().as_secs_f64() * 1e6),
            Err(errno) => Err(Why::from(errno)),
            Ok(_) => Err(Why::of("a file has the name")),
        }
    };
    // The way to the folder is known by then.
    for number in count..count.saturating_add(20) {
        look(&name(args, number))?;
    }
    (0..count).map(|number| look(&name(args, number))).collect()
}
