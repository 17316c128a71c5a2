//! The certificates and CRLs behind a TDX quote, verified up to a root that the policy accepts.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::crl::Crl;
use crate::ledger::{Failed, Ledger};
use crate::roots::{Roots, VendorRoot, production_root_named};
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, PublicKey, X509Error, read_pem_chain};

const PCK_LEAF: &str = "Intel SGX PCK Certificate";
const PCK_ISSUERS: [&str; 2] = ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"];
const TCB_SIGNER: &str = "Intel SGX TCB Signing";

/// The DER certificates of the four PEM chains that a verification reads.
pub(crate) struct ChainBytes {
    pub(crate) pck: Vec<Vec<u8>>,
    pub(crate) pck_crl: Vec<Vec<u8>>,
    pub(crate) tcb_info: Vec<Vec<u8>>,
    pub(crate) qe_identity: Vec<Vec<u8>>,
}

impl ChainBytes {
    pub(crate) fn read(
        pck: &[u8],
        collateral: &crate::collateral::TdxCollateral,
    ) -> Result<Self, (&'static str, X509Error)> {
        let read = |name, pem| read_pem_chain(pem).map_err(|error| (name, error));
        Ok(Self {
            pck: read("PCK certificate chain", pck)?,
            pck_crl: read("chain of the PCK CRL", &collateral.pck_crl_chain)?,
            tcb_info: read("chain of the TCB information", &collateral.tcb_info_chain)?,
            qe_identity: read("chain of the QE identity", &collateral.qe_identity_chain)?,
        })
    }
}

/// A root whose key the policy accepts.
pub(crate) struct AcceptedRoot<'a>(Certificate<'a>);

/// A PCK certificate that leads to an accepted root.
pub(crate) struct PckChain<'a> {
    pub(crate) leaf: Certificate<'a>,
    issuer: Certificate<'a>,
    root: AcceptedRoot<'a>,
}

/// Verifies leaf, issuer and root of the quote's own chain. The root's key decides, and is looked at first.
pub(crate) fn verify_pck_chain<'a>(
    ledger: &mut Ledger,
    chain: &'a [Vec<u8>],
    roots: &Roots,
    now: UnixTime,
) -> Result<PckChain<'a>, Failed> {
    const RULE: &str = "platform.chain";
    const EXPECTED: &str = "a PCK certificate chain of three certificates";
    let [leaf, issuer, root] = chain else {
        let found = X509Error::ChainLength { expected: 3, found: chain.len() };
        return Err(ledger.fail(RULE, EXPECTED, found));
    };
    let root = ledger.accept(RULE, EXPECTED, Certificate::read(root))?;
    require_root(ledger, &root, roots, VendorRoot::Intel)?;
    let leaf = ledger.accept(RULE, EXPECTED, Certificate::read(leaf))?;
    let issuer = ledger.accept(RULE, EXPECTED, Certificate::read(issuer))?;
    let verified = || -> Result<(), X509Error> {
        require_self_signed(&root, now)?;
        require_pck_issuer(&issuer, &root, now)?;
        leaf.require_name(&[PCK_LEAF])?;
        leaf.require_issued_by(&issuer)?;
        leaf.require_leaf_role()?;
        leaf.require_valid_at(now)
    };
    ledger.accept(RULE, EXPECTED, verified())?;
    ledger.require(RULE, true, EXPECTED, format_args!("{} <- {}", leaf.common_name, issuer.common_name))?;
    Ok(PckChain { leaf, issuer, root: AcceptedRoot(root) })
}

/// Records rule `platform.roots`: that the root's key is one the policy accepts.
pub(crate) fn require_root(
    ledger: &mut Ledger,
    root: &Certificate<'_>,
    roots: &Roots,
    vendor: VendorRoot,
) -> Result<(), Failed> {
    let key = root.key_digest();
    let kind = match production_root_named(&key) {
        Some(_) => "production root",
        None => "development root (no vendor's)",
    };
    ledger.require(
        "platform.roots",
        roots.accept(vendor, &key),
        roots.describe(vendor),
        format_args!("{kind} `{}` with key {key}", root.common_name),
    )
}

/// Verifies both CRLs and that they name none of the certificates in use.
pub(crate) fn verify_crls(
    ledger: &mut Ledger,
    pck: &PckChain<'_>,
    chains: &ChainBytes,
    collateral: &crate::collateral::TdxCollateral,
    now: UnixTime,
) -> Result<UnixTime, Failed> {
    const RULE: &str = "platform.crl";
    const EXPECTED: &str =
        "CRLs of the root and of the PCK CA that are current and name no certificate in use";
    let verified = || -> Result<(Window, usize), X509Error> {
        let root = &pck.root.0;
        let root_crl = Crl::read(&collateral.root_ca_crl)?;
        root_crl.require_issued_by(root, now)?;
        root_crl.require_numbered()?;
        root_crl.require_not_revoked(&pck.issuer)?;
        let [crl_issuer, crl_root] = chains.pck_crl.as_slice() else {
            return Err(X509Error::ChainLength { expected: 2, found: chains.pck_crl.len() });
        };
        require_same_root(crl_root, root, now)?;
        if crl_issuer != pck.issuer.der {
            let crl_issuer = Certificate::read(crl_issuer)?;
            require_pck_issuer(&crl_issuer, root, now)?;
            root_crl.require_not_revoked(&crl_issuer)?;
        }
        let pck_crl = Crl::read(&collateral.pck_crl)?;
        // By the very key that issued the leaf, whatever chain came with the CRL.
        pck_crl.require_issued_by(&pck.issuer, now)?;
        pck_crl.require_numbered()?;
        pck_crl.require_not_revoked(&pck.leaf)?;
        for chain in [&chains.tcb_info, &chains.qe_identity] {
            if let Some(signer) = chain.first() {
                root_crl.require_not_revoked(&Certificate::read(signer)?)?;
            }
        }
        Ok((pck_crl.window, pck_crl.revoked_count()))
    };
    let (window, revoked) = ledger.accept(RULE, EXPECTED, verified())?;
    let found = format!(
        "no certificate in use revoked; PCK CRL from {} to {} with {revoked} entries",
        window.from, window.until
    );
    ledger.require(RULE, true, EXPECTED, found)?;
    Ok(window.from)
}

/// A TCB signer whose certificate leads to the accepted root.
pub(crate) struct TcbSigner<'a>(Certificate<'a>);

impl<'a> TcbSigner<'a> {
    /// Verifies the chain of a TCB signer: the signer, directly below the accepted root.
    pub(crate) fn verify(chain: &'a [Vec<u8>], pck: &PckChain<'_>, now: UnixTime) -> Result<Self, X509Error> {
        let [signer, root] = chain else {
            return Err(X509Error::ChainLength { expected: 2, found: chain.len() });
        };
        require_same_root(root, &pck.root.0, now)?;
        let signer = Certificate::read(signer)?;
        signer.require_name(&[TCB_SIGNER])?;
        signer.require_issued_by(&pck.root.0)?;
        signer.require_leaf_role()?;
        signer.require_valid_at(now)?;
        Ok(Self(signer))
    }

    /// Whether it signed these bytes: r and s, big-endian.
    pub(crate) fn signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        match self.0.key {
            PublicKey::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(bytes, signature).is_ok()
            }
            _ => false,
        }
    }
}

fn require_pck_issuer(
    issuer: &Certificate<'_>,
    root: &Certificate<'_>,
    now: UnixTime,
) -> Result<(), X509Error> {
    issuer.require_name(&PCK_ISSUERS)?;
    issuer.require_issued_by(root)?;
    issuer.require_issuer_role(0)?;
    issuer.require_valid_at(now)
}

/// Every chain that comes along must end in the root that was accepted: in the same key, with a certificate that
/// holds. Intel has issued its root's certificate more than once.
fn require_same_root(found: &[u8], root: &Certificate<'_>, now: UnixTime) -> Result<(), X509Error> {
    if found == root.der {
        return Ok(());
    }
    let found = Certificate::read(found)?;
    if found.key != root.key || found.subject != root.subject {
        return Err(X509Error::Issuer { subject: found.common_name, issuer: root.common_name.clone() });
    }
    require_self_signed(&found, now)
}

pub(crate) fn require_self_signed(root: &Certificate<'_>, now: UnixTime) -> Result<(), X509Error> {
    root.require_issued_by(root)?;
    root.require_issuer_role(1)?;
    root.require_valid_at(now)
}
