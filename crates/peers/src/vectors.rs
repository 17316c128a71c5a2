//! Real evidence from the folder of vectors, in the forms that ours and the peers take.

use std::collections::BTreeMap;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_testkit::TdxCollateralParts;
use casemate_verifier::TdxCollateral;
use dcap_qvl::QuoteCollateralV3;
use der::{Decode as _, Encode as _};
use serde_json::Value;
use serde_json::value::RawValue;

/// Why a vector cannot be used.
pub type Unusable = Box<dyn std::error::Error + Send + Sync>;

pub use casemate_testkit::vectors::find as folder;

/// The content of a file there.
///
/// # Errors
/// Where it cannot be read.
pub fn read(folder: &Path, file: &str) -> Result<Vec<u8>, Unusable> {
    std::fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}").into())
}

/// A certificate from a file of either form, as DER; of PEM, the first.
///
/// # Errors
/// Where it cannot be read.
pub fn certificate(folder: &Path, file: &str) -> Result<Vec<u8>, Unusable> {
    let bytes = read(folder, file)?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Ok(bytes);
    }
    pem_certificates(&bytes)?.into_iter().next().ok_or_else(|| format!("{file}: no certificate").into())
}

/// The certificates of PEM text, as DER.
///
/// # Errors
/// Where one is not a certificate.
pub fn pem_certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, Unusable> {
    let all = x509_cert::Certificate::load_pem_chain(pem)?;
    all.iter().map(|certificate| Ok(certificate.to_der()?)).collect()
}

/// One set of Intel's collateral in both forms.
#[derive(Debug, Clone)]
pub struct TdxSet {
    /// As ours takes it.
    pub ours: TdxCollateral,
    /// As `dcap-qvl` takes it.
    pub peer: QuoteCollateralV3,
}

impl TdxSet {
    /// From the JSON of a `QuoteCollateralV3`.
    ///
    /// # Errors
    /// Where the file is of another form.
    pub fn read(folder: &Path, file: &str) -> Result<Self, Unusable> {
        Self::from_json(&serde_json::from_slice(&read(folder, file)?)?)
    }

    /// Likewise, from the value.
    ///
    /// # Errors
    /// Where a member is missing or of another form.
    pub fn from_json(set: &Value) -> Result<Self, Unusable> {
        let text = |name: &str| {
            let value = set.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| format!("no member `{name}`"))
        };
        let bytes = |name: &str| -> Result<Vec<u8>, Unusable> { Ok(hex::decode(text(name)?)?) };
        let peer = QuoteCollateralV3 {
            pck_crl_issuer_chain: text("pck_crl_issuer_chain")?,
            root_ca_crl: bytes("root_ca_crl")?,
            pck_crl: bytes("pck_crl")?,
            tcb_info_issuer_chain: text("tcb_info_issuer_chain")?,
            tcb_info: text("tcb_info")?,
            tcb_info_signature: bytes("tcb_info_signature")?,
            qe_identity_issuer_chain: text("qe_identity_issuer_chain")?,
            qe_identity: text("qe_identity")?,
            qe_identity_signature: bytes("qe_identity_signature")?,
            pck_certificate_chain: text("pck_certificate_chain").ok(),
        };
        Ok(Self { ours: ours(&peer), peer })
    }
}

/// The same collateral as the service gives it: each document with its signature in one object.
#[must_use]
pub fn ours(peer: &QuoteCollateralV3) -> TdxCollateral {
    let signed = |member: &str, body: &str, signature: &[u8]| {
        format!(r#"{{"{member}":{body},"signature":"{}"}}"#, hex::encode(signature)).into_bytes()
    };
    TdxCollateral {
        root_ca_crl: peer.root_ca_crl.clone(),
        pck_crl: peer.pck_crl.clone(),
        pck_crl_chain: peer.pck_crl_issuer_chain.clone().into_bytes(),
        tcb_info: signed("tcbInfo", &peer.tcb_info, &peer.tcb_info_signature),
        tcb_info_chain: peer.tcb_info_issuer_chain.clone().into_bytes(),
        qe_identity: signed("enclaveIdentity", &peer.qe_identity, &peer.qe_identity_signature),
        qe_identity_chain: peer.qe_identity_issuer_chain.clone().into_bytes(),
    }
}

/// Collateral of the development PKI in both forms.
#[must_use]
pub fn both(parts: &TdxCollateralParts) -> TdxSet {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (tcb_info, tcb_info_signature) = take_apart(&parts.tcb_info);
    let (qe_identity, qe_identity_signature) = take_apart(&parts.qe_identity);
    let peer = QuoteCollateralV3 {
        pck_crl_issuer_chain: text(&parts.pck_crl_chain),
        root_ca_crl: parts.root_ca_crl.clone(),
        pck_crl: parts.pck_crl.clone(),
        tcb_info_issuer_chain: text(&parts.tcb_info_chain),
        tcb_info,
        tcb_info_signature,
        qe_identity_issuer_chain: text(&parts.qe_identity_chain),
        qe_identity,
        qe_identity_signature,
        pck_certificate_chain: None,
    };
    TdxSet { ours: ours(&peer), peer }
}

/// `{"tcbInfo":{..},"signature":".."}`: the bytes of the inner object, and the signature.
#[must_use]
pub fn take_apart(document: &[u8]) -> (String, Vec<u8>) {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(document).unwrap_or_default();
    let mut inner = String::new();
    let mut signature = Vec::new();
    for (name, value) in members {
        if name == "signature" {
            signature = hex::decode(value.get().trim_matches('"')).unwrap_or_default();
        } else {
            value.get().clone_into(&mut inner);
        }
    }
    (inner, signature)
}

/// SHA-256 over the SubjectPublicKeyInfo of a certificate (DER): how a policy names a development root.
///
/// # Errors
/// Where it is not a certificate.
pub fn spki_sha256(certificate: &[u8]) -> Result<Sha256, Unusable> {
    let certificate = x509_cert::Certificate::from_der(certificate)?;
    Ok(Sha256::of(&certificate.tbs_certificate().subject_public_key_info().to_der()?))
}
