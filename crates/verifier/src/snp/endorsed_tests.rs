//! Reuse of what was verified: bounded, and never past a date.

use casemate_evidence::SigningKey;
use casemate_testkit::{SnpGeneration, SnpKey, SnpSpec, TCB};

use super::super::report_tests::{NOW, collateral_of, failed_rules, roots, snp_pki};
use super::*;

/// Changes what the certificates and the CRL say.
type Change<T> = fn(&mut SnpSpec, T);

fn spec() -> SnpSpec {
    SnpSpec::new(snp_pki(), SnpGeneration::Genoa, SnpKey::Vcek, TCB, NOW)
}

/// The rules that fail in a use of the endorsements.
fn failed(endorsed: &mut Endorsed, vek: &[u8], kind: SigningKey, now: u64) -> Vec<String> {
    let mut ledger = Ledger::new();
    let _recorded = endorsed.require_chain(&mut ledger, vek, kind, &roots(), UnixTime(now));
    let _recorded = endorsed.require_crl(&mut ledger, UnixTime(now));
    failed_rules(ledger.into_parts().1)
}

#[test]
fn every_use_looks_at_every_date_again() {
    let parts: [Change<(u64, u64)>; 4] = [
        |spec, valid| spec.valid[0] = valid,
        |spec, valid| spec.valid[1] = valid,
        |spec, valid| spec.valid[2] = valid,
        |spec, valid| spec.crl_valid = valid,
    ];
    for (index, part) in parts.into_iter().enumerate() {
        let mut spec = spec();
        part(&mut spec, (NOW, NOW + 10));
        let collateral = collateral_of(&spec);
        let mut endorsed = Endorsed::verify(&collateral);
        let vek = collateral.vek.unwrap();
        let expected = if index == 3 { "platform.crl" } else { "platform.chain" };
        for (now, holds) in [(NOW, true), (NOW + 10, true), (NOW + 11, false), (NOW - 1, false), (NOW, true)]
        {
            let found = failed(&mut endorsed, &vek, SigningKey::Vcek, now);
            assert_eq!(found.is_empty(), holds, "{index} {now} {found:?}");
            assert!(holds || found == [expected], "{index} {now} {found:?}");
        }
        assert_eq!(endorsed.veks.len(), 1);
    }
}

#[test]
fn a_known_certificate_is_still_compared_with_the_reports_key() {
    let collateral = collateral_of(&spec());
    let mut endorsed = Endorsed::verify(&collateral);
    let vek = collateral.vek.unwrap();
    assert_eq!(failed(&mut endorsed, &vek, SigningKey::Vcek, NOW), [""; 0]);
    assert_eq!(failed(&mut endorsed, &vek, SigningKey::Vlek, NOW), ["platform.chain"]);
    assert_eq!(failed(&mut endorsed, &vek, SigningKey::None, NOW), ["platform.chain"]);
}

#[test]
fn a_certificate_that_does_not_hold_is_never_kept() {
    let collateral = collateral_of(&spec());
    let mut endorsed = Endorsed::verify(&collateral);
    let mut vek = collateral.vek.unwrap();
    // The last byte of its signature.
    *vek.last_mut().unwrap() ^= 1;
    for _ in 0..2 {
        assert_eq!(failed(&mut endorsed, &vek, SigningKey::Vcek, NOW), ["platform.chain"]);
        assert_eq!(endorsed.veks.len(), 0);
    }
    assert_eq!(failed(&mut endorsed, &[], SigningKey::Vcek, NOW), ["platform.chain"]);
    assert_eq!(endorsed.veks.len(), 0);
}

#[test]
fn a_remembered_certificate_is_compared_with_each_policys_roots() {
    let collateral = collateral_of(&spec());
    let mut endorsed = Endorsed::verify(&collateral);
    let vek = collateral.vek.unwrap();
    assert_eq!(failed(&mut endorsed, &vek, SigningKey::Vcek, NOW), [""; 0]);
    let mut ledger = Ledger::new();
    let refused =
        endorsed.require_chain(&mut ledger, &vek, SigningKey::Vcek, &Roots::Production, UnixTime(NOW));
    assert!(refused.is_err());
    assert_eq!(failed_rules(ledger.into_parts().1), ["platform.roots"]);
}

#[test]
fn endorsements_without_a_crl_refuse_every_report() {
    let mut collateral = collateral_of(&spec());
    collateral.crl.clear();
    let mut endorsed = Endorsed::verify(&collateral);
    let vek = collateral.vek.unwrap();
    for now in [NOW, 0, u64::MAX] {
        assert!(failed(&mut endorsed, &vek, SigningKey::Vcek, now).contains(&"platform.crl".to_owned()));
    }
}
