//! `sev`: its chain and report checks.

use sev::certs::snp::{Certificate, Chain, Verifiable, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

/// Which way of computing it was built with.
pub const BACKEND: &str = if cfg!(feature = "sev-openssl") { "openssl" } else { "crypto_nossl" };

/// Certificates and report as bytes: ARK, ASK or ASVK, VCEK or VLEK, all DER.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// ARK.
    pub ark: &'a [u8],
    /// ASK or ASVK.
    pub ask: &'a [u8],
    /// VCEK or VLEK.
    pub vek: &'a [u8],
    /// Report, 1184 bytes.
    pub report: &'a [u8],
}

/// Reads everything and verifies chain and report.
///
/// # Errors
/// Why it refuses.
pub fn verify(input: &Input<'_>) -> Result<(), String> {
    let read = |der| Certificate::from_der(der).map_err(|error| error.to_string());
    let chain =
        Chain { ca: ca::Chain { ark: read(input.ark)?, ask: read(input.ask)? }, vek: read(input.vek)? };
    let report = AttestationReport::from_bytes(input.report).map_err(|error| error.to_string())?;
    (&chain, &report).verify().map_err(|error| error.to_string())
}

/// A VCEK or VLEK that was verified before.
#[derive(Debug)]
pub struct Vek(Certificate);

impl Vek {
    /// Reads the certificate.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn read(der: &[u8]) -> Result<Self, String> {
        Certificate::from_der(der).map(Self).map_err(|error| error.to_string())
    }

    /// Reads and verifies a report alone.
    ///
    /// # Errors
    /// Why it refuses.
    pub fn verify(&self, report: &[u8]) -> Result<(), String> {
        let report = AttestationReport::from_bytes(report).map_err(|error| error.to_string())?;
        (&self.0, &report).verify().map_err(|error| error.to_string())
    }
}
