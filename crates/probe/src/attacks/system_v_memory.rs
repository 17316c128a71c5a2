//! Reading System V memory of the peer.
//!
//! Mechanism: keys of segments are numbers that all of an IPC namespace have in common. Source: sysvipc(7). Stopped by:
//! `namespaces`.

use casemate_sys::attack::{offer_segment, read_segment, remove_segment};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "system-v-memory",
    title: "System V memory of the peer",
    stopped_by: &["namespaces"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Removes it in the end. Who is killed leaves it, so each run has a key of its own, and the attacker removes it, too.
struct Segment(i32);

impl Drop for Segment {
    fn drop(&mut self) {
        remove_segment(self.0);
    }
}

fn key(args: &Args) -> i32 {
    let sum = args.mark.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    i32::try_from(sum & 0x3fff_ffff).unwrap_or(1).max(1)
}

fn offer(args: &Args) -> Result<Offer, Why> {
    offer_segment(key(args), args.own_secret().as_bytes())?;
    Ok(Offer::silent(Segment(key(args))))
}

fn take(args: &Args) -> Result<String, Why> {
    let _removed = Segment(key(args));
    let secret = args.own_secret().into_bytes();
    match read_segment(key(args), secret.len())? {
        content if content == secret => Ok("the secret in a segment of the victim".into()),
        _ => Err(Why::of("a segment of another")),
    }
}
