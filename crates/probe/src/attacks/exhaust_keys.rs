//! Keys without end.
//!
//! Mechanism: each user has 200 keys. Source: keyrings(7). Stopped by: `seccomp`, `user-namespace`.

use std::ffi::CString;

use casemate_sys::attack::{add_key, remove_key};

use crate::attack::{Args, Attack, Kind, Length, Need, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "exhaust-keys",
    title: "exhaustion: keys",
    stopped_by: &["seccomp", "user-namespace"],
    through: Through::Kernel,
    length: Length::Full,
    kind: Kind::Exhaust { need, take },
};

fn need(args: &Args) -> Result<Need, Why> {
    let name = CString::new(format!("need-{}-with-a-longer-name", args.mark))?;
    // Where the victim's own filter has no keys, it needs none.
    let has = add_key(&name, b"x").map(remove_key).is_ok();
    Ok(Box::new(move || {
        if has {
            remove_key(add_key(&name, b"x")?);
        }
        Ok(())
    }))
}

/// Most keys that are made: root has a quota of a million.
const MOST: usize = 20_000;

/// Takes all back in the end.
struct Keys(Vec<i64>);

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.iter().copied().for_each(remove_key);
    }
}

fn take(args: &Args) -> Result<Offer, Why> {
    let mut all = Keys(Vec::new());
    let mut why = rustix::io::Errno::CANCELED;
    // Down to the last byte of the quota.
    for content in [&[b'x'; 64][..], b"x"] {
        while all.0.len() < MOST {
            let name = CString::new(format!("{}-{}", all.0.len(), args.mark))?;
            match add_key(&name, content) {
                Ok(serial) => all.0.push(serial),
                Err(errno) => {
                    why = errno;
                    break;
                }
            }
        }
    }
    Ok(Offer { told: format!("{} keys: {why}", all.0.len()), kept: Box::new(all) })
}
