//! A TPM's statement against the policy: who speaks for its key, then what it quotes.

use casemate_canon::Sha256;
use casemate_evidence::{CertificateKind, HclHardware, SigningKey, parse_snp_report, parse_tdx_quote};
use casemate_protocol::vtpm::{AkEvidence, Vtpm};

use super::azure::{AzureReport, read_report, require_tdreport};
use super::certificates::{require_google, require_owner_chain};
use super::expectations::{claim_all, require_expectations};
use super::key::{AttestationKey, require_owner_key};
use super::quote::{require_extra_data, verify};
use crate::ledger::{Failed, Ledger, Voucher};
use crate::platform::{Scope, Standing, claim_standing, require_tee, verify_snp, verify_tdx};
use crate::policy::{AZURE_SNP, AZURE_TDX, GOOGLE, OWNER, PolicyValues, VtpmExpectations};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use crate::x509::Certificate;

/// A key that something accepted speaks for.
struct Trusted {
    key: AttestationKey,
    standing: Standing,
    /// Who vouches for what the TPM says.
    voucher: Voucher,
}

/// Verifies a TPM's statement and compares it with the policy, and what was bound in with what must have been.
pub(crate) fn appraise(
    ledger: &mut Ledger,
    statement: &Vtpm,
    extra_data: &[u8],
    policy: &PolicyValues,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<Standing, Failed> {
    let expected = require_tee(ledger, policy, policy.vtpm.as_ref(), "vtpm")?;
    let trusted = match &statement.ak {
        AkEvidence::AzureSnp { hcl_report, vek } => {
            azure_snp(ledger, hcl_report, vek.as_deref(), expected, policy, collateral, now)?
        }
        AkEvidence::AzureTdx { hcl_report, td_quote } => {
            azure_tdx(ledger, hcl_report, td_quote, expected, policy, collateral, now)?
        }
        AkEvidence::Key(key) => {
            let named = require_kind(ledger, expected, expected.owner.as_ref(), OWNER)?;
            let key = require_owner_key(ledger, key, named)?;
            alone(ledger, key, policy, Voucher::Hardware)
        }
        AkEvidence::Certificates(chain) => certified(ledger, chain, expected, policy, now)?,
    };
    let verified = verify(ledger, statement, trusted.key)?;
    claim_all(ledger, &verified, trusted.voucher);
    // What does not match is in the ledger; the statement itself is verified all the same.
    let _recorded = require_extra_data(ledger, &verified, extra_data);
    let _recorded = require_expectations(ledger, &verified, expected);
    Ok(trusted.standing)
}

/// A certificate leads to whichever root the policy accepts: Google's, unless the owner names this one.
fn certified(
    ledger: &mut Ledger,
    chain: &[Vec<u8>],
    expected: &VtpmExpectations,
    policy: &PolicyValues,
    now: UnixTime,
) -> Result<Trusted, Failed> {
    match (&expected.owner, &expected.google) {
        (Some(owner), _) if leads_to(chain, &owner.roots) => {
            let key = require_owner_chain(ledger, chain, owner, now)?;
            Ok(alone(ledger, key, policy, Voucher::Hardware))
        }
        (_, Some(google)) => {
            let key = require_google(ledger, chain, google, &policy.roots, now)?;
            // Google's host runs this TPM, outside of whatever protects the guest from it.
            Ok(alone(ledger, key, policy, Voucher::HostClaimed))
        }
        (Some(owner), None) => {
            let key = require_owner_chain(ledger, chain, owner, now)?;
            Ok(alone(ledger, key, policy, Voucher::Hardware))
        }
        (None, None) => Err(ledger.fail("platform.tee", expected.kinds().join(" or "), GOOGLE)),
    }
}

/// Whether the last certificate has one of these keys. Which expectations to compare with, not whether they hold.
fn leads_to(chain: &[Vec<u8>], roots: &[Sha256]) -> bool {
    let root = chain.last().and_then(|der| Certificate::read_tpm(der).ok());
    root.is_some_and(|root| roots.contains(&root.key_digest()))
}

/// A key that no confidential hardware speaks for.
fn alone(ledger: &mut Ledger, key: AttestationKey, policy: &PolicyValues, voucher: Voucher) -> Trusted {
    let standing = match policy.roots {
        Roots::Production => Standing::Tpm(voucher),
        Roots::Development(_) => Standing::Simulated,
    };
    claim_standing(ledger, standing);
    Trusted { key, standing, voucher: standing.hardware() }
}

fn azure_snp(
    ledger: &mut Ledger,
    hcl_report: &[u8],
    vek: Option<&[u8]>,
    expected: &VtpmExpectations,
    policy: &PolicyValues,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<Trusted, Failed> {
    let expected = require_kind(ledger, expected, expected.azure_snp.as_ref(), AZURE_SNP)?;
    let report = read_report(ledger, hcl_report)?;
    let HclHardware::Snp(bytes) = report.hardware else {
        return Err(ledger.fail("azure.hcl-report", "the report of an SEV-SNP machine", "one of TDX"));
    };
    let snp = ledger.accept("snp.report", "an SNP attestation report", parse_snp_report(bytes))?;
    let table = vek.map(|vek| vek_table(snp.signing_key, vek)).unwrap_or_default();
    let collateral = collateral.snp.as_mut();
    let standing = verify_snp(ledger, snp, &table, expected, policy, collateral, now)?;
    bound(ledger, &report, snp.report_data, standing)
}

fn azure_tdx(
    ledger: &mut Ledger,
    hcl_report: &[u8],
    td_quote: &[u8],
    expected: &VtpmExpectations,
    policy: &PolicyValues,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<Trusted, Failed> {
    let expected = require_kind(ledger, expected, expected.azure_tdx.as_ref(), AZURE_TDX)?;
    let report = read_report(ledger, hcl_report)?;
    let HclHardware::Tdx(tdreport) = report.hardware else {
        return Err(ledger.fail("azure.hcl-report", "the report of a TDX machine", "one of SEV-SNP"));
    };
    let quote = ledger.accept("tdx.quote", "a TDX quote of version 4 or 5", parse_tdx_quote(td_quote))?;
    let collateral = collateral.tdx.as_mut();
    let standing = verify_tdx(ledger, quote, expected, policy, collateral, Scope::Platform, now)?;
    require_tdreport(ledger, &tdreport, &quote.body)?;
    bound(ledger, &report, quote.body.report_data, standing)
}

/// The key that the verified hardware's report data bind. The paravisor, which is measured, runs the TPM.
fn bound(
    ledger: &mut Ledger,
    report: &AzureReport<'_>,
    report_data: &[u8; 64],
    standing: Standing,
) -> Result<Trusted, Failed> {
    let key = report.require_bound(ledger, report_data)?;
    report.claim_all(ledger, standing.runtime());
    Ok(Trusted { key, standing, voucher: standing.runtime() })
}

fn require_kind<'a, T>(
    ledger: &mut Ledger,
    expected: &VtpmExpectations,
    table: Option<&'a T>,
    found: &str,
) -> Result<&'a T, Failed> {
    table.ok_or_else(|| ledger.fail("platform.tee", expected.kinds().join(" or "), found))
}

/// A certificate table of one entry (GHCB specification, section 4.1.8.1): where a report's key is looked for.
fn vek_table(signing_key: SigningKey, vek: &[u8]) -> Vec<u8> {
    /// One entry and the last one, of 24 bytes each.
    const OFFSET: u32 = 48;
    let kind = match signing_key {
        SigningKey::Vlek => CertificateKind::Vlek,
        SigningKey::Vcek | SigningKey::None => CertificateKind::Vcek,
    };
    let length = u32::try_from(vek.len()).unwrap_or(u32::MAX);
    let mut table = kind.guid().to_vec();
    table.extend(OFFSET.to_le_bytes());
    table.extend(length.to_le_bytes());
    table.extend([0; 24]);
    table.extend(vek);
    table
}

#[cfg(test)]
mod tests {
    use casemate_evidence::parse_certificate_table;

    use super::*;

    #[test]
    fn a_key_stands_alone_in_its_table() {
        for (signing_key, kind) in
            [(SigningKey::Vcek, CertificateKind::Vcek), (SigningKey::Vlek, CertificateKind::Vlek)]
        {
            let table = vek_table(signing_key, b"certificate");
            let entries = parse_certificate_table(&table).unwrap();
            assert_eq!((entries.len(), entries[0].kind), (1, kind));
            assert_eq!(entries[0].content, b"certificate");
        }
    }
}
