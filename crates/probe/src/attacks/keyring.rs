//! Reading a key of the peer's out of the user's keyring.
//!
//! Mechanism: each user has one keyring for all its processes. Source: user-keyring(7). Stopped by: `seccomp`,
//! `user-namespace`, `keyring`.

use std::ffi::CString;

use casemate_sys::attack::read_key;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::owned;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "keyring",
    title: "keys in the user's keyring",
    stopped_by: &["seccomp", "user-namespace", "keyring"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

fn offer(args: &Args) -> Result<Offer, Why> {
    owned::offer_key(args, args.own_secret().as_bytes())
}

fn take(args: &Args) -> Result<String, Why> {
    let content = read_key(&CString::new(args.mark.as_str())?)?;
    if content == args.own_secret().into_bytes() {
        Ok("the secret in the user's keyring".into())
    } else {
        Err(Why::of("a key of another"))
    }
}
