//! Certificates and CRLs (RFC 5280) in the shapes of Intel's PCK and AMD's VCEK hierarchies.
//!
//! What it is: an issuer for this crate's own keys. What it is not: a general certificate authority.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::DateTime;

use crate::PkiError;
use crate::der_out::{
    bit_string, bit_string_unused, boolean_true, enumerated, explicit, ia5_string, integer, integer_u64,
    null, octet_string, oid, sequence, set, tlv, utf8_string,
};
use crate::keys::SigningKey;

/// How an issuer's AlgorithmIdentifier is spelled.
#[derive(Clone, Copy)]
pub(crate) enum SignatureSpelling {
    /// ecdsa-with-SHA256.
    EcdsaSha256,
    /// RSASSA-PSS with `trailerField` written out, as AMD's ARK and ASK certificates have it.
    PssWithTrailer,
    /// RSASSA-PSS with `trailerField` left at its default, as AMD's VCEK certificates have it.
    Pss,
}

/// A certificate to be issued.
pub(crate) struct CertificateSpec<'a> {
    pub(crate) serial: &'a [u8],
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) spki: &'a [u8],
    pub(crate) extensions: Vec<Vec<u8>>,
}

/// A CRL to be issued.
pub(crate) struct CrlSpec<'a> {
    pub(crate) issuer: &'a [u8],
    pub(crate) issuer_spki: &'a [u8],
    pub(crate) this_update: u64,
    pub(crate) next_update: u64,
    pub(crate) number: u64,
    pub(crate) revoked_serials: Vec<Vec<u8>>,
}

/// Signs a certificate; DER.
pub(crate) fn issue_certificate(
    spec: &CertificateSpec<'_>,
    issuer: &SigningKey,
    spelling: SignatureSpelling,
) -> Result<Vec<u8>, PkiError> {
    let tbs = sequence(&[
        explicit(0, &integer_u64(2)),
        integer(spec.serial),
        algorithm(spelling),
        spec.issuer.to_vec(),
        sequence(&[time(spec.not_before)?, time(spec.not_after)?]),
        spec.subject.to_vec(),
        spec.spki.to_vec(),
        explicit(3, &sequence(&spec.extensions)),
    ]);
    sign_outer(tbs, issuer, spelling)
}

/// Signs a version 2 CRL with AKI and CRL number; DER.
pub(crate) fn issue_crl(
    spec: &CrlSpec<'_>,
    issuer: &SigningKey,
    spelling: SignatureSpelling,
) -> Result<Vec<u8>, PkiError> {
    let mut fields = vec![
        integer_u64(1),
        algorithm(spelling),
        spec.issuer.to_vec(),
        time(spec.this_update)?,
        time(spec.next_update)?,
    ];
    if !spec.revoked_serials.is_empty() {
        let entries: Result<Vec<_>, PkiError> =
            spec.revoked_serials.iter().map(|serial| revoked_entry(serial, spec.this_update)).collect();
        fields.push(sequence(&entries?));
    }
    let crl_number = extension(&[2, 5, 29, 20], Criticality::Plain, &integer_u64(spec.number));
    fields.push(explicit(0, &sequence(&[crl_number, authority_key_identifier(spec.issuer_spki)])));
    sign_outer(sequence(&fields), issuer, spelling)
}

fn revoked_entry(serial: &[u8], when: u64) -> Result<Vec<u8>, PkiError> {
    // CRLReason keyCompromise, as Intel's lists have it.
    let reason = extension(&[2, 5, 29, 21], Criticality::Plain, &enumerated(1));
    Ok(sequence(&[integer(serial), time(when)?, sequence(&[reason])]))
}

fn sign_outer(tbs: Vec<u8>, issuer: &SigningKey, spelling: SignatureSpelling) -> Result<Vec<u8>, PkiError> {
    let signature = issuer.sign_x509(&tbs)?;
    Ok(sequence(&[tbs, algorithm(spelling), bit_string(&signature)]))
}

fn algorithm(spelling: SignatureSpelling) -> Vec<u8> {
    let sha384 = sequence(&[oid(&[2, 16, 840, 1, 101, 3, 4, 2, 2]), null()]);
    let mgf1 = sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 8]), sha384.clone()]);
    let mut parameters = vec![explicit(0, &sha384), explicit(1, &mgf1), explicit(2, &integer_u64(48))];
    match spelling {
        SignatureSpelling::EcdsaSha256 => return sequence(&[oid(&[1, 2, 840, 10045, 4, 3, 2])]),
        SignatureSpelling::PssWithTrailer => parameters.push(explicit(3, &integer_u64(1))),
        SignatureSpelling::Pss => {}
    }
    sequence(&[oid(&[1, 2, 840, 113_549, 1, 1, 10]), sequence(&parameters)])
}

/// A distinguished name with the given common name and organisation.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let attribute = |arc: u32, value: Vec<u8>| set(&[sequence(&[oid(&[2, 5, 4, arc]), value])]);
    sequence(&[
        attribute(3, utf8_string(common_name)),
        attribute(10, utf8_string(crate::ORGANISATION)),
        attribute(6, tlv(0x13, b"XX")),
    ])
}

/// Whether a verifier that does not know an extension must refuse it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Criticality {
    Critical,
    Plain,
}

/// One extension whose value is `content` in an OCTET STRING.
pub(crate) fn extension(arcs: &[u32], criticality: Criticality, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(arcs)];
    if criticality == Criticality::Critical {
        parts.push(boolean_true());
    }
    parts.push(octet_string(content));
    sequence(&parts)
}

pub(crate) fn subject_key_identifier(spki: &[u8]) -> Vec<u8> {
    extension(&[2, 5, 29, 14], Criticality::Plain, &octet_string(&key_identifier(spki)))
}

pub(crate) fn authority_key_identifier(issuer_spki: &[u8]) -> Vec<u8> {
    let content = sequence(&[tlv(0x80, &key_identifier(issuer_spki))]);
    extension(&[2, 5, 29, 35], Criticality::Plain, &content)
}

/// Where a real certificate names its CRL. The host is in `.invalid`: nothing is ever fetched.
pub(crate) fn crl_distribution_point(file: &str) -> Vec<u8> {
    let uri = ia5_string(&format!("https://casemate-development.invalid/{file}"));
    // uniformResourceIdentifier is [6] IMPLICIT IA5String.
    let uri = [&[0x86], uri.get(1..).unwrap_or_default()].concat();
    let point = sequence(&[explicit(0, &explicit(0, &uri))]);
    extension(&[2, 5, 29, 31], Criticality::Plain, &sequence(&[point]))
}

/// Key usage of an authority that signs certificates and CRLs.
pub(crate) fn key_usage_authority() -> Vec<u8> {
    extension(&[2, 5, 29, 15], Criticality::Critical, &bit_string_unused(1, &[0b0000_0110]))
}

/// Key usage of an authority that signs certificates only.
pub(crate) fn key_usage_certificate_sign() -> Vec<u8> {
    extension(&[2, 5, 29, 15], Criticality::Critical, &bit_string_unused(2, &[0b0000_0100]))
}

/// digitalSignature and nonRepudiation.
pub(crate) fn key_usage_signer() -> Vec<u8> {
    extension(&[2, 5, 29, 15], Criticality::Critical, &bit_string_unused(6, &[0b1100_0000]))
}

/// Basic constraints of an authority.
pub(crate) fn authority(path_length: Option<u8>) -> Vec<u8> {
    let mut parts = vec![boolean_true()];
    parts.extend(path_length.map(|length| integer_u64(u64::from(length))));
    extension(&[2, 5, 29, 19], Criticality::Critical, &sequence(&parts))
}

/// Basic constraints of an end entity.
pub(crate) fn end_entity() -> Vec<u8> {
    extension(&[2, 5, 29, 19], Criticality::Critical, &sequence(&[]))
}

/// A positive serial number of 16 bytes that follows from the subject's key.
pub(crate) fn serial_of(spki: &[u8]) -> Vec<u8> {
    let mut serial: Vec<u8> = digest(&SHA256, spki).as_ref().iter().copied().take(16).collect();
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    serial
}

fn key_identifier(spki: &[u8]) -> Vec<u8> {
    digest(&SHA256, spki).as_ref().iter().copied().take(20).collect()
}

/// UTCTime up to 2049, GeneralizedTime after (RFC 5280 section 4.1.2.5).
fn time(seconds: u64) -> Result<Vec<u8>, PkiError> {
    let date = date(seconds)?;
    let tail = format!(
        "{:02}{:02}{:02}{:02}{:02}Z",
        date.month(),
        date.day(),
        date.hour(),
        date.minutes(),
        date.seconds()
    );
    Ok(if date.year() < 2050 {
        tlv(0x17, format!("{:02}{tail}", date.year() % 100).as_bytes())
    } else {
        tlv(0x18, format!("{:04}{tail}", date.year()).as_bytes())
    })
}

/// `2026-11-22T21:00:00Z`, as Intel's JSON has it.
pub(crate) fn rfc3339(seconds: u64) -> Result<String, PkiError> {
    let date = date(seconds)?;
    Ok(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minutes(),
        date.seconds()
    ))
}

fn date(seconds: u64) -> Result<DateTime, PkiError> {
    DateTime::from_unix_duration(core::time::Duration::from_secs(seconds))
        .map_err(|_| PkiError::Time { seconds })
}

/// A PEM certificate with lines of 64 characters and a final line feed.
pub(crate) fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = tail;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
