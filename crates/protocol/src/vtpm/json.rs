//! The JSON forms of a TPM's statement. Members are known or refused, each once; bytes have one spelling per form.
//!
//! Azure, first form: `{quote|tpm_quote: {message, signature, pcrs}, report|hcl_report, vcek|td_quote}`, bytes as arrays
//! of numbers, `vcek` in PEM. Azure, versions 1 and 2: the same with `version`, the quote in hexadecimal digits and the
//! rest in padded base64url. In all of them the signature is a bare RSASSA one with SHA-256, and `pcrs` are those of the SHA-256
//! bank from 0 to 23. Plain TPM: `{ak_public, tpm_quote}` in base64, the signature a `TPMT_SIGNATURE`. Ours: `format`, the
//! members of all others, everything in base64url, `pcrs` as triples of bank, index and value.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use casemate_evidence::TpmHash;
use serde_json::{Value, json};

use super::{AK_CERTIFICATES_MAX, AkEvidence, PCRS_MAX, Pcr, Vtpm};
use crate::cmw::Members;

/// `format` of our own form.
pub const FORMAT: &str = "tag:casemate.dev,2026:vtpm/1";
/// Largest statement in bytes of JSON.
pub const VTPM_JSON_BYTES_MAX: usize = 1 << 20;

/// Registers that the forms of others hold: all of one bank.
const REGISTERS: usize = 24;
/// What precedes the bare RSA signature of Azure's forms in a `TPMT_SIGNATURE`: RSASSA with SHA-256.
const RSASSA_SHA256: [u8; 4] = [0x00, 0x14, 0x00, 0x0b];
/// Most characters of a strange label in an error.
const LABEL_CHARS_SHOWN_MAX: usize = 40;

/// Why JSON is not a TPM's statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VtpmJsonError {
    /// Larger than [`VTPM_JSON_BYTES_MAX`].
    #[error("statement of {found} bytes, at most {VTPM_JSON_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not JSON, or not an object where there must be one.
    #[error("{part} is not a JSON object")]
    NotAnObject {
        /// Which part.
        part: &'static str,
    },
    /// A member that no form has.
    #[error("unknown member `{label}`")]
    UnknownMember {
        /// Its label.
        label: String,
    },
    /// Twice the same member, or two spellings of it.
    #[error("member `{label}` is given twice")]
    RepeatedMember {
        /// Its label.
        label: &'static str,
    },
    /// A member that must be there is not.
    #[error("member `{label}` is missing")]
    Missing {
        /// Its label.
        label: &'static str,
    },
    /// A member that is not written as its form writes it.
    #[error("member `{label}` is not {expected}")]
    Member {
        /// Its label.
        label: &'static str,
        /// How it should be written.
        expected: &'static str,
    },
    /// Members of different forms.
    #[error("members `{first}` and `{second}` do not go together")]
    Mixed {
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
}

/// Labels, each with the name that it has here.
const LABELS: [(&str, Label); 10] = [
    ("format", Label::Format),
    ("version", Label::Version),
    ("tpm_quote", Label::Quote),
    ("quote", Label::Quote),
    ("hcl_report", Label::HclReport),
    ("report", Label::HclReport),
    ("vcek", Label::Vek),
    ("td_quote", Label::TdQuote),
    ("ak_public", Label::AkPublic),
    ("ak_certificates", Label::AkCertificates),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Format,
    Version,
    Quote,
    HclReport,
    Vek,
    TdQuote,
    AkPublic,
    AkCertificates,
}

impl Label {
    const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Version => "version",
            Self::Quote => "tpm_quote",
            Self::HclReport => "hcl_report",
            Self::Vek => "vcek",
            Self::TdQuote => "td_quote",
            Self::AkPublic => "ak_public",
            Self::AkCertificates => "ak_certificates",
        }
    }
}

/// How a form spells bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Ours.
    Own,
    /// Azure, arrays of numbers.
    AzureNumbers,
    /// Azure, versions 1 and 2.
    AzureText,
    /// Plain TPM.
    Plain,
}

impl Vtpm {
    /// Reads any of the forms.
    ///
    /// # Errors
    /// [`VtpmJsonError`].
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self, VtpmJsonError> {
        if bytes.len() > VTPM_JSON_BYTES_MAX {
            return Err(VtpmJsonError::TooLong { found: bytes.len() });
        }
        let members = Members::parse(bytes).ok_or(VtpmJsonError::NotAnObject { part: "statement" })?;
        let top = Top::read(&members)?;
        let form = top.form()?;
        let (message, signature, pcrs) = read_quote(top.require(Label::Quote)?, form)?;
        Ok(Self { message, signature, pcrs, ak: top.ak(form)? })
    }

    /// Our form of it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let text = |bytes: &[u8]| Value::String(URL_SAFE_NO_PAD.encode(bytes));
        let pcrs: Vec<Value> =
            self.pcrs.iter().map(|pcr| json!([pcr.bank.name(), pcr.index, text(&pcr.digest)])).collect();
        let mut object = serde_json::Map::new();
        object.insert("format".into(), json!(FORMAT));
        object.insert(
            "tpm_quote".into(),
            json!({"message": text(&self.message), "signature": text(&self.signature), "pcrs": pcrs}),
        );
        let mut put = |label: Label, value: Value| object.insert(label.name().into(), value);
        match &self.ak {
            AkEvidence::AzureSnp { hcl_report, vek } => {
                put(Label::HclReport, text(hcl_report));
                if let Some(vek) = vek {
                    put(Label::Vek, text(vek));
                }
            }
            AkEvidence::AzureTdx { hcl_report, td_quote } => {
                put(Label::HclReport, text(hcl_report));
                put(Label::TdQuote, text(td_quote));
            }
            AkEvidence::Key(key) => {
                put(Label::AkPublic, text(key));
            }
            AkEvidence::Certificates(chain) => {
                put(Label::AkCertificates, chain.iter().map(|certificate| text(certificate)).collect());
            }
        }
        Value::Object(object)
    }
}

/// The members of a statement, each still as text.
struct Top<'a>(Vec<(Label, &'a str)>);

impl<'a> Top<'a> {
    fn read(members: &Members<'a>) -> Result<Self, VtpmJsonError> {
        let mut read: Vec<(Label, &str)> = Vec::new();
        for (label, member) in members.iter() {
            let (_, known) = LABELS
                .into_iter()
                .find(|(name, _)| *name == label)
                .ok_or_else(|| VtpmJsonError::UnknownMember { label: shown(label) })?;
            if read.iter().any(|(other, _)| *other == known) {
                return Err(VtpmJsonError::RepeatedMember { label: known.name() });
            }
            read.push((known, member));
        }
        Ok(Self(read))
    }

    fn get(&self, label: Label) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == label).map(|(_, member)| *member)
    }

    fn require(&self, label: Label) -> Result<&'a str, VtpmJsonError> {
        self.get(label).ok_or(VtpmJsonError::Missing { label: label.name() })
    }

    fn form(&self) -> Result<Form, VtpmJsonError> {
        let wrong = |label: Label, expected| VtpmJsonError::Member { label: label.name(), expected };
        if let Some(format) = self.get(Label::Format) {
            let ours = serde_json::from_str::<Text<'_>>(format).is_ok_and(|text| text.0 == FORMAT);
            self.refuse_beside(Label::Format, &[Label::Version])?;
            return if ours { Ok(Form::Own) } else { Err(wrong(Label::Format, FORMAT)) };
        }
        if self.get(Label::AkPublic).is_some() {
            self.refuse_beside(Label::AkPublic, &[Label::Version])?;
            return Ok(Form::Plain);
        }
        let Some(version) = self.get(Label::Version) else { return Ok(Form::AzureNumbers) };
        match serde_json::from_str::<u64>(version) {
            Ok(1 | 2) => Ok(Form::AzureText),
            _ => Err(wrong(Label::Version, "1 or 2")),
        }
    }

    fn refuse_beside(&self, first: Label, others: &[Label]) -> Result<(), VtpmJsonError> {
        others
            .iter()
            .find(|label| self.get(**label).is_some())
            .map_or(Ok(()), |second| Err(VtpmJsonError::Mixed { first: first.name(), second: second.name() }))
    }

    /// What speaks for the key: exactly one of the kinds.
    fn ak(&self, form: Form) -> Result<AkEvidence, VtpmJsonError> {
        if let Some(key) = self.get(Label::AkPublic) {
            let others = [Label::AkCertificates, Label::HclReport, Label::Vek, Label::TdQuote];
            self.refuse_beside(Label::AkPublic, &others)?;
            return Ok(AkEvidence::Key(read_bytes("ak_public", key, form)?));
        }
        if let Some(chain) = self.get(Label::AkCertificates) {
            self.refuse_beside(Label::AkCertificates, &[Label::HclReport, Label::Vek, Label::TdQuote])?;
            return read_chain(chain, form).map(AkEvidence::Certificates);
        }
        let hcl_report = read_bytes("hcl_report", self.require(Label::HclReport)?, form)?;
        if let Some(quote) = self.get(Label::TdQuote) {
            self.refuse_beside(Label::TdQuote, &[Label::Vek])?;
            return Ok(AkEvidence::AzureTdx { hcl_report, td_quote: read_bytes("td_quote", quote, form)? });
        }
        let vek = self.get(Label::Vek).map(|vek| match form {
            Form::AzureNumbers => read_pem("vcek", vek),
            other => read_bytes("vcek", vek, other),
        });
        Ok(AkEvidence::AzureSnp { hcl_report, vek: vek.transpose()? })
    }
}

/// Message, `TPMT_SIGNATURE` and register values.
type Quote = (Vec<u8>, Vec<u8>, Vec<Pcr>);

fn read_quote(member: &str, form: Form) -> Result<Quote, VtpmJsonError> {
    const LABELS: [&str; 3] = ["message", "signature", "pcrs"];
    let members =
        Members::parse(member.as_bytes()).ok_or(VtpmJsonError::NotAnObject { part: "tpm_quote" })?;
    let mut parts = [None; 3];
    for (label, member) in members.iter() {
        let (known, part) = LABELS
            .into_iter()
            .zip(&mut parts)
            .find(|(known, _)| *known == label)
            .ok_or_else(|| VtpmJsonError::UnknownMember { label: shown(label) })?;
        if part.replace(member).is_some() {
            return Err(VtpmJsonError::RepeatedMember { label: known });
        }
    }
    let [message, signature, pcrs] = parts;
    let require = |label, part: Option<&_>| part.copied().ok_or(VtpmJsonError::Missing { label });
    let quote_bytes = |label, member: &str| match form {
        Form::AzureText => read_hex(label, member),
        other => read_bytes(label, member, other),
    };
    let message = quote_bytes("message", require("message", message.as_ref())?)?;
    let signature = quote_bytes("signature", require("signature", signature.as_ref())?)?;
    let signature = match form {
        Form::AzureNumbers | Form::AzureText => wrap_rsassa(&signature)?,
        Form::Own | Form::Plain => signature,
    };
    Ok((message, signature, read_pcrs(require("pcrs", pcrs.as_ref())?, form)?))
}

/// The `TPMT_SIGNATURE` of a bare signature in Azure's forms.
fn wrap_rsassa(signature: &[u8]) -> Result<Vec<u8>, VtpmJsonError> {
    let expected = "an RSA signature";
    let length =
        u16::try_from(signature.len()).map_err(|_| VtpmJsonError::Member { label: "signature", expected })?;
    Ok([&RSASSA_SHA256[..], &length.to_be_bytes(), signature].concat())
}

fn read_pcrs(member: &str, form: Form) -> Result<Vec<Pcr>, VtpmJsonError> {
    let expected = match form {
        Form::Own => "triples of bank, index and value",
        _ => "the values of 24 registers",
    };
    let wrong = || VtpmJsonError::Member { label: "pcrs", expected };
    let values = match form {
        Form::Own => return read_own_pcrs(member).ok_or_else(wrong),
        Form::AzureNumbers => serde_json::from_str::<Vec<Vec<u8>>>(member).map_err(|_| wrong())?,
        Form::AzureText | Form::Plain => serde_json::from_str::<Vec<Text<'_>>>(member)
            .map_err(|_| wrong())?
            .iter()
            .map(|text| hex_digits(&text.0).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
    };
    if values.len() != REGISTERS || values.iter().any(|value| value.len() != TpmHash::Sha256.digest_bytes()) {
        return Err(wrong());
    }
    Ok((0..).zip(values).map(|(index, digest)| Pcr { bank: TpmHash::Sha256, index, digest }).collect())
}

/// Triples of bank, index and value, in the order in which they stand.
fn read_own_pcrs(member: &str) -> Option<Vec<Pcr>> {
    let triples: Vec<(Text<'_>, u8, Text<'_>)> = serde_json::from_str(member).ok()?;
    if triples.len() > PCRS_MAX {
        return None;
    }
    let read = |(bank, index, digest): (Text<'_>, u8, Text<'_>)| {
        let bank = TpmHash::ALL.into_iter().find(|hash| hash.name() == bank.0)?;
        let digest = URL_SAFE_NO_PAD.decode(digest.0.as_bytes()).ok()?;
        (index < 32 && digest.len() == bank.digest_bytes()).then_some(Pcr { bank, index, digest })
    };
    triples.into_iter().map(read).collect()
}

fn read_bytes(label: &'static str, member: &str, form: Form) -> Result<Vec<u8>, VtpmJsonError> {
    let (engine, expected) = match form {
        Form::AzureNumbers => {
            let expected = "an array of bytes";
            return serde_json::from_str(member).map_err(|_| VtpmJsonError::Member { label, expected });
        }
        Form::Own => (&URL_SAFE_NO_PAD, "base64url"),
        Form::AzureText => (&URL_SAFE, "padded base64url"),
        Form::Plain => (&STANDARD, "base64"),
    };
    let wrong = || VtpmJsonError::Member { label, expected };
    let text: Text<'_> = serde_json::from_str(member).map_err(|_| wrong())?;
    engine.decode(text.0.as_bytes()).map_err(|_| wrong())
}

fn read_hex(label: &'static str, member: &str) -> Result<Vec<u8>, VtpmJsonError> {
    let text = serde_json::from_str::<Text<'_>>(member).ok();
    text.and_then(|text| hex_digits(&text.0))
        .ok_or(VtpmJsonError::Member { label, expected: "hexadecimal digits" })
}

fn read_chain(member: &str, form: Form) -> Result<Vec<Vec<u8>>, VtpmJsonError> {
    let label = "ak_certificates";
    let expected = "an array of 1 to 4 certificates";
    let wrong = || VtpmJsonError::Member { label, expected };
    let texts: Vec<&serde_json::value::RawValue> = serde_json::from_str(member).map_err(|_| wrong())?;
    if texts.is_empty() || texts.len() > AK_CERTIFICATES_MAX {
        return Err(wrong());
    }
    texts.into_iter().map(|text| read_bytes(label, text.get(), form)).collect()
}

/// The DER of one certificate in PEM.
fn read_pem(label: &'static str, member: &str) -> Result<Vec<u8>, VtpmJsonError> {
    let wrong = || VtpmJsonError::Member { label, expected: "one certificate in PEM" };
    let text: Text<'_> = serde_json::from_str(member).map_err(|_| wrong())?;
    let body = text.0.trim().strip_prefix("-----BEGIN CERTIFICATE-----").ok_or_else(wrong)?;
    let body = body.strip_suffix("-----END CERTIFICATE-----").ok_or_else(wrong)?;
    let digits: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(digits).map_err(|_| wrong())
}

/// Bytes from pairs of lower-case digits.
fn hex_digits(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte.saturating_sub(b'0')),
        b'a'..=b'f' => Some(byte.saturating_sub(b'a').saturating_add(10)),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some((digit(high)? << 4) | digit(low)?),
            _ => None,
        })
        .collect()
}

fn shown(label: &str) -> String {
    label.chars().take(LABEL_CHARS_SHOWN_MAX).collect()
}

/// Text, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
