//! The box and the furniture, layer by layer: what an appraisal covers, who vouches for it, and what it does not cover.
//!
//! What it is: claims and rules put in the order in which a machine starts, and the gaps named in words. What it is not:
//! a judge; the verdict is reached, and only told here. Who trusts it: whoever reads the result.

use casemate_verifier::{BootLogRow, Claim, EventLabel, RuleResult, Voucher};

/// What was appraised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Evidence about one agent in a box.
    Agent,
    /// A quote or report alone.
    Hardware,
    /// A TPM's statement.
    Vtpm,
}

/// One layer of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer<'a> {
    /// `hardware`, `firmware`, `kernel`, `warden`, `composition`, `agent`.
    pub(super) name: &'static str,
    /// What the statement says here.
    pub(super) covered: Vec<Covered<'a>>,
    /// What it does not cover.
    pub(super) not_covered: Vec<String>,
}

/// A claim, and whether a rule compared it with what the policy expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Covered<'a> {
    pub(super) claim: &'a Claim,
    pub(super) compared: Compared,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    /// A rule of its name holds.
    Holds,
    /// A rule of its name does not.
    Fails,
    /// No rule asks for it by name.
    ReadOnly,
}

impl Compared {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fails => "fails",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Layers from the hardware up.
const LAYERS: [&str; 6] = ["hardware", "firmware", "kernel", "warden", "composition", "agent"];

/// Claims whose rule has another name than they have: claim, rules.
const RULES: [(&str, &[&str]); 19] = [
    ("tcb-status", &["tdx.tcb-status"]),
    ("tcb-advisories", &["tdx.advisories"]),
    ("tcb-evaluation-data-number", &["tdx.tcb-evaluation"]),
    ("fmspc", &["tdx.platform-family"]),
    ("ppid", &["tdx.platform-id"]),
    ("mrservicetd", &["tdx.service-td"]),
    ("mrconfigid", &["tdx.mrconfigid", "composition.launch-binding"]),
    ("host-data", &["snp.host-data", "composition.launch-binding"]),
    ("rtmr3", &["tdx.rtmr3", "log.rtmr3"]),
    ("chip-id", &["snp.chip-id", "snp.chips"]),
    ("csp-id", &["snp.vlek-cloud"]),
    ("policy.debug", &["snp.policy"]),
    ("name", &["agent.name", "agent.membership"]),
    ("simulated", &["platform.roots"]),
    ("debug", &["tdx.td-attributes"]),
    ("open-to-host", &["tdx.td-attributes"]),
    ("migratable", &["tdx.td-attributes"]),
    ("vtpm.key", &["vtpm.key-trust", "vtpm.chain"]),
    ("log-head", &["log.box-head"]),
];

/// Values that name one machine, owner or module: where no rule asks for one, any will do.
const IDENTITIES: [&str; 12] = [
    "chip-id",
    "fmspc",
    "ppid",
    "mrseam",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    "rtmr3",
    "host-data",
    "id-key-digest",
    "author-key-digest",
    "csp-id",
];

/// The tree. Where no accepted root stands behind the hardware's statement, it is one layer that says so.
pub(super) fn layers<'a>(
    subject: Subject,
    claims: &'a [Claim],
    rules: &[RuleResult],
    boot_log: &[BootLogRow],
) -> Vec<Layer<'a>> {
    let facts = Facts { claims, rules, boot_log };
    if !facts.verified() {
        return vec![Layer {
            name: "hardware",
            covered: Vec::new(),
            not_covered: vec![
                "anything: the hardware's statement was not verified, so nothing in it is known".to_owned(),
            ],
        }];
    }
    let gaps = |name| match name {
        "hardware" => facts.hardware_gaps(subject),
        "firmware" => facts.firmware_gaps(),
        "kernel" => facts.kernel_gaps(subject),
        "warden" => facts.warden_gaps(subject),
        "composition" => facts.composition_gaps(subject),
        _ => facts.agent_gaps(subject),
    };
    LAYERS
        .into_iter()
        .map(|name| {
            let covered: Vec<Covered<'a>> = claims
                .iter()
                .filter(|claim| layer_of(claim) == name)
                .map(|claim| Covered { claim, compared: facts.compared(claim) })
                .collect();
            let mut not_covered = gaps(name);
            not_covered.extend(unasked(&covered));
            Layer { name, covered, not_covered }
        })
        .collect()
}

fn layer_of(claim: &Claim) -> &'static str {
    let name = claim.name.as_str();
    match claim.part {
        "agent" => "agent",
        "box" => "composition",
        _ if matches!(name, "mrtd" | "rtmr0" | "measurement" | "id-key-digest" | "author-key-digest") => {
            "firmware"
        }
        _ if matches!(name, "rtmr1" | "rtmr2") => "kernel",
        _ if matches!(name, "rtmr3" | "mrconfigid" | "mrowner" | "mrownerconfig" | "host-data") => {
            "composition"
        }
        // TCG PC Client Platform Firmware Profile, "PCR Usage": 0 to 7 are the firmware's.
        _ => match register_of(name) {
            Some((_, 0..8)) => "firmware",
            Some(_) => "kernel",
            None if name.starts_with("boot-log.") => "kernel",
            None => "hardware",
        },
    }
}

/// Bank and index of a claim such as `vtpm.pcr.sha256.4`.
fn register_of(name: &str) -> Option<(&str, u32)> {
    let (bank, index) = name.strip_prefix("vtpm.pcr.")?.split_once('.')?;
    Some((bank, index.parse().ok()?))
}

/// One line for all that is read here and asked for by nobody.
fn unasked(covered: &[Covered<'_>]) -> Option<String> {
    let names: Vec<&str> = covered
        .iter()
        .filter(|one| one.compared == Compared::ReadOnly && IDENTITIES.contains(&one.claim.name.as_str()))
        .map(|one| one.claim.name.as_str())
        .collect();
    (!names.is_empty()).then(|| format!("{}: read, but the policy asks for no value", names.join(", ")))
}

struct Facts<'a, 'b> {
    claims: &'a [Claim],
    rules: &'b [RuleResult],
    boot_log: &'b [BootLogRow],
}

impl Facts<'_, '_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.claims
            .iter()
            .find(|claim| claim.part != "agent" && claim.name == name)
            .map(|claim| claim.value.as_str())
    }

    /// Whether the statement hangs on a root or key that the policy accepts. Only verification adds these claims; a host's
    /// own TPM says so of its key alone.
    fn verified(&self) -> bool {
        let vouched = |claim: &Claim| matches!(claim.voucher, Voucher::Hardware | Voucher::Simulated);
        let of_platform = |claim: &&Claim| claim.part == "platform";
        let shows = |claim: &Claim| claim.name == "vtpm.key" || claim.name == "simulated" && vouched(claim);
        self.claims.iter().filter(of_platform).any(shows)
    }

    /// Whether the host itself runs what made this statement.
    fn of_the_host(&self) -> bool {
        self.claims.iter().any(|claim| claim.name == "vtpm.key" && claim.voucher == Voucher::HostClaimed)
    }

    fn simulated(&self) -> bool {
        self.value("simulated") == Some("true")
    }

    fn is_snp(&self) -> bool {
        self.value("tee") == Some("snp")
    }

    /// Whether the host may read the guest's memory: attributes of TDX, or the guest policy of SEV-SNP.
    fn is_open(&self) -> bool {
        ["debug", "policy.debug", "open-to-host"].into_iter().any(|name| self.value(name) == Some("true"))
    }

    /// Whether a value is there and nothing but zeros.
    fn zero(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| !value.is_empty() && value.bytes().all(|digit| digit == b'0'))
    }

    fn compared(&self, claim: &Claim) -> Compared {
        let known = RULES.iter().find(|(name, _)| *name == claim.name).map(|(_, rules)| *rules);
        let is_its = |rule: &&RuleResult| {
            let name = rule.detail.rule.as_str();
            if let Some((bank, index)) = register_of(&claim.name) {
                return name == "vtpm.pcr"
                    && rule.detail.expected.starts_with(&format!("PCR {index} of {bank} is "));
            }
            let same = name.split_once('.').is_some_and(|(_, last)| last == claim.name);
            // An agent's `measurement` is not the platform's.
            let of_agent = name.starts_with("agent.") == (claim.part == "agent");
            known.map_or(same && of_agent, |known| known.contains(&name))
        };
        let its: Vec<bool> = self.rules.iter().filter(is_its).map(|rule| rule.passed).collect();
        match its.as_slice() {
            [] => Compared::ReadOnly,
            all if all.iter().all(|passed| *passed) => Compared::Holds,
            _ => Compared::Fails,
        }
    }

    fn hardware_gaps(&self, subject: Subject) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.of_the_host() {
            gaps.push(
                "any hardware against the host: the host runs this TPM, and answers for what it says"
                    .to_owned(),
            );
        }
        if self.simulated() {
            gaps.push("any hardware: whoever has the development root's key made this statement".to_owned());
        }
        if self.zero("chip-id") {
            gaps.push("which chip signed: its identity is masked".to_owned());
        }
        if self.value("signing-key") == Some("vlek") {
            gaps.push("which chip signed: a VLEK is the provider's key for many of them".to_owned());
        }
        if self.is_open() {
            gaps.push(
                "memory: debugging or profiling is on or permitted, so the guest is open to the host, which can read and change it"
                    .to_owned(),
            );
        }
        if subject == Subject::Vtpm && self.value("tee").is_some() {
            gaps.push(
                "when the hardware made its report: only the TPM's quote answers this challenge, the report names the \
                 TPM's key and answers none"
                    .to_owned(),
            );
        }
        if subject == Subject::Vtpm && self.value("tee").is_none() {
            if !self.of_the_host() {
                gaps.push(
                    "that the key is in a TPM of hardware: the owner's word in the policy; software would look the same"
                        .to_owned(),
                );
            }
            gaps.push("the machine's memory: a TPM alone says nothing of it".to_owned());
        }
        if self.value("report-version-known") == Some("false") {
            gaps.push("fields of this report that are newer than this program".to_owned());
        }
        gaps.push("physical attacks on the machine, and whether the host lets it run".to_owned());
        gaps
    }

    fn firmware_gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.zero("rtmr0") {
            gaps.push("settings of the firmware: RTMR0 is zero, nothing was measured into it".to_owned());
        }
        if self.is_snp() {
            gaps.push(
                "settings and memory that change after launch: the measurement is of the launch".to_owned(),
            );
        }
        gaps
    }

    fn kernel_gaps(&self, subject: Subject) -> Vec<String> {
        let mut gaps = Vec::new();
        if self.is_snp() {
            gaps.push(
                "by the hardware: the launch measurement covers a kernel only where the measured firmware checks it"
                    .to_owned(),
            );
        } else if self.zero("rtmr1") && self.zero("rtmr2") && subject != Subject::Vtpm {
            gaps.push(
                "the kernel: RTMR1 and RTMR2 are zero; such machines (Azure's) measure it into a vTPM, whose quote is \
                 not here"
                    .to_owned(),
            );
        }
        gaps.extend(self.boot_log_gap());
        gaps
    }

    /// What the firmware's log leaves open: a digest is bound, what it is of often is not.
    fn boot_log_gap(&self) -> Option<String> {
        if self.boot_log.is_empty() {
            return Some(
                "single events of the boot: no boot log was read, only registers are compared".to_owned(),
            );
        }
        let count =
            |labels: &[EventLabel]| self.boot_log.iter().filter(|row| labels.contains(&row.label)).count();
        let by_digest = count(&[EventLabel::DigestBound, EventLabel::DataMismatch]);
        let by_nothing = count(&[EventLabel::NotExtended, EventLabel::Unbound]);
        (by_digest > 0 || by_nothing > 0).then(|| {
            format!(
                "of {} boot events {by_digest} are bound by their digest alone, not by name and data, and {by_nothing} \
                 by nothing",
                self.boot_log.len()
            )
        })
    }

    fn warden_gaps(&self, subject: Subject) -> Vec<String> {
        if subject != Subject::Agent {
            return vec!["that a warden runs: this statement is not of a box".to_owned()];
        }
        let by = if self.is_snp() { "the launch measurement" } else { "RTMR1 and RTMR2" };
        vec![format!("by a value of its own: it is part of the image that {by} must name")]
    }

    fn composition_gaps(&self, subject: Subject) -> Vec<String> {
        if subject != Subject::Agent {
            return vec!["any composition: a statement of the hardware alone names none".to_owned()];
        }
        let mut gaps = Vec::new();
        if self.is_snp() {
            gaps.push(
                "events since this report: SEV-SNP has no register that grows, the log's head is in report data only"
                    .to_owned(),
            );
        }
        gaps.push("when events happened: the box has no clock but the host's".to_owned());
        gaps
    }

    fn agent_gaps(&self, subject: Subject) -> Vec<String> {
        if subject != Subject::Agent {
            return vec!["any agent: a statement of the hardware alone names none".to_owned()];
        }
        let mut gaps = Vec::new();
        if !self.claims.iter().any(|claim| claim.part == "agent") {
            gaps.push("this agent: no token of it was verified".to_owned());
        }
        gaps.push("the other agents: each has evidence of its own".to_owned());
        gaps.push("what the agent did since it was started: measured is what was started".to_owned());
        gaps
    }
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
