//! Endorsements by themselves, without evidence: whether every part holds under the roots, for whoever puts them together.

use crate::collateral::{Collateral, SnpCollateral};
use crate::crl::Crl;
use crate::facts::vek_product;
use crate::ledger::{Failed, Ledger, RuleResult};
use crate::roots::Roots;
use crate::snp::SnpProduct;
use crate::tdx::{Endorsed, require_root, require_self_signed};
use crate::time::UnixTime;
use crate::x509::{Certificate, X509Error};

/// Checks every part that can be checked without evidence: signatures, names, roles, roots, dates, revocation. Each rule
/// is recorded whether or not others hold. What belongs to evidence (its chain, its platform family) is checked with it.
#[must_use]
pub fn check_collateral(collateral: &Collateral, roots: &Roots, now: UnixTime) -> Vec<RuleResult> {
    let mut ledger = Ledger::new();
    if let Some(tdx) = &collateral.tdx {
        Endorsed::verify(tdx).check(&mut ledger, roots, now);
    }
    if let Some(snp) = &collateral.snp {
        // Whatever fails is in the ledger.
        let _recorded = check_snp(&mut ledger, snp, roots, now);
    }
    ledger.into_parts().1
}

const CHAIN: &str = "platform.chain";
const CHAIN_EXPECTED: &str = "ARK, ASK or ASVK, and VCEK or VLEK if there is one, of one product";
const CRL: &str = "platform.crl";
const CRL_EXPECTED: &str = "a CRL of the ARK that is current and does not name the ASK or ASVK";

fn check_snp(ledger: &mut Ledger, snp: &SnpCollateral, roots: &Roots, now: UnixTime) -> Result<(), Failed> {
    let ark = ledger.accept(CHAIN, CHAIN_EXPECTED, Certificate::read(&snp.ark))?;
    let product = ark.common_name.strip_prefix("ARK-").and_then(SnpProduct::from_name);
    let Some(product) = product else {
        return Err(ledger.fail(CHAIN, "an ARK of a known product", &ark.common_name));
    };
    let root = require_root(ledger, &ark, roots, product.root());
    let ask = ledger.accept(CHAIN, CHAIN_EXPECTED, Certificate::read(&snp.ask))?;
    let chain = ledger.accept(CHAIN, CHAIN_EXPECTED, check_chain(&ark, &ask, snp, product, now));
    let chain = chain.and_then(|()| {
        let found = format!("{} <- {}", ask.common_name, ark.common_name);
        ledger.require(CHAIN, true, CHAIN_EXPECTED, found)
    });
    let checked = || -> Result<(), X509Error> {
        let crl = Crl::read(&snp.crl)?;
        crl.require_signed_by(&ark)?;
        crl.revoked()?.require_current(now)?;
        crl.require_not_revoked(&ask)
    };
    ledger.accept(CRL, CRL_EXPECTED, checked())?;
    ledger.require(CRL, true, CRL_EXPECTED, "such a CRL")?;
    root.and(chain)
}

fn check_chain(
    ark: &Certificate<'_>,
    ask: &Certificate<'_>,
    snp: &SnpCollateral,
    product: SnpProduct,
    now: UnixTime,
) -> Result<(), X509Error> {
    require_self_signed(ark)?;
    ark.require_valid_at(now)?;
    let (vcek_issuer, vlek_issuer) = (format!("SEV-{product}"), format!("SEV-VLEK-{product}"));
    ask.require_name(&[&vcek_issuer, &vlek_issuer])?;
    ask.require_issued_by(ark)?;
    ask.require_issuer_role(0)?;
    ask.require_valid_at(now)?;
    let Some(vek) = &snp.vek else { return Ok(()) };
    let certificate = Certificate::read(vek)?;
    let kind = if ask.common_name == vcek_issuer { "SEV-VCEK" } else { "SEV-VLEK" };
    certificate.require_name(&[kind])?;
    certificate.require_issued_by(ask)?;
    certificate.require_leaf_role()?;
    certificate.require_valid_at(now)?;
    match vek_product(vek) {
        Ok(found) if found == product => Ok(()),
        _ => Err(X509Error::MissingExtension { missing: "productName of the ARK's product" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collateral::TdxCollateral;
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
