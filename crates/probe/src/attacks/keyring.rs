//! Reading a key of the peer's out of the user's keyring.
//!
//! Mechanism: each user has one keyring for all its processes. Source: user-keyring(7). Stopped by: `seccomp`,
//! `user-namespace`, `keyring`.

use std::ffi::CString;

use casemate_sys::attack::{add_key, read_key, remove_key};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "keyring",
    title: "keys in the user's keyring",
    stopped_by: &["seccomp", "user-namespace", "keyring"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Removes it in the end.
struct Key(Option<i64>);

impl Drop for Key {
    fn drop(&mut self) {
        if let Some(serial) = self.0 {
            remove_key(serial);
        }
    }
}

fn offer(args: &Args) -> Result<Offer, Why> {
    let name = CString::new(args.mark.as_str())?;
    // Where the victim's own filter has no keys, the attacker's is tried all the same.
    Ok(Offer::silent(Key(add_key(&name, args.own_secret().as_bytes()).ok())))
}

fn take(args: &Args) -> Result<String, Why> {
    let content = read_key(&CString::new(args.mark.as_str())?)?;
    if content == args.own_secret().into_bytes() {
        Ok("the secret in the user's keyring".into())
    } else {
        Err(Why::of("a key of another"))
    }
}
