//! What an attack came to.

use serde::{Serialize, Serializer};

use crate::attack::{Attack, Kind, Of};
use crate::run::Seen;
use crate::target::{Kernel, Target};

/// A verdict. `Blocked` needs a positive control of the same run.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It has no effect, and this control is what stops it.
    Blocked {
        /// Name of the control.
        control: String,
    },
    /// It has an effect that nothing allows.
    Leak {
        /// What was measured.
        signal: String,
    },
    /// It has an effect that the composition allows.
    Allowed {
        /// What was measured.
        signal: String,
        /// What allows it.
        by: String,
    },
    /// Nothing can be said.
    Inconclusive {
        /// Why.
        why: String,
    },
}

/// What stops an attack in a sandbox: its kernel, which is nobody else's.
const SANDBOX: &str = "the sandbox's own kernel";
/// Controls in whose place it is.
const IN_A_SANDBOX: [&str; 5] = ["seccomp", "proc", "landlock", "no-privileges", "keyring"];

/// What was seen in the three runs that a verdict needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Between two plain processes: must have an effect.
    pub control: Seen,
    /// Between two plain processes with an idle victim: must have none.
    pub idle: Option<Seen>,
    /// In the target.
    pub target: Seen,
    /// In the target with an idle victim, where the target shows an effect: must have none.
    pub target_idle: Option<Seen>,
}

impl Verdict {
    /// From what was seen in `target`. `allowed` is what in the composition lets the two have in common what the attack goes
    /// through.
    #[must_use]
    pub fn judge(attack: &Attack, target: &dyn Target, evidence: &Evidence, allowed: Option<String>) -> Self {
        let Evidence { control, idle, target: seen, target_idle } = evidence;
        let inconclusive = |why: String| Self::Inconclusive { why };
        if let Seen::NotPlayed(why) = seen {
            return inconclusive(why.clone());
        }
        if let Some(idle) = target_idle.as_ref().filter(|idle| idle.is_signal()) {
            return inconclusive(format!("the same without a victim: {}", idle.describe()));
        }
        let sandboxed = target.kernel() == Kernel::Sandbox;
        let own = sandboxed && matches!(attack.kind, Kind::Surface { of: Of::Kernel, .. });
        if seen.is_signal() && !own {
            let signal = seen.describe();
            return match allowed {
                Some(by) => Self::Allowed { signal, by },
                None => Self::Leak { signal },
            };
        }
        if !control.is_signal() {
            return inconclusive(format!("it does not work between plain processes: {}", control.describe()));
        }
        if let Some(idle) = idle.as_ref().filter(|idle| idle.is_signal()) {
            return inconclusive(format!("plain processes, without a victim: {}", idle.describe()));
        }
        if attack.stopped_by.is_empty() {
            return inconclusive("no control of ours stops it, and it has no effect here".into());
        }
        if own && seen.is_signal() {
            return Self::Blocked { control: SANDBOX.to_owned() };
        }
        let stops = |control: &&'static str| match sandboxed && IN_A_SANDBOX.contains(control) {
            true => Some(SANDBOX.to_owned()),
            false => target.stops(attack, control),
        };
        match attack.stopped_by.iter().find_map(stops) {
            Some(control) => Self::Blocked { control },
            None => inconclusive("it has no effect here, and no control that stops it is in force".into()),
        }
    }

    /// One word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Blocked { .. } => "blocked",
            Self::Leak { .. } => "leak",
            Self::Allowed { .. } => "allowed",
            Self::Inconclusive { .. } => "inconclusive",
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blocked { control } => write!(f, "blocked by {control}"),
            Self::Leak { signal } => write!(f, "leak ({signal})"),
            Self::Allowed { signal, by } => write!(f, "allowed by composition, {by} ({signal})"),
            Self::Inconclusive { why } => write!(f, "inconclusive ({why})"),
        }
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("verdict", self.name())?;
        match self {
            Self::Blocked { control } => map.serialize_entry("control", control)?,
            Self::Leak { signal } => map.serialize_entry("signal", signal)?,
            Self::Allowed { signal, by } => {
                map.serialize_entry("signal", signal)?;
                map.serialize_entry("by", by)?;
            }
            Self::Inconclusive { why } => map.serialize_entry("why", why)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::by_name;
    use crate::target::{Side, Streams, TargetError};

    fn got() -> Seen {
        Seen::Got("it".into())
    }

    fn nothing() -> Seen {
        Seen::Nothing("EPERM".into())
    }

    /// Where these controls are in force.
    struct Place(Kernel, &'static [&'static str]);

    impl Target for Place {
        fn name(&self) -> String {
            "a place".into()
        }

        fn start(&self, _: Side) -> Result<Streams, TargetError> {
            Err(TargetError::Start("nobody plays here".into()))
        }

        fn kernel(&self) -> Kernel {
            self.0
        }

        fn stops(&self, _: &Attack, control: &'static str) -> Option<String> {
            self.1.contains(&control).then(|| control.to_owned())
        }
    }

    const COMMON: Place = Place(Kernel::Common, &["seccomp", "namespaces"]);

    fn judge(evidence: &Evidence, allowed: Option<&str>) -> &'static str {
        Verdict::judge(by_name("trace").unwrap(), &COMMON, evidence, allowed.map(str::to_owned)).name()
    }

    #[test]
    fn what_blocks_is_a_control_that_is_in_force_or_nothing_is_said() {
        let evidence = Evidence { control: got(), idle: None, target: nothing(), target_idle: None };
        let judge = |controls| {
            let place = Place(Kernel::Common, controls);
            Verdict::judge(by_name("trace").unwrap(), &place, &evidence, None).to_string()
        };
        assert_eq!(judge(&["seccomp", "namespaces"]), "blocked by seccomp");
        assert_eq!(judge(&["namespaces"]), "blocked by namespaces");
        assert!(judge(&["cores"]).starts_with("inconclusive"));
    }

    #[test]
    fn nothing_is_called_blocked_that_does_not_work_where_nothing_blocks_it() {
        let mut evidence =
            Evidence { control: got(), idle: Some(nothing()), target: nothing(), target_idle: None };
        assert_eq!(judge(&evidence, None), "blocked");
        assert_eq!(judge(&evidence, Some("share")), "blocked");
        evidence.control = nothing();
        assert_eq!(judge(&evidence, None), "inconclusive");
        evidence.control = Seen::NotPlayed("no victim".into());
        assert_eq!(judge(&evidence, None), "inconclusive");
        evidence = Evidence { control: got(), idle: Some(got()), target: nothing(), target_idle: None };
        assert_eq!(judge(&evidence, None), "inconclusive");
    }

    #[test]
    fn a_sandbox_answers_for_the_kernel_and_not_for_the_box() {
        let evidence = Evidence { control: got(), idle: None, target: got(), target_idle: None };
        let judge = |name: &str| {
            Verdict::judge(by_name(name).unwrap(), &Place(Kernel::Sandbox, &[]), &evidence, None).to_string()
        };
        assert_eq!(judge("io-uring"), "blocked by the sandbox's own kernel");
        assert_eq!(judge("box-socket"), "leak (got it)");
        assert_eq!(judge("trace"), "leak (got it)");
    }

    #[test]
    fn an_effect_is_a_leak_unless_the_composition_allows_it_or_nobody_caused_it() {
        let mut evidence =
            Evidence { control: nothing(), idle: None, target: got(), target_idle: Some(nothing()) };
        assert_eq!(judge(&evidence, None), "leak");
        assert_eq!(judge(&evidence, Some("share: kin")), "allowed");
        evidence.target_idle = Some(got());
        assert_eq!(judge(&evidence, None), "inconclusive");
        evidence.target = Seen::NotPlayed("no file".into());
        assert_eq!(judge(&evidence, None), "inconclusive");
    }
}
