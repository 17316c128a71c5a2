//! What the courier gives up before it reads the first byte.
//!
//! What it is: root, where it was started with it, new privileges, core dumps, a life longer than the warden's.
//! What it is not: the choice of the uid, which is the warden's. Who trusts it: the warden's operator.

use casemate_composition::rules::NETWORK_SECCOMP_RULES;
use casemate_sys::seccomp;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit,
};
use rustix::thread::set_no_new_privs;

use crate::courier::CourierError;

/// Gives up what the courier does not need. The kernel sends the signal when the *thread* that started the courier
/// ends: the warden starts it from a thread that lives as long as itself.
pub(crate) fn isolate(uid: Option<u32>) -> Result<(), CourierError> {
    let parent = getppid();
    let step = |what: &'static str| move |error| CourierError::Isolation { what, error };
    if let Some(uid) = uid {
        let identity = casemate_sys::process::Identity { uid, gid: uid };
        casemate_sys::process::become_identity(identity).map_err(step("identity"))?;
    }
    set_no_new_privs(true).map_err(step("no_new_privs"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(step("dumpable"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(step("core size"))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("parent death signal"))?;
    // A parent that ended before the signal was armed has been replaced by now.
    if getppid() == parent { Ok(()) } else { Err(CourierError::Orphaned) }
}

/// Puts the system call filter on this thread, and so on every thread that it starts. The last step before it serves.
pub(crate) fn confine() -> Result<(), CourierError> {
    let program =
        seccomp::compile(NETWORK_SECCOMP_RULES).map_err(|error| CourierError::Rules(error.to_string()))?;
    let step = |error| CourierError::Isolation { what: "system call filter", error };
    seccomp::load_for_process(&program).map_err(step)
}
