//! Groups 13 and 14: what the kernel says of holes of the processor, and its threads.

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

const FOLDER: &str = "/sys/devices/system/cpu/vulnerabilities";
const SMT: &str = "/sys/devices/system/cpu/smt";

/// A check of one file of the folder.
macro_rules! vulnerability {
    ($name:literal, $attack:literal) => {
        Check {
            id: concat!("D13.", $name),
            heading: Heading::LocalSurface,
            vantage: Vantage::GuestObserved,
            what: concat!("mitigation of ", $name),
            place: concat!("/sys/devices/system/cpu/vulnerabilities/", $name),
            expected: "Not affected, or Mitigation: without a part that is vulnerable",
            attack: $attack,
            fix: "update microcode (of the host) and kernel; remove `mitigations=off`; else one trust group a core",
            verdicts: says::PASS_WARN_FAIL,
            look: Look::Word($name, vulnerability),
        }
    };
}

const KNOWN: [Check; 19] = [
    vulnerability!("gather_data_sampling", "Downfall: vector registers of another process"),
    vulnerability!("ghostwrite", "GhostWrite (RISC-V): writes to physical memory"),
    vulnerability!("indirect_target_selection", "ITS: branches of the kernel trained by a process"),
    vulnerability!("itlb_multihit", "iTLB multihit: a guest halts the processor"),
    vulnerability!("l1tf", "L1 terminal fault (Foreshadow): data in the first cache"),
    vulnerability!("mds", "RIDL, ZombieLoad: buffers of another process on the core"),
    vulnerability!("meltdown", "Meltdown: memory of the kernel"),
    vulnerability!("mmio_stale_data", "stale data of device memory"),
    vulnerability!("old_microcode", "holes that newer microcode closes"),
    vulnerability!("reg_file_data_sampling", "RFDS: register files of another process"),
    vulnerability!("retbleed", "Retbleed: returns of the kernel trained by a process"),
    vulnerability!("spec_rstack_overflow", "SRSO (Inception): returns trained across processes"),
    vulnerability!("spec_store_bypass", "Spectre v4: reading past stores"),
    vulnerability!("spectre_v1", "Spectre v1: bounds checks passed"),
    vulnerability!("spectre_v2", "Spectre v2, BHI: branches trained across processes"),
    vulnerability!("srbds", "CrossTalk: random numbers of another core"),
    vulnerability!("tsa", "TSA: data of another process through timing of stores"),
    vulnerability!("tsx_async_abort", "TAA: buffers of another process on the core"),
    vulnerability!("vmscape", "VMScape: mitigated by the host alone; a guest cannot see whether it is"),
];

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let mut checks = KNOWN.to_vec();
    checks.push(Check {
        id: "D13.others",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "mitigations that this build does not know by name",
        place: FOLDER,
        expected: "each Not affected, or Mitigation:",
        attack: "holes that were found after this build",
        fix: "update microcode (of the host) and kernel",
        verdicts: says::PASS_WARN_FAIL,
        look: Look::Machine(others),
    });
    checks.push(Check {
        id: "D13.ibpb",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "branch predictor flushed between processes",
        place: "/sys/devices/system/cpu/vulnerabilities/spectre_v2",
        expected: "IBPB: conditional, or IBPB: always-on",
        attack: "Spectre v2 from agent to agent on one core",
        fix: "needs IBPB in the processor features that the host passes on",
        verdicts: says::PASS_WARN,
        look: Look::Machine(ibpb),
    });
    checks.push(Check {
        id: "D14.smt",
        heading: Heading::LocalSurface,
        vantage: Vantage::HostClaimed,
        what: "second threads of cores",
        place: "/sys/devices/system/cpu/smt/{active,control}",
        expected: "0, and off, forceoff, notsupported or notimplemented",
        attack: "an agent on the sibling thread watches caches and ports; the topology is what the host says it is",
        fix: "switch SMT off (`nosmt=force`), or use a kernel with core scheduling and see D15.cookie",
        verdicts: says::PASS_WARN,
        look: Look::Machine(smt),
    });
    checks
}

fn vulnerability(facts: &Facts<'_>, name: &'static str) -> Seen {
    match facts.tree.line(&format!("{FOLDER}/{name}")) {
        Err(why) => Seen::unread(name, &why),
        Ok(status) => judged(&status),
    }
}

fn judged(status: &str) -> Seen {
    let is_known = ["Not affected", "Mitigation: ", "Vulnerable", "Unknown", "KVM: "];
    let is_weak = |part: &str| part.contains("ulnerable");
    let says_unknown = |part: &str| part.contains("Unknown") || part.contains("Host state unknown");
    let verdict = if status == "Not affected" {
        Verdict::Pass
    } else if is_weak(status) {
        Verdict::Fail
    } else if says_unknown(status) {
        Verdict::Warn
    } else if status.starts_with("Mitigation: ") || status.starts_with("KVM: Mitigation: ") {
        Verdict::Pass
    } else if is_known.iter().any(|known| status.starts_with(known)) {
        Verdict::Warn
    } else {
        return Seen::unknown(format!("not understood: {status}"));
    };
    Seen::new(verdict, status)
}

fn others(facts: &Facts<'_>) -> Seen {
    let names = match facts.tree.list(FOLDER) {
        Err(why) => return Seen::unread(FOLDER, &why),
        Ok(names) if names.is_empty() => return Seen::unknown(format!("{FOLDER}: empty")),
        Ok(names) => names,
    };
    let is_known = |name: &String| KNOWN.iter().any(|check| check.id.strip_prefix("D13.") == Some(name));
    let mut worst = Seen::new(Verdict::Pass, "no others");
    for name in names.iter().filter(|name| !is_known(name)) {
        let seen = match facts.tree.line(&format!("{FOLDER}/{name}")) {
            Err(why) => Seen::unread(name, &why),
            Ok(status) => judged(&status),
        };
        let seen = Seen::new(seen.verdict, format!("{name}: {}", seen.observed));
        match seen.verdict {
            Verdict::Unknown => return seen,
            verdict if verdict >= worst.verdict => worst = seen,
            _ => {}
        }
    }
    worst
}

fn ibpb(facts: &Facts<'_>) -> Seen {
    let status = match facts.tree.line(&format!("{FOLDER}/spectre_v2")) {
        Err(why) => return Seen::unread("spectre_v2", &why),
        Ok(status) => status,
    };
    if status == "Not affected" {
        return Seen::new(Verdict::Pass, status);
    }
    let part = status.split([';', ',']).map(str::trim).find_map(|part| part.strip_prefix("IBPB: "));
    match part {
        Some(how @ ("conditional" | "always-on")) => Seen::new(Verdict::Pass, how),
        Some(how) => Seen::new(Verdict::Warn, how),
        None => Seen::new(Verdict::Warn, "no IBPB"),
    }
}

fn smt(facts: &Facts<'_>) -> Seen {
    let read = |file: &str| facts.tree.line(&format!("{SMT}/{file}"));
    let (active, control) = match (read("active"), read("control")) {
        (Ok(active), Ok(control)) => (active, control),
        (Err(why), _) | (_, Err(why)) => return Seen::unread(SMT, &why),
    };
    let text = format!("active {active}, control {control}");
    let is_off = matches!(control.as_str(), "off" | "forceoff" | "notsupported" | "notimplemented");
    match (active.as_str(), is_off) {
        ("0", true) => Seen::new(Verdict::Pass, text),
        ("0" | "1", _) => Seen::new(Verdict::Warn, text),
        _ => Seen::unknown(format!("not understood: {text}")),
    }
}
