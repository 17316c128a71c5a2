//! The forms in which certificates and CRLs lie about: DER, PEM, and hexadecimal digits, as Intel's PCCS answers.

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

/// The bytes are a CRL in none of the three forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a CRL in DER, PEM or hexadecimal digits")]
pub struct CrlForm;

/// First byte of a SEQUENCE in DER.
const SEQUENCE: u8 = 0x30;

/// The DER of a CRL, from DER, PEM or hexadecimal digits. Whether it is a CRL is for the verifier.
///
/// # Errors
/// [`CrlForm`].
pub fn crl_der(bytes: &[u8]) -> Result<Vec<u8>, CrlForm> {
    if let Ok(digits) = hex::decode(bytes.trim_ascii())
        && digits.first() == Some(&SEQUENCE)
    {
        return Ok(digits);
    }
    if bytes.first() == Some(&SEQUENCE) {
        return Ok(bytes.to_vec());
    }
    CertificateRevocationListDer::from_pem_slice(bytes).map(|crl| crl.to_vec()).map_err(|_| CrlForm)
}

/// The DER of a certificate, from DER or PEM of exactly one. Whether it is a certificate is for the verifier.
#[must_use]
pub fn certificate_der(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.first() == Some(&SEQUENCE) {
        return Some(bytes.to_vec());
    }
    let mut certificates = CertificateDer::pem_slice_iter(bytes);
    let first = certificates.next()?.ok()?;
    certificates.next().is_none().then(|| first.to_vec())
}

/// ASK or ASVK, and ARK (DER), from the PEM of exactly these two in this order, as AMD's service has them.
#[must_use]
pub fn snp_chain_der(pem: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut certificates = CertificateDer::pem_slice_iter(pem);
    let (ask, ark) = (certificates.next()?.ok()?, certificates.next()?.ok()?);
    certificates.next().is_none().then(|| (ask.to_vec(), ark.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crl_is_the_same_in_each_form() {
        let der = [0x30, 3, 2, 1, 7];
        let pem = b"-----BEGIN X509 CRL-----\nMAMCAQc=\n-----END X509 CRL-----\n";
        for form in [&der[..], b"3003020107", b"3003020107\n", pem] {
            assert_eq!(crl_der(form), Ok(der.to_vec()));
        }
        for bad in [
            &b""[..],
            b"no",
            b"31",
            b"300",
            b"-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(crl_der(bad), Err(CrlForm), "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_stands_alone() {
        let der = [0x30, 3, 2, 1, 7];
        let pem = "-----BEGIN CERTIFICATE-----\nMAMCAQc=\n-----END CERTIFICATE-----\n";
        assert_eq!(certificate_der(&der), Some(der.to_vec()));
        assert_eq!(certificate_der(pem.as_bytes()), Some(der.to_vec()));
        assert_eq!(certificate_der(pem.repeat(2).as_bytes()), None);
        assert_eq!(certificate_der(b""), None);
    }
}
