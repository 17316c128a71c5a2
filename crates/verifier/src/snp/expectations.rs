//! The policy's expectations of an SEV-SNP box, rule by rule.

use casemate_evidence::{PlatformBit, PolicyBit};

use super::product::TcbVersion;
use super::report::{ChipBinding, VerifiedSnp};
use super::vek::VekIdentity;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::policy::{Measurement, Smt, SnpAllowance, SnpExpectations};
use crate::time::UnixTime;

/// Guest policy bits that weaken the guest where the policy file does not allow them.
const WEAKENING: [(PolicyBit, SnpAllowance); 3] = [
    (PolicyBit::Debug, SnpAllowance::Debug),
    (PolicyBit::MigrationAgent, SnpAllowance::MigrationAgent),
    (PolicyBit::Cxl, SnpAllowance::Cxl),
];

/// Records every rule of `[platform.snp]`; goes on after one that does not hold.
pub(crate) fn require_expectations(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
    now: UnixTime,
) -> Result<(), Failed> {
    let report = &verified.report;
    let results = [
        ledger.require_age("AMD's CRL", verified.crl_issued, expected.crl_age_max_days, now),
        require_report_version(ledger, verified, expected),
        require_reserved(ledger, verified, expected),
        require_product(ledger, verified, expected),
        require_cloud(ledger, verified, expected),
        require_chip_named(ledger, verified, expected),
        require_relations(ledger, verified, expected),
        require_minimum(ledger, verified, expected),
        require_firmware(ledger, verified, expected),
        require_mitigations(ledger, verified, expected),
        require_policy_bits(ledger, verified, expected),
        require_platform_bits(ledger, verified, expected),
        require_author_key(ledger, verified),
        require_owner(ledger, verified, expected),
        ledger.equal("snp.vmpl", &expected.vmpl, &report.vmpl),
        require_one_of(
            ledger,
            "snp.measurement",
            &expected.measurement,
            &Measurement(*verified.report.measurement),
        ),
    ];
    results.into_iter().collect()
}

/// A later version may have changed what fields mean: only an owner who looked at it may accept it.
fn require_report_version(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let (min, max) = (expected.require.report_version_min, expected.allow.report_version_max);
    let found = verified.report.version;
    let expected = format_args!("a report of version {min} to {max}");
    ledger.require("snp.report-version", (min..=max).contains(&found), expected, found)
}

fn require_reserved(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    const RULE: &str = "snp.reserved";
    let expected_text = "zero in every byte that this version of the report reserves";
    match verified.report.reserved_set {
        None => ledger.require(RULE, true, expected_text, "no such byte set"),
        Some(offset) => {
            let allowed = expected.allow.flags.contains(&SnpAllowance::ReservedBytes);
            ledger.require(RULE, allowed, expected_text, format_args!("byte {offset:#x} set"))
        }
    }
}

fn require_product(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let names: Vec<&str> = expected.products.keys().map(|product| product.name()).collect();
    let product = verified.vek.extensions.product;
    let accepted = expected.products.contains_key(&product);
    let why = product.weakness().filter(|_| !accepted).map(|why| format!("; {why}")).unwrap_or_default();
    ledger.require("snp.product", accepted, names.join(" or "), format_args!("{product}{why}"))
}

/// A VLEK is as good as the cloud that it was lent to, and belongs to no chip: the policy names the clouds.
fn require_cloud(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let VekIdentity::Cloud(cloud) = &verified.vek.extensions.identity else { return Ok(()) };
    let accepted = &expected.allow.vlek_clouds;
    let names = match accepted.as_slice() {
        [] => "a VCEK, since the policy names no cloud whose VLEK is accepted".to_owned(),
        names => format!("a VLEK of {}", names.join(" or ")),
    };
    ledger.require("snp.vlek-cloud", accepted.contains(cloud), names, format_args!("a VLEK of {cloud}"))
}

/// Where the report hides its chip, the VCEK still names one. A VLEK names none: then the report alone does.
fn require_chip_named(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    if verified.chip == ChipBinding::Masked {
        let allowed = expected.allow.flags.contains(&SnpAllowance::MaskedChipId);
        ledger.require("snp.chip-id", allowed, "the chip of the VCEK", "none: the host masks it")?;
    }
    let chips = &expected.require.chips;
    if chips.is_empty() {
        return Ok(());
    }
    let chip = match &verified.vek.extensions.identity {
        VekIdentity::Chip(chip) => *chip,
        VekIdentity::Cloud(_) => *verified.report.chip_id,
    };
    let known = chip != [0; 64] && chips.iter().any(|accepted| accepted.0 == chip);
    let expected = format_args!("one of the {} chips that the policy names", chips.len());
    ledger.require("snp.chips", known, expected, Hex(chip))
}

/// Firmware cannot be older than what it is committed to, nor claim more than it is. Firmware that is newer than what
/// it is committed to is provisional: the host can go back.
fn require_relations(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    const RULE: &str = "snp.tcb-relations";
    let tcb = &verified.tcb;
    let provisional = expected.allow.flags.contains(&SnpAllowance::ProvisionalFirmware);
    let newest_first = |[build, minor, major]: [u8; 3]| [major, minor, build];
    let current = newest_first(verified.report.current_version);
    let committed = newest_first(verified.report.committed_version);
    let results = [
        ledger.require(
            RULE,
            tcb.current.reaches(&tcb.reported),
            format_args!("current TCB of at least the reported one, {}", tcb.reported),
            tcb.current,
        ),
        ledger.require(
            RULE,
            tcb.current == tcb.committed || (provisional && tcb.current.reaches(&tcb.committed)),
            format_args!("current TCB {} the committed one, {}", relation(provisional), tcb.committed),
            tcb.current,
        ),
        ledger.require(
            RULE,
            current == committed || (provisional && current >= committed),
            format_args!(
                "current firmware {} the committed one, {}",
                relation(provisional),
                dotted(committed)
            ),
            dotted(current),
        ),
    ];
    results.into_iter().collect()
}

const fn relation(provisional: bool) -> &'static str {
    if provisional { "of at least" } else { "equal to" }
}

fn dotted([major, minor, build]: [u8; 3]) -> String {
    format!("{major}.{minor}.{build}")
}

fn require_minimum(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    // Rule `snp.product` refuses a product without versions.
    let Some(min) = expected.products.get(&verified.vek.extensions.product) else { return Ok(()) };
    let minimum = TcbVersion {
        fmc: min.fmc,
        bootloader: min.bootloader,
        tee: min.tee,
        snp: min.snp,
        microcode: min.microcode,
    };
    let results =
        [("reported", verified.tcb.reported), ("launch", verified.tcb.launch)].map(|(name, found)| {
            ledger.require(
                "snp.tcb-min",
                found.reaches(&minimum),
                format_args!("{name} TCB of at least {minimum}"),
                found,
            )
        });
    results.into_iter().collect()
}

/// What the platform is committed to counts: it cannot go back behind that.
fn require_firmware(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let Some(min) = expected.require.firmware_min else { return Ok(()) };
    let min = [min.major, min.minor, min.build];
    let [build, minor, major] = verified.report.committed_version;
    let found = [major, minor, build];
    let expected = format_args!("committed firmware of at least {}", dotted(min));
    ledger.require("snp.firmware", found >= min, expected, dotted(found))
}

fn require_mitigations(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    const RULE: &str = "snp.mitigations";
    let mask = expected.require.mitigations;
    if mask == 0 {
        return Ok(());
    }
    let text = format_args!("mitigations {mask:#x} at launch and now");
    match verified.report.mitigations {
        None => Err(ledger.fail(RULE, text, "none: reports before version 5 do not tell")),
        Some(found) => ledger.require(
            RULE,
            found.launch & found.current & mask == mask,
            text,
            format_args!("{:#x} at launch and {:#x} now", found.launch, found.current),
        ),
    }
}

fn require_policy_bits(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let policy = verified.report.policy;
    let mut wrong: Vec<String> = Vec::new();
    if !policy.has(PolicyBit::AlwaysOne) {
        wrong.push("bit 17 not set".to_owned());
    }
    let mut forbidden: Vec<&str> = WEAKENING
        .iter()
        .filter(|(_, allowance)| !expected.allow.flags.contains(allowance))
        .map(|(bit, _)| bit)
        .chain((expected.smt == Smt::Refused).then_some(&PolicyBit::Smt))
        .map(|bit| {
            if policy.has(*bit) {
                wrong.push(format!("{} allowed", bit.name()));
            }
            bit.name()
        })
        .collect();
    forbidden.push("unknown bit");
    let unknown = policy.unknown() & !expected.allow.policy_bits;
    if unknown != 0 {
        wrong.push(format!("unknown bits {unknown:#x}"));
    }
    for bit in &expected.require.policy {
        if !policy.has(*bit) {
            wrong.push(format!("no {}", bit.name()));
        }
    }
    let required: Vec<String> =
        expected.require.policy.iter().map(|bit| format!(", {}", bit.name())).collect();
    let text = format!("bit 17, no {}{}", forbidden.join(", no "), required.concat());
    let found = format!("{:#x} {}", policy.0, wrong.join(", "));
    ledger.require("snp.policy", wrong.is_empty(), text, found.trim_end())
}

/// Bits without a name are claims and refuse nothing: this field tells of what is on, not of what is permitted.
fn require_platform_bits(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let platform = verified.report.platform_info;
    let mut wrong: Vec<String> = Vec::new();
    let mut text: Vec<&str> = Vec::new();
    if expected.smt == Smt::Refused {
        text.push("no smt");
        if platform.has(PlatformBit::Smt) {
            wrong.push("smt".to_owned());
        }
    }
    for bit in &expected.require.platform {
        text.push(bit.name());
        if !platform.has(*bit) {
            wrong.push(format!("no {}", bit.name()));
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    let found = format!("{:#x} {}", platform.0, wrong.join(", "));
    ledger.require("snp.platform-info", wrong.is_empty(), text.join(", "), found.trim_end())
}

/// KEY_INFO says whether an author key certified the identity key; its digest must be there then, and only then.
fn require_author_key(ledger: &mut Ledger, verified: &VerifiedSnp<'_>) -> Result<(), Failed> {
    let names = |present: bool| if present { "an author key" } else { "no author key" };
    let present = *verified.report.author_key_digest != [0; 48];
    ledger.equal("snp.author-key", names(verified.report.author_key_enabled), names(present))
}

/// What the guest's owner, or the host, gave at launch, where the policy names it.
fn require_owner(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let (report, require) = (&verified.report, &expected.require);
    let svn = (require.guest_svn_min > 0).then(|| {
        let expected = format_args!("guest SVN of at least {}", require.guest_svn_min);
        ledger.require("snp.guest-svn", report.guest_svn >= require.guest_svn_min, expected, report.guest_svn)
    });
    let named = [
        ("snp.id-key-digest", &require.id_key_digest, report.id_key_digest),
        ("snp.author-key-digest", &require.author_key_digest, report.author_key_digest),
    ]
    .map(|(rule, accepted, found)| match accepted.as_slice() {
        [] => Ok(()),
        accepted => require_one_of(ledger, rule, accepted, &Measurement(*found)),
    });
    let others = [
        require_bytes(ledger, "snp.family-id", &require.family_id, report.family_id),
        require_bytes(ledger, "snp.image-id", &require.image_id, report.image_id),
        require_bytes(ledger, "snp.host-data", &require.host_data, report.host_data),
    ];
    svn.into_iter().chain(named).chain(others).collect()
}

fn require_one_of(
    ledger: &mut Ledger,
    rule: &'static str,
    accepted: &[Measurement],
    found: &Measurement,
) -> Result<(), Failed> {
    let names: Vec<String> = accepted.iter().map(ToString::to_string).collect();
    ledger.require(rule, accepted.contains(found), names.join(" or "), found)
}

/// The same for other bytes; nothing where the policy names none.
fn require_bytes<const N: usize>(
    ledger: &mut Ledger,
    rule: &'static str,
    accepted: &[[u8; N]],
    found: &[u8; N],
) -> Result<(), Failed> {
    if accepted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = accepted.iter().map(|bytes| Hex(*bytes).to_string()).collect();
    ledger.require(rule, accepted.contains(found), names.join(" or "), Hex(*found))
}
