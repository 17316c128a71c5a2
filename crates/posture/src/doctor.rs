//! The checks of `casemate doctor`: 27 groups, each check as data and a small function.
//!
//! A check says what it looks at, what it expects, who vouches for what it sees, which attack it concerns and what to
//! do. What is absent, unreadable or not understood is [`Verdict::Unknown`], never a pass. Where
//! the facts come from is in [`crate::sources`], for each check.

/// A check of each agent, and of each two.
macro_rules! each {
    ($id:literal, $look:expr, $heading:expr, $what:literal, $place:literal, $expected:literal, $attack:literal, $fix:literal, $verdicts:expr) => {
        Check {
            id: $id,
            heading: $heading,
            vantage: Vantage::GuestObserved,
            what: $what,
            place: $place,
            expected: $expected,
            attack: $attack,
            fix: $fix,
            verdicts: $verdicts,
            look: $look,
        }
    };
}

mod agents;
mod cpu;
mod facts;
mod features;
mod host_input;
mod kernel;
mod limits;
mod markdown;
mod memory;
mod platform;
mod report;
mod storage;
mod sysctl;
mod version;
mod views;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agents::AgentFacts;
use crate::tree::Unread;

pub use facts::{Facts, KernelLog};
pub use markdown::markdown;

pub use casemate_protocol::posture::{Vantage, Verdict};

/// The question of the field that a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heading {
    /// What separates two agents.
    Separation,
    /// What evidence covers.
    AttestationScope,
    /// What the hypervisor can still do.
    HypervisorSurface,
    /// What agents share in one kernel.
    LocalSurface,
}

impl Heading {
    /// Each of them, in the order of a report.
    pub const ALL: [Self; 4] =
        [Self::Separation, Self::AttestationScope, Self::HypervisorSurface, Self::LocalSurface];

    /// The heading in words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Separation => "Separation granularity: what separates two agents",
            Self::AttestationScope => "Attestation scope: what evidence covers",
            Self::HypervisorSurface => "Hypervisor attack surface: what the host can still do",
            Self::LocalSurface => "Local attack surface: what agents share",
        }
    }
}

/// A check.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Stable name: group, and what in it.
    pub id: &'static str,
    /// Where it is reported.
    pub heading: Heading,
    /// Who vouches for what it observes.
    pub vantage: Vantage,
    /// What it looks at, in words.
    pub what: &'static str,
    /// Where it looks.
    pub place: &'static str,
    /// What it expects.
    pub expected: &'static str,
    /// The attack that it concerns, with its source.
    pub attack: &'static str,
    /// What to do where it does not pass.
    pub fix: &'static str,
    /// What it can say besides `unknown`.
    pub verdicts: &'static [Verdict],
    pub(crate) look: Look,
}

/// What checks can say besides `unknown`.
pub(crate) mod says {
    use super::Verdict::{self, Fail, NotApplicable, Pass, Warn};

    pub(crate) const PASS_WARN: &[Verdict] = &[Pass, Warn];
    pub(crate) const PASS_FAIL: &[Verdict] = &[Pass, Fail];
    pub(crate) const PASS_WARN_FAIL: &[Verdict] = &[Pass, Warn, Fail];
    pub(crate) const PASS_WARN_NONE: &[Verdict] = &[Pass, Warn, NotApplicable];
    pub(crate) const FAIL_NONE: &[Verdict] = &[Fail, NotApplicable];
    pub(crate) const PASS_FAIL_NONE: &[Verdict] = &[Pass, Fail, NotApplicable];
    pub(crate) const ANY: &[Verdict] = &[Pass, Warn, Fail, NotApplicable];
}

/// How a check looks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look {
    /// At a file with one number.
    Number { path: &'static str, good: fn(i64) -> bool, otherwise: Verdict },
    /// At the machine.
    Machine(fn(&Facts<'_>) -> Seen),
    /// At the machine, with a word or row of a table.
    Word(&'static str, fn(&Facts<'_>, &'static str) -> Seen),
    /// At each agent.
    Each(fn(&Facts<'_>, &AgentFacts) -> Seen),
    /// At each two agents.
    Pair(fn(&Facts<'_>, &AgentFacts, &AgentFacts) -> Seen),
}

/// What was seen, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) verdict: Verdict,
    pub(crate) observed: String,
}

impl Seen {
    pub(crate) fn new(verdict: Verdict, observed: impl Into<String>) -> Self {
        Self { verdict, observed: observed.into() }
    }

    pub(crate) fn unknown(why: impl Into<String>) -> Self {
        Self::new(Verdict::Unknown, why)
    }

    pub(crate) fn unread(place: &str, why: &Unread) -> Self {
        Self::unknown(format!("{place}: {}", why.describe()))
    }

    pub(crate) fn not_applicable(why: impl Into<String>) -> Self {
        Self::new(Verdict::NotApplicable, why)
    }
}

/// A finding: a check and what it saw, of the machine, of one agent, or of two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// [`Check::id`].
    pub id: Cow<'static, str>,
    /// [`Check::heading`].
    pub heading: Heading,
    /// The agent, or two of them joined by ` + `; none for the machine.
    pub about: Option<String>,
    /// [`Check::what`].
    pub what: Cow<'static, str>,
    /// What was seen, or why nothing was.
    pub observed: String,
    /// [`Check::expected`].
    pub expected: Cow<'static, str>,
    /// What that means.
    pub verdict: Verdict,
    /// [`Check::vantage`].
    pub vantage: Vantage,
    /// [`Check::attack`].
    pub attack: Cow<'static, str>,
    /// [`Check::fix`].
    pub fix: Cow<'static, str>,
    /// Where the facts of the check are described, and what of them was confirmed nowhere.
    pub source: Cow<'static, str>,
}

/// All checks, in the order of their groups.
#[must_use]
pub fn checks() -> Vec<Check> {
    let groups = [
        platform::checks(),
        report::checks(),
        host_input::checks(),
        storage::checks(),
        version::checks(),
        cpu::checks(),
        agents::checks(),
        memory::checks(),
        sysctl::checks(),
        kernel::checks(),
        views::checks(),
        limits::checks(),
    ];
    let mut checks: Vec<Check> = groups.into_iter().flatten().collect();
    // Stable: within a group the order is that of its module.
    checks.sort_by(|one, other| group(one.id).cmp(group(other.id)));
    checks
}

fn group(id: &str) -> &str {
    id.split('.').next().unwrap_or(id)
}

/// Runs all checks.
#[must_use]
pub fn run(facts: &Facts<'_>) -> Vec<Finding> {
    checks().iter().flat_map(|check| findings(check, facts)).collect()
}

/// Runs the checks of the machine alone: those that look at no agent.
#[must_use]
pub fn run_machine(facts: &Facts<'_>) -> Vec<Finding> {
    // One more looks at what agents can do, where it knows of any.
    let of_agents =
        |check: &&Check| !matches!(check.look, Look::Each(_) | Look::Pair(_)) && check.id != "D20.namespaces";
    checks().iter().filter(of_agents).flat_map(|check| findings(check, facts)).collect()
}

/// How many findings have each verdict.
#[must_use]
pub fn count(findings: &[Finding]) -> BTreeMap<Verdict, usize> {
    let number = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    Verdict::ALL.into_iter().map(|verdict| (verdict, number(verdict))).collect()
}

fn findings(check: &Check, facts: &Facts<'_>) -> Vec<Finding> {
    let finding = |about: Option<String>, seen: Seen| Finding {
        id: Cow::Borrowed(check.id),
        heading: check.heading,
        about,
        what: Cow::Borrowed(check.what),
        observed: seen.observed,
        expected: Cow::Borrowed(check.expected),
        verdict: seen.verdict,
        vantage: check.vantage,
        attack: Cow::Borrowed(check.attack),
        fix: Cow::Borrowed(check.fix),
        source: Cow::Owned(crate::sources::words(check.id)),
    };
    let agents = match (&check.look, facts.agents) {
        (Look::Number { path, good, otherwise }, _) => {
            return vec![finding(None, number(facts, path, *good, *otherwise))];
        }
        (Look::Machine(look), _) => return vec![finding(None, look(facts))],
        (Look::Word(word, look), _) => return vec![finding(None, look(facts, word))],
        (Look::Each(_) | Look::Pair(_), None) => {
            return vec![finding(None, Seen::unknown("no box runs"))];
        }
        (Look::Each(_) | Look::Pair(_), Some(agents)) => agents,
    };
    let found: Vec<Finding> = match check.look {
        Look::Each(look) => {
            agents.iter().map(|agent| finding(Some(agent.name.clone()), look(facts, agent))).collect()
        }
        Look::Pair(look) => pairs(agents)
            .map(|(a, b)| finding(Some(format!("{} + {}", a.name, b.name)), look(facts, a, b)))
            .collect(),
        _ => Vec::new(),
    };
    if found.is_empty() {
        return vec![finding(None, Seen::not_applicable("too few agents run"))];
    }
    found
}

/// Each two agents once.
pub(crate) fn pairs(agents: &[AgentFacts]) -> impl Iterator<Item = (&AgentFacts, &AgentFacts)> {
    agents
        .iter()
        .enumerate()
        .flat_map(move |(place, a)| agents.iter().skip(place.saturating_add(1)).map(move |b| (a, b)))
}

fn number(facts: &Facts<'_>, path: &str, good: fn(i64) -> bool, otherwise: Verdict) -> Seen {
    match facts.tree.line(path).map(|line| line.parse::<i64>()) {
        Err(why) => Seen::unread(path, &why),
        Ok(Err(_)) => Seen::unknown(format!("{path}: not a number")),
        Ok(Ok(value)) => Seen::new(if good(value) { Verdict::Pass } else { otherwise }, value.to_string()),
    }
}
