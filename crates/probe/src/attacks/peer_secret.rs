//! Reading the peer's secrets.
//!
//! Mechanism: `/run/secrets` by its name, and through `/proc/PID/root` of every process. Source: proc(5). Stopped by:
//! `private-root` (a mount namespace and a memory file system each), `user-namespace`, `namespaces`.

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::others;

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "peer-secret",
    title: "the peer's secrets",
    stopped_by: &["private-root", "user-namespace", "namespaces"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// The victim has it already; it says whether it can read it.
fn offer(args: &Args) -> Result<Offer, Why> {
    match std::fs::read_to_string(&args.secret_path)? {
        content if content == args.secret => Ok(Offer { told: "there".into(), kept: Box::new(()) }),
        _ => Err(Why::of("its secret is another one than the driver says")),
    }
}

fn take(args: &Args) -> Result<String, Why> {
    if args.told.is_empty() {
        return Err(Why::of("no victim says that it has one"));
    }
    let roots = others().unwrap_or_default().into_iter().map(|pid| format!("/proc/{pid}/root"));
    let mut last = Why::of("nothing tried");
    for root in std::iter::once(String::new()).chain(roots) {
        let path = format!("{root}{}", args.secret_path);
        match std::fs::read_to_string(&path) {
            Ok(content) if content == args.secret => return Ok(path),
            Ok(_) => last = Why::of("its own secret"),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
