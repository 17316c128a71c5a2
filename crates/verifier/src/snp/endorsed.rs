//! AMD's endorsements of one product, verified once and used for many reports: ARK, ASK or ASVK, the ARK's CRL, and
//! the VCEK and VLEK certificates that came with reports.
//!
//! What is kept is what does not change: signatures, names, roles, kinds and revocation. What time changes is never
//! kept: each use looks at every date again.

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use casemate_canon::Sha256;
use casemate_evidence::SigningKey;

use super::product::SnpProduct;
use super::vek::{VekError, VekExtensions};
use crate::cache::Cache;
use crate::collateral::SnpCollateral;
use crate::crl::{Crl, RevokedSerials};
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::tdx::{require_root_key, require_self_signed};
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, IssuerFacts, PublicKey, X509Error};

/// Most VCEK and VLEK certificates that are remembered, about 2 KiB each.
const REMEMBERED_MAX: usize = 1024;

const CHAIN: &str = "platform.chain";
const CHAIN_EXPECTED: &str =
    "ARK, ASK or ASVK, and VCEK or VLEK of one product, as the report's signing key says";
const CRL: &str = "platform.crl";
const CRL_EXPECTED: &str = "a CRL of the ARK that is current and names no certificate in use";

/// Why certificates are not a chain of AMD's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChainError {
    #[error(transparent)]
    X509(#[from] X509Error),
    #[error("`{subject}`: {error}")]
    Vek { subject: String, error: VekError },
    #[error("`{found}` is no name of an ARK")]
    Root { found: String },
    #[error("`{found}` is neither `SEV-{product}` nor `SEV-VLEK-{product}`")]
    Intermediate { product: SnpProduct, found: String },
    #[error("`{found}` is neither `SEV-VCEK` nor `SEV-VLEK`")]
    Leaf { found: String },
    #[error("{part} is for a {found} where one for a {expected} is expected")]
    Kind { part: &'static str, expected: &'static str, found: &'static str },
    #[error("certificate of {found} under the root of {expected}")]
    Product { expected: SnpProduct, found: SnpProduct },
    #[error("key of `{subject}` is not on P-384")]
    Key { subject: String },
}

/// A certificate whose dates are to be looked at again.
#[derive(Debug, Clone)]
struct Dated {
    name: String,
    window: Window,
}

impl Dated {
    fn of(certificate: &Certificate<'_>) -> Self {
        Self { name: certificate.common_name.clone(), window: certificate.window }
    }

    fn require_valid_at(&self, now: UnixTime) -> Result<(), X509Error> {
        if self.window.holds_at(now) {
            return Ok(());
        }
        Err(X509Error::Validity { subject: self.name.clone(), window: self.window, now })
    }
}

/// Endorsements of one product, and what was verified with them. What does not hold is kept as the reason, and refuses
/// whatever needs it.
#[derive(Clone)]
pub(crate) struct Endorsed {
    root: Result<Root, ChainError>,
    chain: Result<Chain, ChainError>,
    crl: Result<RevokedSerials, X509Error>,
    vek: Option<Vec<u8>>,
    veks: Cache<Arc<Vek>>,
}

/// An ARK, which is as good as its key.
#[derive(Debug, Clone)]
struct Root {
    product: SnpProduct,
    dated: Dated,
    key: Sha256,
}

/// An ASK or ASVK that the ARK issued.
#[derive(Debug, Clone)]
struct Chain {
    product: SnpProduct,
    /// What the intermediate may certify.
    certifies: SigningKey,
    ask: IssuerFacts,
}

/// A VCEK or VLEK certificate that the intermediate issued.
#[derive(Debug)]
pub(crate) struct Vek {
    dated: Dated,
    pub(crate) kind: SigningKey,
    pub(crate) extensions: VekExtensions,
    key: ParsedPublicKey,
}

impl Vek {
    /// The common name.
    pub(crate) fn name(&self) -> &str {
        &self.dated.name
    }

    /// Whether this key made the signature (r and s, big-endian, 48 bytes each) over these bytes.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8; 96]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl Endorsed {
    /// Checks every signature.
    pub(crate) fn verify(collateral: &SnpCollateral) -> Self {
        let ark = Certificate::read(&collateral.ark).map_err(ChainError::from);
        let ask = Certificate::read(&collateral.ask).map_err(ChainError::from);
        Self {
            root: ark.as_ref().map_err(Clone::clone).and_then(Root::of),
            chain: parts(&ark, &ask).and_then(|(ark, ask)| Chain::verify(ark, ask)),
            crl: parts(&ark, &ask)
                .map_err(|_| X509Error::Pem { reason: "ARK, ASK or ASVK cannot be read" })
                .and_then(|(ark, ask)| verify_crl(ark, ask, &collateral.crl)),
            vek: collateral.vek.clone(),
            veks: Cache::new(REMEMBERED_MAX),
        }
    }

    /// Records what can be known without a report: rules `platform.roots`, `platform.chain` and `platform.crl`, by the
    /// checks that an appraisal makes.
    pub(crate) fn check(&mut self, ledger: &mut Ledger, roots: &Roots, now: UnixTime) {
        // Whatever fails is in the ledger.
        let _recorded = self.check_chain(ledger, roots, now);
        if self.root.is_ok() {
            let _recorded = self.require_crl(ledger, now);
        }
    }

    fn check_chain(&mut self, ledger: &mut Ledger, roots: &Roots, now: UnixTime) -> Result<(), Failed> {
        let root = ledger.accept(CHAIN, "an ARK certificate", self.root.as_ref())?;
        let rooted = require_root_key(ledger, &root.dated.name, &root.key, roots, root.product.root());
        let chain = ledger.accept(CHAIN, CHAIN_EXPECTED, self.chain.as_ref())?;
        let names = format_args!("{} <- {}", chain.ask.common_name, root.dated.name).to_string();
        let found = match &self.vek {
            None => root
                .dated
                .require_valid_at(now)
                .and_then(|()| chain.ask.require_valid_at(now))
                .map_err(ChainError::from)
                .map(|()| names),
            Some(vek) => require_vek(root, chain, &mut self.veks, vek, chain.certifies, now)
                .map(|vek| format!("{} <- {names}", vek.dated.name)),
        };
        let found = ledger.accept(CHAIN, CHAIN_EXPECTED, found)?;
        ledger.require(CHAIN, true, CHAIN_EXPECTED, found)?;
        rooted.map(drop)
    }

    /// The certificate of a report's key that came with the endorsements.
    pub(crate) fn own_vek(&self) -> Option<&[u8]> {
        self.vek.as_deref()
    }

    /// Records rules `platform.roots` and `platform.chain`: that the certificate leads to a root that the policy accepts,
    /// at `now`, and is of the kind that signed the report. Its signature is checked the first time that it is seen.
    pub(crate) fn require_chain(
        &mut self,
        ledger: &mut Ledger,
        vek: &[u8],
        signing_key: SigningKey,
        roots: &Roots,
        now: UnixTime,
    ) -> Result<Arc<Vek>, Failed> {
        let root = ledger.accept(CHAIN, "an ARK certificate", self.root.as_ref())?;
        require_root_key(ledger, &root.dated.name, &root.key, roots, root.product.root())?;
        let chain = ledger.accept(CHAIN, CHAIN_EXPECTED, self.chain.as_ref())?;
        let vek = require_vek(root, chain, &mut self.veks, vek, signing_key, now);
        let vek = ledger.accept(CHAIN, CHAIN_EXPECTED, vek)?;
        let found = format_args!("{} <- {} <- {}", vek.dated.name, chain.ask.common_name, root.dated.name);
        ledger.require(CHAIN, true, CHAIN_EXPECTED, found)?;
        Ok(vek)
    }

    /// Records rule `platform.crl`, and says when the CRL was issued. Every VCEK and VLEK has serial number 0, so that
    /// a CRL can only name ARK, ASK and ASVK.
    pub(crate) fn require_crl(&self, ledger: &mut Ledger, now: UnixTime) -> Result<UnixTime, Failed> {
        let crl = ledger.accept(CRL, CRL_EXPECTED, self.crl.as_ref())?;
        ledger.accept(CRL, CRL_EXPECTED, crl.require_current(now))?;
        ledger.require(CRL, true, CRL_EXPECTED, crl)?;
        Ok(crl.window.from)
    }

    /// Whether the intermediate is one that the root issued.
    #[cfg(test)]
    pub(crate) fn chain_holds(&self) -> bool {
        self.chain.is_ok()
    }

    /// A CRL as if it had been verified, for tests of what comes after it.
    #[cfg(test)]
    pub(crate) fn assume_crl(&mut self, crl: RevokedSerials) {
        self.crl = Ok(crl);
    }
}

/// Both certificates, or why one of them cannot be read.
fn parts<'a, 'b>(
    ark: &'a Result<Certificate<'b>, ChainError>,
    ask: &'a Result<Certificate<'b>, ChainError>,
) -> Result<(&'a Certificate<'b>, &'a Certificate<'b>), ChainError> {
    let read = |part: &'a Result<Certificate<'b>, ChainError>| part.as_ref().map_err(Clone::clone);
    Ok((read(ark)?, read(ask)?))
}

impl Root {
    fn of(ark: &Certificate<'_>) -> Result<Self, ChainError> {
        let product = SnpProduct::ALL.into_iter().find(|product| product.root_name() == ark.common_name);
        let product = product.ok_or_else(|| ChainError::Root { found: ark.common_name.clone() })?;
        Ok(Self { product, dated: Dated::of(ark), key: ark.key_digest() })
    }
}

impl Chain {
    fn verify(ark: &Certificate<'_>, ask: &Certificate<'_>) -> Result<Self, ChainError> {
        let Root { product, .. } = Root::of(ark)?;
        require_self_signed(ark)?;
        ask.require_issued_by(ark)?;
        ask.require_issuer_role(0)?;
        Ok(Self { product, certifies: certifies(ask, product)?, ask: IssuerFacts::of(ask)? })
    }

    /// A certificate that the intermediate issued, at whatever time.
    fn read_vek(&self, der: &[u8]) -> Result<Vek, ChainError> {
        let certificate = Certificate::read(der)?;
        let subject = || certificate.common_name.clone();
        let kind = match certificate.common_name.as_str() {
            "SEV-VCEK" => SigningKey::Vcek,
            "SEV-VLEK" => SigningKey::Vlek,
            found => return Err(ChainError::Leaf { found: found.to_owned() }),
        };
        certificate.require_leaf_role()?;
        let extensions = VekExtensions::read(&certificate)
            .map_err(|error| ChainError::Vek { subject: subject(), error })?;
        if extensions.identity.kind() != kind {
            let found = kind_name(extensions.identity.kind());
            return Err(ChainError::Kind {
                part: "what identifies the key",
                expected: kind_name(kind),
                found,
            });
        }
        if extensions.product != self.product {
            return Err(ChainError::Product { expected: self.product, found: extensions.product });
        }
        certificate.require_issued_by_facts(&self.ask)?;
        let wrong_key = || ChainError::Key { subject: subject() };
        let PublicKey::P384(point) = certificate.key else { return Err(wrong_key()) };
        let key = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).map_err(|_| wrong_key())?;
        Ok(Vek { dated: Dated::of(&certificate), kind, extensions, key })
    }
}

/// The verified certificate, remembered or seen for the first time. Its kind and all dates are compared each time.
fn require_vek(
    root: &Root,
    chain: &Chain,
    veks: &mut Cache<Arc<Vek>>,
    vek: &[u8],
    signing_key: SigningKey,
    now: UnixTime,
) -> Result<Arc<Vek>, ChainError> {
    let expected = kind_name(signing_key);
    if chain.certifies != signing_key {
        let found = kind_name(chain.certifies);
        return Err(ChainError::Kind { part: "the intermediate", expected, found });
    }
    root.dated.require_valid_at(now)?;
    chain.ask.require_valid_at(now)?;
    let digest = Sha256::of(vek);
    let vek = match veks.get(&digest) {
        Some(known) => Arc::clone(known),
        None => Arc::clone(veks.insert(digest, Arc::new(chain.read_vek(vek)?))),
    };
    if vek.kind != signing_key {
        let found = kind_name(vek.kind);
        return Err(ChainError::Kind { part: "the certificate", expected, found });
    }
    vek.dated.require_valid_at(now)?;
    Ok(vek)
}

/// What an intermediate certifies, by its name.
fn certifies(ask: &Certificate<'_>, product: SnpProduct) -> Result<SigningKey, ChainError> {
    let name = ask.common_name.as_str();
    match name.strip_prefix("SEV-").map(|name| (name.strip_prefix("VLEK-"), name)) {
        Some((Some(name), _)) if name == product.name() => Ok(SigningKey::Vlek),
        Some((None, name)) if name == product.name() => Ok(SigningKey::Vcek),
        _ => Err(ChainError::Intermediate { product, found: name.to_owned() }),
    }
}

fn verify_crl(ark: &Certificate<'_>, ask: &Certificate<'_>, crl: &[u8]) -> Result<RevokedSerials, X509Error> {
    let crl = Crl::read(crl)?;
    crl.require_signed_by(ark)?;
    crl.require_numbered()?;
    crl.require_not_revoked(ark)?;
    crl.require_not_revoked(ask)?;
    crl.revoked()
}

/// The name of a kind of key.
pub(crate) const fn kind_name(kind: SigningKey) -> &'static str {
    match kind {
        SigningKey::Vcek => "VCEK",
        SigningKey::Vlek => "VLEK",
        SigningKey::None => "key that signs nothing",
    }
}

#[cfg(test)]
#[path = "endorsed_tests.rs"]
mod tests;
