//! The PCK certificate chain inside a quote: verified up to its root, once for each platform.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use casemate_canon::Sha256;

use super::chains::{PCK_ISSUERS, PCK_LEAF, require_root_key, require_self_signed, require_signed_issuer};
use super::endorsed::Crls;
use super::pck::SgxExtension;
use crate::cache::Cache;
use crate::crl::Serial;
use crate::ledger::{Failed, Ledger};
use crate::roots::{Roots, VendorRoot};
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, PublicKey, X509Error, read_pem_chain};

const RULE: &str = "platform.chain";
const EXPECTED: &str = "a PCK certificate chain of three certificates";

/// What the chain of one platform says, as far as signatures show.
#[derive(Debug)]
pub(crate) struct PckFacts {
    pub(super) digest: Sha256,
    pub(super) root_key: Sha256,
    root_name: String,
    /// Subject and key of the issuer, which must be the PCK CRL's too.
    pub(super) issuer_subject: Vec<u8>,
    pub(super) issuer_key: Vec<u8>,
    pub(super) issuer_serial: Serial,
    pub(super) leaf_serial: Serial,
    pub(super) leaf_key: ParsedPublicKey,
    pub(super) sgx: Result<SgxExtension, X509Error>,
    found: String,
    windows: [(String, Window); 3],
}

/// The facts of a quote's chain: remembered ones, or verified now. Roots and dates are looked at each time.
pub(super) fn require<'c>(
    ledger: &mut Ledger,
    pem: &[u8],
    platforms: &'c mut Cache<PckFacts>,
    crls: Option<&Crls>,
    roots: &Roots,
    now: UnixTime,
) -> Result<&'c PckFacts, Failed> {
    let digest = Sha256::of(pem);
    let known = platforms.get(&digest).is_some();
    let facts = if known {
        platforms.get(&digest).ok_or_else(|| ledger.fail(RULE, EXPECTED, "none"))?
    } else {
        let facts = verify(ledger, pem, digest, crls, roots)?;
        platforms.insert(digest, facts)
    };
    require_root_key(ledger, &facts.root_name, &facts.root_key, roots, VendorRoot::Intel)?;
    for (subject, window) in &facts.windows {
        if !window.holds_at(now) {
            let error = X509Error::Validity { subject: subject.clone(), window: *window, now };
            return Err(ledger.fail(RULE, EXPECTED, error));
        }
    }
    ledger.require(RULE, true, EXPECTED, &facts.found)?;
    Ok(facts)
}

/// Verifies leaf, issuer and root. The root's key decides, and is looked at before anything is computed for a stranger.
fn verify(
    ledger: &mut Ledger,
    pem: &[u8],
    digest: Sha256,
    crls: Option<&Crls>,
    roots: &Roots,
) -> Result<PckFacts, Failed> {
    let chain = ledger.accept(RULE, "a PCK certificate chain in PEM", read_pem_chain(pem))?;
    let [leaf, issuer, root] = chain.as_slice() else {
        let found = X509Error::ChainLength { expected: 3, found: chain.len() };
        return Err(ledger.fail(RULE, EXPECTED, found));
    };
    let root = ledger.accept(RULE, EXPECTED, Certificate::read(root))?;
    let root_key = root.key_digest();
    if !roots.accept(VendorRoot::Intel, &root_key) {
        require_root_key(ledger, &root.common_name, &root_key, roots, VendorRoot::Intel)?;
    }
    let facts = || -> Result<PckFacts, X509Error> {
        let leaf = Certificate::read(leaf)?;
        let issuer = Certificate::read(issuer)?;
        issuer.require_name(&PCK_ISSUERS)?;
        // The endorsements' own chain has verified the very same certificates most of the time.
        let endorsed = crls.is_some_and(|crls| crls.root.der == root.der && crls.pck_ca.der == issuer.der);
        if !endorsed {
            require_self_signed(&root)?;
            require_signed_issuer(&issuer, &root)?;
        }
        leaf.require_name(&[PCK_LEAF])?;
        match crls.filter(|_| endorsed) {
            Some(crls) => leaf.require_issued_by_facts(&crls.pck_ca)?,
            None => leaf.require_issued_by(&issuer)?,
        }
        leaf.require_leaf_role()?;
        let PublicKey::P256(point) = leaf.key else { return Err(X509Error::PublicKey) };
        Ok(PckFacts {
            digest,
            root_key,
            root_name: root.common_name.clone(),
            issuer_subject: issuer.subject.to_vec(),
            issuer_key: issuer.key.bytes().to_vec(),
            issuer_serial: Serial::of(issuer.serial)?,
            leaf_serial: Serial::of(leaf.serial)?,
            leaf_key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .map_err(|_| X509Error::PublicKey)?,
            sgx: SgxExtension::read(&leaf),
            found: format!("{} <- {}", leaf.common_name, issuer.common_name),
            windows: [&root, &issuer, &leaf].map(|one| (one.common_name.clone(), one.window)),
        })
    };
    ledger.accept(RULE, EXPECTED, facts())
}
