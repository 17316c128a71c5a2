//! Intel's Provisioning Certification Service, API version 4, and Intel's PCCS, which hands out the same.
//!
//! Paths and headers: Intel SGX and Intel TDX Registration and Provisioning Certification Service API, version 4, sections
//! "Get TDX TCB Info", "Get TDX QE Identity", "Get Revocation List"; `rootcacrl`: Intel SGX PCCS design guide, section
//! "Get Root CA CRL" (Intel's own service does not have it: there it is a file at another address).

use casemate_verifier::PckCa;

use super::http::{FetchError, Service};
use crate::forms::{CrlForm, crl_der};

const SGX: &str = "/sgx/certification/v4";
const TDX: &str = "/tdx/certification/v4";

/// TCB information for this FMSPC, and its issuer's chain.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_tcb_info(service: &Service, fmspc: [u8; 6]) -> Result<(Vec<u8>, Vec<u8>), FetchError> {
    let path = format!("{}{TDX}/tcb?fmspc={}", base(service), hex::encode(fmspc));
    let answer = service.get(&path).await?;
    let chain = answer.chain("TCB-Info-Issuer-Chain")?;
    Ok((answer.body, chain))
}

/// Identity of the quoting enclave for TDX, and its issuer's chain.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_qe_identity(service: &Service) -> Result<(Vec<u8>, Vec<u8>), FetchError> {
    let answer = service.get(&format!("{}{TDX}/qe/identity", base(service))).await?;
    let chain = answer.chain("SGX-Enclave-Identity-Issuer-Chain")?;
    Ok((answer.body, chain))
}

/// CRL of this CA (DER), and its issuer's chain.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_pck_crl(service: &Service, ca: PckCa) -> Result<(Vec<u8>, Vec<u8>), FetchError> {
    let path = format!("{}{SGX}/pckcrl?ca={}&encoding=der", base(service), ca.name());
    let answer = service.get(&path).await?;
    let chain = answer.chain("SGX-PCK-CRL-Issuer-Chain")?;
    let crl = crl_der(&answer.body).map_err(|CrlForm| answer.form("a CRL"))?;
    Ok((crl, chain))
}

/// CRL of the root (DER), as a PCCS hands it out.
///
/// # Errors
/// [`FetchError`]; [`FetchError::Status`] from a service that does not have it.
pub async fn fetch_root_ca_crl(service: &Service) -> Result<Vec<u8>, FetchError> {
    let answer = service.get(&format!("{}{SGX}/rootcacrl", base(service))).await?;
    crl_der(&answer.body).map_err(|CrlForm| answer.form("a CRL"))
}

/// A CRL (DER) at exactly the service's address: where Intel itself has the CRL of its root.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch_crl_at(service: &Service) -> Result<Vec<u8>, FetchError> {
    let answer = service.get(service.without_suffix("")).await?;
    crl_der(&answer.body).map_err(|CrlForm| answer.form("a CRL"))
}

/// The part of the address before the API: people give it as configuration files of Intel's library have it, too.
fn base(service: &Service) -> &str {
    service.without_suffix(SGX)
}
