//! A log beside a hardware statement: which registers the statement signs, and whether the policy asks for the log.

use casemate_evidence::{TpmHash, parse_tdx_quote};
use casemate_protocol::cmw::Platform;
use casemate_protocol::vtpm::Pcr;

use super::appraise::appraise;
use super::register::{Measured, RegisterKind, RegisterValue};
use super::table::{BootLogRow, boot_log_rows};
use crate::ledger::{Ledger, Voucher};
use crate::policy::BootLogExpectations;

/// Judges the log beside a statement that was verified; without expectations nothing is asked of it. Returns its table.
pub(crate) fn appraise_beside(
    ledger: &mut Ledger,
    statement: &Platform,
    log: Option<&[u8]>,
    expected: Option<&BootLogExpectations>,
    hardware: Voucher,
) -> Vec<BootLogRow> {
    with_registers(statement, |measured| match (expected, log) {
        (Some(expected), log) => appraise(ledger, log, measured, expected, hardware),
        (None, Some(log)) => {
            let found = "not judged: the policy has no [boot-log]";
            ledger.claim("platform", "boot-log", found, Voucher::HostClaimed);
            boot_log_rows(log, measured).unwrap_or_default()
        }
        (None, None) => Vec::new(),
    })
}

/// The registers that a statement signs. An SNP report signs none.
fn with_registers<'a, T>(statement: &'a Platform, then: impl FnOnce(Measured<'_>) -> T) -> T {
    let rtmrs = |values| Measured { kind: RegisterKind::Rtmr, values };
    match statement {
        Platform::Tdx { quote } => match parse_tdx_quote(quote) {
            Ok(quote) => {
                let numbered = (0..).zip(quote.body.rtmr);
                let values: Vec<RegisterValue<'_>> = numbered
                    .map(|(number, value)| RegisterValue { number, bank: TpmHash::Sha384, value })
                    .collect();
                then(rtmrs(&values))
            }
            Err(_) => then(rtmrs(&[])),
        },
        Platform::Snp { .. } => then(rtmrs(&[])),
        Platform::Vtpm(statement) => {
            let value =
                |pcr: &'a Pcr| RegisterValue { number: pcr.index, bank: pcr.bank, value: &pcr.digest };
            let values: Vec<RegisterValue<'_>> = statement.pcrs.iter().map(value).collect();
            then(Measured { kind: RegisterKind::Pcr, values: &values })
        }
    }
}
