//! Our verdicts on AMD SEV-SNP and those of `sev`, case by case. What differs must stand in
//! `casemate_peers::differences`, with who is right and why.
//!
//! `sev` has no policy, so ours counts as soon as AMD's keys vouch for the report. There is no CRL of AMD among the vectors:
//! with those, rule `platform.crl` is left out.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use casemate_peers::amd;
use casemate_peers::comparison::{Comparison, Verdict};
use casemate_peers::differences::Peer;
use casemate_peers::ours::{self, Outcome, Trust};
use casemate_peers::snp_cases::{CASES, TIMES, region};
use casemate_peers::vectors;
use casemate_testkit::{CollateralParts, CollateralSpec, DevPki, Revoked, SnpBody, Tee};
use casemate_verifier::SnpCollateral;

/// The folder of vectors. Without it a test says so by name and does not run; where CI is set it fails.
fn folder(test: &str) -> Option<PathBuf> {
    let folder = vectors::folder();
    if folder.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{test}: vectors absent");
        eprintln!("{test}: not run: vectors absent");
    }
    folder
}

fn ours_verdict(outcome: &Outcome, trust: Trust) -> Verdict {
    let counts = |rule: &str| trust != Trust::Production || rule != "platform.crl";
    let failed = outcome.failed.iter().find(|failed| counts(&failed.rule));
    match failed {
        Some(failed) if !outcome.is_verified() => Err(failed.rule.clone()),
        _ => Ok("verified".into()),
    }
}

fn theirs_verdict(collateral: &SnpCollateral, report: &[u8]) -> Verdict {
    let vek = collateral.vek.as_deref().unwrap_or_default();
    let input = amd::Input { ark: &collateral.ark, ask: &collateral.ask, vek, report };
    // It may panic on hostile bytes: that is a refusal with another name.
    let verdict = catch_unwind(AssertUnwindSafe(|| amd::verify(&input)));
    verdict.unwrap_or_else(|_| Err("panic".into())).map(|()| "verified".into())
}

fn add(
    comparison: &mut Comparison,
    case: &str,
    detail: &str,
    report: &[u8],
    set: &SnpCollateral,
    trust: Trust,
    now: u64,
) {
    let mut handle = ours::snp_handle(set, trust, now);
    let ours = ours::appraise_snp(report, &mut handle, trust, now).unwrap();
    comparison.add(case, detail, &ours_verdict(&ours, trust), &theirs_verdict(set, report));
}

fn finish(comparison: Comparison) {
    let (compared, different) = comparison.finish().unwrap_or_else(|problems| panic!("{problems}"));
    println!("{compared} cases, {different} differ as the table says");
}

#[test]
fn agrees_on_every_real_report() {
    let Some(folder) = folder("agrees_on_every_real_report") else { return };
    let mut comparison = Comparison::new(Peer::Sev, "snp-vectors/");
    for case in CASES {
        let report = case.report(&folder).unwrap();
        let set = case.collateral(&folder).unwrap();
        for now in TIMES {
            add(&mut comparison, &case.name(), &format!("at {now}"), &report, &set, Trust::Production, now);
        }
    }
    finish(comparison);
}

#[test]
fn agrees_on_a_real_report_with_any_one_byte_changed() {
    let Some(folder) = folder("agrees_on_a_real_report_with_any_one_byte_changed") else { return };
    let mut comparison = Comparison::new(Peer::Sev, "snp-byte/");
    let [first, _, third, ..] = CASES;
    for (name, case) in [("v2", first), ("v3", third)] {
        let good = case.report(&folder).unwrap();
        let set = case.collateral(&folder).unwrap();
        let [_, _, now, _] = TIMES;
        let mut handle = ours::snp_handle(&set, Trust::Production, now);
        let vek = amd::Vek::read(set.vek.as_deref().unwrap()).unwrap();
        let mut changed = good.clone();
        for offset in 0..good.len() {
            changed[offset] ^= 1;
            let ours = ours::appraise_snp(&changed, &mut handle, Trust::Production, now).unwrap();
            let theirs = catch_unwind(AssertUnwindSafe(|| vek.verify(&changed)));
            let theirs = theirs.unwrap_or_else(|_| Err("panic".into())).map(|()| "verified".into());
            let case = format!("{name}/{}", region(offset));
            comparison.add(
                &case,
                &format!("offset {offset:#x}"),
                &ours_verdict(&ours, Trust::Production),
                &theirs,
            );
            changed[offset] ^= 1;
        }
        for (case, changed) in [
            ("cut", good[..good.len() - 1].to_vec()),
            ("longer", [good.as_slice(), &[0]].concat()),
            ("empty", Vec::new()),
        ] {
            add(&mut comparison, &format!("{name}/{case}"), "", &changed, &set, Trust::Production, now);
        }
    }
    finish(comparison);
}

#[test]
fn agrees_on_real_certificates_with_one_byte_changed() {
    let Some(folder) = folder("agrees_on_real_certificates_with_one_byte_changed") else { return };
    // A verification by the peer takes milliseconds; a prime step meets every kind of place.
    const STEP: usize = 5;
    let mut comparison = Comparison::new(Peer::Sev, "snp-certificate/");
    let [case, ..] = CASES;
    let report = case.report(&folder).unwrap();
    let good = case.collateral(&folder).unwrap();
    let [_, _, now, _] = TIMES;
    type Part = (&'static str, fn(&mut SnpCollateral) -> &mut Vec<u8>);
    let parts: [Part; 3] = [
        ("ark", |set| &mut set.ark),
        ("ask", |set| &mut set.ask),
        ("vek", |set| set.vek.get_or_insert_default()),
    ];
    for (name, part) in parts {
        let length = part(&mut good.clone()).len();
        for offset in (0..length).step_by(STEP) {
            let mut set = good.clone();
            part(&mut set)[offset] ^= 1;
            add(&mut comparison, name, &format!("offset {offset}"), &report, &set, Trust::Production, now);
        }
    }
    finish(comparison);
}

const NOW: u64 = 1_795_000_000;

#[test]
fn agrees_on_reports_with_one_field_changed_and_signed_again() {
    let pki = DevPki::generate(Tee::Snp, NOW).unwrap();
    let trust = Trust::Development(pki.root_spki_sha256());
    let collateral = |pki: &DevPki, spec: &CollateralSpec| {
        let CollateralParts::Snp(parts) = pki.collateral_with(spec).unwrap() else { unreachable!() };
        SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) }
    };
    let set = collateral(&pki, &CollateralSpec::at(NOW));
    let mut comparison = Comparison::new(Peer::Sev, "snp-field/");
    let signed =
        |change: &dyn Fn(&mut [u8])| pki.snp().unwrap().report_with(&SnpBody::new(), change).unwrap();
    let mut one = |case: &str, report: &[u8]| add(&mut comparison, case, "", report, &set, trust, NOW);
    one("good", &signed(&|_| {}));
    // Every byte of what is signed but the fields that say how to read it.
    for offset in 4..0x2a0 {
        one(region(offset), &signed(&|report| report[offset] ^= 1));
    }
    for version in [0, 1, 2, 3, 4, 5, 6, 7, 255] {
        one(&format!("version/{version}"), &signed(&|report| report[0] = version));
    }
    for bit in 0..16 {
        one(&format!("key-info/bit-{bit}"), &signed(&|report| report[0x48 + bit / 8] ^= 1 << (bit % 8)));
    }
    one("chip-id/masked", &signed(&|report| report[0x1a0..0x1e0].fill(0)));
    let revoked =
        collateral(&pki, &CollateralSpec { revoked: Revoked::Intermediate, ..CollateralSpec::at(NOW) });
    let good = signed(&|_| {});
    add(&mut comparison, "revoked-ask", "", &good, &revoked, trust, NOW);
    add(&mut comparison, "after-the-certificates", "", &good, &set, trust, NOW + 11 * 365 * 86_400);
    let other = DevPki::generate(Tee::Snp, NOW).unwrap();
    let foreign = collateral(&other, &CollateralSpec::at(NOW));
    add(
        &mut comparison,
        "another-root",
        "",
        &other.snp_report(&SnpBody::new()).unwrap(),
        &foreign,
        trust,
        NOW,
    );
    let mixed = SnpCollateral { vek: foreign.vek.clone(), ..set.clone() };
    add(&mut comparison, "another-vek", "", &good, &mixed, trust, NOW);
    finish(comparison);
}
