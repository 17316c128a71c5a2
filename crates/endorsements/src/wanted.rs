//! Which endorsements a piece of evidence asks for, read from the evidence itself. Nothing here is verified: hostile
//! evidence can at most make us ask for endorsements of another platform.

use casemate_evidence::{
    CertificateKind, CertificateTableError, SigningKey, SnpReportError, TdxQuoteError,
    parse_certificate_table, parse_snp_report, parse_tdx_quote,
};
use casemate_verifier::{
    FactsError, PckCa, SnpProduct, pck_facts, product_of_processor, security_versions, vek_product,
};

use crate::services::{SnpKey, SnpSigner};

/// What a TDX quote asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedTdx {
    /// Which TCB information.
    pub fmspc: [u8; 6],
    /// Whose CRL.
    pub ca: PckCa,
    /// The PCK chain (PEM) without its leaf: issuer and root, which issued the PCK CRL too.
    pub issuer_chain: Vec<u8>,
}

/// What an SNP report asks for, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedSnp {
    /// Which product; none where neither report nor certificates say it.
    pub product: Option<SnpProduct>,
    /// Which kind of key signed it.
    pub signer: SnpSigner,
    /// Which VCEK; none for a VLEK, for a masked chip, and where the product is not known.
    pub key: Option<SnpKey>,
    /// VCEK or VLEK of the certificate table, DER.
    pub vek: Option<Vec<u8>>,
    /// ASK or ASVK of the certificate table, DER.
    pub ask: Option<Vec<u8>>,
    /// ARK of the certificate table, DER.
    pub ark: Option<Vec<u8>>,
    /// CRL of the certificate table, DER.
    pub crl: Option<Vec<u8>>,
}

/// Why evidence does not say what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WantedError {
    /// Not a quote.
    #[error("quote: {0}")]
    Quote(#[from] TdxQuoteError),
    /// Not a report.
    #[error("report: {0}")]
    Report(#[from] SnpReportError),
    /// Not a certificate table.
    #[error("{0}")]
    Table(#[from] CertificateTableError),
    /// Not a PCK certificate of a known CA.
    #[error("PCK certificate: {0}")]
    Pck(#[from] FactsError),
    /// Nobody signed the report.
    #[error("report is not signed")]
    Unsigned,
}

/// What this quote asks for.
///
/// # Errors
/// [`WantedError`].
pub fn wanted_by_quote(quote: &[u8]) -> Result<WantedTdx, WantedError> {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let quote = parse_tdx_quote(quote)?;
    let facts = pck_facts(quote.pck_chain)?;
    let leaf_end = quote.pck_chain.windows(END.len()).position(|window| window == END);
    let after = leaf_end.and_then(|at| quote.pck_chain.get(at.saturating_add(END.len())..));
    let issuer_chain = after.unwrap_or_default().trim_ascii();
    let issuer_chain = issuer_chain.strip_suffix(b"\0").unwrap_or(issuer_chain).trim_ascii();
    Ok(WantedTdx { fmspc: facts.fmspc, ca: facts.ca, issuer_chain: [issuer_chain, b"\n"].concat() })
}

/// What this report asks for, with the certificate table that came with it (may be empty).
///
/// # Errors
/// [`WantedError`].
pub fn wanted_by_report(report: &[u8], table: &[u8]) -> Result<WantedSnp, WantedError> {
    let report = parse_snp_report(report)?;
    let (signer, kind) = match report.signing_key {
        SigningKey::Vcek => (SnpSigner::Vcek, CertificateKind::Vcek),
        SigningKey::Vlek => (SnpSigner::Vlek, CertificateKind::Vlek),
        SigningKey::None => return Err(WantedError::Unsigned),
    };
    let table = parse_certificate_table(table)?;
    let entry = |kind| {
        table.iter().find(|entry| entry.kind == kind).and_then(|entry| crate::certificate_der(entry.content))
    };
    let vek = entry(kind);
    let of_processor = report.cpuid.and_then(product_of_processor);
    let product = of_processor.or_else(|| vek.as_deref().and_then(|vek| vek_product(vek).ok()));
    let versions = product.and_then(|product| security_versions(*report.reported_tcb, product));
    let masked = report.chip_id.iter().all(|byte| *byte == 0);
    let key = match (signer, versions) {
        (SnpSigner::Vcek, Some(versions)) if !masked => Some(SnpKey { chip_id: *report.chip_id, versions }),
        _ => None,
    };
    let crl = table.iter().find(|entry| entry.kind == CertificateKind::Crl);
    Ok(WantedSnp {
        product,
        signer,
        key,
        vek,
        ask: entry(CertificateKind::Ask),
        ark: entry(CertificateKind::Ark),
        crl: crl.and_then(|entry| crate::crl_der(entry.content).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use casemate_testkit::{DevPki, FMSPC, SnpBody, TCB, TdBody, Tee};

    const NOW: u64 = 1_780_272_000;

    #[test]
    fn a_quote_says_its_family_its_ca_and_that_cas_chain() {
        let pki = DevPki::generate(Tee::Tdx, NOW).unwrap();
        let wanted = wanted_by_quote(&pki.tdx_quote(&TdBody::new()).unwrap()).unwrap();
        assert_eq!((wanted.fmspc, wanted.ca), (FMSPC, PckCa::Platform));
        let casemate_testkit::CollateralParts::Tdx(parts) = pki.collateral() else { panic!() };
        let ders = |pem: &[u8]| {
            use rustls_pki_types::pem::PemObject as _;
            let ders = rustls_pki_types::CertificateDer::pem_slice_iter(pem);
            ders.collect::<Result<Vec<_>, _>>().unwrap()
        };
        assert_eq!(ders(&wanted.issuer_chain), ders(&parts.pck_crl_chain));
        assert!(matches!(wanted_by_quote(b"no"), Err(WantedError::Quote(_))));
    }

    #[test]
    fn a_report_says_its_chip_its_versions_and_what_came_with_it() {
        let pki = DevPki::generate(Tee::Snp, NOW).unwrap();
        let report = pki.snp_report(&SnpBody::new()).unwrap();
        let table = pki.snp_certificate_table().unwrap();
        let wanted = wanted_by_report(&report, &table).unwrap();
        assert_eq!((wanted.product, wanted.signer), (Some(SnpProduct::Genoa), SnpSigner::Vcek));
        let versions = wanted.key.unwrap().versions;
        assert_eq!(
            (versions.bootloader, versions.snp, versions.microcode),
            (TCB.bootloader, TCB.snp, TCB.microcode)
        );
        let casemate_testkit::CollateralParts::Snp(parts) = pki.collateral() else { panic!() };
        assert_eq!((wanted.ark, wanted.ask, wanted.vek), (Some(parts.ark), Some(parts.ask), Some(parts.vek)));
        let alone = wanted_by_report(&report, &[]).unwrap();
        assert_eq!((alone.product, alone.vek), (Some(SnpProduct::Genoa), None));
        // KEY_INFO, signing key 7.
        let mut unsigned = report.clone();
        unsigned[0x48] = 7 << 2;
        assert_eq!(wanted_by_report(&unsigned, &[]), Err(WantedError::Unsigned));
        // A masked chip has no VCEK to ask for.
        let mut masked = report;
        masked[0x1a0..0x1e0].fill(0);
        assert_eq!(wanted_by_report(&masked, &[]).unwrap().key, None);
    }
}
