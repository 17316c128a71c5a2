//! Evidence as a CMW collection in JSON (RFC 9999): labelled records of `[media type, base64url]`.
//!
//! What it is: writing a collection, and taking one apart without building a tree of what a stranger sent: members
//! stay text until their label is known. What it is not: a judge of the parts. Who trusts it: broker, command line.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::vtpm::{Vtpm, VtpmJsonError};

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
    /// RFC 8785 JSON of [`crate::posture::Posture`], whose digest is in the agent token.
    pub posture: Vec<u8>,
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
    /// A TPM's quote, and what speaks for its key.
    Vtpm(Vtpm),
}

/// Media types of the parts.
const TYPES: [(&str, &str); 9] = [
    ("tdx-quote", "application/vnd.casemate.tdx-quote"),
    ("snp-report", "application/vnd.casemate.snp-report"),
    ("snp-certificates", "application/vnd.casemate.snp-certificates"),
    ("vtpm", "application/vnd.casemate.vtpm+json"),
    ("box", "application/vnd.casemate.box+json"),
    ("log", "application/vnd.casemate.event-log+json-seq"),
    ("agent", "application/eat+jwt"),
    ("config", "application/vnd.casemate.agent-config+json"),
    ("posture", "application/vnd.casemate.posture+json"),
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
    /// A label that is not ours.
    #[error("unknown part `{label}`")]
    UnknownPart {
        /// The label.
        label: String,
    },
    /// Twice the same label.
    #[error("part `{label}` is there more than once")]
    RepeatedPart {
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
    /// More than one of TDX quote, SNP report and TPM statement.
    #[error("more than one hardware statement")]
    TwoPlatforms,
    /// The TPM statement is not one.
    #[error(transparent)]
    Vtpm(#[from] VtpmJsonError),
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
            Platform::Vtpm(vtpm) => put("vtpm", vtpm.to_json().to_string().as_bytes()),
        }
        put("box", &self.box_claims);
        put("log", &self.event_log);
        put("agent", &self.agent_token);
        put("config", &self.agent_config);
        put("posture", &self.posture);
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
        let members = Members::parse(bytes).ok_or(CmwError::NotAnObject)?;
        let shown = |label: &str| label.chars().take(LABEL_CHARS_SHOWN_MAX).collect::<String>();
        let mut parts: BTreeMap<&'static str, Vec<u8>> = BTreeMap::new();
        let mut typed = None;
        for (label, member) in members.iter() {
            if label == "__cmwc_t" {
                let text = serde_json::from_str::<Text<'_>>(member).ok();
                if typed.replace(text.is_some_and(|text| text.0 == COLLECTION_TYPE)).is_some() {
                    return Err(CmwError::RepeatedPart { label: shown(label) });
                }
                continue;
            }
            let (label, media_type) = TYPES
                .into_iter()
                .find(|(known, _)| *known == label)
                .ok_or_else(|| CmwError::UnknownPart { label: shown(label) })?;
            let record = || CmwError::Record { label };
            let (found_type, content): (Text<'_>, Text<'_>) =
                serde_json::from_str(member).map_err(|_| record())?;
            if found_type.0 != media_type {
                return Err(record());
            }
            let content = URL_SAFE_NO_PAD.decode(content.0.as_bytes()).map_err(|_| record())?;
            if parts.insert(label, content).is_some() {
                return Err(CmwError::RepeatedPart { label: shown(label) });
            }
        }
        if typed != Some(true) {
            return Err(CmwError::CollectionType);
        }
        let mut take = |label: &'static str| parts.remove(label).ok_or(CmwError::Missing { label });
        let platform = match (take("tdx-quote"), take("snp-report"), take("vtpm")) {
            (Ok(quote), Err(_), Err(_)) => Platform::Tdx { quote },
            (Err(_), Ok(report), Err(_)) => Platform::Snp { report, certificates: take("snp-certificates")? },
            (Err(_), Err(_), Ok(vtpm)) => Platform::Vtpm(Vtpm::from_json_bytes(&vtpm)?),
            (Err(error), Err(_), Err(_)) => return Err(error),
            _ => return Err(CmwError::TwoPlatforms),
        };
        let evidence = Self {
            platform,
            box_claims: take("box")?,
            event_log: take("log")?,
            agent_token: take("agent")?,
            agent_config: take("config")?,
            posture: take("posture")?,
        };
        match parts.into_keys().next() {
            None => Ok(evidence),
            Some(label) => Err(CmwError::UnknownPart { label: label.to_owned() }),
        }
    }
}

/// Most members of an object that are kept; of a longer one, none of ours is whole.
const MEMBERS_MAX: usize = 16;
/// Most characters of a strange label in an error.
const LABEL_CHARS_SHOWN_MAX: usize = 40;

/// The members of a JSON object in their order, repeated labels included, each still as text: nothing is built of
/// what a member holds. At most the first 16 are kept.
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The members, or `None` where `json` is not one JSON object.
    #[must_use]
    pub fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Label and JSON text of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(label, member)| (&**label, member.get()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while members.len() < MEMBERS_MAX {
            let Some(label) = map.next_key::<Text<'de>>()? else { return Ok(members) };
            members.push((label.0, map.next_value()?));
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(members)
    }
}

/// Text, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

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
            posture: b"{}".to_vec(),
        }
    }

    #[test]
    fn round_trips() {
        let json = serde_json::to_vec(&sample().to_json()).unwrap();
        assert_eq!(Evidence::from_json_bytes(&json), Ok(sample()));
    }

    fn parsed(value: &Value) -> Result<Evidence, CmwError> {
        Evidence::from_json_bytes(&serde_json::to_vec(value).unwrap())
    }

    #[test]
    fn round_trips_a_tpm_statement_and_refuses_one_that_is_none() {
        let ak = crate::vtpm::AkEvidence::Key(vec![1]);
        let vtpm = Vtpm { message: vec![1], signature: vec![2], pcrs: vec![], ak };
        let evidence = Evidence { platform: Platform::Vtpm(vtpm), ..sample() };
        let mut value = evidence.to_json();
        assert_eq!(parsed(&value), Ok(evidence));
        let member = json!(["application/vnd.casemate.vtpm+json", "e30"]);
        value.as_object_mut().unwrap().insert("vtpm".into(), member);
        let missing = VtpmJsonError::Missing { label: "tpm_quote" };
        assert_eq!(parsed(&value), Err(CmwError::Vtpm(missing)));
        let report = json!(["application/vnd.casemate.snp-report", ""]);
        value.as_object_mut().unwrap().insert("snp-report".into(), report);
        assert_eq!(parsed(&value), Err(CmwError::TwoPlatforms));
    }

    #[test]
    fn refuses_each_part_that_is_there_twice() {
        let whole = serde_json::to_string(&sample().to_json()).unwrap();
        for label in
            ["__cmwc_t", "snp-report", "snp-certificates", "box", "log", "agent", "config", "posture"]
        {
            let member = &sample().to_json()[label];
            let twice = format!("{{\"{label}\":{member},{}", &whole[1..]);
            let error = CmwError::RepeatedPart { label: label.into() };
            assert_eq!(Evidence::from_json_bytes(twice.as_bytes()), Err(error), "{twice}");
        }
    }

    #[test]
    fn keeps_no_more_members_than_it_can_need() {
        let many = format!("{{{}\"z\":0}}", "\"a\":[[[0]]],".repeat(100_000));
        assert_eq!(Members::parse(many.as_bytes()).unwrap().iter().count(), MEMBERS_MAX);
        assert_eq!(
            Evidence::from_json_bytes(many.as_bytes()),
            Err(CmwError::UnknownPart { label: "a".into() })
        );
        assert!(Members::parse(b"[]").is_none());
        assert!(Members::parse(b"{} ,").is_none());
    }

    #[test]
    fn refuses_a_collection_over_the_limit() {
        let long = vec![b' '; COLLECTION_BYTES_MAX + 1];
        let error = CmwError::TooLong { found: COLLECTION_BYTES_MAX + 1 };
        assert_eq!(Evidence::from_json_bytes(&long), Err(error));
    }

    #[test]
    fn takes_a_label_and_content_with_escapes() {
        let text = serde_json::to_string(&sample().to_json()).unwrap().replace("\"box\"", "\"\\u0062ox\"");
        assert!(text.contains("u0062ox"));
        assert_eq!(Evidence::from_json_bytes(text.as_bytes()), Ok(sample()));
    }

    #[test]
    fn refuses_each_missing_part() {
        let whole = sample().to_json();
        for label in ["snp-report", "snp-certificates", "box", "log", "agent", "config"] {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().remove(label);
            assert!(matches!(parsed(&value), Err(CmwError::Missing { .. })), "{label}");
        }
    }

    #[test]
    fn refuses_unknown_parts_wrong_types_and_two_platforms() {
        let whole = sample().to_json();
        let with = |label: &str, member: Value| {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().insert(label.into(), member);
            parsed(&value)
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

    #[test]
    fn refuses_truncation_at_every_offset_and_anything_after_the_end() {
        let whole = serde_json::to_vec(&sample().to_json()).unwrap();
        for length in 0..whole.len() {
            assert_eq!(Evidence::from_json_bytes(&whole[..length]), Err(CmwError::NotAnObject), "{length}");
        }
        for more in ["{}", "x", ",", "\0"] {
            let longer = [whole.as_slice(), more.as_bytes()].concat();
            assert_eq!(Evidence::from_json_bytes(&longer), Err(CmwError::NotAnObject), "{more:?}");
        }
        assert_eq!(Evidence::from_json_bytes(&[whole.as_slice(), b" \n"].concat()), Ok(sample()));
    }

    #[test]
    fn takes_a_collection_of_just_the_limit() {
        let mut whole = serde_json::to_vec(&sample().to_json()).unwrap();
        whole.resize(COLLECTION_BYTES_MAX, b' ');
        assert_eq!(Evidence::from_json_bytes(&whole), Ok(sample()));
    }

    #[test]
    fn steps_over_deep_nesting_in_a_member_that_is_not_ours_or_not_a_record() {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(1_000_000);
            let strange = format!("{{\"strange\":{deep}");
            assert_eq!(Evidence::from_json_bytes(strange.as_bytes()), Err(CmwError::NotAnObject));
            let closed = format!("{}0{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
            let strange = format!("{{\"strange\":{closed}}}");
            let error = CmwError::UnknownPart { label: "strange".into() };
            assert_eq!(Evidence::from_json_bytes(strange.as_bytes()), Err(error));
            let record = format!("{{\"box\":{closed}}}");
            assert_eq!(Evidence::from_json_bytes(record.as_bytes()), Err(CmwError::Record { label: "box" }));
        }
    }

    #[test]
    fn a_record_is_two_texts_and_its_content_has_one_spelling() {
        let whole = sample().to_json();
        let with = |member: Value| {
            let mut value = whole.clone();
            value.as_object_mut().unwrap().insert("log".into(), member);
            parsed(&value).map(|evidence| evidence.event_log)
        };
        let media_type = "application/vnd.casemate.event-log+json-seq";
        assert_eq!(with(json!([media_type, "AQ"])), Ok(vec![1]));
        for bad in [
            json!([media_type]),
            json!([media_type, "AQ", ""]),
            json!({media_type: "AQ"}),
            json!([media_type, 7]),
            json!([media_type, "AQ=="]),
            json!([media_type, "AR"]),
            json!([media_type, "A Q"]),
            json!([media_type, "A"]),
            json!([media_type, "+/"]),
            json!(null),
        ] {
            assert_eq!(with(bad.clone()), Err(CmwError::Record { label: "log" }), "{bad}");
        }
    }
}
