//! One report, verified: its chain, the signature over the bytes received, and the key's binding to chip and TCB.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use casemate_evidence::{CertificateKind, SigningKey, SnpReport, parse_certificate_table};

use super::chain::{self, VekChain};
use super::vek::{SnpProduct, TcbVersion, VekExtensions, VekIdentity};
use crate::collateral::SnpCollateral;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::x509::PublicKey;

/// A report that AMD's keys, up to an accepted root, vouch for.
pub(crate) struct VerifiedSnp<'a> {
    pub(crate) report: SnpReport<'a>,
    pub(crate) vek: VekExtensions,
    pub(crate) tcb: ReportTcb,
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

/// Verifies a parsed report. The key's certificate comes with the evidence, or else with the collateral.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    report: SnpReport<'a>,
    certificates: &[u8],
    collateral: &SnpCollateral,
    roots: &Roots,
    now: UnixTime,
) -> Result<VerifiedSnp<'a>, Failed> {
    let vek = find_vek(ledger, &report, certificates, collateral)?;
    let chain = chain::verify(ledger, vek, report.signing_key, collateral, roots, now)?;
    // The chain is verified: what the report says may be compared whether or not the CRL holds.
    let current = chain::verify_crl(ledger, collateral, now);
    require_signature(ledger, &report, &chain)?;
    let product = chain.extensions.product;
    require_processor(ledger, &report, product)?;
    let tcb = require_tcb(ledger, &report, &chain.extensions)?;
    require_chip(ledger, &report, &chain.extensions)?;
    Ok(VerifiedSnp { report, vek: chain.extensions, tcb, crl_issued: current? })
}

fn find_vek<'a>(
    ledger: &mut Ledger,
    report: &SnpReport<'_>,
    certificates: &'a [u8],
    collateral: &'a SnpCollateral,
) -> Result<&'a [u8], Failed> {
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
        .or(collateral.vek.as_deref())
        .ok_or_else(|| ledger.fail(RULE, "the certificate of the report's signing key", "none"))
}

fn require_signature(
    ledger: &mut Ledger,
    report: &SnpReport<'_>,
    chain: &VekChain<'_>,
) -> Result<(), Failed> {
    let signed = match chain.vek.key {
        PublicKey::P384(point) => UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
            .verify(report.signed, &report.signature)
            .is_ok(),
        _ => false,
    };
    let found = if signed { "a signature by that key" } else { "another signature" };
    let expected = format!("a report signed by the {}", chain.vek.common_name);
    ledger.require("platform.signature", signed, expected, found)
}

/// From version 3 on a report says which processor it comes from; before, the chain alone says it.
fn require_processor(ledger: &mut Ledger, report: &SnpReport<'_>, product: SnpProduct) -> Result<(), Failed> {
    let Some(cpuid) = report.cpuid else { return Ok(()) };
    let found = format!("processor family {:#04x} model {:#04x}", cpuid.family, cpuid.model);
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

fn require_chip(ledger: &mut Ledger, report: &SnpReport<'_>, vek: &VekExtensions) -> Result<(), Failed> {
    const RULE: &str = "snp.chip-id";
    let found = Hex(*report.chip_id);
    match (&vek.identity, report.signing_key) {
        (VekIdentity::Chip(chip), SigningKey::Vcek) => ledger.equal(RULE, &Hex(*chip), &found),
        (VekIdentity::Cloud(_), SigningKey::Vlek) => {
            ledger.require(RULE, true, "any chip of the cloud that the VLEK was lent to", found)
        }
        _ => Err(ledger.fail(RULE, "a HWID in a VCEK or a CSP_ID in a VLEK", "the other one")),
    }
}
