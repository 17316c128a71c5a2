//! Group 2, SEV-SNP: features that the guest runs with (SEV_STATUS, MSR 0xC001_0131), as its kernel logs them.
//!
//! Names are those of `sev_status_feat_names` in Linux. A guest of Linux ends at its start where a feature is on that needs
//! its help and that it does not implement: mainline implements DebugSwap, SecureTSC and SecureAVIC.

use super::facts::{Facts, Platform};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

/// A feature: id, words of which one must be there, attack, what to do.
struct Feature {
    id: &'static str,
    what: &'static str,
    expected: &'static str,
    word: &'static str,
    attack: &'static str,
    fix: &'static str,
}

const BY_HOST: &str =
    "start the guest with this SEV feature; where processor or hypervisor lacks it, count it as open";
const WITH_GUEST: &str = "start the guest with this SEV feature, and with a kernel that implements it: another ends at its start; where processor, hypervisor or kernel lacks it, count it as open";

const FEATURES: [Feature; 7] = [
    Feature {
        id: "D02.injection",
        what: "who may inject interrupts and exceptions (SEV-SNP)",
        expected: "one of RI, AI, SecureAVIC",
        word: "RI AI SecureAVIC",
        attack: "Heckler (arXiv 2404.03387), WeSee: the host injects int 0x80, #VC, and vectors 0 and 14 (CVE-2024-25743: no fixed version of Linux is named)",
        fix: "start the guest with Secure AVIC and a Linux that implements it: mainline implements neither RI nor AI and ends where they are on; else count it as open",
    },
    Feature {
        id: "D02.debug-swap",
        what: "debug registers are the guest's own (SEV-SNP)",
        expected: "DebugSwap",
        word: "DebugSwap",
        attack: "registers for breakpoints are common with the host",
        fix: WITH_GUEST,
    },
    Feature {
        id: "D02.host-ibs",
        what: "host cannot sample instructions of the guest (SEV-SNP)",
        expected: "NoHostIBS",
        word: "NoHostIBS",
        attack: "instruction sampling tells the host which code of the guest runs",
        fix: BY_HOST,
    },
    Feature {
        id: "D02.branches",
        what: "branch predictions of the host do not reach the guest (SEV-SNP)",
        expected: "BTBIsol",
        word: "BTBIsol",
        attack: "Spectre v2 from the host: it trains branches of the guest",
        fix: BY_HOST,
    },
    Feature {
        id: "D02.time",
        what: "time base that the host cannot change (SEV-SNP)",
        expected: "SecureTSC",
        word: "SecureTSC",
        attack: "the host turns the clock back: expired certificates and tokens are valid again",
        fix: WITH_GUEST,
    },
    Feature {
        id: "D02.registers",
        what: "saved registers are masked (SEV-SNP)",
        expected: "VMSARegProt",
        word: "VMSARegProt",
        attack: "CipherLeaks: the host sees which register values repeat in encrypted state",
        fix: WITH_GUEST,
    },
    Feature {
        id: "D02.smt",
        what: "no other guest on the second thread of its core (SEV-SNP)",
        expected: "SMTProt",
        word: "SMTProt",
        attack: "StackWarp (CVE-2025-29943) and port contention from the sibling thread",
        fix: BY_HOST,
    },
];

/// The checks of this group.
pub(crate) fn checks() -> Vec<Check> {
    let check = |feature: &Feature| Check {
        id: feature.id,
        heading: Heading::HypervisorSurface,
        vantage: Vantage::GuestObserved,
        what: feature.what,
        place: "/dev/kmsg: SEV: Status",
        expected: feature.expected,
        attack: feature.attack,
        fix: feature.fix,
        verdicts: says::PASS_WARN_NONE,
        look: Look::Word(feature.word, feature_on),
    };
    FEATURES.iter().map(check).collect()
}

fn feature_on(facts: &Facts<'_>, words: &'static str) -> Seen {
    const LINE: &str = "SEV: Status: ";
    if matches!(facts.platform(), Ok(Some(Platform::Tdx))) {
        return Seen::not_applicable("a feature of SEV-SNP; this is TDX");
    }
    let log = match facts.boot_log() {
        Ok(log) => log,
        Err(why) => return Seen::unread("kernel log", &why),
    };
    let Some(on) = log.iter().find_map(|message| message.strip_prefix(LINE)) else {
        return Seen::unknown("the kernel logged no SEV status");
    };
    let has = |word: &str| on.split(' ').any(|feature| feature == word);
    let verdict = if words.split(' ').any(has) { Verdict::Pass } else { Verdict::Warn };
    Seen::new(verdict, on.trim())
}
