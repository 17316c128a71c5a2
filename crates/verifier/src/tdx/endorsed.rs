//! Intel's endorsements, with every signature checked once: what can be known of them without a quote.
//!
//! Time is not looked at here. Every use of a part compares all its dates with the time given then, so that a handle
//! that is kept does not outlive what it was made from.

use casemate_canon::require_unique;

use super::chains::{PCK_ISSUERS, TCB_SIGNER, require_self_signed, require_signed_issuer};
use super::tcb_info::{QeIdentity, SignedQeIdentity, SignedTcbInfo, TcbInfo};
use crate::cache::Cache;
use crate::collateral::TdxCollateral;
use crate::crl::{Crl, RevokedSerials, Serial};
use crate::time::{UnixTime, Window};
use crate::x509::{Certificate, IssuerFacts, X509Error, read_pem_chain};
use serde::Deserialize;

use super::attestation_key::AttestationKey;
use super::pck_chain::PckFacts;

/// Largest document in bytes.
const DOCUMENT_BYTES_MAX: usize = 1 << 20;
/// Most platforms, and most attestation keys, that are remembered. A platform takes some 2 KiB.
const REMEMBERED_MAX: usize = 1024;

/// Endorsements of one platform family, and what was verified with them. What does not hold is kept as the reason, and
/// refuses whatever needs it.
#[derive(Clone)]
pub(crate) struct Endorsed {
    pub(super) crls: Result<Crls, X509Error>,
    pub(super) tcb_info: Result<Document<TcbInfo>, DocumentError>,
    pub(super) qe_identity: Result<Document<QeIdentity>, DocumentError>,
    /// PCK chains by digest of their PEM text.
    pub(super) platforms: Cache<PckFacts>,
    /// Attestation keys by digest of the QE report and all that binds it.
    pub(super) attestation_keys: Cache<AttestationKey>,
}

/// Both CRLs and the CA of the second, under one root.
#[derive(Clone)]
pub(crate) struct Crls {
    /// The text that CA and root were read from, without what follows it.
    chain: Vec<u8>,
    pub(super) root: IssuerFacts,
    pub(super) pck_ca: IssuerFacts,
    pub(super) by_root: RevokedSerials,
    pub(super) by_pck_ca: RevokedSerials,
    /// What rule `platform.crl` says where it holds.
    pub(super) found: String,
}

/// A document that a TCB signer under some root signed.
#[derive(Clone)]
pub(crate) struct Document<T> {
    pub(super) content: T,
    pub(super) window: Window,
    /// The signer's certificate and its root's.
    pub(super) signer: Serial,
    pub(super) root: IssuerFacts,
    /// What the document's rule says where it holds.
    pub(super) found: String,
    signer_window: Window,
}

/// Why a document is not one of Intel's that is read here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DocumentError {
    #[error("chain of its signer: {0}")]
    Chain(#[from] X509Error),
    #[error("{found} bytes, at most {DOCUMENT_BYTES_MAX} allowed")]
    TooLong { found: usize },
    #[error("{0}")]
    Json(String),
    #[error("another signature")]
    Signature,
    #[error("dates `{issue_date}` and `{next_update}`")]
    Dates { issue_date: String, next_update: String },
    #[error("{0}")]
    Kind(String),
    #[error("a document of {window}, not of {now}")]
    NotCurrent { window: Window, now: UnixTime },
}

impl Endorsed {
    /// Checks every signature.
    pub(crate) fn verify(collateral: &TdxCollateral) -> Self {
        let tcb_chain = SignerChain::read(&collateral.tcb_info_chain);
        let qe_chain = if collateral.qe_identity_chain == collateral.tcb_info_chain {
            // Intel signs both with one key: its chain is verified once.
            tcb_chain.clone()
        } else {
            SignerChain::read(&collateral.qe_identity_chain)
        };
        Self {
            crls: Crls::verify(collateral),
            tcb_info: verify_tcb_info(&collateral.tcb_info, tcb_chain),
            qe_identity: verify_qe_identity(&collateral.qe_identity, qe_chain),
            platforms: Cache::new(REMEMBERED_MAX),
            attestation_keys: Cache::new(REMEMBERED_MAX),
        }
    }
}

impl Crls {
    fn verify(collateral: &TdxCollateral) -> Result<Self, X509Error> {
        let chain = read_pem_chain(&collateral.pck_crl_chain)?;
        let [ca, root] = chain.as_slice() else {
            return Err(X509Error::ChainLength { expected: 2, found: chain.len() });
        };
        let root = Certificate::read(root)?;
        require_self_signed(&root)?;
        let ca = Certificate::read(ca)?;
        ca.require_name(&PCK_ISSUERS)?;
        require_signed_issuer(&ca, &root)?;
        let by_root = Crl::read(&collateral.root_ca_crl)?;
        by_root.require_signed_by(&root)?;
        by_root.require_numbered()?;
        by_root.require_not_revoked(&ca)?;
        let by_ca = Crl::read(&collateral.pck_crl)?;
        by_ca.require_signed_by(&ca)?;
        by_ca.require_numbered()?;
        let (by_root, by_pck_ca) = (by_root.revoked()?, by_ca.revoked()?);
        Ok(Self {
            found: by_pck_ca.to_string(),
            chain: trimmed(&collateral.pck_crl_chain).to_vec(),
            by_root,
            by_pck_ca,
            root: IssuerFacts::of(&root)?,
            pck_ca: IssuerFacts::of(&ca)?,
        })
    }

    /// What stands before the text of CA and root in `pem`, where it ends with that very text.
    pub(super) fn leaf_before_chain<'p>(&self, pem: &'p [u8]) -> Option<&'p [u8]> {
        let leaf = trimmed(pem).strip_suffix(self.chain.as_slice())?;
        // Zeros may stand at the end of the whole text and nowhere else.
        (!leaf.ends_with(&[0])).then_some(leaf)
    }

    /// That everything in here holds at `now`.
    pub(super) fn require_current(&self, now: UnixTime) -> Result<(), X509Error> {
        self.root.require_valid_at(now)?;
        self.pck_ca.require_valid_at(now)?;
        self.by_root.require_current(now)?;
        self.by_pck_ca.require_current(now)
    }
}

/// PEM text without the zeros, and then the white space, at its end: as `read_pem_chain` leaves them out.
fn trimmed(mut pem: &[u8]) -> &[u8] {
    while let [rest @ .., 0] = pem {
        pem = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n'] = pem {
        pem = rest;
    }
    pem
}

/// A TCB signer directly below a root, as far as signatures show.
#[derive(Clone)]
struct SignerChain {
    root: IssuerFacts,
    signer: IssuerFacts,
}

impl SignerChain {
    fn read(pem: &[u8]) -> Result<Self, X509Error> {
        let chain = read_pem_chain(pem)?;
        let [signer, root] = chain.as_slice() else {
            return Err(X509Error::ChainLength { expected: 2, found: chain.len() });
        };
        let root = Certificate::read(root)?;
        require_self_signed(&root)?;
        let signer = Certificate::read(signer)?;
        signer.require_name(&[TCB_SIGNER])?;
        signer.require_issued_by(&root)?;
        signer.require_leaf_role()?;
        Ok(Self { root: IssuerFacts::of(&root)?, signer: IssuerFacts::of(&signer)? })
    }
}

impl<T> Document<T> {
    /// That document and signer hold at `now`.
    pub(super) fn require_current(&self, now: UnixTime) -> Result<(), DocumentError> {
        self.root.require_valid_at(now)?;
        if !self.signer_window.holds_at(now) {
            let subject = TCB_SIGNER.to_owned();
            return Err(X509Error::Validity { subject, window: self.signer_window, now }.into());
        }
        if !self.window.holds_at(now) {
            return Err(DocumentError::NotCurrent { window: self.window, now });
        }
        Ok(())
    }
}

fn verify_tcb_info(
    document: &[u8],
    chain: Result<SignerChain, X509Error>,
) -> Result<Document<TcbInfo>, DocumentError> {
    require_unique_members(document)?;
    let signed: SignedTcbInfo<'_> = read_json(document)?;
    let content: TcbInfo =
        verify_content(signed.body.get(), &signed.signature.0, chain.as_ref().map_err(Clone::clone)?)?;
    if content.id != "TDX" || content.version != 3 || content.tcb_type != 0 {
        let found = format!("{} of version {} and type {}", content.id, content.version, content.tcb_type);
        return Err(DocumentError::Kind(found));
    }
    let window = window(&content.issue_date, &content.next_update)?;
    Ok(finish(content, window, chain?))
}

fn verify_qe_identity(
    document: &[u8],
    chain: Result<SignerChain, X509Error>,
) -> Result<Document<QeIdentity>, DocumentError> {
    require_unique_members(document)?;
    let signed: SignedQeIdentity<'_> = read_json(document)?;
    let content: QeIdentity =
        verify_content(signed.body.get(), &signed.signature.0, chain.as_ref().map_err(Clone::clone)?)?;
    if content.id != "TD_QE" || !matches!(content.version, 2 | 3) {
        return Err(DocumentError::Kind(format!("{} of version {}", content.id, content.version)));
    }
    let window = window(&content.issue_date, &content.next_update)?;
    Ok(finish(content, window, chain?))
}

/// A member twice would let other readers of the same signed bytes see another value.
fn require_unique_members(document: &[u8]) -> Result<(), DocumentError> {
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(DocumentError::TooLong { found: document.len() });
    }
    // serde takes the members of a structure from an array as well.
    if document.trim_ascii_start().first() != Some(&b'{') {
        return Err(DocumentError::Json("not a JSON object".to_owned()));
    }
    require_unique(document).map_err(|error| DocumentError::Json(error.to_string()))
}

fn read_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DocumentError> {
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Json(error.to_string()))
}

/// The content, after its signature over the bytes received.
fn verify_content<'a, T: Deserialize<'a>>(
    body: &'a str,
    signature: &[u8; 64],
    chain: &SignerChain,
) -> Result<T, DocumentError> {
    if !chain.signer.signed_fixed(body.as_bytes(), signature) {
        return Err(DocumentError::Signature);
    }
    read_json(body.as_bytes())
}

fn window(issue_date: &str, next_update: &str) -> Result<Window, DocumentError> {
    match (UnixTime::from_rfc3339(issue_date), UnixTime::from_rfc3339(next_update)) {
        (Some(from), Some(until)) => Ok(Window { from, until }),
        _ => Err(DocumentError::Dates {
            issue_date: issue_date.to_owned(),
            next_update: next_update.to_owned(),
        }),
    }
}

fn finish<T>(content: T, window: Window, chain: SignerChain) -> Document<T> {
    let SignerChain { root, signer } = chain;
    let found = format!("one of {window}");
    Document { content, window, signer: signer.serial, root, found, signer_window: signer.window }
}
