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
use crate::handover;
use crate::spec::{Answer, SPEC_BYTES_MAX, Spec};
use crate::{proc_view, syscall};

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

/// What the launcher hands to the first process.
struct Handed {
    word: outside::Word,
    namespaces: outside::Namespaces,
    root: OwnedFd,
    volumes: Vec<OwnedFd>,
    not_applied: Vec<String>,
}

/// The launcher's whole life: takes what it is handed from the socket that is its standard input, answers there, ends.
pub fn launch() -> ! {
    let status = match handover::control_socket() {
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
    let handed = handover::receive(control).named("", || "take what is handed over".into())?;
    let given = |descriptor: Option<OwnedFd>, step: &'static str| {
        descriptor.ok_or(Errno::BADF).named("", || step.to_owned())
    };
    let spec = read_spec(given(handed.spec, "find the specification")?)?;
    let object = given(handed.object, "find the image or the compartment")?;
    let metadata = match (spec.join, spec.shared_root) {
        (0, 0) => Some(given(handed.metadata, "find the image's metadata")?),
        _ => None,
    };
    let runtime = match &spec.sandbox {
        None => None,
        Some(sandbox) => {
            let program = given(handed.program, "find the sandbox's program")?;
            Some(sandbox::Runtime { sandbox, program })
        }
    };
    let mut not_applied = Vec::new();
    outside::join_cgroup(&spec, &mut not_applied)?;
    if spec.join != 0 {
        return join::run(control, &spec, &object, runtime.as_ref(), not_applied);
    }
    // Namespaces are made while the root is mounted.
    let holder = outside::Holder::start(&spec)?;
    let (root, leftover) = outside::open_root(&spec, &object, metadata.as_ref())?;
    let namespaces = holder.namespaces(&spec)?;
    outside::map_root(&root, &namespaces.user)?;
    drop((object, metadata));
    let volumes = outside::open_volumes(&spec, &namespaces.user)?;
    match outside::clone_first_process(control)? {
        outside::Role::Launcher(go) => {
            let narrowed = proc_view::narrow(holder.pid())
                .named("proc", || "hide what /proc/self/net tells of the box".into());
            unless_weaker(&spec, &mut not_applied, narrowed)?;
            go.say(not_applied.iter().any(|control| control == "proc"))?;
            holder.end();
            drop(leftover);
            Ok(())
        }
        outside::Role::FirstProcess(word) => {
            drop((holder, leftover));
            let handed = Handed { word, namespaces, root, volumes, not_applied };
            match runtime {
                Some(runtime) => sandbox::live(control, &spec, &runtime, handed),
                None => first_process::live(control, &spec, handed),
            }
        }
    }
}

fn read_spec(file: OwnedFd) -> Step<Spec> {
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
            if !not_applied.iter().any(|known| known == failure.control) {
                not_applied.push(failure.control.to_owned());
            }
            Ok(())
        }
        other => other,
    }
}
