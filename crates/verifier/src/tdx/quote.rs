//! One quote, verified: its chain, the endorsements, the quoting enclave, the signature and the TCB.

use casemate_evidence::{QeReport, TdxQuote};

use super::endorsed::{Crls, Document, DocumentError, Endorsed};
use super::pck::SgxExtension;
use super::pck_chain::{self, PckFacts};
use super::tcb::{
    TcbVerdict, converge, module_id, module_verdict, module_version, platform_verdict, qe_verdict, relaunch,
    worse,
};
use super::tcb_info::{QeIdentity, TcbInfo, TcbStatus};
use super::{attestation_key, chains::PCK_LEAF};
use crate::hex_text::Hex;
use crate::ledger::{Failed, Ledger};
use crate::roots::Roots;
use crate::time::UnixTime;
use crate::x509::X509Error;

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
    /// Issue date of the root's CRL.
    pub(crate) root_crl_issued: UnixTime,
}

/// Verifies a parsed quote. What was verified of its platform before is not verified again; dates are.
pub(crate) fn verify<'a>(
    ledger: &mut Ledger,
    quote: TdxQuote<'a>,
    endorsed: &mut Endorsed,
    roots: &Roots,
    now: UnixTime,
) -> Result<VerifiedTdx<'a>, Failed> {
    let Endorsed { crls, tcb_info, qe_identity, platforms, attestation_keys } = endorsed;
    let pck = pck_chain::require(ledger, quote.pck_chain, platforms, crls.as_ref().ok(), roots, now)?;
    let crls = require_crls(ledger, pck, crls, now)?;
    let tcb_info = require_document(ledger, &TCB_INFO, tcb_info, pck, crls, now)?;
    let qe_identity = require_document(ledger, &QE_IDENTITY, qe_identity, pck, crls, now)?;
    let sgx = require_family(ledger, pck, &tcb_info.content)?;
    let key = attestation_key::require(ledger, &quote, pck, attestation_keys)?;
    require_qe_identity(ledger, &quote.qe_report, &qe_identity.content)?;
    key.require_signed(ledger, &quote)?;
    require_module(ledger, &quote, &tcb_info.content)?;
    let tcb = evaluate(ledger, &quote, &sgx, &tcb_info.content, &qe_identity.content)?;
    Ok(VerifiedTdx {
        tcb,
        sgx,
        tcb_evaluation_data_number: tcb_info
            .content
            .tcb_evaluation_data_number
            .min(qe_identity.content.tcb_evaluation_data_number),
        qe_svn: quote.qe_report.isv_svn,
        endorsements_issued: [
            ("TCB information", tcb_info.window.from),
            ("QE identity", qe_identity.window.from),
            ("PCK CRL", crls.by_pck_ca.window.from),
        ],
        root_crl_issued: crls.by_root.window.from,
        quote,
    })
}

/// That both CRLs hold and name neither the leaf nor its issuer.
fn require_crls<'c>(
    ledger: &mut Ledger,
    pck: &PckFacts,
    crls: &'c Result<Crls, X509Error>,
    now: UnixTime,
) -> Result<&'c Crls, Failed> {
    const RULE: &str = "platform.crl";
    const EXPECTED: &str =
        "CRLs of the root and of the PCK CA that are current and name no certificate in use";
    let crls = ledger.accept(RULE, EXPECTED, crls.as_ref())?;
    let holds = || -> Result<(), X509Error> {
        if pck.root_key != crls.root.key_digest {
            return Err(other_root(&crls.root.common_name));
        }
        // By the very key that issued the leaf, whatever chain came with the CRL.
        if pck.issuer_key != crls.pck_ca.key || pck.issuer_subject != crls.pck_ca.subject {
            let subject = format!("CRL of {}", crls.pck_ca.common_name);
            return Err(X509Error::Issuer { subject, issuer: format!("issuer of the {PCK_LEAF}") });
        }
        crls.require_current(now)?;
        crls.by_root.require_unnamed(&pck.issuer_serial)?;
        crls.by_pck_ca.require_unnamed(&pck.leaf_serial)
    };
    ledger.accept(RULE, EXPECTED, holds())?;
    ledger.require(RULE, true, EXPECTED, &crls.found)?;
    Ok(crls)
}

/// How the rule about a document reads.
pub(super) struct DocumentRule {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
}

pub(super) const TCB_INFO: DocumentRule = DocumentRule {
    name: "tdx.tcb-info",
    expected: "TCB information of version 3 for TDX, signed by Intel SGX TCB Signing and current",
};
pub(super) const QE_IDENTITY: DocumentRule = DocumentRule {
    name: "tdx.qe-identity",
    expected: "a TD_QE identity of version 2 or 3, signed by Intel SGX TCB Signing and current",
};

/// That the document holds now, under the quote's root, by a signer that is not revoked.
fn require_document<'c, T>(
    ledger: &mut Ledger,
    rule: &DocumentRule,
    document: &'c Result<Document<T>, DocumentError>,
    pck: &PckFacts,
    crls: &Crls,
    now: UnixTime,
) -> Result<&'c Document<T>, Failed> {
    let document = ledger.accept(rule.name, rule.expected, document.as_ref())?;
    let holds = || -> Result<(), DocumentError> {
        if document.root.key_digest != pck.root_key {
            return Err(other_root(&document.root.common_name).into());
        }
        crls.by_root.require_unnamed(&document.signer)?;
        document.require_current(now)
    };
    ledger.accept(rule.name, rule.expected, holds())?;
    ledger.require(rule.name, true, rule.expected, &document.found)?;
    Ok(document)
}

fn other_root(subject: &str) -> X509Error {
    X509Error::Issuer { subject: subject.to_owned(), issuer: "the root of the quote's chain".to_owned() }
}

/// That the TCB information is about this platform's family.
fn require_family(ledger: &mut Ledger, pck: &PckFacts, info: &TcbInfo) -> Result<SgxExtension, Failed> {
    const EXPECTED: &str = "an SGX extension in the PCK certificate";
    let sgx = ledger.accept("tdx.fmspc", EXPECTED, pck.sgx.as_ref())?;
    ledger.require(
        "tdx.fmspc",
        info.fmspc.0 == sgx.fmspc && info.pce_id.0 == sgx.pceid,
        format_args!("FMSPC {} and PCEID {} of the PCK certificate", Hex(sgx.fmspc), Hex(sgx.pceid)),
        format_args!("TCB information for FMSPC {} and PCEID {}", info.fmspc, info.pce_id),
    )?;
    Ok(sgx.clone())
}

fn require_qe_identity(
    ledger: &mut Ledger,
    report: &QeReport<'_>,
    expected: &QeIdentity,
) -> Result<(), Failed> {
    const RULE: &str = "tdx.qe-identity";
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
    info: &TcbInfo,
    identity: &QeIdentity,
) -> Result<TcbVerdict, Failed> {
    let evaluated = || {
        let qe = qe_verdict(&identity.tcb_levels, quote.qe_report.isv_svn)?;
        let of = |svn| platform_verdict(info, &sgx.tcb, svn).map(|platform| converge(platform, qe.clone()));
        let launched = of(quote.body.tee_tcb_svn)?;
        match &quote.body.version_15 {
            None => Ok::<_, super::tcb::TcbError>(launched),
            Some(later) => {
                let now = of(later.tee_tcb_svn2)?;
                let module = module_verdict(info, quote.body.tee_tcb_svn)?;
                let mendable = module.is_some_and(|module| module.status == TcbStatus::OutOfDate);
                Ok(if mendable { relaunch(launched, now) } else { worse(launched, now) })
            }
        }
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
