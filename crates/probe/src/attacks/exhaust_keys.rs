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
    let name = CString::new(format!("need-{}", args.mark))?;
    // Where the victim's own filter has no keys, it needs none.
    let has = add_key(&name, b"x").map(remove_key).is_ok();
    Ok(Box::new(move || {
        if has {
            remove_key(add_key(&name, b"x")?);
        }
        Ok(())
    }))
}

/// Takes all back in the end.
struct Keys(Vec<i64>);

impl Drop for Keys {
    fn drop(&mut self) {
        self.0.iter().copied().for_each(remove_key);
    }
}

fn take(args: &Args) -> Result<Offer, Why> {
    let mut all = Keys(Vec::new());
    let why = loop {
        let name = CString::new(format!("hog-{}-{}", args.mark, all.0.len()))?;
        match add_key(&name, &[b'x'; 64]) {
            Ok(serial) => all.0.push(serial),
            Err(errno) => break errno,
        }
        if all.0.len() > 20_000 {
            break rustix::io::Errno::CANCELED;
        }
    };
    Ok(Offer { told: format!("{} keys: {why}", all.0.len()), kept: Box::new(all) })
}
