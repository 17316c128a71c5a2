//! Real quotes against real collateral, at times in the past: every row of the expected matrix.

use std::collections::BTreeMap;
use std::path::Path;

use casemate_evidence::{TdReport, TdxQuoteError, parse_tdx_quote};
use casemate_protocol::cmw::{Evidence, Platform};
use serde_json::Value;

use super::endorsed::Endorsed;
use super::quote::{VerifiedTdx, verify};
use super::tcb_info::TcbStatus;
use crate::collateral::{Collateral, TdxCollateral};
use crate::ledger::{Ledger, Voucher};
use crate::platform::Scope;
use crate::policy::{CompositionExpectations, Measurement, Policy, PolicyValues, TdxExpectations};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use casemate_testkit::vectors;

/// A collateral set, with the two documents put together as the service gives them.
pub(crate) fn collateral(folder: &Path, file: &str) -> TdxCollateral {
    let set: Value = serde_json::from_slice(&vectors::read(folder, file)).unwrap();
    let text = |name: &str| set[name].as_str().unwrap().to_owned();
    let signed = |member: &str, body: &str, signature: &str| {
        format!(r#"{{"{member}":{},"signature":"{}"}}"#, text(body), text(signature)).into_bytes()
    };
    TdxCollateral {
        root_ca_crl: hex::decode(text("root_ca_crl")).unwrap(),
        pck_crl: hex::decode(text("pck_crl")).unwrap(),
        pck_crl_chain: text("pck_crl_issuer_chain").into_bytes(),
        tcb_info: signed("tcbInfo", "tcb_info", "tcb_info_signature"),
        tcb_info_chain: text("tcb_info_issuer_chain").into_bytes(),
        qe_identity: signed("enclaveIdentity", "qe_identity", "qe_identity_signature"),
        qe_identity_chain: text("qe_identity_issuer_chain").into_bytes(),
    }
}

/// The status, or the first rule that failed and what it found.
fn outcome(
    quote: &[u8],
    collateral: &TdxCollateral,
    roots: &Roots,
    now: UnixTime,
) -> Result<(TcbStatus, Vec<String>), (String, String)> {
    let mut ledger = Ledger::new();
    let quote = parse_tdx_quote(quote).unwrap();
    match verify(&mut ledger, quote, &mut Endorsed::verify(collateral), roots, now) {
        Ok(VerifiedTdx { tcb, .. }) => {
            assert!(!ledger.any_failed());
            Ok((tcb.status, tcb.advisories))
        }
        Err(_) => {
            let (_, rules) = ledger.into_parts();
            let failed = rules.into_iter().find(|rule| !rule.passed).unwrap().detail;
            Err((failed.rule, failed.found))
        }
    }
}

/// The strictest expectations with the quote's own measurements.
pub(crate) fn expectations(body: &TdReport<'_>) -> TdxExpectations {
    let [rtmr0, rtmr1, rtmr2, rtmr3] = body.rtmr.map(|register| Measurement(*register));
    let mut expected = TdxExpectations::strict(Measurement(*body.mr_td), [rtmr0, rtmr1, rtmr2], 15);
    expected.rtmr3 = vec![rtmr3];
    expected.mrconfigid = vec![Measurement(*body.mr_config_id)];
    expected
}

/// Cuts what follows the quote where it is not padding; real files have it.
fn readable(bytes: Vec<u8>) -> Vec<u8> {
    match parse_tdx_quote(&bytes) {
        Err(TdxQuoteError::Trailing { part: "quote", found }) => bytes[..bytes.len() - found].to_vec(),
        _ => bytes,
    }
}

#[test]
fn every_row_of_the_matrix_has_its_status() {
    let Some(folder) = vectors::folder("every_row_of_the_matrix_has_its_status") else { return };
    let matrix: Vec<Value> =
        serde_json::from_slice(&vectors::read(&folder, "_assembled/expected_matrix.json")).unwrap();
    assert_eq!(matrix.len(), 24);
    for row in &matrix {
        let text = |name: &str| row[name].as_str().unwrap();
        let quote = readable(vectors::read(&folder, text("quote")));
        let now = UnixTime(row["verify_time_unix"].as_u64().unwrap());
        let set = collateral(&folder, text("collateral"));
        let found = outcome(&quote, &set, &Roots::Production, now);
        let context = format!("{} with {}: {found:?}", text("quote"), text("collateral"));
        if row["pck_not_yet_valid"].as_bool().unwrap() {
            assert_eq!(found.unwrap_err().0, "platform.chain", "{context}");
            continue;
        }
        match text("converged_status") {
            "TCB_NOT_SUPPORTED" => {
                assert_eq!(found.as_ref().unwrap_err().0, "tdx.tcb-status", "{context}");
            }
            status => {
                let (found_status, advisories) = found.expect(&context);
                assert_eq!(found_status.name(), status, "{context}");
                let expected: Vec<String> = serde_json::from_value(row["advisory_ids"].clone()).unwrap();
                assert_eq!(advisories, expected, "{context}");
            }
        }
    }
}

#[test]
fn real_quotes_fail_outside_their_time_and_under_other_roots() {
    let name = "real_quotes_fail_outside_their_time_and_under_other_roots";
    let Some(folder) = vectors::folder(name) else { return };
    let quote = vectors::read(&folder, "_extracted/dstack-quote-report.quote.bin");
    let set = collateral(&folder, "_assembled/S2-phala-90c06f-2026-02.json");
    let rule = |roots: &Roots, now: &str| {
        let now = UnixTime::from_rfc3339(now).unwrap();
        outcome(&quote, &set, roots, now).map_err(|(rule, _)| rule)
    };
    let good = "2026-03-05T00:00:00Z";
    assert_eq!(rule(&Roots::Production, good).unwrap().0, TcbStatus::UpToDate);
    assert_eq!(rule(&Roots::Production, "2026-03-20T10:41:16Z"), Err("platform.crl".into()));
    assert_eq!(rule(&Roots::Production, "2026-02-18T10:00:00Z"), Err("platform.crl".into()));
    assert_eq!(rule(&Roots::Production, "2033-01-01T00:00:00Z"), Err("platform.chain".into()));
    let other = Roots::Development(vec![casemate_canon::Sha256::ZERO]);
    assert_eq!(rule(&other, good), Err("platform.roots".into()));
}

#[test]
fn each_changed_part_of_a_real_verification_is_refused_by_its_rule() {
    let name = "each_changed_part_of_a_real_verification_is_refused_by_its_rule";
    let Some(folder) = vectors::folder(name) else { return };
    let quote = vectors::read(&folder, "_extracted/dstack-quote-report.quote.bin");
    let good = collateral(&folder, "_assembled/S2-phala-90c06f-2026-02.json");
    let other = collateral(&folder, "_assembled/S4-attrs-50806f-2026-03.json");
    let now = UnixTime::from_rfc3339("2026-03-18T00:00:00Z").unwrap();
    let rule = |quote: &[u8], set: &TdxCollateral| {
        outcome(quote, set, &Roots::Production, now).map(|_| ()).map_err(|(rule, _)| rule)
    };
    assert_eq!(rule(&quote, &good), Ok(()));
    let flip = |offset: usize| {
        let mut changed = quote.clone();
        changed[offset] ^= 1;
        rule(&changed, &good).unwrap_err()
    };
    // Body, then report data: both signed.
    assert_eq!(flip(48 + 200), "platform.signature");
    assert_eq!(flip(48 + 583), "platform.signature");
    // After header, body and length: signature, attestation key, certification header, QE report, its signature.
    assert_eq!(flip(636), "platform.signature");
    assert_eq!(flip(636 + 64), "tdx.qe-report-data");
    assert_eq!(flip(636 + 128 + 6 + 64), "tdx.qe-report");
    assert_eq!(flip(636 + 128 + 6 + 383), "tdx.qe-report");
    assert_eq!(flip(636 + 128 + 6 + 384), "tdx.qe-report");
    assert_eq!(flip(636 + 128 + 6 + 384 + 64 + 2), "tdx.qe-report-data");
    let with = |change: &dyn Fn(&mut TdxCollateral)| {
        let mut set = good.clone();
        change(&mut set);
        rule(&quote, &set).unwrap_err()
    };
    assert_eq!(with(&|set| set.tcb_info = other.tcb_info.clone()), "tdx.fmspc");
    assert_eq!(with(&|set| set.tcb_info = set.qe_identity.clone()), "tdx.tcb-info");
    assert_eq!(with(&|set| set.qe_identity[30] ^= 1), "tdx.qe-identity");
}

#[test]
fn white_space_around_the_signed_object_changes_nothing_and_within_it_everything() {
    let name = "white_space_around_the_signed_object_changes_nothing_and_within_it_everything";
    let Some(folder) = vectors::folder(name) else { return };
    let quote = vectors::read(&folder, "_extracted/dstack-quote-report.quote.bin");
    let good = collateral(&folder, "_assembled/S2-phala-90c06f-2026-02.json");
    let now = UnixTime::from_rfc3339("2026-03-18T00:00:00Z").unwrap();
    let edited = |from: &str, to: &str| {
        let mut set = good.clone();
        let text = String::from_utf8(set.tcb_info).unwrap();
        assert!(text.contains(from));
        set.tcb_info = text.replacen(from, to, 1).into_bytes();
        outcome(&quote, &set, &Roots::Production, now).map(|_| ()).map_err(|(rule, _)| rule)
    };
    assert_eq!(edited(r#"{"tcbInfo":"#, r#" { "tcbInfo" : "#), Ok(()));
    assert_eq!(edited(r#""version":3"#, r#""version": 3"#), Err("tdx.tcb-info".into()));
    assert_eq!(edited(r#"{"tcbInfo":"#, r#"{"extra":1,"tcbInfo":"#), Err("tdx.tcb-info".into()));
}

#[test]
fn a_real_debug_trust_domain_and_one_of_azure_meet_the_policy_as_they_should() {
    let name = "a_real_debug_trust_domain_and_one_of_azure_meet_the_policy_as_they_should";
    let Some(folder) = vectors::folder(name) else { return };
    let failed = |quote: &str, set: &str, now: &str| -> Vec<String> {
        let bytes = vectors::read(&folder, quote);
        let quote = parse_tdx_quote(&bytes).unwrap();
        let set = collateral(&folder, set);
        let now = UnixTime::from_rfc3339(now).unwrap();
        let mut ledger = Ledger::new();
        let mut set = Endorsed::verify(&set);
        let verified = verify(&mut ledger, quote, &mut set, &Roots::Production, now).unwrap();
        let expected = expectations(&quote.body);
        let _recorded =
            super::require_expectations(&mut ledger, &verified, &expected, 30, Scope::Platform, now);
        let (_, rules) = ledger.into_parts();
        rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
    };
    let debug = "trustee/deps/verifier/test_data/tdx_quote_4.dat";
    let s9 = "_assembled/S9-gotdx-50806f-2023-06.json";
    assert_eq!(failed(debug, s9, "2023-06-20T00:00:00Z"), ["tdx.td-attributes"]);
    let azure = "trustee/deps/verifier/test_data/az-tdx-vtpm/td-quote.bin";
    let s6 = "_assembled/S6-automata-00806f-2025-06.json";
    // Azure leaves SEPT_VE_DISABLE clear: its policy must say that this is accepted.
    assert_eq!(
        failed(azure, s6, "2025-06-30T00:00:00Z"),
        ["tdx.tcb-status", "tdx.advisories", "tdx.sept-ve-disable"]
    );
    let production = "_extracted/dstack-quote-report.quote.bin";
    let s2 = "_assembled/S2-phala-90c06f-2026-02.json";
    assert_eq!(failed(production, s2, "2026-03-05T00:00:00Z"), [""; 0]);
}

#[test]
fn hardware_vouches_for_a_real_quote_under_production_roots_and_for_nothing_beside_it() {
    let name = "hardware_vouches_for_a_real_quote_under_production_roots_and_for_nothing_beside_it";
    let Some(folder) = vectors::folder(name) else { return };
    let quote = vectors::read(&folder, "_extracted/dstack-quote-report.quote.bin");
    let body = parse_tdx_quote(&quote).unwrap().body;
    let values = PolicyValues {
        roots: Roots::Production,
        collateral_age_max_days: 30,
        bundle_signers: Vec::new(),
        tdx: Some(expectations(&body)),
        snp: None,
        vtpm: None,
        boot_log: None,
        composition: Some(CompositionExpectations {
            digest: casemate_canon::Sha384::ZERO,
            agents: BTreeMap::new(),
        }),
    };
    let policy = Policy::parse(&Policy::render(&values)).unwrap();
    let evidence = Evidence {
        platform: Platform::Tdx { quote: quote.clone() },
        box_claims: b"{}".to_vec(),
        event_log: vec![],
        agent_token: vec![],
        agent_config: vec![],
        posture: vec![],
    };
    let tdx = Some(collateral(&folder, "_assembled/S2-phala-90c06f-2026-02.json"));
    let mut collateral = VerifiedCollateral::verify(&Collateral { tdx, snp: None });
    let now = UnixTime::from_rfc3339("2026-03-05T00:00:00Z").unwrap();
    let nonce = "some-nonce".parse().unwrap();
    let refused = crate::appraise(&evidence, &nonce, &policy, &mut collateral, now).unwrap_err();
    let failed: Vec<&str> =
        refused.rules.iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule.as_str()).collect();
    assert_eq!(failed, ["box.report-data", "box.claims"]);
    assert!(
        refused.claims.iter().all(|claim| claim.part == "platform" && claim.voucher == Voucher::Hardware)
    );
    let simulated = refused.claims.iter().find(|claim| claim.name == "simulated").unwrap();
    assert_eq!(simulated.value, "false");
}
