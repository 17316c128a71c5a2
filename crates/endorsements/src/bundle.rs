//! The bundle file. Unsigned: `{"version":1,"tdx":{..},"snp":{..}}`, every member standard base64 of the bytes as
//! served. Signed: a JWS in flattened JSON form whose payload are the bytes of an unsigned one (see `signature`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use casemate_canon::Sha256;
use casemate_protocol::Refusal;
use casemate_verifier::{Collateral, SnpCollateral, TdxCollateral};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::signature::{self, BundleSignature, SignatureError};

/// Version of the file form.
pub const BUNDLE_VERSION: u32 = 1;
/// Largest bundle in bytes. Real ones have 30 KiB; the largest known PCK CRLs have some 10 KiB.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;

/// Why bytes are not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Larger than [`BUNDLE_BYTES_MAX`].
    #[error("bundle of {found} bytes, at most {BUNDLE_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not JSON of a bundle's shape: a member is missing, unknown, given twice or not base64.
    #[error("not a collateral bundle: {reason}")]
    Shape {
        /// What the parser said, with line and column.
        reason: String,
    },
    /// Another version.
    #[error("bundle has version {found}, this program reads version {BUNDLE_VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// Neither TDX nor SNP collateral.
    #[error("bundle holds collateral for no platform")]
    Empty,
    /// It is signed, and the signature does not hold.
    #[error("signature of the bundle: {0}")]
    Signature(#[from] SignatureError),
}

/// A bundle whose signature, where it has one, holds. What it holds is untrusted until the verifier has checked it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    contents: Collateral,
    signature: Option<BundleSignature>,
}

impl Bundle {
    /// Who signed it and when, as the signer says.
    #[must_use]
    pub const fn signature(&self) -> Option<&BundleSignature> {
        self.signature.as_ref()
    }

    /// What it holds, for showing. For verification use [`Bundle::accept`].
    #[must_use]
    pub const fn contents(&self) -> &Collateral {
        &self.contents
    }

    /// What it holds, if its signer is in each of these lists that is not empty. Empty lists ask for no signature: each
    /// part is signed by its vendor, and is verified whoever put it here.
    ///
    /// # Errors
    /// A [`Refusal`] by rule `collateral.signer`.
    pub fn accept(self, lists: &[&[Sha256]]) -> Result<Collateral, Refusal> {
        for list in lists.iter().filter(|list| !list.is_empty()) {
            let named: Vec<String> = list.iter().map(ToString::to_string).collect();
            let expected = format!("a bundle signed by {}", named.join(" or "));
            match &self.signature {
                Some(BundleSignature { signer, .. }) if list.contains(signer) => {}
                Some(BundleSignature { signer, .. }) => {
                    return Err(Refusal::new(SIGNER_RULE, expected, format_args!("one signed by {signer}")));
                }
                None => return Err(Refusal::new(SIGNER_RULE, expected, "one without a signature")),
            }
        }
        Ok(self.contents)
    }
}

const SIGNER_RULE: &str = "collateral.signer";

/// The bundle in `bytes`, signed or not.
///
/// # Errors
/// [`BundleError`]: a signature that does not hold is one, whether or not anybody asked for it.
pub fn read(bytes: &[u8]) -> Result<Bundle, BundleError> {
    if bytes.len() > BUNDLE_BYTES_MAX {
        return Err(BundleError::TooLong { found: bytes.len() });
    }
    let form: Form = serde_json::from_slice(bytes).map_err(shape)?;
    if form.payload.is_none() {
        return Ok(Bundle { contents: read_unsigned(bytes)?, signature: None });
    }
    let (payload, signature) = signature::verify(bytes)?;
    Ok(Bundle { contents: read_unsigned(&payload)?, signature: Some(signature) })
}

fn read_unsigned(bytes: &[u8]) -> Result<Collateral, BundleError> {
    let Versioned { version } = serde_json::from_slice(bytes).map_err(shape)?;
    if version != BUNDLE_VERSION {
        return Err(BundleError::Version { found: version });
    }
    let file: File = serde_json::from_slice(bytes).map_err(shape)?;
    if file.tdx.is_none() && file.snp.is_none() {
        return Err(BundleError::Empty);
    }
    Ok(Collateral { tdx: file.tdx.map(Into::into), snp: file.snp.map(Into::into) })
}

fn shape(error: serde_json::Error) -> BundleError {
    BundleError::Shape { reason: error.to_string() }
}

/// The unsigned file form of `collateral`.
#[must_use]
pub fn write(collateral: &Collateral) -> Vec<u8> {
    let file = File {
        version: BUNDLE_VERSION,
        tdx: collateral.tdx.as_ref().map(Into::into),
        snp: collateral.snp.as_ref().map(Into::into),
    };
    // A struct of numbers and strings always has a JSON form.
    let mut bytes = serde_json::to_vec_pretty(&file).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Read first, to tell a signed bundle from an unsigned one.
#[derive(Deserialize)]
struct Form {
    payload: Option<IgnoredAny>,
}

/// Read next, so that a bundle of a later version is refused by its version and not by its members.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tdx: Option<TdxFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snp: Option<SnpFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TdxFile {
    root_ca_crl: Base64,
    pck_crl: Base64,
    pck_crl_chain: Base64,
    tcb_info: Base64,
    tcb_info_chain: Base64,
    qe_identity: Base64,
    qe_identity_chain: Base64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnpFile {
    ark: Base64,
    ask: Base64,
    crl: Base64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vek: Option<Base64>,
}

struct Base64(Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("padded standard base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                STANDARD.decode(text).map(Base64).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

impl From<TdxFile> for TdxCollateral {
    fn from(file: TdxFile) -> Self {
        Self {
            root_ca_crl: file.root_ca_crl.0,
            pck_crl: file.pck_crl.0,
            pck_crl_chain: file.pck_crl_chain.0,
            tcb_info: file.tcb_info.0,
            tcb_info_chain: file.tcb_info_chain.0,
            qe_identity: file.qe_identity.0,
            qe_identity_chain: file.qe_identity_chain.0,
        }
    }
}

impl From<&TdxCollateral> for TdxFile {
    fn from(collateral: &TdxCollateral) -> Self {
        let encode = |bytes: &Vec<u8>| Base64(bytes.clone());
        Self {
            root_ca_crl: encode(&collateral.root_ca_crl),
            pck_crl: encode(&collateral.pck_crl),
            pck_crl_chain: encode(&collateral.pck_crl_chain),
            tcb_info: encode(&collateral.tcb_info),
            tcb_info_chain: encode(&collateral.tcb_info_chain),
            qe_identity: encode(&collateral.qe_identity),
            qe_identity_chain: encode(&collateral.qe_identity_chain),
        }
    }
}

impl From<SnpFile> for SnpCollateral {
    fn from(file: SnpFile) -> Self {
        Self { ark: file.ark.0, ask: file.ask.0, crl: file.crl.0, vek: file.vek.map(|vek| vek.0) }
    }
}

impl From<&SnpCollateral> for SnpFile {
    fn from(collateral: &SnpCollateral) -> Self {
        Self {
            ark: Base64(collateral.ark.clone()),
            ask: Base64(collateral.ask.clone()),
            crl: Base64(collateral.crl.clone()),
            vek: collateral.vek.clone().map(Base64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_jose::SigningKey;
    use casemate_verifier::UnixTime;
    use serde_json::{Value, json};

    fn sample() -> Collateral {
        Collateral {
            tdx: Some(TdxCollateral {
                root_ca_crl: vec![1],
                pck_crl: vec![2],
                pck_crl_chain: vec![3],
                tcb_info: vec![4],
                tcb_info_chain: vec![5],
                qe_identity: vec![6],
                qe_identity_chain: vec![7],
            }),
            snp: Some(SnpCollateral { ark: vec![8], ask: vec![9], crl: vec![10], vek: Some(vec![11, 255]) }),
        }
    }

    fn read_contents(bytes: &[u8]) -> Result<Collateral, BundleError> {
        read(bytes).map(|bundle| bundle.accept(&[]).unwrap())
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Result<Collateral, BundleError> {
        let mut value: Value = serde_json::from_slice(&write(&sample())).unwrap();
        change(&mut value);
        read_contents(&serde_json::to_vec(&value).unwrap())
    }

    #[test]
    fn reads_back_what_it_writes() {
        assert_eq!(read_contents(&write(&sample())), Ok(sample()));
        let mut without_vek = sample();
        without_vek.tdx = None;
        if let Some(snp) = &mut without_vek.snp {
            snp.vek = None;
        }
        assert_eq!(read_contents(&write(&without_vek)), Ok(without_vek));
    }

    #[test]
    fn refuses_unknown_missing_repeated_and_wrong_members() {
        assert!(matches!(changed(|v| v["tdx"]["extra"] = json!("AA==")), Err(BundleError::Shape { .. })));
        assert!(matches!(changed(|v| v["snp"]["ark"] = json!("AA")), Err(BundleError::Shape { .. })));
        assert!(matches!(changed(|v| v["snp"]["ark"] = json!(7)), Err(BundleError::Shape { .. })));
        assert!(matches!(changed(|v| v["other"] = json!({})), Err(BundleError::Shape { .. })));
        for member in ["root_ca_crl", "pck_crl", "tcb_info", "qe_identity_chain"] {
            let result = changed(|v| {
                v["tdx"].as_object_mut().unwrap().remove(member);
            });
            assert!(matches!(result, Err(BundleError::Shape { .. })), "{member}");
        }
        let twice = br#"{"version":1,"version":1}"#;
        assert!(matches!(read(twice), Err(BundleError::Shape { .. })));
        let twice = br#"{"version":1,"snp":{"ark":"AA==","ark":"AA==","ask":"AA==","crl":"AA=="}}"#;
        assert!(matches!(read(twice), Err(BundleError::Shape { .. })));
    }

    #[test]
    fn refuses_other_versions_by_their_version() {
        assert_eq!(changed(|v| v["version"] = json!(2)), Err(BundleError::Version { found: 2 }));
        assert_eq!(read(br#"{"version":2,"new":[]}"#), Err(BundleError::Version { found: 2 }));
    }

    #[test]
    fn refuses_a_bundle_for_no_platform_and_one_too_long() {
        assert_eq!(read(br#"{"version":1}"#), Err(BundleError::Empty));
        let long = vec![b' '; BUNDLE_BYTES_MAX + 1];
        assert_eq!(read(&long), Err(BundleError::TooLong { found: BUNDLE_BYTES_MAX + 1 }));
    }

    #[test]
    fn refuses_truncation_at_every_offset() {
        let bytes = write(&sample());
        let end = bytes.iter().rposition(|b| *b == b'}').unwrap();
        for length in 0..=end {
            assert!(matches!(read(&bytes[..length]), Err(BundleError::Shape { .. })), "{length}");
        }
    }

    fn signed(key: &SigningKey) -> Vec<u8> {
        crate::sign(&write(&sample()), key, UnixTime(7)).unwrap()
    }

    #[test]
    fn a_signed_bundle_says_who_signed_it_and_holds_the_same() {
        let key = SigningKey::generate().unwrap();
        let bundle = read(&signed(&key)).unwrap();
        let signer = crate::signer_id(&key).unwrap();
        assert_eq!(bundle.signature(), Some(&BundleSignature { signer, signed_at: UnixTime(7) }));
        assert_eq!(bundle.contents(), &sample());
        assert_eq!(bundle.accept(&[&[], &[signer]]), Ok(sample()));
    }

    #[test]
    fn refuses_by_rule_a_bundle_that_nobody_or_somebody_else_signed() {
        let key = SigningKey::generate().unwrap();
        let wanted = Sha256::of(b"wanted");
        let refusal = read(&write(&sample())).unwrap().accept(&[&[wanted]]).unwrap_err();
        assert_eq!(
            (refusal.rule.as_str(), refusal.found.as_str()),
            ("collateral.signer", "one without a signature")
        );
        let signer = crate::signer_id(&key).unwrap();
        let refusal = read(&signed(&key)).unwrap().accept(&[&[signer], &[wanted]]).unwrap_err();
        assert_eq!(refusal.rule, "collateral.signer");
        assert_eq!(refusal.expected, format!("a bundle signed by {wanted}"));
        assert_eq!(refusal.found, format!("one signed by {signer}"));
        assert_eq!(read(&signed(&key)).unwrap().accept(&[&[wanted, signer]]), Ok(sample()));
    }

    #[test]
    fn refuses_every_changed_byte_of_a_signed_bundle_and_truncation_at_every_offset() {
        let bytes = signed(&SigningKey::generate().unwrap());
        let end = bytes.iter().rposition(|b| *b == b'}').unwrap();
        for at in 0..=end {
            assert!(read(&bytes[..at]).is_err(), "{at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            // White space between members is outside what is signed.
            if !bytes[at].is_ascii_whitespace() || !changed[at].is_ascii_whitespace() {
                assert!(read(&changed).is_err(), "{at}: {:?}", bytes[at] as char);
            }
        }
    }

    #[test]
    fn refuses_members_beside_and_within_a_signed_bundle() {
        let key = SigningKey::generate().unwrap();
        let change = |change: &dyn Fn(&mut Value)| {
            let mut value: Value = serde_json::from_slice(&signed(&key)).unwrap();
            change(&mut value);
            read(&serde_json::to_vec(&value).unwrap()).unwrap_err()
        };
        let form = |error: &BundleError| matches!(error, BundleError::Signature(SignatureError::Form { .. }));
        for member in ["header", "version", "tdx"] {
            assert!(form(&change(&|v| v[member] = json!(1))), "{member}");
        }
        for member in ["protected", "signature"] {
            let error = change(&|v| drop(v.as_object_mut().unwrap().remove(member)));
            assert!(form(&error), "{member}");
        }
        let inside = crate::sign(br#"{"version":1}"#, &key, UnixTime(7)).unwrap();
        assert_eq!(read(&inside), Err(BundleError::Empty));
        let twice = crate::sign(&signed(&key), &key, UnixTime(7)).unwrap();
        assert!(matches!(read(&twice), Err(BundleError::Shape { .. })));
    }

    #[test]
    fn takes_a_bundle_of_just_the_limit_and_refuses_deep_nesting_and_text_after_it() {
        let mut whole = write(&sample());
        whole.resize(BUNDLE_BYTES_MAX, b' ');
        assert_eq!(read(&whole).map(|bundle| bundle.contents), Ok(sample()));
        let text = String::from_utf8(write(&sample())).unwrap();
        for more in ["x", "{}", "\0"] {
            assert!(
                matches!(read(format!("{text}{more}").as_bytes()), Err(BundleError::Shape { .. })),
                "{more:?}"
            );
        }
        for open in ["[", "{\"a\":", "{\"tdx\":", "{\"version\":"] {
            let deep = format!("{{\"version\":1,\"tdx\":{}", open.repeat(100_000));
            assert!(matches!(read(deep.as_bytes()), Err(BundleError::Shape { .. })), "{open}");
        }
    }
}
