//! Building one compartment: what the launcher does, in order, with root, before it has nothing.
//!
//! Three processes take part. The *launcher* joins the control group, makes the user namespace under the agent's
//! own outer uid (so that the kernel charges its counters to that uid), opens the root image and the volumes as
//! mounts that are attached nowhere, clones the *first process* into fresh namespaces as a child of the warden, and
//! is gone. The first process attaches the mounts, creates sockets, drops everything, reports, waits for one byte,
//! starts the *agent*, and stays to reap orphans and pass on signals. All namespaces but the user namespace belong
//! to the box, so an agent that gained a capability in its user namespace would still have none over its mounts,
//! network or process tree.
//!
//! An agent in a sandbox (gVisor) is built in the same way, and then run by the sandbox's program: see [`sandbox`].
//!
//! A command that joins a standing compartment (health checks) is confined in the same way; the launcher stays as its
//! parent outside and ends with its status.

mod copy;
mod first_process;
pub mod inside;
mod join;
mod outside;
pub mod sandbox;

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::descriptors::send_packet;
use crate::spec::{Answer, CONTROL_FD, METADATA_FD, OBJECT_FD, PROGRAM_FD, SPEC_BYTES_MAX, SPEC_FD, Spec};
use crate::syscall;

/// A step that failed, and the control that hangs on it.
#[derive(Debug)]
struct Failure {
    control: &'static str,
    step: String,
    errno: Errno,
}

type Step<T> = Result<T, Failure>;

/// Names a step for errors.
trait Named<T> {
    fn named(self, control: &'static str, step: impl FnOnce() -> String) -> Step<T>;
}

impl<T> Named<T> for Result<T, Errno> {
    fn named(self, control: &'static str, step: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|errno| Failure { control, step: step(), errno })
    }
}

impl<T> Named<T> for std::io::Result<T> {
    fn named(self, control: &'static str, step: impl FnOnce() -> String) -> Step<T> {
        self.map_err(|error| Failure {
            control,
            step: step(),
            errno: Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// The launcher's whole life: reads its specification from descriptor 4, answers on descriptor 3, ends.
pub fn launch() -> ! {
    let status = match syscall::inherited(CONTROL_FD) {
        Err(_) => 2,
        Ok(control) => match run(&control) {
            Ok(()) => 0,
            Err(failure) => {
                report(&control, &failure);
                1
            }
        },
    };
    syscall::exit_now(status)
}

fn run(control: &OwnedFd) -> Step<()> {
    let spec = read_spec()?;
    let object = syscall::inherited(OBJECT_FD).named("", || "find the image or the compartment".into())?;
    let metadata = match (spec.join, spec.shared_root) {
        (0, 0) => Some(syscall::inherited(METADATA_FD).named("", || "find the image's metadata".into())?),
        _ => None,
    };
    let runtime = match &spec.sandbox {
        None => None,
        Some(sandbox) => {
            let program = syscall::inherited(PROGRAM_FD).named("", || "find the sandbox's program".into())?;
            Some(sandbox::Runtime { sandbox, program })
        }
    };
    if metadata.is_none() {
        // Nothing was handed over there; what is, is not for a compartment.
        drop(syscall::inherited(METADATA_FD));
    }
    let last = if runtime.is_some() { PROGRAM_FD } else { METADATA_FD };
    syscall::close_from(last.cast_unsigned().saturating_add(1))
        .named("no-privileges", || "close inherited descriptors".into())?;
    let mut not_applied = Vec::new();
    outside::join_cgroup(&spec, &mut not_applied)?;
    if spec.join != 0 {
        return join::run(control, &spec, &object, runtime.as_ref(), not_applied);
    }
    let user_namespace = outside::user_namespace(&spec)?;
    let root = outside::open_root(&spec, &object, metadata.as_ref(), &user_namespace)?;
    drop((object, metadata));
    let volumes = outside::open_volumes(&spec, &user_namespace)?;
    if outside::clone_first_process(control)? == outside::Role::FirstProcess {
        if let Some(runtime) = runtime {
            let handed = sandbox::Handed { user_namespace, root, volumes, not_applied };
            sandbox::live(control, &spec, &runtime, handed);
        }
        first_process::live(control, &spec, &user_namespace, root, volumes, not_applied);
    }
    Ok(())
}

fn read_spec() -> Step<Spec> {
    let file = syscall::inherited(SPEC_FD).named("", || "open the specification".into())?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(SPEC_BYTES_MAX).unwrap_or(u64::MAX);
    std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(file), limit), &mut bytes)
        .named("", || "read the specification".into())?;
    Spec::decode(&bytes).map_err(|error| Failure {
        control: "",
        step: format!("decode the specification: {error}"),
        errno: Errno::INVAL,
    })
}

fn report(control: &OwnedFd, failure: &Failure) {
    let answer = Answer::Failed {
        control: failure.control.to_owned(),
        step: failure.step.chars().take(500).collect(),
        errno: failure.errno.raw_os_error(),
    };
    // Where even this fails, the warden sees the socket close and says so.
    let _ = send_packet(control, &answer.encode(), &[]);
}

/// Ends with `failure` unless the specification allows to go on without its control.
fn unless_weaker(spec: &Spec, not_applied: &mut Vec<String>, outcome: Step<()>) -> Step<()> {
    match outcome {
        Err(failure) if spec.weaker.iter().any(|allowed| allowed == failure.control) => {
            not_applied.push(failure.control.to_owned());
            Ok(())
        }
        other => other,
    }
}
