//! TCB info, QE identity and CRLs for the pretended TDX platform.
//!
//! What it is: collateral as Intel's provisioning service serves it (TCB info version 3, QE identity version 2),
//! signed over the exact bytes of the inner object. What it is not: a statement about any real machine.

use serde_json::{Value, json};

use crate::tdx_pki::{FMSPC, PCE_ID, PCE_SVN, SGX_TCB_COMPONENTS, TdxPki};
use crate::tdx_quote::{QE_MRSIGNER, TEE_TCB_SVN};
use crate::x509::{CrlSpec, SignatureSpelling, issue_crl, rfc3339, serial_of};
use crate::{CollateralSpec, PkiError, Revoked};

/// TDX collateral as bytes, member for member what the verifier takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TdxCollateralParts {
    /// DER, issued by the root.
    pub root_ca_crl: Vec<u8>,
    /// DER, issued by the PCK platform CA.
    pub pck_crl: Vec<u8>,
    /// PEM: platform CA, root.
    pub pck_crl_chain: Vec<u8>,
    /// JSON: `{"tcbInfo":{..},"signature":".."}`.
    pub tcb_info: Vec<u8>,
    /// PEM: TCB signer, root.
    pub tcb_info_chain: Vec<u8>,
    /// JSON: `{"enclaveIdentity":{..},"signature":".."}`.
    pub qe_identity: Vec<u8>,
    /// PEM: TCB signer, root.
    pub qe_identity_chain: Vec<u8>,
}

/// Issues collateral as `spec` says.
pub(crate) fn issue(pki: &TdxPki, spec: &CollateralSpec) -> Result<TdxCollateralParts, PkiError> {
    let signer_chain = pki.tcb_signer_chain_pem().into_bytes();
    let root_spki = pki.root.spki();
    let platform_spki = pki.platform.spki();
    let root_name = TdxPki::root_name();
    let platform_name = TdxPki::platform_name();
    let mut revoked_by_root = Vec::new();
    let mut revoked_by_platform = Vec::new();
    match spec.revoked {
        Revoked::None => {}
        Revoked::Leaf => revoked_by_platform.push(serial_of(&pki.pck.spki())),
        Revoked::Intermediate => revoked_by_root.push(serial_of(&platform_spki)),
        Revoked::CollateralSigner => revoked_by_root.push(serial_of(&pki.tcb_signer.spki())),
    }
    let crl_spec = |issuer, issuer_spki, revoked_serials| CrlSpec {
        issuer,
        issuer_spki,
        this_update: spec.issued_at,
        next_update: spec.next_update,
        number: 1,
        revoked_serials,
    };
    Ok(TdxCollateralParts {
        root_ca_crl: issue_crl(
            &crl_spec(&root_name, &root_spki, revoked_by_root),
            &pki.root,
            SignatureSpelling::EcdsaSha256,
        )?,
        pck_crl: issue_crl(
            &crl_spec(&platform_name, &platform_spki, revoked_by_platform),
            &pki.platform,
            SignatureSpelling::EcdsaSha256,
        )?,
        pck_crl_chain: pki.platform_chain_pem().into_bytes(),
        tcb_info: signed_json(pki, "tcbInfo", &tcb_info(spec)?)?,
        tcb_info_chain: signer_chain.clone(),
        qe_identity: signed_json(pki, "enclaveIdentity", &qe_identity(spec)?)?,
        qe_identity_chain: signer_chain,
    })
}

/// The inner object is serialised once, and those bytes are both signed and served.
fn signed_json(pki: &TdxPki, member: &str, inner: &Value) -> Result<Vec<u8>, PkiError> {
    pki.sign_document(member, inner.to_string().as_bytes())
}

impl TdxPki {
    /// The document `{"tcbInfo":..,"signature":..}` or `{"enclaveIdentity":..,"signature":..}` around any bytes, correctly
    /// signed: for tests of what is inside.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn sign_document(&self, member: &str, inner: &[u8]) -> Result<Vec<u8>, PkiError> {
        let signature = hex::encode(self.tcb_signer.sign_fixed(inner)?);
        let head = format!("{{\"{member}\":");
        let tail = format!(",\"signature\":\"{signature}\"}}");
        Ok([head.as_bytes(), inner, tail.as_bytes()].concat())
    }
}

fn tcb_info(spec: &CollateralSpec) -> Result<Value, PkiError> {
    let mut older = SGX_TCB_COMPONENTS;
    let [first, ..] = &mut older;
    *first -= 1;
    let mut tdx = TEE_TCB_SVN;
    // Where the module has an identity of its own, the first two components are not compared.
    let [module, version, ..] = &mut tdx;
    *module = 5;
    *version = 0;
    let module_attributes = json!({
        "mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8)
    });
    Ok(json!({
        "id": "TDX",
        "version": 3,
        "issueDate": rfc3339(spec.issued_at)?,
        "nextUpdate": rfc3339(spec.next_update)?,
        "fmspc": hex::encode_upper(FMSPC),
        "pceId": hex::encode_upper(PCE_ID),
        "tcbType": 0,
        "tcbEvaluationDataNumber": spec.tcb_evaluation_data_number,
        "tdxModule": module_attributes,
        "tdxModuleIdentities": [
            module_identity("TDX_03", &[(3, "UpToDate")]),
            module_identity("TDX_01", &[(6, spec.module_status.as_str()), (4, "OutOfDate"), (2, "OutOfDate")]),
        ],
        "tcbLevels": [
            platform_level(&SGX_TCB_COMPONENTS, &tdx, &spec.platform_status),
            platform_level(&older, &tdx, "OutOfDate"),
        ],
    }))
}

fn module_identity(id: &str, levels: &[(u8, &str)]) -> Value {
    let levels: Vec<Value> = levels
        .iter()
        .map(|(svn, status)| json!({"tcb": {"isvsvn": svn}, "tcbDate": TCB_DATE, "tcbStatus": status}))
        .collect();
    json!({
        "id": id,
        "mrsigner": "00".repeat(48),
        "attributes": "00".repeat(8),
        "attributesMask": "FF".repeat(8),
        "tcbLevels": levels,
    })
}

fn platform_level(sgx: &[u8; 16], tdx: &[u8; 16], status: &str) -> Value {
    let components = |svns: &[u8; 16]| svns.iter().map(|svn| json!({"svn": svn})).collect::<Vec<_>>();
    let mut level = json!({
        "tcb": {"sgxtcbcomponents": components(sgx), "pcesvn": PCE_SVN, "tdxtcbcomponents": components(tdx)},
        "tcbDate": TCB_DATE,
        "tcbStatus": status,
    });
    if status != "UpToDate"
        && let Some(members) = level.as_object_mut()
    {
        members.insert("advisoryIDs".into(), json!(["CASEMATE-DEV-0001"]));
    }
    level
}

fn qe_identity(spec: &CollateralSpec) -> Result<Value, PkiError> {
    Ok(json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": rfc3339(spec.issued_at)?,
        "nextUpdate": rfc3339(spec.next_update)?,
        "tcbEvaluationDataNumber": spec.tcb_evaluation_data_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": hex::encode_upper(QE_MRSIGNER),
        "isvprodid": 2,
        "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbDate": TCB_DATE, "tcbStatus": spec.qe_status}],
    }))
}

const TCB_DATE: &str = "2026-08-12T00:00:00Z";
