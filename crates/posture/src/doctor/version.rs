//! Groups 11 and 12: 32-bit calls, and holes that a version of the kernel closed.

use super::facts::{Facts, Setting};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

const RELEASE: &str = "/proc/sys/kernel/osrelease";

/// A hole: id, versions without it, symbol without which the kernel does not have the code.
struct Hole {
    id: &'static str,
    what: &'static str,
    heading: Heading,
    expected: &'static str,
    attack: &'static str,
    /// First mainline version without it, first release of each older series without it, and symbol or nothing, in words:
    /// what [`Look::Word`] hands over. Source: the record of the CVE.
    rule: &'static str,
}

const HOLES: [Hole; 7] = [
    Hole {
        id: "D12.CVE-2026-31431",
        what: "Copy Fail: write to cached pages through AF_ALG",
        heading: Heading::LocalSurface,
        expected: "Linux 7.0, 6.19.12, 6.18.22, 6.12.85, 6.6.137, 6.1.170, 5.15.204, 5.10.254 or later, or no CRYPTO_USER_API_AEAD",
        attack: "an agent writes pages of files that other agents and the box execute",
        rule: "7.0 6.19.12 6.18.22 6.12.85 6.6.137 6.1.170 5.15.204 5.10.254 CONFIG_CRYPTO_USER_API_AEAD",
    },
    Hole {
        id: "D12.CVE-2026-43284",
        what: "Dirty Frag: write to cached pages through ESP",
        heading: Heading::LocalSurface,
        expected: "Linux 7.1, 7.0.5, 6.18.28, 6.12.87, 6.6.138, 6.1.172, 5.15.206, 5.10.255 or later, or no XFRM",
        attack: "an agent writes pages of files that other agents and the box execute",
        rule: "7.1 7.0.5 6.18.28 6.12.87 6.6.138 6.1.172 5.15.206 5.10.255 CONFIG_XFRM",
    },
    Hole {
        id: "D12.CVE-2026-43500",
        what: "Dirty Frag: write to cached pages through RxRPC",
        heading: Heading::LocalSurface,
        expected: "Linux 7.1, 7.0.6, 6.18.29 or later, or no AF_RXRPC",
        attack: "an agent writes pages of files that other agents and the box execute",
        rule: "7.1 7.0.6 6.18.29 CONFIG_AF_RXRPC",
    },
    Hole {
        id: "D12.CVE-2026-43503",
        what: "shared pages taken for private ones, first part: write to cached pages through ESP",
        heading: Heading::LocalSurface,
        expected: "Linux 7.1, 7.0.10, 6.18.33, 6.12.91, 6.6.141, 6.1.174, 5.15.208, 5.10.257 or later, or no XFRM",
        attack: "an agent writes pages of files that other agents and the box execute, though Dirty Frag is closed",
        rule: "7.1 7.0.10 6.18.33 6.12.91 6.6.141 6.1.174 5.15.208 5.10.257 CONFIG_XFRM",
    },
    Hole {
        id: "D12.CVE-2026-46300",
        what: "shared pages taken for private ones (Fragnesia): write to cached pages through ESP",
        heading: Heading::LocalSurface,
        expected: "Linux 7.1, 7.0.10, 6.18.33, 6.12.91, 6.6.141, 6.1.174, 5.15.208, 5.10.257 or later, or no XFRM",
        attack: "an agent writes pages of files that other agents and the box execute, though Dirty Frag is closed",
        rule: "7.1 7.0.10 6.18.33 6.12.91 6.6.141 6.1.174 5.15.208 5.10.257 CONFIG_XFRM",
    },
    Hole {
        id: "D12.CVE-2024-25744",
        what: "Heckler: int 0x80 injected by the host, TDX and SEV",
        heading: Heading::HypervisorSurface,
        expected: "Linux 6.7, 6.6.7 or later",
        attack: "Heckler (arXiv 2404.03387): the host makes a process believe that a call returned",
        rule: "6.7 6.6.7",
    },
    Hole {
        id: "D12.CVE-2024-25742",
        what: "WeSee: #VC injected by the host, SEV",
        heading: Heading::HypervisorSurface,
        expected: "Linux 6.9 or later",
        attack: "WeSee: the host reads and writes memory of the guest through its #VC handler",
        rule: "6.9",
    },
];

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let hole = |hole: &Hole| Check {
        id: hole.id,
        heading: hole.heading,
        vantage: Vantage::GuestObserved,
        what: hole.what,
        place: RELEASE,
        expected: hole.expected,
        attack: hole.attack,
        fix: "use a kernel with the fix; a distribution's own may have it under an older version: ask its changelog, and pin the kernel's measurement",
        verdicts: says::PASS_WARN,
        look: Look::Word(hole.rule, closed),
    };
    let ia32 = Check {
        id: "D11.ia32",
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: "32-bit calls (int 0x80)",
        place: "/proc/config.gz, /boot/config-*, /proc/cmdline",
        expected: "CONFIG_IA32_EMULATION not set, or ia32_emulation=0",
        attack: "Heckler (arXiv 2404.03387) injects int 0x80; and a second table of system calls for agents",
        fix: "boot with `ia32_emulation=0`, or build the kernel without IA32_EMULATION",
        verdicts: says::PASS_FAIL,
        look: Look::Machine(ia32),
    };
    std::iter::once(ia32).chain(HOLES.iter().map(hole)).collect()
}

fn ia32(facts: &Facts<'_>) -> Seen {
    let line = match facts.command_line() {
        Err(why) => return Seen::unread("/proc/cmdline", &why),
        Ok(line) => line,
    };
    let asked = line.iter().filter_map(|word| word.strip_prefix("ia32_emulation=")).next_back();
    let off = asked.is_some_and(|value| matches!(value, "0" | "n" | "off" | "false"));
    let config = match facts.config() {
        Ok(config) => config,
        Err(_) if off => return Seen::new(Verdict::Pass, "ia32_emulation=0"),
        Err(why) => return Seen::unread("kernel configuration", why),
    };
    if config.get("CONFIG_IA32_EMULATION") == Setting::Not {
        return Seen::new(Verdict::Pass, "not built");
    }
    let default_off = config.get("CONFIG_IA32_EMULATION_DEFAULT_DISABLED") != Setting::Not;
    match (asked, default_off) {
        (Some(_), _) if off => Seen::new(Verdict::Pass, "ia32_emulation=0"),
        (None, true) => Seen::new(Verdict::Pass, "built, off by default"),
        _ => Seen::new(Verdict::Fail, "built, and on"),
    }
}

fn closed(facts: &Facts<'_>, rule: &'static str) -> Seen {
    let symbol = rule.split(' ').find(|word| word.starts_with("CONFIG_")).unwrap_or_default();
    let mut fixed = rule.split(' ').filter_map(version);
    let release = match facts.tree.line(RELEASE) {
        Err(why) => return Seen::unread(RELEASE, &why),
        Ok(release) => release,
    };
    let (Some(found), Some(mainline)) = (version(&release), fixed.next()) else {
        return Seen::unknown(format!("{RELEASE}: not a version"));
    };
    // A series of its own, or mainline: 7.2 has what 7.1 has, and 6.20 does not have what 6.19.12 has.
    let is_of = |series: (u32, u32, u32)| (found.0, found.1) == (series.0, series.1) && found >= series;
    if found >= mainline || fixed.any(is_of) {
        return Seen::new(Verdict::Pass, release);
    }
    let is_built = |symbol: &str| facts.config().map(|config| config.get(symbol) != Setting::Not);
    if !symbol.is_empty() && is_built(symbol) == Ok(false) {
        return Seen::new(Verdict::Pass, format!("{release}, built without {symbol}"));
    }
    Seen::new(Verdict::Warn, format!("{release}: older than the fix, unless its distribution took it over"))
}

/// Major and minor version, and release of the series. A candidate (`7.1.0-rc2`, `7.1-rc2`) comes before the release.
fn version(release: &str) -> Option<(u32, u32, u32)> {
    let mut parts = release.split(['.', '-', '+']);
    let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let third = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    if third == 0 && release.contains("-rc") {
        // As the last release before it, whose number nobody knows: no fix is believed.
        return Some(minor_before(major, minor));
    }
    Some((major, minor, third))
}

fn minor_before(major: u32, minor: u32) -> (u32, u32, u32) {
    match minor.checked_sub(1) {
        Some(before) => (major, before, 0),
        None => (major.saturating_sub(1), u32::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_three_numbers_and_a_candidate_comes_before_its_release() {
        for (release, wanted) in [
            ("7.1.3-casemate", Some((7, 1, 3))),
            ("6.12.95+deb12-cloud-amd64", Some((6, 12, 95))),
            ("7.1", Some((7, 1, 0))),
            ("6.6-x", Some((6, 6, 0))),
            ("7.1.0-rc2+", Some((7, 0, 0))),
            ("7.0-rc1", Some((6, u32::MAX, 0))),
            ("garbage", None),
        ] {
            assert_eq!(version(release), wanted, "{release}");
        }
    }
}
