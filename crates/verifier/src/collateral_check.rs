//! Endorsements by themselves, without evidence: whether every part holds under the roots, for whoever puts them together.

use crate::collateral::Collateral;
use crate::ledger::{Ledger, RuleResult};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::{snp, tdx};

/// Checks every part that can be checked without evidence: signatures, names, roles, roots, dates, revocation. Each rule
/// is recorded whether or not others hold. What belongs to evidence (its chain, its platform family) is checked with it.
#[must_use]
pub fn check_collateral(collateral: &Collateral, roots: &Roots, now: UnixTime) -> Vec<RuleResult> {
    let mut ledger = Ledger::new();
    if let Some(given) = &collateral.tdx {
        tdx::Endorsed::verify(given).check(&mut ledger, roots, now);
    }
    if let Some(given) = &collateral.snp {
        snp::Endorsed::verify(given).check(&mut ledger, roots, now);
    }
    ledger.into_parts().1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collateral::{SnpCollateral, TdxCollateral};
    use casemate_testkit::{CollateralParts, CollateralSpec, DevPki, Revoked, Tee};

    const NOW: u64 = 1_780_272_000;

    fn collateral(parts: CollateralParts) -> Collateral {
        match parts {
            CollateralParts::Tdx(parts) => {
                let tdx = TdxCollateral {
                    root_ca_crl: parts.root_ca_crl,
                    pck_crl: parts.pck_crl,
                    pck_crl_chain: parts.pck_crl_chain,
                    tcb_info: parts.tcb_info,
                    tcb_info_chain: parts.tcb_info_chain,
                    qe_identity: parts.qe_identity,
                    qe_identity_chain: parts.qe_identity_chain,
                };
                Collateral { tdx: Some(tdx), snp: None }
            }
            CollateralParts::Snp(parts) => {
                let snp =
                    SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek) };
                Collateral { tdx: None, snp: Some(snp) }
            }
        }
    }

    fn failed(collateral: &Collateral, roots: &Roots, now: u64) -> Vec<String> {
        let rules = check_collateral(collateral, roots, UnixTime(now));
        rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn every_part_of_tdx_collateral_is_checked_by_itself() {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let other = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let theirs = collateral(other.collateral()).tdx.unwrap();
        let roots = Roots::Development(vec![pki.root_spki_sha256()]);
        let good = collateral(pki.collateral());
        assert_eq!(failed(&good, &roots, NOW), NONE);
        let rules = check_collateral(&good, &roots, UnixTime(NOW));
        let names: Vec<&str> = rules.iter().map(|rule| rule.detail.rule.as_str()).collect();
        assert_eq!(
            names,
            [
                "platform.roots",
                "platform.crl",
                "platform.roots",
                "tdx.tcb-info",
                "platform.roots",
                "tdx.qe-identity"
            ]
        );
        let with = |change: &dyn Fn(&mut TdxCollateral)| {
            let mut bad = good.clone();
            change(bad.tdx.as_mut().unwrap());
            failed(&bad, &roots, NOW)
        };
        assert_eq!(with(&|tdx| tdx.root_ca_crl.clone_from(&theirs.root_ca_crl)), ["platform.crl"]);
        assert_eq!(with(&|tdx| tdx.pck_crl.clone_from(&theirs.pck_crl)), ["platform.crl"]);
        assert_eq!(with(&|tdx| tdx.tcb_info.clone_from(&theirs.tcb_info)), ["tdx.tcb-info"]);
        assert_eq!(with(&|tdx| tdx.qe_identity.clone_from(&theirs.qe_identity)), ["tdx.qe-identity"]);
        // Well made in itself, under another root.
        let swap = |tdx: &mut TdxCollateral| {
            tdx.tcb_info.clone_from(&theirs.tcb_info);
            tdx.tcb_info_chain.clone_from(&theirs.tcb_info_chain);
        };
        assert_eq!(with(&swap), ["platform.roots"]);
        // Two accepted roots do not mix.
        let mut mixed = good.clone();
        swap(mixed.tdx.as_mut().unwrap());
        let both = Roots::Development(vec![pki.root_spki_sha256(), other.root_spki_sha256()]);
        assert_eq!(failed(&mixed, &both, NOW), ["tdx.tcb-info"]);
    }

    #[test]
    fn dates_revocation_and_roots_of_tdx_collateral_are_checked() {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let roots = Roots::Development(vec![pki.root_spki_sha256()]);
        let good = collateral(pki.collateral());
        let all = ["platform.crl", "tdx.tcb-info", "tdx.qe-identity"];
        assert_eq!(failed(&good, &roots, NOW + casemate_testkit::COLLATERAL_SECONDS + 1), all);
        assert_eq!(failed(&good, &roots, NOW - 3601), all);
        let roots_all = ["platform.roots", "platform.roots", "platform.roots"];
        assert_eq!(failed(&good, &Roots::Production, NOW), roots_all);
        let revoked = |revoked| {
            let spec = CollateralSpec { revoked, ..CollateralSpec::at(NOW) };
            failed(&collateral(pki.collateral_with(&spec).unwrap()), &roots, NOW)
        };
        assert_eq!(revoked(Revoked::Intermediate), ["platform.crl"]);
        assert_eq!(revoked(Revoked::CollateralSigner), ["tdx.tcb-info", "tdx.qe-identity"]);
        assert_eq!(revoked(Revoked::Leaf), NONE);
    }

    #[test]
    fn every_part_of_snp_collateral_is_checked_by_itself() {
        let pki = DevPki::generate(Tee::Snp, NOW).unwrap();
        let roots = Roots::Development(vec![pki.root_spki_sha256()]);
        let good = collateral(pki.collateral());
        assert_eq!(failed(&good, &roots, NOW), NONE);
        assert_eq!(failed(&good, &Roots::Production, NOW), ["platform.roots"]);
        assert_eq!(failed(&good, &roots, NOW + casemate_testkit::COLLATERAL_SECONDS + 1), ["platform.crl"]);
        let with = |change: &dyn Fn(&mut SnpCollateral)| {
            let mut bad = good.clone();
            change(bad.snp.as_mut().unwrap());
            failed(&bad, &roots, NOW)
        };
        assert_eq!(with(&|snp| snp.vek = None), NONE);
        assert_eq!(with(&|snp| snp.ask.clone_from(&snp.ark)), ["platform.chain"]);
        assert_eq!(with(&|snp| snp.ark.clone_from(&snp.ask)), ["platform.chain"]);
        assert_eq!(with(&|snp| snp.vek = Some(snp.ask.clone())), ["platform.chain"]);
        assert_eq!(with(&|snp| snp.crl.truncate(20)), ["platform.crl"]);
        let spec = CollateralSpec { revoked: Revoked::Intermediate, ..CollateralSpec::at(NOW) };
        assert_eq!(failed(&collateral(pki.collateral_with(&spec).unwrap()), &roots, NOW), ["platform.crl"]);
    }
}
