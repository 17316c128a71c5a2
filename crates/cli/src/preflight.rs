//! Whether this machine can build compartments at all: tried before `up` starts anything.
//!
//! What it is: `casemate` started once more, in a process that tries each step and ends; what it tells, as a failure with
//! the control that is missing and what to do. What it is not: evidence. The warden looks at each compartment by itself.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use casemate_composition::rules::SECCOMP_RULES;
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::Control;
use casemate_sys::{preflight, seccomp};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};
use crate::lines;
use crate::programs::own_path;

/// What the emulator is a file system by.
const FUSE: &str = "/dev/fuse";
const FUSE_TODO: &str =
    "load it with `modprobe fuse`; a container must be given the device (`--device /dev/fuse`)";

/// Something that is missing, from one process to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lack {
    /// The control, or empty.
    control: String,
    found: String,
    todo: String,
}

/// `casemate box-preflight`: tries everything, tells what is missing as one line of JSON, ends.
pub(crate) fn try_all() -> Outcome {
    let filter = seccomp::compile(SECCOMP_RULES).map_err(|error| {
        Failure::environment(
            format!("system call rules: {error}"),
            "this is a defect of casemate: please report it",
        )
    })?;
    let fuse = OpenOptions::new().read(true).write(true).open(FUSE).err();
    let mut lacks: Vec<Lack> = preflight::try_in_a_throwaway_process(&filter)
        .into_iter()
        .map(|lack| Lack { control: lack.control.into(), found: lack.found, todo: lack.todo.into() })
        .collect();
    lacks.extend(fuse.map(|error| Lack {
        control: String::new(),
        found: format!("{FUSE}: {error}; the emulated hardware is a file system in user space"),
        todo: FUSE_TODO.into(),
    }));
    lines::print(serde_json::to_string(&lacks).unwrap_or_default());
    Ok(0)
}

/// Fails where this machine lacks what a compartment needs and `weaker` does not accept the gap.
pub(crate) fn require(weaker: &[Control]) -> Outcome<()> {
    let failed = |what: String| Failure::environment(what, "look at the kernel log, then try again");
    let mut command = Command::new(own_path()?);
    command.arg("box-preflight").stdin(Stdio::null());
    let output = command.output().map_err(|error| failed(format!("box-preflight: {error}")))?;
    let lacks: Vec<Lack> = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        failed(format!("the look at this machine ended early ({}) {said}", output.status))
    })?;
    first_failure(lacks, weaker).map_or(Ok(()), Err)
}

/// The first lack that is not accepted, with the others after it.
fn first_failure(lacks: Vec<Lack>, weaker: &[Control]) -> Option<Failure> {
    let accepted = |lack: &Lack| {
        Control::from_name(&lack.control)
            .is_some_and(|control| control.may_be_missing() && weaker.contains(&control))
    };
    let mut failures = lacks.into_iter().filter(|lack| !accepted(lack)).map(failure);
    let mut first = failures.next()?;
    first.more.extend(failures);
    Some(first)
}

fn failure(lack: Lack) -> Failure {
    const WHAT: &str = "no agent can be confined on this machine; nothing was started";
    if lack.control.is_empty() {
        return Failure::environment(format!("{WHAT}: {}", lack.found), lack.todo);
    }
    let rule = format!("control.{}", lack.control);
    let todo = if lack.todo.is_empty() { Control::remedy(&lack.control) } else { lack.todo };
    Failure::refused(WHAT, Refusal::new(&rule, "available on this machine", lack.found), todo)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(control: &str) -> Lack {
        Lack { control: control.into(), found: "nothing".into(), todo: String::new() }
    }

    #[test]
    fn a_lack_names_its_control_and_what_to_do() {
        let failure = first_failure(vec![lack("landlock"), lack("namespaces")], &[]).unwrap();
        let refusal = failure.refusal.as_ref().unwrap();
        assert_eq!((refusal.rule.as_str(), refusal.found.as_str()), ("control.landlock", "nothing"));
        assert!(failure.todo.contains("--allow-weaker landlock"), "{}", failure.todo);
        assert_eq!(failure.more.len(), 1);
        assert!(first_failure(Vec::new(), &[]).is_none());
    }

    #[test]
    fn only_a_control_that_may_be_missing_is_accepted() {
        assert!(first_failure(vec![lack("landlock")], &[Control::Landlock]).is_none());
        let kept = first_failure(vec![lack("namespaces")], &[Control::Namespaces]).unwrap();
        assert_eq!(kept.refusal.unwrap().rule, "control.namespaces");
        // What is no control cannot be accepted.
        assert!(first_failure(vec![lack("")], &Control::ALL).is_some());
    }
}
