//! The TDX side: root, PCK platform CA, PCK certificate, TCB signer, attestation key.
//!
//! What it is: the hierarchy of Intel's "PCK Certificate and Certificate Revocation List Profile" revision 1.5 under a
//! development root. What it is not: Intel's. The subordinate common names are Intel's, because verifiers tie roles to
//! them; the root's common name and every organisation say that this is development.

use crate::der_out::{boolean_true, enumerated, integer_u64, octet_string, oid, sequence};
use crate::keys::{KeyKind, SigningKey};
use crate::tdx_collateral::{self, TdxCollateralParts};
use crate::x509::{
    CertificateSpec, Criticality, SignatureSpelling, authority, authority_key_identifier,
    crl_distribution_point, end_entity, extension, issue_certificate, key_usage_authority, key_usage_signer,
    name, pem, serial_of, subject_key_identifier,
};
use crate::{CERTIFICATE_SECONDS, CollateralSpec, PkiError};

/// Common name of the development root.
pub const TDX_ROOT_COMMON_NAME: &str = "Casemate Development SGX Root CA";
/// Family, model, stepping, platform type and custom SKU of the pretended platform: no Intel FMSPC looks like it.
pub const FMSPC: [u8; 6] = [0xca, 0x5e, 0x00, 0x00, 0x00, 0x01];
/// Identifier of the provisioning certification enclave.
pub const PCE_ID: [u8; 2] = [0, 0];
/// Security version of the provisioning certification enclave.
pub const PCE_SVN: u16 = 13;
/// The 16 SGX TCB components of the pretended platform.
pub const SGX_TCB_COMPONENTS: [u8; 16] = [4, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];

const PLATFORM_COMMON_NAME: &str = "Intel SGX PCK Platform CA";
const PCK_COMMON_NAME: &str = "Intel SGX PCK Certificate";
const TCB_SIGNER_COMMON_NAME: &str = "Intel SGX TCB Signing";
/// Intel's arc for SGX certificate extensions.
const SGX: [u32; 7] = [1, 2, 840, 113_741, 1, 13, 1];

/// Development keys and certificates for TDX. No `Debug`: it holds private keys.
#[derive(Clone)]
pub struct TdxPki {
    pub(crate) root: SigningKey,
    pub(crate) platform: SigningKey,
    pub(crate) pck: SigningKey,
    pub(crate) tcb_signer: SigningKey,
    pub(crate) attestation: SigningKey,
    pub(crate) root_certificate: Vec<u8>,
    pub(crate) platform_certificate: Vec<u8>,
    pub(crate) pck_certificate: Vec<u8>,
    pub(crate) tcb_signer_certificate: Vec<u8>,
    pub(crate) collateral: TdxCollateralParts,
}

impl TdxPki {
    pub(crate) fn generate(now: u64) -> Result<Self, PkiError> {
        let [root, platform, pck, tcb_signer, attestation] = [
            SigningKey::generate(KeyKind::P256)?,
            SigningKey::generate(KeyKind::P256)?,
            SigningKey::generate(KeyKind::P256)?,
            SigningKey::generate(KeyKind::P256)?,
            SigningKey::generate(KeyKind::P256)?,
        ];
        let mut pki = Self {
            root_certificate: certificate(&Subject::Root, &root, &root, now)?,
            platform_certificate: certificate(&Subject::Platform, &platform, &root, now)?,
            pck_certificate: certificate(&Subject::Pck, &pck, &platform, now)?,
            tcb_signer_certificate: certificate(&Subject::TcbSigner, &tcb_signer, &root, now)?,
            root,
            platform,
            pck,
            tcb_signer,
            attestation,
            collateral: TdxCollateralParts::default(),
        };
        pki.collateral = tdx_collateral::issue(&pki, &CollateralSpec::at(now))?;
        Ok(pki)
    }

    /// PCK certificate, platform CA, root: PEM, as it stands in a quote.
    #[must_use]
    pub fn pck_chain_pem(&self) -> String {
        [&self.pck_certificate, &self.platform_certificate, &self.root_certificate]
            .map(|der| pem(der))
            .concat()
    }

    /// Platform CA, root: PEM, as the PCK CRL's issuer chain.
    pub(crate) fn platform_chain_pem(&self) -> String {
        [&self.platform_certificate, &self.root_certificate].map(|der| pem(der)).concat()
    }

    /// TCB signer, root: PEM.
    pub(crate) fn tcb_signer_chain_pem(&self) -> String {
        [&self.tcb_signer_certificate, &self.root_certificate].map(|der| pem(der)).concat()
    }

    pub(crate) fn root_name() -> Vec<u8> {
        name(TDX_ROOT_COMMON_NAME)
    }

    pub(crate) fn platform_name() -> Vec<u8> {
        name(PLATFORM_COMMON_NAME)
    }
}

enum Subject {
    Root,
    Platform,
    Pck,
    TcbSigner,
}

fn certificate(
    subject: &Subject,
    key: &SigningKey,
    issuer: &SigningKey,
    now: u64,
) -> Result<Vec<u8>, PkiError> {
    let (common_name, issuer_name, crl, usage, constraints) = match subject {
        Subject::Root => {
            (TDX_ROOT_COMMON_NAME, TdxPki::root_name(), "root.crl", key_usage_authority(), authority(Some(1)))
        }
        Subject::Platform => {
            (PLATFORM_COMMON_NAME, TdxPki::root_name(), "root.crl", key_usage_authority(), authority(Some(0)))
        }
        Subject::Pck => {
            (PCK_COMMON_NAME, TdxPki::platform_name(), "pck.crl", key_usage_signer(), end_entity())
        }
        Subject::TcbSigner => {
            (TCB_SIGNER_COMMON_NAME, TdxPki::root_name(), "root.crl", key_usage_signer(), end_entity())
        }
    };
    let spki = key.spki();
    let mut extensions = vec![
        authority_key_identifier(&issuer.spki()),
        crl_distribution_point(crl),
        subject_key_identifier(&spki),
        usage,
        constraints,
    ];
    if matches!(subject, Subject::Pck) {
        extensions.push(extension(&SGX, Criticality::Plain, &sgx_extensions(&spki)));
    }
    let spec = CertificateSpec {
        serial: &serial_of(&spki),
        issuer: &issuer_name,
        subject: &name(common_name),
        not_before: now.saturating_sub(crate::CLOCK_SKEW_SECONDS),
        not_after: now + CERTIFICATE_SECONDS,
        spki: &spki,
        extensions,
    };
    issue_certificate(&spec, issuer, SignatureSpelling::EcdsaSha256)
}

/// The SGX extension's value: PPID, TCB, PCEID, FMSPC, SGX type, platform instance, configuration.
fn sgx_extensions(spki: &[u8]) -> Vec<u8> {
    let member = |arcs: &[u32], value: Vec<u8>| sequence(&[oid(&[&SGX[..], arcs].concat()), value]);
    let identity: Vec<u8> = serial_of(spki);
    let mut tcb: Vec<Vec<u8>> = (1u32..)
        .zip(SGX_TCB_COMPONENTS)
        .map(|(index, svn)| member(&[2, index], integer_u64(u64::from(svn))))
        .collect();
    tcb.push(member(&[2, 17], integer_u64(u64::from(PCE_SVN))));
    tcb.push(member(&[2, 18], octet_string(&SGX_TCB_COMPONENTS)));
    // Dynamic platform, cached keys, SMT enabled: as cloud platforms have it.
    let configuration: Vec<Vec<u8>> = (1u32..=3).map(|flag| member(&[7, flag], boolean_true())).collect();
    sequence(&[
        member(&[1], octet_string(&identity)),
        member(&[2], sequence(&tcb)),
        member(&[3], octet_string(&PCE_ID)),
        member(&[4], octet_string(&FMSPC)),
        // SGX type 1: scalable.
        member(&[5], enumerated(1)),
        member(&[6], octet_string(&identity)),
        member(&[7], sequence(&configuration)),
    ])
}
