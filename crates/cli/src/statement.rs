//! What a file of evidence is: told from its bytes, never from its name.
//!
//! What it is: a guess by the first bytes, then the parser of that form; the bytes as they are, as hexadecimal digits or
//! as base64. What it is not: a judge: a statement that begins as one is handed to the verifier even where it cannot be
//! read to its end, and the verifier refuses it by rule. Who trusts it: `verify` and `policy write`.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use casemate_evidence::{
    HclHardware, SNP_REPORT_BYTES, parse_boot_log, parse_certificate_table, parse_hcl_report,
    parse_snp_report, parse_tdx_quote,
};
use casemate_protocol::cmw::{COLLECTION_BYTES_MAX, Evidence, Members, Platform};
use casemate_protocol::vtpm::{AkEvidence, Vtpm};

/// Largest file that is read.
pub(crate) const STATEMENT_BYTES_MAX: usize = COLLECTION_BYTES_MAX;
/// Largest text that is tried as hexadecimal digits or base64: the largest quote has 32 KiB.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes shown of what is not known.
const SHOWN_BYTES: usize = 8;

/// What is looked for, for whoever gave something else.
pub(crate) const KNOWN: &str = "it looked for evidence of `casemate attest`, a TDX quote of version 4 or 5, an SEV-SNP report of \
     1184 bytes with or without a certificate table after it (each as bytes, hexadecimal digits or base64), a TPM's \
     statement with signature and registers (Azure's JSON, a plain TPM's or ours), and an Azure HCL report";

/// A statement, and what the first line says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recognised {
    /// The statement.
    pub(crate) statement: Statement,
    /// Kind, version, size, padding and spelling.
    pub(crate) what: String,
}

/// A statement by who is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    /// Evidence about one agent.
    Agent(Box<Evidence>),
    /// A TDX quote, an SEV-SNP report or a TPM's statement alone.
    Platform(Platform),
}

/// Why a file is no statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAStatement {
    /// What it is.
    pub(crate) what: String,
    /// What to do.
    pub(crate) todo: String,
}

/// Tells what `bytes` are.
pub(crate) fn recognise(bytes: &[u8]) -> Result<Recognised, NotAStatement> {
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return json(bytes);
    }
    if let Some(found) = binary(bytes) {
        return found;
    }
    if let Some((decoded, spelling)) = decode_text(bytes) {
        if let Some(found) = binary(&decoded) {
            return found.map(|found| Recognised { what: format!("{}, {spelling}", found.what), ..found });
        }
        return Err(unknown(&decoded, Some(spelling)));
    }
    Err(unknown(bytes, None))
}

/// A form by its first bytes; none where they are nobody's.
fn binary(bytes: &[u8]) -> Option<Result<Recognised, NotAStatement>> {
    let start = |length: usize| bytes.get(..length).unwrap_or_default();
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    if bytes.starts_with(b"HCLA") {
        return Some(hcl(bytes));
    }
    if bytes.starts_with(b"-----BEGIN CERTIFICATE-----") || start(2) == [0x30, 0x82] {
        return Some(no_statement(
            "a certificate",
            "give it with `--certificate FILE` beside an SEV-SNP report",
        ));
    }
    if start(6) == [0xff, b'T', b'C', b'G', 0x80, 0x18] {
        return Some(no_statement(
            "a TPM quote without signature and register values",
            "give message, signature and registers together, as the JSON that docs/verification.md shows",
        ));
    }
    // Version (u16), type of the attestation key (u16), kind of TEE (u32): 0 is SGX, 0x81 is TDX.
    match (number(0).map(u32::to_le_bytes), number(4)) {
        (Some([4 | 5, 0, _, _]), Some(0x81)) => return Some(Ok(tdx(bytes))),
        (Some([3..=5, 0, 2 | 3, 0]), Some(0)) => {
            return Some(no_statement("an SGX quote: an enclave, no confidential VM", KNOWN));
        }
        _ => {}
    }
    if bytes.len() >= SNP_REPORT_BYTES && matches!(number(0), Some(1..=15)) && number(0x34) == Some(1) {
        return snp(bytes).map(Ok);
    }
    if parse_boot_log(bytes).is_ok_and(|log| log.banks().count() > 0) {
        return Some(no_statement(
            "an event log of firmware",
            "give it with `--boot-log FILE` beside the quote whose registers it explains",
        ));
    }
    None
}

fn tdx(bytes: &[u8]) -> Recognised {
    let what = match parse_tdx_quote(bytes) {
        Ok(quote) => {
            let padding = bytes.len().saturating_sub(quote.trimmed.len());
            let padding = if padding == 0 {
                "no padding".to_owned()
            } else {
                format!("{padding} bytes of zero padding")
            };
            format!("TDX quote, version {}, {} bytes, {padding}", quote.version, bytes.len())
        }
        Err(error) => format!("TDX quote that cannot be read, {} bytes: {error}", bytes.len()),
    };
    Recognised { statement: Statement::Platform(Platform::Tdx { quote: bytes.to_vec() }), what }
}

/// A report, and the certificate table after it.
fn snp(bytes: &[u8]) -> Option<Recognised> {
    let (report, certificates) = bytes.split_at_checked(SNP_REPORT_BYTES)?;
    let table = match certificates {
        [] => "no certificates".to_owned(),
        [..] => format!("{} certificates after it", parse_certificate_table(certificates).ok()?.len()),
    };
    let what = match parse_snp_report(report) {
        Ok(report) => format!("SEV-SNP report, version {}, {} bytes, {table}", report.version, bytes.len()),
        Err(error) => format!("SEV-SNP report that cannot be read, {} bytes: {error}", bytes.len()),
    };
    let platform = Platform::Snp { report: report.to_vec(), certificates: certificates.to_vec() };
    Some(Recognised { statement: Statement::Platform(platform), what })
}

/// The report of Azure's firmware. Without a TPM quote beside it, it shows no more than the hardware's report in it.
fn hcl(bytes: &[u8]) -> Result<Recognised, NotAStatement> {
    let quote = "give Azure's evidence as JSON, which holds quote and registers too";
    match parse_hcl_report(bytes).map(|report| report.hardware) {
        Ok(HclHardware::Snp(report)) => {
            let platform = Platform::Snp { report: report.to_vec(), certificates: Vec::new() };
            let what = format!("Azure HCL report, {} bytes, read as the SEV-SNP report in it", bytes.len());
            Ok(Recognised { statement: Statement::Platform(platform), what })
        }
        Ok(HclHardware::Tdx(_)) => {
            let what =
                "an Azure HCL report with a TD report, which only its own machine can check".to_owned();
            Err(NotAStatement { what, todo: quote.to_owned() })
        }
        Err(error) => Err(NotAStatement {
            what: format!("an Azure HCL report that cannot be read: {error}"),
            todo: quote.to_owned(),
        }),
    }
}

fn json(bytes: &[u8]) -> Result<Recognised, NotAStatement> {
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        let what = format!("{}:{}: not JSON: {error}", error.line().max(1), error.column().max(1));
        return Err(NotAStatement { what, todo: KNOWN.to_owned() });
    }
    let labels: Vec<String> = Members::parse(bytes)
        .map(|members| members.iter().map(|(label, _)| label.to_owned()).collect())
        .unwrap_or_default();
    let has = |label: &str| labels.iter().any(|known| known == label);
    if has("__cmwc_t") {
        let evidence = Evidence::from_json_bytes(bytes).map_err(|error| NotAStatement {
            what: format!("not evidence: {error}"),
            todo: "make it with `casemate attest AGENT --nonce NONCE -o FILE`".to_owned(),
        })?;
        let kind = match &evidence.platform {
            Platform::Tdx { .. } => "a TDX quote",
            Platform::Snp { .. } => "an SEV-SNP report",
            Platform::Vtpm(_) => "a TPM's statement",
        };
        let what = format!("evidence about one agent, {} bytes, with {kind}", bytes.len());
        return Ok(Recognised { statement: Statement::Agent(Box::new(evidence)), what });
    }
    if ["tpm_quote", "quote", "hcl_report", "ak_public", "format"].into_iter().any(has) {
        let vtpm = Vtpm::from_json_bytes(bytes).map_err(|error| NotAStatement {
            what: format!("not a TPM's statement: {error}"),
            todo: "give it as the attester wrote it; docs/verification.md shows the forms that are read"
                .to_owned(),
        })?;
        let kind = match &vtpm.ak {
            AkEvidence::AzureSnp { .. } => "Azure's evidence, a TPM quote under an SEV-SNP report",
            AkEvidence::AzureTdx { .. } => "Azure's evidence, a TPM quote under a TDX quote",
            AkEvidence::Key(_) => "a TPM quote with its key",
            AkEvidence::Certificates(_) => "a TPM quote with its key's certificates",
        };
        let what = format!("{kind}, {} bytes, {} registers", bytes.len(), vtpm.pcrs.len());
        return Ok(Recognised { statement: Statement::Platform(Platform::Vtpm(vtpm)), what });
    }
    Err(unknown(bytes, Some("JSON with other members")))
}

/// The bytes that a text spells, and how.
fn decode_text(bytes: &[u8]) -> Option<(Vec<u8>, &'static str)> {
    if bytes.len() > TEXT_BYTES_MAX {
        return None;
    }
    let text: String = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace().collect();
    if text.is_empty() {
        return None;
    }
    if let Some(decoded) = decode_hex(text.strip_prefix("0x").unwrap_or(&text)) {
        return Some((decoded, "in hexadecimal digits"));
    }
    let any_padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [STANDARD, URL_SAFE].into_iter().find_map(|alphabet| {
        let decoded = GeneralPurpose::new(&alphabet, any_padding).decode(&text).ok()?;
        Some((decoded, "in base64"))
    })
}

/// The bytes of pairs of hexadecimal digits, of either case.
pub(crate) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    });
    pairs.collect()
}

fn no_statement(what: &str, todo: &str) -> Result<Recognised, NotAStatement> {
    Err(NotAStatement { what: what.to_owned(), todo: todo.to_owned() })
}

fn unknown(bytes: &[u8], spelling: Option<&str>) -> NotAStatement {
    let first: String = bytes.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    let spelling = spelling.map_or_else(String::new, |spelling| format!(", {spelling}"));
    let what = match bytes {
        [] => "an empty file".to_owned(),
        _ => format!(
            "no statement that is known here: {} bytes that begin with {first}{spelling}",
            bytes.len()
        ),
    };
    NotAStatement { what, todo: KNOWN.to_owned() }
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
