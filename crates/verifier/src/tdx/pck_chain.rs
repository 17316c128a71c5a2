//! The PCK certificate chain inside a quote: verified up to its root, once for each platform.

use std::borrow::Cow;

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
use crate::x509::{Certificate, IssuerFacts, PublicKey, X509Error, read_pem_chain};

const RULE: &str = "platform.chain";
const EXPECTED: &str = "a PCK certificate chain of three certificates";
const EXPECTED_PEM: &str = "a PCK certificate chain in PEM";

/// What the chain of one platform says, as far as signatures show.
#[derive(Debug, Clone)]
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
    // Of a chain that ends as the endorsements' own does, what differs between platforms is the leaf.
    let digest = match crls.and_then(|crls| crls.leaf_before_chain(pem)) {
        Some(leaf) => Sha256::of_parts(&[b"leaf", leaf]),
        None => Sha256::of_parts(&[b"chain", pem]),
    };
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
    // Most quotes carry the very chain that came with the endorsements, which was verified with them.
    let known = crls.and_then(|crls| Some((crls.leaf_before_chain(pem)?, crls)));
    let (leaf, above) = match known {
        Some((leaf, crls)) => {
            let mut chain = ledger.accept(RULE, EXPECTED_PEM, read_pem_chain(leaf))?;
            let found = chain.len().saturating_add(2);
            let leaf = chain.pop().filter(|_| chain.is_empty());
            let leaf = leaf.ok_or_else(|| wrong_length(ledger, found))?;
            require_accepted(ledger, &crls.root, roots)?;
            (leaf, Above { root: Cow::Borrowed(&crls.root), issuer: Cow::Borrowed(&crls.pck_ca) })
        }
        None => {
            let chain = ledger.accept(RULE, EXPECTED_PEM, read_pem_chain(pem))?;
            let [leaf, issuer, root] = chain.as_slice() else {
                return Err(wrong_length(ledger, chain.len()));
            };
            let root = ledger.accept(RULE, EXPECTED, Certificate::read(root))?;
            let root_facts = ledger.accept(RULE, EXPECTED, IssuerFacts::of(&root))?;
            require_accepted(ledger, &root_facts, roots)?;
            let issuer = ledger.accept(RULE, EXPECTED, verify_issuer(issuer, &root))?;
            (leaf.clone(), Above { root: Cow::Owned(root_facts), issuer: Cow::Owned(issuer) })
        }
    };
    ledger.accept(RULE, EXPECTED, verify_leaf(&leaf, &above, digest))
}

/// A root and the issuer below it, verified.
struct Above<'c> {
    root: Cow<'c, IssuerFacts>,
    issuer: Cow<'c, IssuerFacts>,
}

fn wrong_length(ledger: &mut Ledger, found: usize) -> Failed {
    ledger.fail(RULE, EXPECTED, X509Error::ChainLength { expected: 3, found })
}

fn require_accepted(ledger: &mut Ledger, root: &IssuerFacts, roots: &Roots) -> Result<(), Failed> {
    if roots.accept(VendorRoot::Intel, &root.key_digest) {
        return Ok(());
    }
    require_root_key(ledger, &root.common_name, &root.key_digest, roots, VendorRoot::Intel)
}

fn verify_issuer(issuer: &[u8], root: &Certificate<'_>) -> Result<IssuerFacts, X509Error> {
    require_self_signed(root)?;
    let issuer = Certificate::read(issuer)?;
    issuer.require_name(&PCK_ISSUERS)?;
    require_signed_issuer(&issuer, root)?;
    IssuerFacts::of(&issuer)
}

fn verify_leaf(leaf: &[u8], above: &Above<'_>, digest: Sha256) -> Result<PckFacts, X509Error> {
    let Above { root, issuer } = above;
    let leaf = Certificate::read(leaf)?;
    leaf.require_name(&[PCK_LEAF])?;
    leaf.require_issued_by_facts(issuer)?;
    leaf.require_leaf_role()?;
    let PublicKey::P256(point) = leaf.key else { return Err(X509Error::PublicKey) };
    Ok(PckFacts {
        digest,
        root_key: root.key_digest,
        root_name: root.common_name.clone(),
        issuer_subject: issuer.subject.clone(),
        issuer_key: issuer.key.clone(),
        issuer_serial: issuer.serial,
        leaf_serial: Serial::of(leaf.serial)?,
        leaf_key: ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| X509Error::PublicKey)?,
        sgx: SgxExtension::read(&leaf),
        found: format!("{} <- {}", leaf.common_name, issuer.common_name),
        windows: [
            (root.common_name.clone(), root.window),
            (issuer.common_name.clone(), issuer.window),
            (leaf.common_name, leaf.window),
        ],
    })
}
