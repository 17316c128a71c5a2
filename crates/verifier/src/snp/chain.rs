//! The certificates and the CRL behind an SNP report, verified up to a root that the policy accepts.

use casemate_evidence::SigningKey;

use super::vek::{SnpProduct, VekExtensions};
use crate::collateral::SnpCollateral;
use crate::crl::Crl;
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::tdx::{require_root, require_self_signed};
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, X509Error};

const RULE: &str = "platform.chain";

/// A VCEK or VLEK certificate that leads to an accepted root.
pub(crate) struct VekChain<'a> {
    pub(crate) vek: Certificate<'a>,
    pub(crate) extensions: VekExtensions,
}

/// Verifies ARK, ASK or ASVK, and VEK: names, signatures, validity, and that kind and product agree everywhere.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    vek: &'a [u8],
    signing_key: SigningKey,
    collateral: &SnpCollateral,
    roots: &Roots,
    now: UnixTime,
) -> Result<VekChain<'a>, Failed> {
    let ark = ledger.accept(RULE, "an ARK certificate", Certificate::read(&collateral.ark))?;
    let vek = ledger.accept(RULE, "a VCEK or VLEK certificate", Certificate::read(vek))?;
    let extensions = ledger.accept(RULE, "the extensions of a VCEK or VLEK", VekExtensions::read(&vek))?;
    let product = extensions.product;
    require_root(ledger, &ark, roots, product.root())?;
    let ask = ledger.accept(RULE, "an ASK or ASVK certificate", Certificate::read(&collateral.ask))?;
    let expected = "ARK, ASK or ASVK, and VCEK or VLEK of one product, as the report's signing key says";
    ledger.accept(RULE, expected, require_chain(&ark, &ask, &vek, signing_key, product, now))?;
    let found = format!("{} <- {} <- {}", vek.common_name, ask.common_name, ark.common_name);
    ledger.require(RULE, true, expected, found)?;
    Ok(VekChain { vek, extensions })
}

/// Verifies the CRL and says when it was issued. Every VEK has serial number 0, so that it can only name ASK and ASVK.
pub(crate) fn verify_crl(
    ledger: &mut Ledger,
    collateral: &SnpCollateral,
    now: UnixTime,
) -> Result<UnixTime, Failed> {
    const RULE: &str = "platform.crl";
    const EXPECTED: &str = "a CRL of the ARK that is current and names no certificate in use";
    let verified = || -> Result<Window, X509Error> {
        let ark = Certificate::read(&collateral.ark)?;
        let crl = Crl::read(&collateral.crl)?;
        crl.require_signed_by(&ark)?;
        crl.revoked()?.require_current(now)?;
        crl.require_not_revoked(&Certificate::read(&collateral.ask)?)?;
        Ok(crl.window)
    };
    let window = ledger.accept(RULE, EXPECTED, verified())?;
    let found = format!("ASK or ASVK not revoked by the CRL of {} to {}", window.from, window.until);
    ledger.require(RULE, true, EXPECTED, found)?;
    Ok(window.from)
}

fn require_chain(
    ark: &Certificate<'_>,
    ask: &Certificate<'_>,
    vek: &Certificate<'_>,
    signing_key: SigningKey,
    product: SnpProduct,
    now: UnixTime,
) -> Result<(), X509Error> {
    let (vek_name, ask_name) = match signing_key {
        SigningKey::Vcek => ("SEV-VCEK", format!("SEV-{product}")),
        SigningKey::Vlek => ("SEV-VLEK", format!("SEV-VLEK-{product}")),
        SigningKey::None => {
            return Err(X509Error::Usage {
                subject: vek.common_name.clone(),
                role: "signer of an unsigned report",
            });
        }
    };
    ark.require_name(&[&format!("ARK-{product}")])?;
    ask.require_name(&[&ask_name])?;
    vek.require_name(&[vek_name])?;
    require_self_signed(ark)?;
    ark.require_valid_at(now)?;
    ask.require_issued_by(ark)?;
    ask.require_issuer_role(0)?;
    ask.require_valid_at(now)?;
    vek.require_issued_by(ask)?;
    vek.require_leaf_role()?;
    vek.require_valid_at(now)
}
