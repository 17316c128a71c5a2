//! Groups 16, 18 and 19: memory that the kernel shares by itself.

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::{self, AgentFacts};
use crate::kernel_text::Mount;

const ZSWAP: &str = "/sys/module/zswap/parameters/enabled";
const HUGE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const BLOCK: &str = "/sys/block";

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    CHECKS.to_vec()
}

const CHECKS: [Check; 7] = [
    Check {
        id: "D16.ksm",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "equal pages merged (KSM)",
        place: "/sys/kernel/mm/ksm/run",
        expected: "0",
        attack: "an agent guesses a page of another and sees by time that it was merged; Flush+Reload on it",
        fix: "echo 2 > /sys/kernel/mm/ksm/run, then 0",
        verdicts: says::PASS_FAIL,
        look: Look::Number { path: "/sys/kernel/mm/ksm/run", good: |run| run == 0, otherwise: Verdict::Fail },
    },
    Check {
        id: "D16.merged",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "pages of an agent that were merged",
        place: "/proc/PID/ksm_stat",
        expected: "ksm_merging_pages 0",
        attack: "pages that are merged already stay merged when KSM is stopped",
        fix: "echo 2 > /sys/kernel/mm/ksm/run, then 0",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Each(merged),
    },
    Check {
        id: "D16.zswap",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "compressed swap cache (zswap)",
        place: ZSWAP,
        expected: "N",
        attack: "how well memory of several agents compresses together is felt by time",
        fix: "boot with `zswap.enabled=0`",
        verdicts: says::PASS_WARN,
        look: Look::Machine(zswap),
    },
    Check {
        id: "D16.zram",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "compressed memory disks (zram)",
        place: "/sys/block/zram*/disksize",
        expected: "none, or of size 0",
        attack: "how well memory of several agents compresses together is felt by time",
        fix: "echo 1 > /sys/block/zram0/reset, and do not set it up",
        verdicts: says::PASS_WARN,
        look: Look::Machine(zram),
    },
    Check {
        id: "D18.box",
        heading: Heading::Separation,
        vantage: Vantage::GuestObserved,
        what: "page cache of EROFS mounts shared between images, in the box",
        place: "/proc/self/mountinfo",
        expected: "no inode_share, domain_id or superblock_share (Linux shows no domain_id here; sharing needs inode_share, too)",
        attack: "mounts that look apart share cached pages: Flush+Reload, page-cache timing",
        fix: "mount without the options `inode_share`, `domain_id` and `superblock_share`",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Machine(|facts| erofs_sharing(facts, "self")),
    },
    Check {
        id: "D18.agents",
        heading: Heading::Separation,
        vantage: Vantage::GuestObserved,
        what: "likewise, in an agent's view",
        place: "/proc/PID/mountinfo",
        expected: "no inode_share, domain_id or superblock_share (Linux shows no domain_id here; sharing needs inode_share, too)",
        attack: "mounts that look apart share cached pages: Flush+Reload, page-cache timing",
        fix: "mount without the options `inode_share`, `domain_id` and `superblock_share`",
        verdicts: says::PASS_FAIL_NONE,
        look: Look::Each(|facts, agent| match agent.first() {
            Ok(pid) => erofs_sharing(facts, &pid.to_string()),
            Err(why) => Seen::unread("agent", &why),
        }),
    },
    Check {
        id: "D19.huge-pages",
        heading: Heading::LocalSurface,
        vantage: Vantage::GuestObserved,
        what: "huge pages without being asked for",
        place: HUGE,
        expected: "madvise or never",
        attack: "addresses of huge pages make eviction sets cheap (Prime+Probe)",
        fix: "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        verdicts: says::PASS_WARN,
        look: Look::Machine(huge_pages),
    },
];

fn merged(facts: &Facts<'_>, agent: &AgentFacts) -> Seen {
    let mut sum = 0_u64;
    for pid in &agent.pids {
        let text = match facts.tree.text(&format!("/proc/{pid}/ksm_stat")) {
            Ok(text) => text,
            Err(why) => return Seen::unread("ksm_stat", &why),
        };
        let field = text.lines().find_map(|line| line.strip_prefix("ksm_merging_pages "));
        let Some(pages) = field.and_then(|value| value.trim().parse::<u64>().ok()) else {
            return Seen::unknown("ksm_stat: not understood");
        };
        sum = sum.saturating_add(pages);
    }
    if agent.pids.is_empty() {
        return Seen::unknown("it has no process");
    }
    Seen::new(if sum == 0 { Verdict::Pass } else { Verdict::Fail }, format!("{sum} pages"))
}

fn zswap(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(ZSWAP).as_deref() {
        Ok("N") => Seen::new(Verdict::Pass, "N"),
        Ok("Y") => Seen::new(Verdict::Warn, "Y"),
        Ok(_) => Seen::unknown(format!("{ZSWAP}: neither Y nor N")),
        Err(why) => Seen::unread(ZSWAP, why),
    }
}

fn zram(facts: &Facts<'_>) -> Seen {
    let names = match facts.tree.list(BLOCK) {
        Err(why) => return Seen::unread(BLOCK, &why),
        Ok(names) => names,
    };
    let mut used = Vec::new();
    for name in names.iter().filter(|name| name.starts_with("zram")) {
        match facts.tree.line(&format!("{BLOCK}/{name}/disksize")).map(|size| size.parse::<u64>()) {
            Ok(Ok(0)) => {}
            Ok(Ok(size)) => used.push(format!("{name} of {size} bytes")),
            Ok(Err(_)) => return Seen::unknown(format!("{name}: size not understood")),
            Err(why) => return Seen::unread(name, &why),
        }
    }
    if used.is_empty() { Seen::new(Verdict::Pass, "none") } else { Seen::new(Verdict::Warn, used.join(", ")) }
}

fn erofs_sharing(facts: &Facts<'_>, pid: &str) -> Seen {
    let mounts = match agents::mounts(facts.tree, pid) {
        Err(why) => return Seen::unread("mountinfo", &why),
        Ok(mounts) => mounts,
    };
    let erofs: Vec<_> = mounts.iter().filter(|mount| mount.kind == "erofs").collect();
    let is_shared = |mount: &&&Mount| {
        mount.options.split(',').any(|option| {
            matches!(option, "inode_share" | "domain_id" | "superblock_share")
                || option.starts_with("domain_id=")
        })
    };
    let shared: Vec<&str> = erofs.iter().filter(is_shared).map(|mount| mount.target.as_str()).collect();
    if erofs.is_empty() {
        Seen::not_applicable("no EROFS mount is in sight here")
    } else if shared.is_empty() {
        Seen::new(Verdict::Pass, format!("{} EROFS mounts, none with it", erofs.len()))
    } else {
        Seen::new(Verdict::Fail, shared.join(", "))
    }
}

fn huge_pages(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(HUGE).as_deref() {
        Ok("always [madvise] never") => Seen::new(Verdict::Pass, "madvise"),
        Ok("always madvise [never]") => Seen::new(Verdict::Pass, "never"),
        Ok("[always] madvise never") => Seen::new(Verdict::Warn, "always"),
        Ok(other) => Seen::unknown(format!("not understood: {other}")),
        Err(why) => Seen::unread(HUGE, why),
    }
}
