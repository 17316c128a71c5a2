//! One quote, verified: its signature, what was bound in, and that it is over exactly the registers that are offered.

use aws_lc_rs::digest;
use casemate_evidence::tpm::PcrSelection;
use casemate_evidence::{TpmHash, TpmQuote, TpmSignature, parse_tpm_quote, parse_tpm_signature};
use casemate_protocol::vtpm::{Pcr, Vtpm};

use super::key::AttestationKey;
use crate::hex_text::HexSlice;
use crate::ledger::{Failed, Ledger};

/// A quote that its key signed. Its register values are those that were quoted.
#[derive(Debug)]
pub(crate) struct VerifiedQuote<'a> {
    pub(crate) quote: TpmQuote<'a>,
    pub(crate) pcrs: &'a [Pcr],
    pub(crate) key: AttestationKey,
}

/// Verifies a quote under a key, whatever speaks for the key. Each rule is tried where the ones before it allow.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    statement: &'a Vtpm,
    key: AttestationKey,
) -> Result<VerifiedQuote<'a>, Failed> {
    let quote = parse_tpm_quote(&statement.message);
    let quote = ledger.accept("vtpm.quote", "a TPMS_ATTEST of type quote", quote)?;
    let expected = format!("a signature by the {} attestation key, with SHA-256 or longer", key.name());
    let signature = parse_tpm_signature(&statement.signature);
    let signature = ledger.accept("vtpm.signature", &expected, signature)?;
    let signed = key.signed(quote.signed, &signature);
    let found = if signed { "a signature by that key" } else { "another signature or algorithm" };
    ledger.require("vtpm.signature", signed, expected, found)?;
    require_registers(ledger, &quote, &statement.pcrs)?;
    require_digest(ledger, &quote, &signature, &statement.pcrs)?;
    Ok(VerifiedQuote { quote, pcrs: &statement.pcrs, key })
}

/// That what was bound into the quote is exactly this: every byte, and no more.
pub(crate) fn require_extra_data(
    ledger: &mut Ledger,
    verified: &VerifiedQuote<'_>,
    expected: &[u8],
) -> Result<(), Failed> {
    let found = verified.quote.extra_data;
    ledger.require("vtpm.extra-data", expected == found, HexSlice(expected), HexSlice(found))
}

/// That the quote selects the registers whose values are offered: all of them and no other, by bank and in order.
/// Without this, whoever offers the values says which registers they are of.
fn require_registers(ledger: &mut Ledger, quote: &TpmQuote<'_>, pcrs: &[Pcr]) -> Result<(), Failed> {
    const RULE: &str = "vtpm.pcr-select";
    let quoted = describe(&quote.selections);
    let offered = offered(pcrs).map_err(|found| ledger.fail(RULE, &quoted, found))?;
    if offered.is_empty() {
        return Err(ledger.fail(RULE, "at least one register", "none"));
    }
    ledger.require(RULE, offered == quote.selections, quoted, describe(&offered))
}

/// The selection that the offered values are of, or what is wrong with them.
fn offered(pcrs: &[Pcr]) -> Result<Vec<PcrSelection>, String> {
    let mut selections: Vec<PcrSelection> = Vec::new();
    for pcr in pcrs {
        let name = pcr.bank.name();
        if pcr.index > 31 || pcr.digest.len() != pcr.bank.digest_bytes() {
            return Err(format!("{} bytes for PCR {} of {name}", pcr.digest.len(), pcr.index));
        }
        let bit = 1_u32 << pcr.index;
        let known = selections.iter().any(|other| other.bank == pcr.bank);
        match selections.last_mut() {
            // Ascending: above every index before it.
            Some(last) if last.bank == pcr.bank && last.registers < bit => last.registers |= bit,
            _ if known => return Err(format!("PCR {} of {name} out of order or twice", pcr.index)),
            _ => selections.push(PcrSelection { bank: pcr.bank, registers: bit }),
        }
    }
    Ok(selections)
}

fn describe(selections: &[PcrSelection]) -> String {
    let banks = selections.iter().map(|selection| {
        let indices: Vec<String> = selection.indices().map(|index| index.to_string()).collect();
        format!("{}:{}", selection.bank.name(), indices.join(","))
    });
    let banks: Vec<String> = banks.collect();
    if banks.is_empty() { "no register".to_owned() } else { banks.join("+") }
}

/// That the quoted digest is over the offered values, with the hash of the signature (Part 3, `TPM2_Quote`).
fn require_digest(
    ledger: &mut Ledger,
    quote: &TpmQuote<'_>,
    signature: &TpmSignature<'_>,
    pcrs: &[Pcr],
) -> Result<(), Failed> {
    const RULE: &str = "vtpm.pcr-digest";
    let hash = match *signature {
        TpmSignature::RsaSsa { hash, .. }
        | TpmSignature::RsaPss { hash, .. }
        | TpmSignature::Ecdsa { hash, .. } => hash,
        _ => return Err(ledger.fail(RULE, "a signature with a hash", "none")),
    };
    let algorithm = match hash {
        TpmHash::Sha256 => &digest::SHA256,
        TpmHash::Sha384 => &digest::SHA384,
        TpmHash::Sha512 => &digest::SHA512,
        other => return Err(ledger.fail(RULE, "sha256, sha384 or sha512", other.name())),
    };
    let mut context = digest::Context::new(algorithm);
    for pcr in pcrs {
        context.update(&pcr.digest);
    }
    let values = context.finish();
    let holds = values.as_ref() == quote.pcr_digest;
    ledger.require(RULE, holds, HexSlice(values.as_ref()), HexSlice(quote.pcr_digest))
}
