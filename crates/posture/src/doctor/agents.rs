//! Groups 15 and 17: the processes of agents, and each two agents.

use std::collections::{BTreeMap, BTreeSet};

use casemate_protocol::agent_token::{Control, ControlStatus};

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::{self, AgentFacts, status_field};
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
            "conditional force disabled" | "always disabled"
        ))),
        Heading::Separation,
        "indirect branches of each process",
        "/proc/PID/status: SpeculationIndirectBranch",
        "conditional force disabled, or always disabled",
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

/// A file that processes of an agent have mapped.
struct Mapped {
    name: String,
    /// Each process that has it mapped has it as its program.
    as_program: bool,
}

/// Files that the processes of an agent have mapped, by device and inode.
fn mapped(tree: &Tree, agent: &AgentFacts) -> Result<BTreeMap<(String, String), Mapped>, Unread> {
    let mut files: BTreeMap<(String, String), Mapped> = BTreeMap::new();
    agent.first()?;
    for pid in &agent.pids {
        let text = tree.text(&format!("/proc/{pid}/maps"))?;
        if text.is_empty() {
            return Err(Unread::NotText);
        }
        let program = tree.link(&format!("/proc/{pid}/exe")).unwrap_or_default();
        for line in text.lines() {
            // `RANGE MODE OFFSET DEVICE INODE NAME` (proc_pid_maps(5)).
            let mut words = line.split_whitespace().skip(3);
            let (Some(device), Some(inode)) = (words.next(), words.next()) else {
                return Err(Unread::NotText);
            };
            if inode == "0" {
                continue;
            }
            let name = words.collect::<Vec<_>>().join(" ");
            let as_program = name == program;
            files
                .entry((decimal(device).ok_or(Unread::NotText)?, inode.to_owned()))
                .and_modify(|file| file.as_program &= as_program)
                .or_insert(Mapped { name, as_program });
        }
    }
    Ok(files)
}

/// A device as mountinfo writes it: `maps` has hexadecimal numbers.
fn decimal(device: &str) -> Option<String> {
    let (major, minor) = device.split_once(':')?;
    let number = |hex| u32::from_str_radix(hex, 16).ok();
    Some(format!("{}:{}", number(major)?, number(minor)?))
}

/// What an agent has mounted that holds files: device and folder of it; and the folders below an overlay.
fn mounted(tree: &Tree, agent: &AgentFacts) -> Result<BTreeSet<(String, String)>, Unread> {
    let mounts = agents::mounts(tree, &agent.first()?.to_string())?;
    let mut places = BTreeSet::new();
    for mount in mounts.iter().filter(|mount| mount.kind != "proc" && mount.kind != "devpts") {
        places.insert((format!("{} {}", mount.kind, mount.device), mount.root.clone()));
        let lower = mount.options.split(',').find_map(|option| option.strip_prefix("lowerdir="));
        let lower = lower.into_iter().flat_map(|lower| lower.split(':'));
        places.extend(lower.map(|path| ("overlay on".to_owned(), path.to_owned())));
    }
    Ok(places)
}

/// Places of one file system of which one is inside the other.
fn common_places(a: &BTreeSet<(String, String)>, b: &BTreeSet<(String, String)>) -> Vec<String> {
    let inside = |one: &str, other: &str| {
        let rest = one.strip_prefix(other.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let meets = |(device, place): &(String, String)| {
        b.iter().any(|(other, at)| device == other && (inside(place, at) || inside(at, place)))
    };
    a.iter().filter(|place| meets(place)).map(|(device, place)| format!("{device} {place}")).collect()
}

fn files(facts: &Facts<'_>, a: &AgentFacts, b: &AgentFacts) -> Seen {
    if a.share.is_some() && a.share == b.share && a.trust == b.trust {
        return Seen::not_applicable("the composition says that they share");
    }
    let (in_a, in_b) = match (mapped(facts.tree, a), mapped(facts.tree, b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(why), _) | (_, Err(why)) => return Seen::unread("maps", &why),
    };
    let (at_a, at_b) = match (mounted(facts.tree, a), mounted(facts.tree, b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(why), _) | (_, Err(why)) => return Seen::unread("mountinfo", &why),
    };
    let places = common_places(&at_a, &at_b);
    // The box's own first process of each compartment has its program mapped from a place that no agent sees.
    let is_mounted =
        |device: &str| at_a.iter().chain(&at_b).any(|(place, _)| place.split(' ').nth(1) == Some(device));
    let (mut common, mut own) = (Vec::new(), 0_usize);
    for (key, file) in &in_a {
        let Some(other) = in_b.get(key) else { continue };
        if file.as_program && other.as_program && !is_mounted(&key.0) {
            own = own.saturating_add(1);
        } else {
            common.push(file.name.as_str());
        }
    }
    let bad = if a.trust == b.trust { Verdict::Warn } else { Verdict::Fail };
    if !common.is_empty() {
        return Seen::new(bad, format!("{} mapped files in common: {}", common.len(), first_of(&common)));
    }
    if !places.is_empty() {
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        return Seen::new(bad, format!("mounted in both: {}", first_of(&places)));
    }
    Seen::new(
        Verdict::Pass,
        if own == 0 {
            "none"
        } else {
            "none but the program of the box's first process, which no agent sees"
        },
    )
}

pub(super) fn first_of(names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().copied().take(NAMES_MAX).collect();
    let more = if names.len() > NAMES_MAX { ", \u{2026}" } else { "" };
    format!("{}{more}", shown.join(", "))
}
