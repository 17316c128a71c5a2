//! Groups 15 and 17: the processes of agents, and each two agents.

use casemate_protocol::agent_token::{Control, ControlStatus};

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::{AgentFacts, status_field};
use crate::sharing::files;
use crate::tree::{Tree, Unread};

/// Namespaces that two agents never have in common.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
/// Most names in an answer.
const NAMES_MAX: usize = 6;

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    CHECKS.to_vec()
}

const CHECKS: [Check; 11] = [
    each!(
        "D15.seccomp",
        Look::Each(|f, a| field(f, a, "Seccomp", |v| v == "2")),
        Heading::Separation,
        "system call filter of each process",
        "/proc/PID/status: Seccomp",
        "2",
        "all of the kernel is open to the agent",
        "see `casemate ps --controls`, and start without --allow-weaker",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.no-new-privileges",
        Look::Each(|f, a| field(f, a, "NoNewPrivs", |v| v == "1")),
        Heading::Separation,
        "no new privileges of each process",
        "/proc/PID/status: NoNewPrivs",
        "1",
        "set-id files give privileges back",
        "see `casemate ps --controls`, and start without --allow-weaker",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.capabilities",
        Look::Each(capabilities),
        Heading::Separation,
        "capabilities of each process",
        "/proc/PID/status: CapInh to CapAmb",
        "0 in each set",
        "a capability over its own namespaces opens kernel code that was not written for attackers",
        "remove cap_add; a gVisor sandbox keeps some over its own namespaces",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.user",
        Look::Each(|f, a| field(f, a, "Uid", |v| v
            .split_whitespace()
            .all(|id| id.parse::<u32>().is_ok_and(|id| id != 0)))),
        Heading::Separation,
        "user of each process, as numbered in the box",
        "/proc/PID/status: Uid",
        "not 0",
        "root of an agent is root of the box once it is out",
        "see `casemate ps --controls`",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.branches",
        Look::Each(|f, a| field(f, a, "SpeculationIndirectBranch", |v| matches!(
            v,
            "conditional force disabled" | "always disabled" | "not affected"
        ))),
        Heading::Separation,
        "indirect branches of each process",
        "/proc/PID/status: SpeculationIndirectBranch",
        "conditional force disabled, always disabled or not affected",
        "Spectre v2 from agent to agent on one core",
        "needs IBPB and STIBP in the processor features that the host passes on",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.stores",
        Look::Each(|f, a| field(f, a, "Speculation_Store_Bypass", |v| matches!(
            v,
            "thread force mitigated" | "globally mitigated" | "not vulnerable"
        ))),
        Heading::Separation,
        "store bypass of each process",
        "/proc/PID/status: Speculation_Store_Bypass",
        "thread force mitigated, globally mitigated or not vulnerable",
        "Spectre v4: reading past stores in one process",
        "needs SSBD in the processor features that the host passes on",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.cookie",
        Look::Each(cookie),
        Heading::Separation,
        "core scheduling",
        "prctl(PR_SCHED_CORE), as the warden saw it",
        "a cookie for each agent",
        "an agent on the sibling thread watches caches and ports",
        "use a kernel with CONFIG_SCHED_CORE, or switch SMT off",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.namespaces",
        Look::Pair(namespaces),
        Heading::Separation,
        "namespaces of two agents",
        "/proc/PID/ns/*",
        "each of eight kinds differs",
        "one agent sees, signals or reaches the other",
        "see `casemate ps --controls`",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.ids",
        Look::Pair(ids),
        Heading::Separation,
        "ranges of user ids of two agents",
        "/proc/PID/uid_map",
        "they do not overlap",
        "files and counters of one user serve both",
        "see `casemate ps --controls`",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D15.groups",
        Look::Pair(control_groups),
        Heading::Separation,
        "control groups of two agents",
        "/proc/PID/cgroup",
        "not the same",
        "one agent starves the other within one limit",
        "see `casemate ps --controls`",
        says::PASS_FAIL_NONE
    ),
    each!(
        "D17.files",
        Look::Pair(files),
        Heading::Separation,
        "files that both of two agents have mapped or mounted",
        "/proc/PID/{maps,mountinfo}",
        "none, unless the composition says `share`",
        "Flush+Reload, page-cache timing; Copy Fail and Dirty Frag write what both execute",
        "remove `share`, or one image a trust group; `casemate posture --sharing` shows which files",
        says::ANY
    ),
];

/// A field of every process of an agent; the first that is not as expected is told.
fn field(facts: &Facts<'_>, agent: &AgentFacts, name: &str, good: fn(&str) -> bool) -> Seen {
    let mut seen = Seen::unknown("it has no process");
    for pid in &agent.pids {
        match status_field(facts.tree, *pid, name) {
            Err(why) => return Seen::unread(name, &why),
            Ok(value) if value.is_empty() => return Seen::unknown(format!("{name}: empty")),
            Ok(value) if !good(&value) => {
                return Seen::new(Verdict::Fail, format!("{value} (process {pid})"));
            }
            Ok(value) => seen = Seen::new(Verdict::Pass, value.replace('\t', " ")),
        }
    }
    seen
}

fn capabilities(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let is_none = |value: &str| value.len() == 16 && value.bytes().all(|byte| byte == b'0');
    let mut seen = Seen::unknown("it has no process");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        seen = field(facts, agent, set, is_none);
        if seen.verdict != Verdict::Pass {
            return Seen::new(seen.verdict, format!("{set} {}", seen.observed));
        }
    }
    Seen::new(seen.verdict, "none")
}

fn cookie(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let single = facts.tree.line("/sys/devices/system/cpu/smt/active").as_deref() == Ok("0");
    match agent.controls.get(&Control::CoreScheduling) {
        Some(ControlStatus::Enforced) => Seen::new(Verdict::Pass, "a cookie of its own"),
        Some(ControlStatus::NotEnforced | ControlStatus::EnforcedWithGaps) if single => {
            Seen::not_applicable("none; SMT is off, as the host claims")
        }
        Some(ControlStatus::NotEnforced | ControlStatus::EnforcedWithGaps) => {
            Seen::new(Verdict::Fail, "none")
        }
        _ => Seen::unknown("the warden could not tell"),
    }
}

fn namespaces(facts: &Facts<'_>, a: &AgentFacts, b: &AgentFacts) -> Seen {
    let mut common = Vec::new();
    for kind in NAMESPACES {
        let of = |agent: &AgentFacts| facts.tree.link(&format!("/proc/{}/ns/{kind}", agent.first()?));
        match (of(a), of(b)) {
            (Ok(a), Ok(b)) if a == b => common.push(kind),
            (Ok(a), Ok(b)) if a.starts_with(kind) && b.starts_with(kind) => {}
            (Ok(_), Ok(_)) => return Seen::unknown(format!("ns/{kind}: not understood")),
            (Err(why), _) | (_, Err(why)) => return Seen::unread(&format!("ns/{kind}"), &why),
        }
    }
    if common.is_empty() {
        Seen::new(Verdict::Pass, "none in common")
    } else {
        Seen::new(Verdict::Fail, format!("in common: {}", common.join(" ")))
    }
}

/// Ranges of ids in the box: first, and how many.
fn id_ranges(tree: &Tree, agent: &AgentFacts) -> Result<Vec<(u64, u64)>, Unread> {
    let text = tree.text(&format!("/proc/{}/uid_map", agent.first()?))?;
    let range = |line: &str| {
        let mut words = line.split_whitespace().skip(1).map(|word| word.parse::<u64>().ok());
        Some((words.next()??, words.next()??))
    };
    let ranges: Vec<_> = text.lines().map(range).collect::<Option<_>>().ok_or(Unread::NotText)?;
    if ranges.is_empty() { Err(Unread::NotText) } else { Ok(ranges) }
}

fn ids(facts: &Facts<'_>, a: &AgentFacts, b: &AgentFacts) -> Seen {
    let (of_a, of_b) = match (id_ranges(facts.tree, a), id_ranges(facts.tree, b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(why), _) | (_, Err(why)) => return Seen::unread("uid_map", &why),
    };
    let overlap = |(first, count): &(u64, u64), (other, other_count): &(u64, u64)| {
        *first < other.saturating_add(*other_count) && *other < first.saturating_add(*count)
    };
    let text = |ranges: &[(u64, u64)]| {
        ranges
            .iter()
            .map(|(first, count)| format!("{first} to {}", first.saturating_add(*count).saturating_sub(1)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let both = format!("{}; {}", text(&of_a), text(&of_b));
    let bad = of_a.iter().any(|one| of_b.iter().any(|other| overlap(one, other)));
    Seen::new(if bad { Verdict::Fail } else { Verdict::Pass }, both)
}

fn control_groups(facts: &Facts<'_>, a: &AgentFacts, b: &AgentFacts) -> Seen {
    let of = |agent: &AgentFacts| {
        let text = facts.tree.text(&format!("/proc/{}/cgroup", agent.first()?))?;
        // The limits of memory stand for all.
        let line = text.lines().find(|line| line.contains(":memory:") || line.starts_with("0::/"));
        line.and_then(|line| line.rsplit(':').next()).map(str::to_owned).ok_or(Unread::NotText)
    };
    match (of(a), of(b)) {
        (Ok(a), Ok(b)) if a == b => Seen::new(Verdict::Fail, a),
        (Ok(a), Ok(b)) => Seen::new(Verdict::Pass, format!("{a}; {b}")),
        (Err(why), _) | (_, Err(why)) => Seen::unread("cgroup", &why),
    }
}

fn files(facts: &Facts<'_>, a: &AgentFacts, b: &AgentFacts) -> Seen {
    if a.share.is_some() && a.share == b.share && a.trust == b.trust {
        return Seen::not_applicable("the composition says that they share");
    }
    let common = match files::common(facts.tree, a, b) {
        Ok(common) => common,
        Err((place, why)) => return Seen::unread(place, &why),
    };
    let bad = if a.trust == b.trust { Verdict::Warn } else { Verdict::Fail };
    if !common.mapped.is_empty() {
        let names: Vec<&str> = common.mapped.iter().map(|(_, name)| name.as_str()).collect();
        return Seen::new(bad, format!("{} mapped files in common: {}", names.len(), first_of(&names)));
    }
    if !common.mounted.is_empty() {
        let places: Vec<&str> = common.mounted.iter().map(String::as_str).collect();
        return Seen::new(bad, format!("mounted in both: {}", first_of(&places)));
    }
    let none =
        if common.own.is_empty() { "none" } else { "none but programs of the box, which no agent sees" };
    Seen::new(Verdict::Pass, none)
}

pub(super) fn first_of(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(NAMES_MAX).collect();
    let more = if names.len() > NAMES_MAX { ", \u{2026}" } else { "" };
    format!("{}{more}", shown.join(", "))
}
