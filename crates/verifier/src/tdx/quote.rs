//! One quote, verified: its chain, its collateral, the quoting enclave, the signature and the TCB.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use casemate_canon::Sha256;
use casemate_evidence::{QeReport, TdxQuote};

use super::chains::{ChainBytes, PckChain, TcbSigner, verify_crls, verify_pck_chain};
use super::collateral::{VerifiedQeIdentity, VerifiedTcbInfo, verify_qe_identity, verify_tcb_info};
use super::pck::SgxExtension;
use super::tcb::{TcbVerdict, converge, module_id, module_version, platform_verdict, qe_verdict, relaunch};
use super::tcb_info::TcbInfo;
use crate::collateral::TdxCollateral;
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::x509::PublicKey;

/// SGX attribute DEBUG (Intel SDM volume 3D, table 36-3), in the first attribute byte.
const SGX_ATTRIBUTE_DEBUG: u8 = 0x02;

/// A quote that Intel's keys, up to an accepted root, vouch for. Its TCB status is a fact, not yet a judgement.
pub(crate) struct VerifiedTdx<'a> {
    pub(crate) quote: TdxQuote<'a>,
    pub(crate) tcb: TcbVerdict,
    pub(crate) sgx: SgxExtension,
    pub(crate) tcb_evaluation_data_number: u32,
    pub(crate) qe_svn: u16,
    /// Issue dates of the endorsements that Intel renews every month.
    pub(crate) endorsements_issued: [(&'static str, UnixTime); 3],
}

/// Verifies a parsed quote.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    quote: TdxQuote<'a>,
    collateral: &TdxCollateral,
    roots: &Roots,
    now: UnixTime,
) -> Result<VerifiedTdx<'a>, Failed> {
    let chains = ChainBytes::read(quote.pck_chain, collateral)
        .map_err(|(chain, error)| ledger.fail("platform.chain", format_args!("a {chain} in PEM"), error))?;
    let pck = verify_pck_chain(ledger, &chains.pck, roots, now)?;
    let crl_issued = verify_crls(ledger, &pck, &chains, collateral, now)?;
    let (tcb_info, qe_identity) = verify_documents(ledger, &chains, &pck, collateral, now)?;
    let sgx = require_family(ledger, &pck, &tcb_info.info)?;
    require_qe(ledger, &quote, &pck, &qe_identity)?;
    require_signature(ledger, &quote)?;
    require_module(ledger, &quote, &tcb_info.info)?;
    let tcb = evaluate(ledger, &quote, &sgx, &tcb_info, &qe_identity)?;
    Ok(VerifiedTdx {
        tcb,
        sgx,
        tcb_evaluation_data_number: tcb_info
            .info
            .tcb_evaluation_data_number
            .min(qe_identity.identity.tcb_evaluation_data_number),
        qe_svn: quote.qe_report.isv_svn,
        endorsements_issued: [
            ("TCB information", tcb_info.window.from),
            ("QE identity", qe_identity.window.from),
            ("PCK CRL", crl_issued),
        ],
        quote,
    })
}

/// Verifies TCB information and QE identity. Intel signs both with one key: its chain is verified once.
fn verify_documents(
    ledger: &mut Ledger,
    chains: &ChainBytes,
    pck: &PckChain<'_>,
    collateral: &TdxCollateral,
    now: UnixTime,
) -> Result<(VerifiedTcbInfo, VerifiedQeIdentity), Failed> {
    const EXPECTED: &str = "the chain of Intel SGX TCB Signing";
    let signer = TcbSigner::verify(&chains.tcb_info, pck, now);
    let signer = ledger.accept("tdx.tcb-info", EXPECTED, signer)?;
    let tcb_info = verify_tcb_info(ledger, &collateral.tcb_info, &signer, now)?;
    let signer = if chains.qe_identity == chains.tcb_info {
        signer
    } else {
        let signer = TcbSigner::verify(&chains.qe_identity, pck, now);
        ledger.accept("tdx.qe-identity", EXPECTED, signer)?
    };
    let qe_identity = verify_qe_identity(ledger, &collateral.qe_identity, &signer, now)?;
    Ok((tcb_info, qe_identity))
}

/// That the TCB information is about this platform's family.
fn require_family(ledger: &mut Ledger, pck: &PckChain<'_>, info: &TcbInfo) -> Result<SgxExtension, Failed> {
    const EXPECTED: &str = "an SGX extension in the PCK certificate";
    let sgx = ledger.accept("tdx.fmspc", EXPECTED, SgxExtension::read(&pck.leaf))?;
    ledger.require(
        "tdx.fmspc",
        info.fmspc.0 == sgx.fmspc && info.pce_id.0 == sgx.pceid,
        format_args!(
            "FMSPC {} and PCEID {} of the PCK certificate",
            hex::encode(sgx.fmspc),
            hex::encode(sgx.pceid)
        ),
        format_args!("TCB information for FMSPC {} and PCEID {}", info.fmspc, info.pce_id),
    )?;
    Ok(sgx)
}

/// That Intel's quoting enclave, on this platform, vouches for the attestation key.
fn require_qe(
    ledger: &mut Ledger,
    quote: &TdxQuote<'_>,
    pck: &PckChain<'_>,
    identity: &VerifiedQeIdentity,
) -> Result<(), Failed> {
    let report = &quote.qe_report;
    let signed = match pck.leaf.key {
        PublicKey::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(report.signed, quote.qe_report_signature)
            .is_ok(),
        _ => false,
    };
    let found = if signed { "a signature by the PCK key" } else { "another signature" };
    ledger.require("tdx.qe-report", signed, "a QE report signed by the PCK key", found)?;
    let bound = Sha256::of_parts(&[quote.attestation_key, quote.qe_auth_data]);
    let mut expected = [0; 64];
    for (to, from) in expected.iter_mut().zip(bound.0) {
        *to = from;
    }
    ledger.equal("tdx.qe-report-data", &Hex(expected), &Hex(*report.report_data))?;
    require_qe_identity(ledger, report, identity)
}

fn require_qe_identity(
    ledger: &mut Ledger,
    report: &QeReport<'_>,
    identity: &VerifiedQeIdentity,
) -> Result<(), Failed> {
    const RULE: &str = "tdx.qe-identity";
    let expected = &identity.identity;
    let misc = Hex(masked(&report.misc_select.to_le_bytes(), &expected.miscselect_mask.0));
    ledger.equal(RULE, &expected.miscselect, &misc)?;
    let attributes = Hex(masked(report.attributes, &expected.attributes_mask.0));
    ledger.equal(RULE, &expected.attributes, &attributes)?;
    let [flags, ..] = *report.attributes;
    ledger.require(
        RULE,
        flags & SGX_ATTRIBUTE_DEBUG == 0,
        "a QE without debug",
        format_args!("flags {flags:#04x}"),
    )?;
    ledger.equal(RULE, &expected.mrsigner, &Hex(*report.mr_signer))?;
    ledger.equal(RULE, &expected.isvprodid, &report.isv_prod_id)
}

fn require_signature(ledger: &mut Ledger, quote: &TdxQuote<'_>) -> Result<(), Failed> {
    let mut point = [4; 65];
    for (to, from) in point.iter_mut().skip(1).zip(quote.attestation_key) {
        *to = *from;
    }
    let signed =
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(quote.signed, quote.signature).is_ok();
    let found = if signed { "a signature by the attestation key" } else { "another signature" };
    ledger.require("platform.signature", signed, "a quote signed by its attestation key", found)
}

/// That the TDX module is one that Intel's TCB information describes.
fn require_module(ledger: &mut Ledger, quote: &TdxQuote<'_>, info: &TcbInfo) -> Result<(), Failed> {
    const RULE: &str = "tdx.module";
    let version = module_version(quote.body.tee_tcb_svn);
    let (signer, attributes, mask) = if version == 0 {
        let module = &info.tdx_module;
        (module.mrsigner, module.attributes, module.attributes_mask)
    } else {
        let id = module_id(version);
        let Some(module) = info.tdx_module_identities.iter().find(|module| module.id == id) else {
            return Err(ledger.fail(RULE, "a module that the TCB information describes", id));
        };
        (module.mrsigner, module.attributes, module.attributes_mask)
    };
    ledger.equal(RULE, &signer, &Hex(*quote.body.mr_signer_seam))?;
    ledger.equal(RULE, &attributes, &Hex(masked(quote.body.seam_attributes, &mask.0)))?;
    ledger.equal(RULE, &Hex([0; 8]), &Hex(*quote.body.seam_attributes))
}

fn evaluate(
    ledger: &mut Ledger,
    quote: &TdxQuote<'_>,
    sgx: &SgxExtension,
    tcb_info: &VerifiedTcbInfo,
    qe_identity: &VerifiedQeIdentity,
) -> Result<TcbVerdict, Failed> {
    let evaluated = || {
        let mut platform = platform_verdict(&tcb_info.info, &sgx.tcb, quote.body.tee_tcb_svn)?;
        if let Some(later) = &quote.body.version_15 {
            let now = platform_verdict(&tcb_info.info, &sgx.tcb, later.tee_tcb_svn2)?;
            platform = relaunch(platform, &now);
        }
        let qe = qe_verdict(&qe_identity.identity.tcb_levels, quote.qe_report.isv_svn)?;
        Ok::<_, super::tcb::TcbError>(converge(platform, qe))
    };
    ledger.accept("tdx.tcb-status", "a platform that Intel's TCB levels know", evaluated())
}

fn masked<const N: usize>(bytes: &[u8; N], mask: &[u8; N]) -> [u8; N] {
    let mut masked = *bytes;
    for (byte, mask) in masked.iter_mut().zip(mask) {
        *byte &= mask;
    }
    masked
}
