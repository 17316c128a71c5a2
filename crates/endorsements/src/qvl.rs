//! Collateral as a JSON file of quote verification libraries: one object with the nine members of Intel's structure
//! `sgx_ql_qve_collateral_t`, CRLs in hexadecimal digits or DER as text, documents and their signatures apart.
//!
//! What it is: reading, for people who have such files. What it is not: verification.

use casemate_verifier::TdxCollateral;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::forms::{CrlForm, crl_der};

/// Largest file in bytes.
pub const QVL_BYTES_MAX: usize = 4 << 20;

/// Why bytes are not such a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QvlError {
    /// Larger than [`QVL_BYTES_MAX`].
    #[error("{found} bytes, at most {QVL_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not JSON of this shape.
    #[error("not collateral in JSON: {reason}")]
    Shape {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// A CRL in another form.
    #[error("member `{member}`: {error}")]
    Crl {
        /// Which.
        member: &'static str,
        /// What is wrong.
        error: CrlForm,
    },
    /// A document that is not JSON, or a signature that is not 64 bytes in hexadecimal digits.
    #[error("member `{member}` is not {expected}")]
    Member {
        /// Which.
        member: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

/// The collateral in `bytes`. Members that are not read here may be there.
///
/// # Errors
/// [`QvlError`].
pub fn read_qvl(bytes: &[u8]) -> Result<TdxCollateral, QvlError> {
    if bytes.len() > QVL_BYTES_MAX {
        return Err(QvlError::TooLong { found: bytes.len() });
    }
    let file: File =
        serde_json::from_slice(bytes).map_err(|error| QvlError::Shape { reason: error.to_string() })?;
    let crl = |member, text: &str| crl_der(text.as_bytes()).map_err(|error| QvlError::Crl { member, error });
    Ok(TdxCollateral {
        root_ca_crl: crl("root_ca_crl", &file.root_ca_crl)?,
        pck_crl: crl("pck_crl", &file.pck_crl)?,
        pck_crl_chain: file.pck_crl_issuer_chain.into_bytes(),
        tcb_info: document("tcb_info", "tcbInfo", &file.tcb_info, &file.tcb_info_signature)?,
        tcb_info_chain: file.tcb_info_issuer_chain.into_bytes(),
        qe_identity: document(
            "qe_identity",
            "enclaveIdentity",
            &file.qe_identity,
            &file.qe_identity_signature,
        )?,
        qe_identity_chain: file.qe_identity_issuer_chain.into_bytes(),
    })
}

/// Document and signature as Intel serves them, the document's bytes untouched: they are what is signed.
fn document(member: &'static str, name: &str, body: &str, signature: &str) -> Result<Vec<u8>, QvlError> {
    let error = |expected| QvlError::Member { member, expected };
    let body: &RawValue = serde_json::from_str(body).map_err(|_| error("a JSON document"))?;
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes).map_err(|_| error("signed by 128 hexadecimal digits"))?;
    Ok(format!("{{\"{name}\":{},\"signature\":\"{}\"}}", body.get(), hex::encode(bytes)).into_bytes())
}

#[derive(Deserialize)]
struct File {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn sample() -> Value {
        json!({
            "root_ca_crl": "3003020101", "pck_crl": "3003020102", "pck_crl_issuer_chain": "chain 1",
            "tcb_info": "{\"a\": 1}", "tcb_info_signature": "AB".repeat(64), "tcb_info_issuer_chain": "chain 2",
            "qe_identity": "{}", "qe_identity_signature": "cd".repeat(64), "qe_identity_issuer_chain": "chain 3",
            "pck_certificate_chain": "not read",
        })
    }

    fn read(value: &Value) -> Result<TdxCollateral, QvlError> {
        read_qvl(&serde_json::to_vec(value).unwrap())
    }

    #[test]
    fn puts_documents_and_signatures_together_without_touching_what_is_signed() {
        let read = read(&sample()).unwrap();
        let signature = "ab".repeat(64);
        assert_eq!(
            read.tcb_info,
            format!(r#"{{"tcbInfo":{{"a": 1}},"signature":"{signature}"}}"#).into_bytes()
        );
        assert_eq!((read.root_ca_crl[4], read.pck_crl[4]), (1, 2));
        assert_eq!(read.qe_identity_chain, b"chain 3");
    }

    #[test]
    fn names_the_member_that_is_wrong() {
        let change = |member: &str, value: Value| {
            let mut file = sample();
            file[member] = value;
            read(&file).unwrap_err()
        };
        assert_eq!(change("pck_crl", json!("zz")), QvlError::Crl { member: "pck_crl", error: CrlForm });
        let document = QvlError::Member { member: "tcb_info", expected: "a JSON document" };
        // What would break out of its place in the document that is put together.
        assert_eq!(change("tcb_info", json!("{}, \"signature\": \"\"")), document);
        let signed = QvlError::Member { member: "qe_identity", expected: "signed by 128 hexadecimal digits" };
        assert_eq!(change("qe_identity_signature", json!("cd".repeat(63))), signed);
        assert!(matches!(change("tcb_info", json!(7)), QvlError::Shape { .. }));
        assert_eq!(
            read_qvl(&vec![b' '; QVL_BYTES_MAX + 1]),
            Err(QvlError::TooLong { found: QVL_BYTES_MAX + 1 })
        );
    }
}
