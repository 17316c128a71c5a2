//! What can stop a start, ordered by whose fault it is.

use std::path::PathBuf;
use std::process::ExitCode;

use casemate_protocol::Refusal;
use casemate_protocol::agent_token::Control;
use casemate_sys::compartment::inside::MOUNT_TARGET;

/// Why the warden, or one agent's start, cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum WardenError {
    /// Input is not what it must be.
    #[error("{what}")]
    Input {
        /// What is wrong.
        what: String,
        /// What to do.
        todo: &'static str,
    },
    /// A rule refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The broker or the courier did not do its part.
    #[error("{what}")]
    Broker {
        /// What happened.
        what: String,
    },
    /// A file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The machine did not do its part.
    #[error("{what}")]
    Environment {
        /// What happened.
        what: String,
        /// What to do.
        todo: &'static str,
    },
    /// The agent's program could not be executed.
    #[error("{what}")]
    NotExecuted {
        /// 127 where there is no such program, 126 else, as shells have it.
        status: i32,
        /// What happened.
        what: String,
    },
    /// It was asked to end.
    #[error("the box is shutting down")]
    ShuttingDown,
}

impl WardenError {
    /// What the user can do.
    pub(crate) fn todo(&self) -> String {
        match self {
            Self::Input { todo, .. } | Self::Environment { todo, .. } => (*todo).to_owned(),
            Self::Refused(refusal) if refusal.rule.starts_with("control.") => {
                Control::remedy(refusal.rule.trim_start_matches("control."))
            }
            Self::Refused(refusal) if refusal.rule == "mount.target" => {
                "add it to the image, or mount at a folder that the image has; a config can also lie below /run or a tmpfs"
                    .into()
            }
            Self::Refused(refusal) if refusal.rule == "agent.events" => {
                "start the box again with `casemate down` and `casemate up`: its log begins anew".into()
            }
            Self::Refused(_) => {
                "if the change is meant, write the policy again; else restore what was approved".into()
            }
            Self::Broker { .. } => {
                "check that the broker runs and that the box reaches it, then `casemate up` again".into()
            }
            Self::File { .. } => {
                "check that the disk has space and that the folder is writable by root".into()
            }
            Self::NotExecuted { .. } => {
                "check command, working directory and mounts of the agent in the Compose file, and what its image has"
                    .into()
            }
            Self::ShuttingDown => "start it again with `casemate up`".into(),
        }
    }

    /// The refusal, where a rule refused.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The status that shells have for a program that they cannot execute; none where it is something else.
    pub(crate) const fn not_executed(&self) -> Option<i32> {
        match self {
            Self::NotExecuted { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// That a program could not be executed.
    pub(crate) fn program(errno: rustix::io::Errno) -> Self {
        let status = if errno == rustix::io::Errno::NOENT { 127 } else { 126 };
        Self::NotExecuted { status, what: format!("execute the program: {errno}") }
    }

    /// Prints two lines and gives the exit code, as `casemate` has them: 1 refused, 2 bad input, 3 all else.
    pub(crate) fn explain(&self) -> ExitCode {
        eprintln!("error: {self}");
        eprintln!("to do: {}", self.todo());
        ExitCode::from(match self {
            Self::Refused(_) => 1,
            Self::Input { .. } => 2,
            _ => 3,
        })
    }

    /// A control that could not be applied, or a mount that the image has no place for.
    pub(crate) fn control(name: &str, found: impl std::fmt::Display) -> Self {
        if name == MOUNT_TARGET {
            let expected = "in the image, of the kind that is mounted there, and no symbolic link on the way";
            return Refusal::new("mount.target", expected, found).into();
        }
        let expected = match Control::from_name(name) {
            Some(Control::PrivateRoot) => {
                "the verified image mounted as erofs: a copy of its metadata for this agent, its data read past the page cache"
            }
            _ => "applied to the compartment",
        };
        Refusal::new(&format!("control.{name}"), expected, found).into()
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// An error of the system in a named step.
    pub(crate) fn system(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Environment {
            what: format!("{step}: {errno}"),
            todo: "look at the kernel log and the limits of the box",
        }
    }

    /// What cannot happen with the values that the warden makes itself.
    pub(crate) fn ours(error: &dyn std::fmt::Display) -> Self {
        Self::Environment { what: error.to_string(), todo: "this is a defect of casemate: please report it" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_without_a_place_is_the_matter_of_no_control() {
        let error = WardenError::control(MOUNT_TARGET, "look at mount target /work: No such file");
        assert_eq!(error.refusal().unwrap().rule, "mount.target");
        assert!(error.todo().contains("add it to the image"), "{}", error.todo());
        assert!(Control::from_name(MOUNT_TARGET).is_none());
    }
}
