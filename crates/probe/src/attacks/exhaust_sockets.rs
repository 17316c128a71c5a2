//! Memory that waits in sockets, without end: no process is told to have it, so that where it is short, another's is ended for it.
//!
//! Mechanism: bytes that were sent and not read are the kernel's, counted for the control group and for nobody's size; the
//! out-of-memory killer ends the largest process. Source: unix(7), oom_kill.c. Stopped by: `cgroup-limits` (a group for each agent).
//! Positive control: one group for both. Negative control: the victim works while nobody fills. Memory of TCP sockets is limited
//! for the whole machine (`tcp_mem`) besides, and is not tried here; a system test does.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};
use crate::attacks::owned::{PAGE, taken};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-sockets",
    title: "exhaustion: memory in sockets",
    stopped_by: &["cgroup-limits"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

/// What the victim has: enough to be the largest.
const NEED_BYTES: usize = 14 << 20;
/// What the attacker has of its own, so that it is ended before the probe that started it.
const OWN_BYTES: usize = 4 << 20;
/// Bytes written at once, and most that are written.
const PIECE: [u8; 16 << 10] = [7; 16 << 10];
const BYTES_MAX: usize = 160 << 20;

fn need(_: &Args) -> Result<Need, Why> {
    let mut memory = taken(NEED_BYTES);
    Ok(Box::new(move || {
        memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = byte.wrapping_add(1));
        let (mut from, mut to) = UnixStream::pair()?;
        from.write_all(b"x")?;
        Ok(std::io::Read::read_exact(&mut to, &mut [0])?)
    }))
}

fn take(_: &Args) -> Result<Offer, Why> {
    let own = taken(OWN_BYTES);
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let (mut all, mut bytes) = (Vec::new(), 0_usize);
    let why = loop {
        if bytes >= BYTES_MAX {
            break "the probe's own end".to_owned();
        }
        match full_pair() {
            Ok((pair, sent)) => {
                bytes = bytes.saturating_add(sent);
                all.push(pair);
            }
            Err(error) => break error.to_string(),
        }
    };
    Ok(Offer {
        told: format!("{} KiB in {} pairs: {why}", bytes >> 10, all.len()),
        kept: Box::new((own, all)),
    })
}

/// Two joined sockets with as much in them as they take.
fn full_pair() -> std::io::Result<((UnixStream, UnixStream), usize)> {
    let (mut from, mut to) = UnixStream::pair()?;
    let mut sent = 0_usize;
    for end in [&mut from, &mut to] {
        end.set_nonblocking(true)?;
        while let Ok(count) = end.write(&PIECE) {
            sent = sent.saturating_add(count);
        }
    }
    Ok(((from, to), sent))
}
