//! The policy's expectations of an SEV-SNP box, and the claims that a report makes.

use casemate_evidence::snp::SNP_VERSION_KNOWN_MAX;

use super::report::VerifiedSnp;
use super::vek::{TcbVersion, VekIdentity};
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::{Measurement, Smt, SnpExpectations};
use crate::time::UnixTime;

/// Guest policy bits (56860, table "Guest Policy").
const POLICY_SMT: u64 = 1 << 16;
const POLICY_ALWAYS_ONE: u64 = 1 << 17;
const POLICY_MIGRATE_MA: u64 = 1 << 18;
const POLICY_DEBUG: u64 = 1 << 19;
/// KEY_INFO bit AUTHOR_KEY_EN (56860, table "ATTESTATION_REPORT Structure").
const KEY_INFO_AUTHOR_KEY: u32 = 1;
/// Bits that have a meaning up to version 5 of the report; bits 15:0 are the ABI version.
const POLICY_KNOWN: u64 = 0x03ff_ffff;

/// Records every rule of `[platform.snp]`; goes on after one that does not hold.
pub(crate) fn require_expectations(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
    now: UnixTime,
) -> Result<(), Failed> {
    let found = Measurement(*verified.report.measurement);
    let names: Vec<String> = expected.measurement.iter().map(ToString::to_string).collect();
    let products: Vec<&str> = expected.products.iter().map(|product| product.name()).collect();
    let product = verified.vek.product;
    let results = [
        ledger.require_age("AMD's CRL", verified.crl_issued, expected.crl_age_max_days, now),
        ledger.require("snp.product", expected.products.contains(&product), products.join(" or "), product),
        require_relations(ledger, verified),
        require_minimum(ledger, verified, expected),
        require_policy_bits(ledger, verified, expected),
        require_author_key(ledger, verified),
        ledger.equal("snp.vmpl", &expected.vmpl, &verified.report.vmpl),
        ledger.require("snp.measurement", expected.measurement.contains(&found), names.join(" or "), found),
    ];
    results.into_iter().collect()
}

/// Adds what the report says to the claims.
pub(crate) fn claim_all(ledger: &mut Ledger, verified: &VerifiedSnp<'_>, voucher: Voucher) {
    let report = &verified.report;
    let mut claim =
        |name: &str, value: &dyn std::fmt::Display| ledger.claim("platform", name, value, voucher);
    claim("tee", &"snp");
    claim("report-version", &report.version);
    claim("report-version-known", &(report.version <= SNP_VERSION_KNOWN_MAX));
    claim("product", &verified.vek.product);
    match &verified.vek.identity {
        VekIdentity::Chip(_) => claim("signing-key", &"vcek"),
        VekIdentity::Cloud(cloud) => {
            claim("signing-key", &"vlek");
            claim("csp-id", cloud);
        }
    }
    claim("chip-id", &Hex(*report.chip_id));
    claim("reported-tcb", &verified.tcb.reported);
    claim("current-tcb", &verified.tcb.current);
    claim("committed-tcb", &verified.tcb.committed);
    claim("launch-tcb", &verified.tcb.launch);
    claim("policy", &format_args!("{:#x}", report.policy));
    claim("policy-unknown-bits", &format_args!("{:#x}", report.policy & !POLICY_KNOWN));
    claim("platform-info", &format_args!("{:#x}", report.platform_info));
    claim("vmpl", &report.vmpl);
    claim("guest-svn", &report.guest_svn);
    claim("measurement", &Hex(*report.measurement));
    claim("host-data", &Hex(*report.host_data));
    claim("id-key-digest", &Hex(*report.id_key_digest));
    claim("author-key-digest", &Hex(*report.author_key_digest));
    claim("report-id", &Hex(*report.report_id));
}

/// KEY_INFO says whether an author key certified the identity key; its digest must be there then, and only then.
fn require_author_key(ledger: &mut Ledger, verified: &VerifiedSnp<'_>) -> Result<(), Failed> {
    let names = |present: bool| if present { "an author key" } else { "no author key" };
    let named = verified.report.key_info & KEY_INFO_AUTHOR_KEY != 0;
    let present = *verified.report.author_key_digest != [0; 48];
    ledger.equal("snp.author-key", names(named), names(present))
}

/// Firmware cannot be older than what it is committed to, nor claim more than it is.
fn require_relations(ledger: &mut Ledger, verified: &VerifiedSnp<'_>) -> Result<(), Failed> {
    let tcb = &verified.tcb;
    let results = [("committed", &tcb.committed), ("reported", &tcb.reported)].map(|(name, lower)| {
        ledger.require(
            "snp.tcb-relations",
            tcb.current.reaches(lower),
            format_args!("current TCB of at least the {name} one, {lower}"),
            tcb.current,
        )
    });
    results.into_iter().collect()
}

fn require_minimum(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let min = expected.tcb_min;
    let minimum = TcbVersion {
        fmc: 0,
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

fn require_policy_bits(
    ledger: &mut Ledger,
    verified: &VerifiedSnp<'_>,
    expected: &SnpExpectations,
) -> Result<(), Failed> {
    let policy = verified.report.policy;
    let smt = policy & POLICY_SMT != 0 && expected.smt == Smt::Refused;
    let wrong = [
        (policy & POLICY_ALWAYS_ONE == 0, "bit 17 not set"),
        (policy & POLICY_DEBUG != 0, "debug allowed"),
        (policy & POLICY_MIGRATE_MA != 0, "migration agent allowed"),
        (smt, "SMT allowed"),
    ];
    let wrong: Vec<&str> = wrong.iter().filter(|(present, _)| *present).map(|(_, name)| *name).collect();
    let without_smt = if expected.smt == Smt::Refused { ", no SMT" } else { "" };
    let found = format!("{policy:#x} {}", wrong.join(", "));
    let text = format!("no debug, no migration agent{without_smt}");
    ledger.require("snp.policy", wrong.is_empty(), text, found.trim_end())
}
