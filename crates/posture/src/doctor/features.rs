//! Group 2, SEV-SNP: features that the guest runs with (SEV_STATUS, MSR 0xC001_0131), as its kernel logs them.
//!
//! The host cannot intercept this register (AMD APM volume 2, 15.34.10). Names are those of `sev_status_feat_names` in
//! Linux.

use super::facts::{Facts, Platform};
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};

/// A feature: id, words of which one must be there, attack, what to do.
struct Feature {
    id: &'static str,
    what: &'static str,
    expected: &'static str,
    word: &'static str,
    attack: &'static str,
}

const FEATURES: [Feature; 7] = [
    Feature {
        id: "D02.injection",
        what: "who may inject interrupts and exceptions (SEV-SNP)",
        expected: "one of RI, AI, SecureAVIC",
        word: "RI AI SecureAVIC",
        attack: "Heckler (arXiv 2404.03387), WeSee: injected int 0x80 or #VC change registers of a guest",
    },
    Feature {
        id: "D02.debug-swap",
        what: "debug registers are the guest's own (SEV-SNP)",
        expected: "DebugSwap",
        word: "DebugSwap",
        attack: "the host sets breakpoints in the guest and steps through its code",
    },
    Feature {
        id: "D02.host-ibs",
        what: "host cannot sample instructions of the guest (SEV-SNP)",
        expected: "NoHostIBS",
        word: "NoHostIBS",
        attack: "instruction sampling tells the host which code of the guest runs",
    },
    Feature {
        id: "D02.branches",
        what: "branch predictions of the host do not reach the guest (SEV-SNP)",
        expected: "BTBIsol",
        word: "BTBIsol",
        attack: "Spectre v2 from the host: it trains branches of the guest",
    },
    Feature {
        id: "D02.time",
        what: "time base that the host cannot change (SEV-SNP)",
        expected: "SecureTSC",
        word: "SecureTSC",
        attack: "the host turns the clock back: expired certificates and tokens are valid again",
    },
    Feature {
        id: "D02.registers",
        what: "saved registers are masked (SEV-SNP)",
        expected: "VMSARegProt",
        word: "VMSARegProt",
        attack: "CipherLeaks: the host sees which register values repeat in encrypted state",
    },
    Feature {
        id: "D02.smt",
        what: "no other guest on the second thread of its core (SEV-SNP)",
        expected: "SMTProt",
        word: "SMTProt",
        attack: "StackWarp (CVE-2025-29943) and port contention from the sibling thread",
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
        fix: "start the guest with this SEV feature; where processor or hypervisor lacks it, count it as open",
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
