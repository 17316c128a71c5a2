//! The claims that a verified quote gives, and what a policy expects of it.

use casemate_evidence::tpm::TpmClockSafe;

use super::quote::VerifiedQuote;
use crate::hex_text::HexSlice;
use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::VtpmExpectations;

/// Claims of a verified quote.
pub(crate) fn claim_all(ledger: &mut Ledger, verified: &VerifiedQuote<'_>, voucher: Voucher) {
    let quote = &verified.quote;
    let safe = match quote.clock.safe {
        TpmClockSafe::Yes => "true",
        TpmClockSafe::No => "false",
    };
    let mut claim = |name: &str, value: String| ledger.claim("platform", name, value, voucher);
    claim("vtpm.key", verified.key.digest().map_or_else(String::new, |digest| digest.to_string()));
    claim("vtpm.qualified-signer", HexSlice(quote.qualified_signer).to_string());
    claim("vtpm.clock-ms", quote.clock.clock_ms.to_string());
    claim("vtpm.reset-count", quote.clock.reset_count.to_string());
    claim("vtpm.restart-count", quote.clock.restart_count.to_string());
    claim("vtpm.clock-safe", safe.to_owned());
    claim("vtpm.firmware-version", format!("{:#018x}", quote.firmware_version));
    for pcr in verified.pcrs {
        claim(&format!("vtpm.pcr.{}.{}", pcr.bank.name(), pcr.index), HexSlice(&pcr.digest).to_string());
    }
}

/// That what was bound in is exactly what is expected, in full and no longer, and that each register that the policy names
/// was quoted with a value that it accepts.
pub(crate) fn require_expectations(
    ledger: &mut Ledger,
    verified: &VerifiedQuote<'_>,
    expected: &VtpmExpectations,
) -> Result<(), Failed> {
    const RULE: &str = "vtpm.pcr";
    let bank = expected.bank.hash();
    let mut all = if expected.pcrs.is_empty() {
        Err(ledger.fail(RULE, "a policy that names a register", "none"))
    } else {
        Ok(())
    };
    for (index, accepted) in &expected.pcrs {
        let found = verified.pcrs.iter().find(|pcr| pcr.bank == bank && pcr.index == *index);
        let values: Vec<String> = accepted.iter().map(|value| HexSlice(value).to_string()).collect();
        let wanted = format!("PCR {index} of {} is {}", bank.name(), values.join(" or "));
        let one = match found {
            Some(pcr) => ledger.require(RULE, accepted.contains(&pcr.digest), wanted, HexSlice(&pcr.digest)),
            None => Err(ledger.fail(RULE, wanted, "a register that was not quoted")),
        };
        all = all.and(one);
    }
    all
}
