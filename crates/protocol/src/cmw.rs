//! Evidence as a CMW collection in JSON (RFC 9999): labelled records of `[media type, base64url]`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// `__cmwc_t` of our collections.
pub const COLLECTION_TYPE: &str = "tag:casemate.dev,2026:evidence/1";
/// Largest collection in bytes of JSON.
pub const COLLECTION_BYTES_MAX: usize = 8 << 20;

/// The parts of evidence for one agent in one box. All are allegations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The hardware's statement.
    pub platform: Platform,
    /// RFC 8785 JSON of [`crate::box_claims::BoxClaims`].
    pub box_claims: Vec<u8>,
    /// The event log: one RFC 8785 JSON event a line.
    pub event_log: Vec<u8>,
    /// Agent token (JWT, compact form).
    pub agent_token: Vec<u8>,
    /// RFC 8785 JSON of the agent's lock entry ([`casemate_composition::lock::Agent`]): the furniture, for reading.
    pub agent_config: Vec<u8>,
}

/// The hardware's statement, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platform {
    /// A TDX quote, as the kernel gave it.
    Tdx {
        /// Quote bytes.
        quote: Vec<u8>,
    },
    /// An SEV-SNP attestation report, with the certificate table of `auxblob` (may be empty).
    Snp {
        /// Report bytes.
        report: Vec<u8>,
        /// Certificate table (GHCB specification, section 4.1.8.1).
        certificates: Vec<u8>,
    },
}

/// Media types of the parts.
const TYPES: [(&str, &str); 7] = [
    ("tdx-quote", "application/vnd.casemate.tdx-quote"),
    ("snp-report", "application/vnd.casemate.snp-report"),
    ("snp-certificates", "application/vnd.casemate.snp-certificates"),
    ("box", "application/vnd.casemate.box+json"),
    ("log", "application/vnd.casemate.event-log+json-seq"),
    ("agent", "application/eat+jwt"),
    ("config", "application/vnd.casemate.agent-config+json"),
];

/// Why a collection is not evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmwError {
    /// Larger than [`COLLECTION_BYTES_MAX`].
    #[error("collection of {found} bytes, at most {COLLECTION_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not JSON, or not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// `__cmwc_t` is not ours.
    #[error("collection type is not {COLLECTION_TYPE}")]
    CollectionType,
    /// A label that is not ours, or twice the same.
    #[error("unknown part `{label}`")]
    UnknownPart {
        /// The label.
        label: String,
    },
    /// A part is not `[media type, base64url]` with its own media type.
    #[error("part `{label}` is not a record of its media type")]
    Record {
        /// The label.
        label: &'static str,
    },
    /// A part that must be there is not.
    #[error("part `{label}` is missing")]
    Missing {
        /// The label.
        label: &'static str,
    },
    /// Both a TDX quote and an SNP report.
    #[error("more than one hardware statement")]
    TwoPlatforms,
}

impl Evidence {
    /// The collection as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = serde_json::Map::new();
        object.insert("__cmwc_t".into(), json!(COLLECTION_TYPE));
        let mut put = |label: &str, bytes: &[u8]| {
            if let Some((_, media_type)) = TYPES.iter().find(|(known, _)| *known == label) {
                object.insert(label.into(), json!([media_type, URL_SAFE_NO_PAD.encode(bytes)]));
            }
        };
        match &self.platform {
            Platform::Tdx { quote } => put("tdx-quote", quote),
            Platform::Snp { report, certificates } => {
                put("snp-report", report);
                put("snp-certificates", certificates);
            }
        }
        put("box", &self.box_claims);
        put("log", &self.event_log);
        put("agent", &self.agent_token);
        put("config", &self.agent_config);
        Value::Object(object)
    }

    /// Takes a collection apart.
    ///
    /// # Errors
    /// [`CmwError`].
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self, CmwError> {
        if bytes.len() > COLLECTION_BYTES_MAX {
            return Err(CmwError::TooLong { found: bytes.len() });
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|_| CmwError::NotAnObject)?;
        Self::from_json(&value)
    }

    /// Takes a parsed collection apart.
    ///
    /// # Errors
    /// [`CmwError`].
    pub fn from_json(value: &Value) -> Result<Self, CmwError> {
        let object = value.as_object().ok_or(CmwError::NotAnObject)?;
        let mut parts: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
        let mut typed = false;
        for (label, member) in object {
            if label == "__cmwc_t" {
                typed = member.as_str() == Some(COLLECTION_TYPE);
                continue;
            }
            let (label, media_type) = TYPES
                .into_iter()
                .find(|(known, _)| known == label)
                .ok_or_else(|| CmwError::UnknownPart { label: label.chars().take(40).collect() })?;
            let record = || CmwError::Record { label };
            let [found_type, content] = member.as_array().map(Vec::as_slice).ok_or_else(record)? else {
                return Err(record());
            };
            if found_type.as_str() != Some(media_type) {
                return Err(record());
            }
            let content = content.as_str().ok_or_else(record)?;
            parts.insert(label, URL_SAFE_NO_PAD.decode(content).map_err(|_| record())?);
        }
        if !typed {
            return Err(CmwError::CollectionType);
        }
        let mut take = |label: &'static str| parts.remove(label).ok_or(CmwError::Missing { label });
        let platform = match (take("tdx-quote"), take("snp-report")) {
            (Ok(quote), Err(_)) => Platform::Tdx { quote },
            (Err(_), Ok(report)) => Platform::Snp { report, certificates: take("snp-certificates")? },
            (Ok(_), Ok(_)) => return Err(CmwError::TwoPlatforms),
            (Err(error), Err(_)) => return Err(error),
        };
        let evidence = Self {
            platform,
            box_claims: take("box")?,
            event_log: take("log")?,
            agent_token: take("agent")?,
            agent_config: take("config")?,
        };
        match parts.into_keys().next() {
            None => Ok(evidence),
            Some(label) => Err(CmwError::UnknownPart { label: label.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Evidence {
        Evidence {
            platform: Platform::Snp { report: vec![1, 2], certificates: vec![] },
            box_claims: b"{}".to_vec(),
            event_log: b"".to_vec(),
            agent_token: b"a.b.c".to_vec(),
            agent_config: b"{}".to_vec(),
        }
    }

    #[test]
    fn round_trips() {
        let json = serde_json::to_vec(&sample().to_json()).unwrap();
        assert_eq!(Evidence::from_json_bytes(&json), Ok(sample()));
    }

    #[test]
    fn refuses_each_missing_part() {
        let whole = sample().to_json();
        for label in ["snp-report", "snp-certificates", "box", "log", "agent", "config"] {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().remove(label);
            assert!(matches!(Evidence::from_json(&value), Err(CmwError::Missing { .. })), "{label}");
        }
    }

    #[test]
    fn refuses_unknown_parts_wrong_types_and_two_platforms() {
        let whole = sample().to_json();
        let with = |label: &str, member: Value| {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().insert(label.into(), member);
            Evidence::from_json(&value)
        };
        assert_eq!(with("extra", json!([])), Err(CmwError::UnknownPart { label: "extra".into() }));
        assert_eq!(with("box", json!(["text/plain", ""])), Err(CmwError::Record { label: "box" }));
        assert_eq!(
            with("box", json!(["application/vnd.casemate.box+json", "%%"])),
            Err(CmwError::Record { label: "box" })
        );
        assert_eq!(
            with("tdx-quote", json!(["application/vnd.casemate.tdx-quote", ""])),
            Err(CmwError::TwoPlatforms)
        );
        assert_eq!(with("__cmwc_t", json!("other")), Err(CmwError::CollectionType));
    }
}
