//! Opening a POSIX message queue of the peer.
//!
//! Mechanism: queues have names that all of an IPC namespace have in common. Source: mq_overview(7). Stopped by: `namespaces`,
//! `seccomp`.

use std::ffi::CString;

use casemate_sys::attack::{Queue, message_queue, remove_queue};

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "message-queue",
    title: "POSIX message queues of the peer",
    stopped_by: &["namespaces", "seccomp"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Removes its name in the end; the attacker does, too.
struct Named(CString);

impl Drop for Named {
    fn drop(&mut self) {
        remove_queue(&self.0);
    }
}

fn offer(args: &Args) -> Result<Offer, Why> {
    let name = CString::new(args.mark.as_str())?;
    // Where the victim's own filter has no queues, the attacker's is tried all the same.
    let queue = message_queue(&name, Queue::Create).ok();
    Ok(Offer::silent((queue, Named(name))))
}

fn take(args: &Args) -> Result<String, Why> {
    let name = Named(CString::new(args.mark.as_str())?);
    message_queue(&name.0, Queue::Open)?;
    Ok("a queue of the victim".into())
}
