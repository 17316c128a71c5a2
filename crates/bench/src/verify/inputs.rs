//! The evidence that is verified: a real quote with Intel's collateral, and a report of the development PKI, because no
//! CRL of AMD is among the vectors. Ours and the peers get the same bytes and the same time.

use std::hint::black_box;

use casemate_peers::ours::{self, Trust};
use casemate_peers::vectors::{self, TdxSet, Unusable};
use casemate_protocol::cmw::Platform;
use casemate_testkit::{CollateralParts, DevPki, SnpBody, TdBody, Tee};
use casemate_verifier::{
    Binding, Collateral, Policy, Roots, SnpCollateral, UnixTime, VerifiedCollateral, appraise_platform,
    check_collateral,
};

/// A version 4 quote of real hardware, up to date.
const QUOTE: &str = "_extracted/dstack-quote-report.quote.bin";
const COLLATERAL: &str = "_assembled/S2-phala-90c06f-2026-02.json";
pub(crate) const NOW: u64 = 1_772_707_803;

/// One statement with what it is verified by.
pub(crate) struct Case {
    statement: Platform,
    binding: Binding,
    policy: Policy,
    collateral: Collateral,
    now: UnixTime,
    trust: Trust,
}

impl Case {
    /// A handle of the endorsements: every signature among them checked.
    pub(crate) fn handle(&self) -> VerifiedCollateral {
        ours::handle(&self.collateral, self.trust, self.now.0)
    }

    /// One appraisal.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub(crate) fn appraise(&self, handle: &mut VerifiedCollateral) -> Result<(), String> {
        appraise_platform(&self.statement, None, &self.binding, &self.policy, handle, self.now)
            .map(drop)
            .map_err(|refused| refused.first().to_string())
    }

    /// Names of all rules that do not hold.
    #[allow(dead_code, reason = "the measurement of memory has no use for it")]
    pub(crate) fn failed(&self) -> Vec<String> {
        let mut handle = self.handle();
        let refused =
            appraise_platform(&self.statement, None, &self.binding, &self.policy, &mut handle, self.now)
                .err();
        let rules = refused.into_iter().flat_map(|refused| refused.rules);
        rules.filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
    }

    /// The same evidence with another statement, whose report data is the same.
    #[allow(dead_code, reason = "for the measurement of memory alone")]
    pub(crate) fn with_quote(&self, quote: Vec<u8>) -> Self {
        Self {
            statement: Platform::Tdx { quote },
            binding: self.binding.clone(),
            policy: self.policy.clone(),
            collateral: self.collateral.clone(),
            now: self.now,
            trust: self.trust,
        }
    }
}

/// TDX.
pub(crate) struct Tdx {
    pub(crate) case: Case,
    pub(crate) quote: Vec<u8>,
    pub(crate) set: TdxSet,
    pub(crate) now: u64,
}

/// SEV-SNP.
#[allow(dead_code, reason = "the measurement of memory reads the case alone")]
pub(crate) struct Snp {
    pub(crate) case: Case,
    pub(crate) report: Vec<u8>,
    pub(crate) collateral: SnpCollateral,
    pub(crate) vek: Vec<u8>,
}

impl Tdx {
    pub(crate) fn load() -> Result<Self, Unusable> {
        let folder = vectors::folder().ok_or(
            "the evidence that is measured is not there: set CASEMATE_VECTORS to the folder of vectors",
        )?;
        let quote = vectors::read(&folder, QUOTE)?;
        let set = TdxSet::read(&folder, COLLATERAL)?;
        let report_data = *casemate_evidence::parse_tdx_quote(&quote)?.body.report_data;
        let case = Case {
            statement: Platform::Tdx { quote: quote.clone() },
            binding: Binding::ReportData(report_data),
            policy: Policy::parse(&ours::tdx_policy(&quote, Trust::Production)).map_err(Box::new)?,
            collateral: Collateral { tdx: Some(set.ours.clone()), snp: None },
            now: UnixTime(NOW),
            trust: Trust::Production,
        };
        Ok(Self { case, quote, set, now: NOW })
    }
}

impl Snp {
    pub(crate) fn make() -> Result<Self, Unusable> {
        let pki = DevPki::generate(Tee::Snp, NOW)?;
        let trust = Trust::Development(pki.root_spki_sha256());
        let CollateralParts::Snp(parts) = pki.collateral() else { return Err("no SNP collateral".into()) };
        let report = pki.snp_report(&SnpBody::new())?;
        let collateral =
            SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: Some(parts.vek.clone()) };
        let case = Case {
            statement: Platform::Snp { report: report.clone(), certificates: Vec::new() },
            binding: Binding::ReportData(SnpBody::new().report_data),
            policy: Policy::parse(&ours::snp_policy(&report, trust)).map_err(Box::new)?,
            collateral: Collateral { tdx: None, snp: Some(collateral.clone()) },
            now: UnixTime(NOW),
            trust,
        };
        Ok(Self { case, report, collateral, vek: parts.vek })
    }

    /// A real report of Milan under AMD's own certificates, which ends at rule `platform.crl`: there is no CRL of AMD among
    /// the vectors. Every other step is made, as the peer makes them, which reads no CRL.
    #[allow(dead_code, reason = "the measurement of memory has no use for it")]
    pub(crate) fn of_amd() -> Result<Self, Unusable> {
        let folder = vectors::folder().ok_or("the folder of vectors is not there")?;
        let amd = |name: &str| {
            vectors::read(&folder, &format!("attestation-rs/crates/attestation/certs/amd/milan/{name}.der"))
        };
        let report = vectors::read(&folder, "trustee/deps/verifier/test_data/snp/test-report.bin")?;
        let vek = vectors::read(&folder, "trustee/deps/verifier/test_data/snp/test-vcek.der")?;
        let collateral =
            SnpCollateral { ark: amd("ark")?, ask: amd("ask")?, crl: Vec::new(), vek: Some(vek.clone()) };
        let report_data = *casemate_evidence::parse_snp_report(&report)?.report_data;
        let case = Case {
            statement: Platform::Snp { report: report.clone(), certificates: Vec::new() },
            binding: Binding::ReportData(report_data),
            policy: Policy::parse(&ours::snp_policy(&report, Trust::Production)).map_err(Box::new)?,
            collateral: Collateral { tdx: None, snp: Some(collateral.clone()) },
            now: UnixTime(NOW),
            trust: Trust::Production,
        };
        Ok(Self { case, report, collateral, vek })
    }
}

/// The CRL of a development root, of whose signatures no other is checked: what the CRL that AMD's own chain lacks would
/// cost, and a little more, because ARK and ASK are read for it once again.
#[allow(dead_code, reason = "the measurement of memory has no use for it")]
pub(crate) struct CrlAlone(Collateral);

#[allow(dead_code, reason = "the measurement of memory has no use for it")]
impl CrlAlone {
    /// With an ARK whose issuer is not its subject: it is no root, which shows before a signature of its chain is checked,
    /// and after the CRL's was.
    pub(crate) fn of(snp: &Snp) -> Result<Self, Unusable> {
        let mut collateral = SnpCollateral { vek: None, ..snp.collateral.clone() };
        let name = b"ARK-";
        let issuer = collateral.ark.windows(name.len()).position(|bytes| bytes == name);
        let letter = issuer.and_then(|at| collateral.ark.get_mut(at)).ok_or("the ARK has another name")?;
        *letter = b'X';
        let collateral = Collateral { tdx: None, snp: Some(collateral) };
        let Trust::Development(root) = snp.case.trust else { return Err("not a development root".into()) };
        let roots = Roots::Development(vec![root]);
        let rules = check_collateral(&collateral, &roots, UnixTime(NOW));
        let found =
            rules.iter().find(|rule| rule.detail.rule == "platform.crl").map(|rule| &rule.detail.found);
        match found {
            Some(found) if found.starts_with("`ARK-") && found.contains("names an issuer other than") => {
                Ok(Self(collateral))
            }
            other => Err(format!("the CRL's signature is not what was checked: {other:?}").into()),
        }
    }

    /// Checks it.
    pub(crate) fn verify(&self) {
        let _handle = black_box(VerifiedCollateral::verify(&self.0));
    }
}

/// Quotes of a development PKI: their policy and collateral, with one of them.
#[allow(dead_code, reason = "for the measurement of memory alone")]
pub(crate) fn development(pki: &DevPki) -> Result<Case, Unusable> {
    let trust = Trust::Development(pki.root_spki_sha256());
    let CollateralParts::Tdx(parts) = pki.collateral() else { return Err("no TDX collateral".into()) };
    let quote = pki.tdx_quote(&TdBody::new())?;
    Ok(Case {
        policy: Policy::parse(&ours::tdx_policy(&quote, trust)).map_err(Box::new)?,
        statement: Platform::Tdx { quote },
        binding: Binding::ReportData(TdBody::new().report_data),
        collateral: Collateral { tdx: Some(vectors::both(&parts).ours), snp: None },
        now: UnixTime(NOW),
        trust,
    })
}
