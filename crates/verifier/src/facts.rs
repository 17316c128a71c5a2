//! What pieces of evidence and of collateral say of themselves, for asking the right service and for people. Nothing
//! here is verified.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::collateral::Collateral;
use crate::crl::Crl;
use crate::hex_text::Hex;
use crate::snp::{SnpProduct, TcbVersion, VekExtensions};
use crate::tdx::SgxExtension;
use crate::x509::{Certificate, common_name, read_pem_chain};

/// A piece cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read: {reason}")]
pub struct FactsError {
    /// Why.
    pub reason: String,
}

/// Which of Intel's CAs issued a PCK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PckCa {
    /// `Intel SGX PCK Platform CA`: platforms of several packages.
    Platform,
    /// `Intel SGX PCK Processor CA`: platforms of one package.
    Processor,
}

impl PckCa {
    /// As Intel's API spells it in the parameter `ca`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }

    /// The CA of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Platform, Self::Processor].into_iter().find(|ca| ca.name() == name)
    }

    fn from_common_name(name: &str) -> Option<Self> {
        match name {
            "Intel SGX PCK Platform CA" => Some(Self::Platform),
            "Intel SGX PCK Processor CA" => Some(Self::Processor),
            _ => None,
        }
    }
}

/// What a PCK certificate says of its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PckFacts {
    /// Family, model, stepping, platform and custom SKU: which TCB information belongs to it.
    pub fmspc: [u8; 6],
    /// Who issued it: which CRL belongs to it.
    pub ca: PckCa,
}

/// What the chain (PEM) says whose first certificate is a PCK certificate.
///
/// # Errors
/// [`FactsError`].
pub fn pck_facts(chain: &[u8]) -> Result<PckFacts, FactsError> {
    let chain = read_pem_chain(chain).map_err(error)?;
    let leaf = chain.first().map(Vec::as_slice).unwrap_or_default();
    let leaf = Certificate::read(leaf).map_err(error)?;
    let ca = PckCa::from_common_name(&common_name(leaf.issuer));
    Ok(PckFacts {
        fmspc: SgxExtension::read(&leaf).map_err(error)?.fmspc,
        ca: ca.ok_or_else(|| error("issued by neither of Intel's two PCK CAs"))?,
    })
}

/// The product that a VCEK or VLEK certificate (DER) names.
///
/// # Errors
/// [`FactsError`].
pub fn vek_product(vek: &[u8]) -> Result<SnpProduct, FactsError> {
    let certificate = Certificate::read(vek).map_err(error)?;
    VekExtensions::read(&certificate).map(|extensions| extensions.product).map_err(error)
}

/// The product with a processor of this family and model, as CPUID gives them.
#[must_use]
pub const fn product_of_processor(cpuid: casemate_evidence::snp::Cpuid) -> Option<SnpProduct> {
    SnpProduct::from_cpuid(cpuid)
}

/// Security versions of a report, taken apart by product: those for which AMD's service derives a VCEK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpSecurityVersions {
    /// Firmware of the microcontroller; Turin only, zero elsewhere.
    pub fmc: u8,
    /// Boot loader.
    pub bootloader: u8,
    /// Operating system of the security processor.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// Takes a TCB_VERSION apart; none where bytes that this product reserves are set.
#[must_use]
pub fn security_versions(bytes: [u8; 8], product: SnpProduct) -> Option<SnpSecurityVersions> {
    TcbVersion::read(bytes, product).map(|tcb| SnpSecurityVersions {
        fmc: tcb.fmc,
        bootloader: tcb.bootloader,
        tee: tcb.tee,
        snp: tcb.snp,
        microcode: tcb.microcode,
    })
}

/// One thing that a part of collateral says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralFact {
    /// Where it stands in a bundle, as in [`crate::CollateralPart`].
    pub part: &'static str,
    /// What it is, e.g. `tcb-evaluation-data-number`.
    pub name: &'static str,
    /// Its value. It may quote whoever wrote the part.
    pub value: String,
}

/// What every part that can be read says of itself; of one that cannot, nothing.
#[must_use]
pub fn collateral_facts(collateral: &Collateral) -> Vec<CollateralFact> {
    let mut facts = Facts(Vec::new());
    if let Some(tdx) = &collateral.tdx {
        facts.crl("tdx.root_ca_crl", &tdx.root_ca_crl);
        facts.crl("tdx.pck_crl", &tdx.pck_crl);
        facts.chain("tdx.pck_crl_chain", &tdx.pck_crl_chain);
        facts.document("tdx.tcb_info", &tdx.tcb_info);
        facts.chain("tdx.tcb_info_chain", &tdx.tcb_info_chain);
        facts.document("tdx.qe_identity", &tdx.qe_identity);
        facts.chain("tdx.qe_identity_chain", &tdx.qe_identity_chain);
    }
    if let Some(snp) = &collateral.snp {
        facts.certificate("snp.ark", &snp.ark);
        facts.certificate("snp.ask", &snp.ask);
        facts.crl("snp.crl", &snp.crl);
        if let Some(vek) = &snp.vek {
            facts.certificate("snp.vek", vek);
            if let Ok(product) = vek_product(vek) {
                facts.add("snp.vek", "product", product);
            }
        }
    }
    facts.0
}

struct Facts(Vec<CollateralFact>);

impl Facts {
    fn add(&mut self, part: &'static str, name: &'static str, value: impl ToString) {
        self.0.push(CollateralFact { part, name, value: value.to_string() });
    }

    fn crl(&mut self, part: &'static str, der: &[u8]) {
        let Ok(crl) = Crl::read(der) else { return };
        let issuer = crl.issuer_common_name();
        if let Some(ca) = PckCa::from_common_name(&issuer) {
            self.add(part, "ca", ca.name());
        }
        self.add(part, "issuer", issuer);
        if let Some(number) = crl.number() {
            self.add(part, "crl-number", number);
        }
        self.add(part, "revoked", crl.revoked_count());
    }

    fn chain(&mut self, part: &'static str, pem: &[u8]) {
        let Ok(chain) = read_pem_chain(pem) else { return };
        let names: Option<Vec<String>> =
            chain.iter().map(|der| Certificate::read(der).ok().map(|read| read.common_name)).collect();
        if let Some(names) = names {
            self.add(part, "chain", names.join(" <- "));
        }
    }

    fn certificate(&mut self, part: &'static str, der: &[u8]) {
        let Ok(certificate) = Certificate::read(der) else { return };
        self.add(part, "subject", certificate.common_name);
    }

    fn document(&mut self, part: &'static str, json: &[u8]) {
        let Ok(document) = serde_json::from_slice::<Document<'_>>(json) else { return };
        let Ok(described) = serde_json::from_str::<Described>(document.body.get()) else { return };
        self.add(part, "id", described.id);
        if let Some(fmspc) = described.fmspc {
            self.add(part, "fmspc", fmspc);
        }
        self.add(part, "tcb-evaluation-data-number", described.tcb_evaluation_data_number);
    }
}

/// `{"tcbInfo":{..},..}` or `{"enclaveIdentity":{..},..}`.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, alias = "tcbInfo", alias = "enclaveIdentity")]
    body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    id: String,
    fmspc: Option<Hex<6>>,
    tcb_evaluation_data_number: u32,
}

fn error(reason: impl std::fmt::Display) -> FactsError {
    FactsError { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collateral::{SnpCollateral, TdxCollateral};
    use casemate_testkit::{CollateralParts, DevPki, FMSPC, Tee};

    const NOW: u64 = 1_780_272_000;

    fn facts_of(collateral: &Collateral) -> Vec<(String, String)> {
        let facts = collateral_facts(collateral);
        facts.into_iter().map(|fact| (format!("{} {}", fact.part, fact.name), fact.value)).collect()
    }

    fn tdx() -> (DevPki, TdxCollateral) {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let CollateralParts::Tdx(parts) = pki.collateral() else { panic!() };
        let collateral = TdxCollateral {
            root_ca_crl: parts.root_ca_crl,
            pck_crl: parts.pck_crl,
            pck_crl_chain: parts.pck_crl_chain,
            tcb_info: parts.tcb_info,
            tcb_info_chain: parts.tcb_info_chain,
            qe_identity: parts.qe_identity,
            qe_identity_chain: parts.qe_identity_chain,
        };
        (pki, collateral)
    }

    #[test]
    fn says_which_tcb_information_and_crl_belong_to_a_pck_certificate() {
        let (pki, _) = tdx();
        let facts = pck_facts(pki.tdx().unwrap().pck_chain_pem().as_bytes()).unwrap();
        assert_eq!(facts, PckFacts { fmspc: FMSPC, ca: PckCa::Platform });
        assert_eq!(pck_facts(b"").unwrap_err().reason, "not PEM certificates: no certificate");
        assert_eq!(PckCa::from_name("processor"), Some(PckCa::Processor));
        assert_eq!(PckCa::from_name("Processor"), None);
    }

    #[test]
    fn every_part_of_tdx_collateral_says_what_it_is() {
        let (_, collateral) = tdx();
        let facts = facts_of(&Collateral { tdx: Some(collateral), snp: None });
        let value =
            |name: &str| facts.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("tdx.tcb_info fmspc"), Some(hex::encode(FMSPC).as_str()));
        assert_eq!(value("tdx.tcb_info tcb-evaluation-data-number"), Some("18"));
        assert_eq!(value("tdx.qe_identity id"), Some("TD_QE"));
        assert_eq!(value("tdx.pck_crl ca"), Some("platform"));
        assert_eq!(value("tdx.pck_crl revoked"), Some("0"));
        assert!(value("tdx.pck_crl crl-number").is_some(), "{facts:?}");
        assert_eq!(value("tdx.root_ca_crl ca"), None);
    }

    #[test]
    fn a_part_that_cannot_be_read_says_nothing() {
        let snp = SnpCollateral { ark: vec![0x30], ask: Vec::new(), crl: vec![1], vek: Some(vec![0x30, 0]) };
        assert_eq!(facts_of(&Collateral { tdx: None, snp: Some(snp) }), []);
    }

    #[test]
    fn security_versions_stand_where_the_product_has_them() {
        let milan = security_versions([3, 1, 0, 0, 0, 0, 8, 0x73], SnpProduct::Milan).unwrap();
        assert_eq!(milan, SnpSecurityVersions { fmc: 0, bootloader: 3, tee: 1, snp: 8, microcode: 0x73 });
        let turin = security_versions([1, 2, 3, 4, 0, 0, 0, 5], SnpProduct::Turin).unwrap();
        assert_eq!(turin, SnpSecurityVersions { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 5 });
        assert_eq!(security_versions([3, 1, 1, 0, 0, 0, 8, 0x73], SnpProduct::Milan), None);
    }
}
