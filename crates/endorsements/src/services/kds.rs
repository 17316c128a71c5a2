//! AMD's Key Distribution Service.
//!
//! Paths: AMD Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification (57230), sections 4.1
//! (`{hwid}`), 4.2 (`cert_chain`) and 4.3 (`crl`); for VLEK the same below `/vlek`. A VLEK itself is handed out to clouds
//! alone, and comes with evidence.

use casemate_verifier::{SnpProduct, SnpSecurityVersions};

use super::http::{FetchError, Service};
use crate::forms::{CrlForm, certificate_der, crl_der, snp_chain_der};

/// Which kind of key signs reports: each has an intermediate of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpSigner {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
}

impl SnpSigner {
    const fn path(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
        }
    }
}

/// Which VCEK is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpKey {
    /// The chip, as a report names it. Turin's names have 8 bytes, and zeros behind them.
    pub chip_id: [u8; 64],
    /// The security versions that it is derived for.
    pub versions: SnpSecurityVersions,
}

/// ASK or ASVK, and ARK (DER).
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_snp_chain(
    service: &Service,
    product: SnpProduct,
    signer: SnpSigner,
) -> Result<(Vec<u8>, Vec<u8>), FetchError> {
    let answer = service.get(&format!("{}/{}/v1/{product}/cert_chain", base(service), signer.path())).await?;
    snp_chain_der(&answer.body).ok_or_else(|| answer.form("two certificates in PEM"))
}

/// CRL of the ARK (DER).
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_snp_crl(
    service: &Service,
    product: SnpProduct,
    signer: SnpSigner,
) -> Result<Vec<u8>, FetchError> {
    let answer = service.get(&format!("{}/{}/v1/{product}/crl", base(service), signer.path())).await?;
    crl_der(&answer.body).map_err(|CrlForm| answer.form("a CRL"))
}

/// The VCEK of one chip at these security versions (DER).
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_vcek(service: &Service, product: SnpProduct, key: &SnpKey) -> Result<Vec<u8>, FetchError> {
    let SnpSecurityVersions { fmc, bootloader, tee, snp, microcode } = key.versions;
    let chip = match product {
        SnpProduct::Turin => hex::encode(key.chip_id.first_chunk::<8>().unwrap_or(&[0; 8])),
        _ => hex::encode(key.chip_id),
    };
    let fmc = match product {
        SnpProduct::Turin => format!("fmcSPL={fmc:02}&"),
        _ => String::new(),
    };
    let path = format!(
        "{}/vcek/v1/{product}/{chip}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}",
        base(service)
    );
    let answer = service.get(&path).await?;
    certificate_der(&answer.body).ok_or_else(|| answer.form("a certificate"))
}

fn base(service: &Service) -> &str {
    service.without_suffix("/vcek/v1")
}
