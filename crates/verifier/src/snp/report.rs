//! One report, verified: its chain, the signature over the bytes received, and the key's binding to chip and TCB.

use std::sync::Arc;

use casemate_evidence::{CertificateKind, SigningKey, SnpReport, parse_certificate_table};

use super::endorsed::{Endorsed, Vek};
use super::product::{SnpProduct, TcbVersion};
use super::vek::{VekExtensions, VekIdentity};
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::time::UnixTime;

/// A report that AMD's keys, up to an accepted root, vouch for.
pub(crate) struct VerifiedSnp<'a> {
    pub(crate) report: SnpReport<'a>,
    pub(crate) vek: Arc<Vek>,
    pub(crate) tcb: ReportTcb,
    pub(crate) chip: ChipBinding,
    /// When the CRL was issued.
    pub(crate) crl_issued: UnixTime,
}

/// The four security versions of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReportTcb {
    pub(crate) current: TcbVersion,
    pub(crate) reported: TcbVersion,
    pub(crate) committed: TcbVersion,
    pub(crate) launch: TcbVersion,
}

/// How a report is bound to one chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChipBinding {
    /// The VCEK's certificate names the chip that the report names.
    Equal,
    /// The VCEK's certificate names a chip, and the report names none: the host masked it.
    Masked,
    /// A VLEK is not bound to a chip; the report may name one.
    Cloud,
}

/// Verifies a parsed report. The key's certificate comes with the evidence, or else with the collateral.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    report: SnpReport<'a>,
    certificates: &[u8],
    endorsed: &mut Endorsed,
    roots: &Roots,
    now: UnixTime,
) -> Result<VerifiedSnp<'a>, Failed> {
    let vek = find_vek(ledger, &report, certificates, endorsed)?;
    let vek = endorsed.require_chain(ledger, &vek, report.signing_key, roots, now)?;
    // The chain is verified: what the report says may be compared whether or not the CRL holds.
    let current = endorsed.require_crl(ledger, now);
    require_signature(ledger, &report, &vek)?;
    require_processor(ledger, &report, vek.extensions.product)?;
    let tcb = require_tcb(ledger, &report, &vek.extensions)?;
    let chip = require_chip(ledger, &report, &vek.extensions)?;
    Ok(VerifiedSnp { report, vek, tcb, chip, crl_issued: current? })
}

fn find_vek(
    ledger: &mut Ledger,
    report: &SnpReport<'_>,
    certificates: &[u8],
    endorsed: &Endorsed,
) -> Result<Vec<u8>, Failed> {
    const RULE: &str = "platform.chain";
    let table = parse_certificate_table(certificates);
    let table = ledger.accept(RULE, "a certificate table (GHCB specification, section 4.1.8.1)", table)?;
    let kind = match report.signing_key {
        SigningKey::Vcek => CertificateKind::Vcek,
        SigningKey::Vlek => CertificateKind::Vlek,
        SigningKey::None => {
            return Err(ledger.fail(RULE, "a report signed by a VCEK or VLEK", "an unsigned report"));
        }
    };
    let from_evidence = table.into_iter().find(|entry| entry.kind == kind).map(|entry| entry.content);
    from_evidence
        .or_else(|| endorsed.own_vek())
        .map(<[u8]>::to_vec)
        .ok_or_else(|| ledger.fail(RULE, "the certificate of the report's signing key", "none"))
}

/// The signature covers the 672 bytes as they were received, reserved ones too.
fn require_signature(ledger: &mut Ledger, report: &SnpReport<'_>, vek: &Vek) -> Result<(), Failed> {
    let signed = vek.signed(report.signed, &report.signature);
    let found = if signed { "a signature by that key" } else { "another signature" };
    ledger.require("platform.signature", signed, format_args!("a report signed by the {}", vek.name()), found)
}

/// From version 3 on a report says which processor it comes from; before, the chain alone says it.
fn require_processor(ledger: &mut Ledger, report: &SnpReport<'_>, product: SnpProduct) -> Result<(), Failed> {
    let Some(cpuid) = report.cpuid else { return Ok(()) };
    let found = format_args!("processor family {:#04x} model {:#04x}", cpuid.family, cpuid.model);
    ledger.require("snp.processor", SnpProduct::from_cpuid(cpuid) == Some(product), product, found)
}

fn require_tcb(
    ledger: &mut Ledger,
    report: &SnpReport<'_>,
    vek: &VekExtensions,
) -> Result<ReportTcb, Failed> {
    let mut read = |name: &str, bytes: &[u8; 8]| {
        TcbVersion::read(*bytes, vek.product).ok_or_else(|| {
            let expected = format!("a {name} TCB of {} with reserved bytes zero", vek.product);
            ledger.fail("snp.vek-tcb", expected, Hex(*bytes))
        })
    };
    let tcb = ReportTcb {
        current: read("current", report.current_tcb)?,
        reported: read("reported", report.reported_tcb)?,
        committed: read("committed", report.committed_tcb)?,
        launch: read("launch", report.launch_tcb)?,
    };
    ledger.equal("snp.vek-tcb", &vek.tcb, &tcb.reported)?;
    Ok(tcb)
}

/// A VCEK belongs to one chip: the report names the same one, or none, which is for the policy to judge.
fn require_chip(
    ledger: &mut Ledger,
    report: &SnpReport<'_>,
    vek: &VekExtensions,
) -> Result<ChipBinding, Failed> {
    match &vek.identity {
        VekIdentity::Chip(_) if *report.chip_id == [0; 64] => Ok(ChipBinding::Masked),
        VekIdentity::Chip(chip) => {
            ledger.equal("snp.chip-id", &Hex(*chip), &Hex(*report.chip_id)).map(|()| ChipBinding::Equal)
        }
        VekIdentity::Cloud(_) => Ok(ChipBinding::Cloud),
    }
}
