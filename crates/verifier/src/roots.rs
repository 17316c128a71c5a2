//! Trust anchors: the vendors' production roots by key, or the development roots that a policy names.
//!
//! A root is its public key: SHA-256 over the DER of SubjectPublicKeyInfo (RFC 5280 section 4.1). Names, dates and
//! extensions of a root certificate prove nothing by themselves.

use std::fmt;

use casemate_canon::Sha256;

/// Intel SGX Root CA, as published at <https://certificates.trustedservices.intel.com/IntelSGXRootCA.der>.
const INTEL_SGX_ROOT_CA: Sha256 = Sha256([
    0xa0, 0xaf, 0x03, 0x12, 0x89, 0xf5, 0xd5, 0xd4, 0x13, 0x2f, 0x91, 0x86, 0x06, 0x8a, 0x7f, 0xc1, 0x36,
    0x28, 0x63, 0x3b, 0xa2, 0x35, 0x77, 0x74, 0x72, 0xe2, 0x9b, 0x6b, 0x6c, 0x67, 0xa4, 0x9e,
]);
/// ARK-Milan, as published at <https://kdsintf.amd.com/vcek/v1/Milan/cert_chain>.
const ARK_MILAN: Sha256 = Sha256([
    0x9f, 0x05, 0x6b, 0xee, 0x44, 0x37, 0x7e, 0x29, 0x30, 0x8c, 0xb5, 0xff, 0xa8, 0x95, 0xbd, 0xfb, 0x62,
    0xd1, 0x88, 0x81, 0xfa, 0x6b, 0xed, 0x8d, 0x6f, 0x07, 0x5b, 0x02, 0x04, 0x08, 0x9c, 0xb9,
]);
/// ARK-Genoa, as published at <https://kdsintf.amd.com/vcek/v1/Genoa/cert_chain>.
const ARK_GENOA: Sha256 = Sha256([
    0x42, 0x9a, 0x69, 0xc9, 0x42, 0x2a, 0xa2, 0x58, 0xee, 0x4d, 0x8d, 0xb5, 0xfc, 0xda, 0x9c, 0x64, 0x70,
    0xef, 0x15, 0xf8, 0xcd, 0x5a, 0x9c, 0xeb, 0xd6, 0xcb, 0xc7, 0xd9, 0x0b, 0x86, 0x38, 0x31,
]);
/// ARK-Turin, as published at <https://kdsintf.amd.com/vcek/v1/Turin/cert_chain>.
const ARK_TURIN: Sha256 = Sha256([
    0x4f, 0x12, 0x54, 0x10, 0x56, 0x3a, 0x2a, 0xb9, 0xa5, 0x03, 0x56, 0xf9, 0x24, 0x3f, 0x6f, 0xe0, 0xb6,
    0xf7, 0x3d, 0xe9, 0x86, 0x03, 0xf5, 0x3f, 0x90, 0x33, 0x9c, 0x70, 0xe9, 0xd7, 0xad, 0x08,
]);

/// Google's root of vTPM keys (EK/AK CA Root), published by Google's private CA service and in the go-tpm-tools
/// repository, `server/ca-certs/gcp_ek_ak_ca_root.crt`.
const GOOGLE_EK_AK: Sha256 = Sha256([
    0x56, 0xa6, 0x13, 0xf5, 0x71, 0x26, 0xa3, 0x85, 0xdd, 0x69, 0x49, 0x29, 0x4e, 0x93, 0xb0, 0xb5, 0x66,
    0xf9, 0x6a, 0xb0, 0x57, 0x3b, 0xe0, 0xc2, 0x36, 0x8e, 0x6f, 0x5c, 0xa7, 0x79, 0x83, 0x1f,
]);
/// Google's older root of vTPM keys (tpm_ek_v1_cloud_host_root), as published at
/// <http://pki.goog/cloud_integrity/tpm_ek_root_1.crt>.
const GOOGLE_TPM_V1: Sha256 = Sha256([
    0xf2, 0x30, 0x57, 0xf4, 0xf9, 0x7d, 0x1d, 0x90, 0xe4, 0xca, 0xe0, 0xce, 0x91, 0xd5, 0xa0, 0xfc, 0x99,
    0x06, 0x9f, 0x0a, 0x1b, 0xc1, 0x47, 0x02, 0x1d, 0xca, 0x33, 0xb1, 0xe9, 0xc4, 0xd0, 0xd9,
]);

/// A vendor's root that production evidence must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VendorRoot {
    Intel,
    AmdMilan,
    AmdGenoa,
    AmdTurin,
    GoogleEkAk,
    GoogleTpmV1,
}

impl VendorRoot {
    pub(crate) const fn key(self) -> Sha256 {
        match self {
            Self::Intel => INTEL_SGX_ROOT_CA,
            Self::AmdMilan => ARK_MILAN,
            Self::AmdGenoa => ARK_GENOA,
            Self::AmdTurin => ARK_TURIN,
            Self::GoogleEkAk => GOOGLE_EK_AK,
            Self::GoogleTpmV1 => GOOGLE_TPM_V1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Intel => "Intel SGX Root CA",
            Self::AmdMilan => "AMD ARK-Milan",
            Self::AmdGenoa => "AMD ARK-Genoa",
            Self::AmdTurin => "AMD ARK-Turin",
            Self::GoogleEkAk => "Google EK/AK CA Root",
            Self::GoogleTpmV1 => "Google tpm_ek_v1_cloud_host_root",
        }
    }
}

impl fmt::Display for VendorRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vendor root {} with key {}", self.name(), self.key())
    }
}

/// Which roots a policy accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The vendors' roots that are built in.
    Production,
    /// Development roots by SHA-256 of their SubjectPublicKeyInfo, and nothing else. Evidence under one is simulated.
    Development(Vec<Sha256>),
}

impl Roots {
    /// Whether a root with this key may stand where `vendor` is expected.
    pub(crate) fn accept(&self, vendor: VendorRoot, found: &Sha256) -> bool {
        match self {
            Self::Production => vendor.key() == *found,
            Self::Development(keys) => keys.contains(found),
        }
    }

    /// What [`Roots::accept`] accepts, in words.
    pub(crate) fn describe(&self, vendor: VendorRoot) -> String {
        match self {
            Self::Production => vendor.to_string(),
            Self::Development(keys) => {
                let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
                format!("a development root with key {}", keys.join(" or "))
            }
        }
    }
}

/// Every production root's key, to tell in words what a refused root is.
pub(crate) fn production_root_named(key: &Sha256) -> Option<VendorRoot> {
    [
        VendorRoot::Intel,
        VendorRoot::AmdMilan,
        VendorRoot::AmdGenoa,
        VendorRoot::AmdTurin,
        VendorRoot::GoogleEkAk,
        VendorRoot::GoogleTpmV1,
    ]
    .into_iter()
    .find(|root| root.key() == *key)
}
