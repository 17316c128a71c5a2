//! TDX quotes, version 4, as the quoting enclave makes them.
//!
//! What it is: Intel "TDX DCAP Quoting Library API", appendix 3 (quote format), with body type TD report 1.0. What it
//! is not: a parser. `QuoteParts` lets a test break one thing before it is signed.

use aws_lc_rs::digest::{SHA256, digest};

use crate::PkiError;
use crate::tdx_pki::{SGX_TCB_COMPONENTS, TdxPki};

/// TCB of the pretended TDX module: SVN 7 of module version 1, microcode 3.
pub const TEE_TCB_SVN: [u8; 16] = [7, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// TD attributes of an ordinary TD: only SEPT_VE_DISABLE (bit 28).
pub const TD_ATTRIBUTES: [u8; 8] = [0, 0, 0, 0x10, 0, 0, 0, 0];
/// x87, SSE, AVX, AVX-512, PKRU, AMX: as in real quotes.
pub const XFAM: [u8; 8] = [0xe7, 0x02, 0x06, 0, 0, 0, 0, 0];
/// Signer of the pretended quoting enclave: ASCII, so that it cannot be taken for Intel's.
pub const QE_MRSIGNER: [u8; 32] = *b"casemate development QE signer\0\0";

const QE_VENDOR_ID: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
/// INIT, MODE64BIT, PROVISION_KEY; XFRM as in real QE reports.
const QE_ATTRIBUTES: [u8; 16] = [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0];
const QE_ISV_PROD_ID: u16 = 2;
const QE_ISV_SVN: u16 = 6;

/// What a TD report says, field by field in wire order. All are public: a test may say anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdBody {
    /// TEE_TCB_SVN.
    pub tee_tcb_svn: [u8; 16],
    /// Measurement of the TDX module.
    pub mrseam: [u8; 48],
    /// Signer of the TDX module; zero for Intel's.
    pub mrsignerseam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: [u8; 8],
    /// TD attributes.
    pub td_attributes: [u8; 8],
    /// XFAM.
    pub xfam: [u8; 8],
    /// Measurement of the initial TD.
    pub mrtd: [u8; 48],
    /// Software-defined configuration: the composition digest.
    pub mrconfigid: [u8; 48],
    /// Owner.
    pub mrowner: [u8; 48],
    /// Owner's configuration.
    pub mrownerconfig: [u8; 48],
    /// Runtime measurement registers.
    pub rtmr: [[u8; 48]; 4],
    /// Chosen by the guest.
    pub report_data: [u8; 64],
}

impl TdBody {
    /// An ordinary production TD (no debug) of the pretended platform; every measurement is zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            tee_tcb_svn: TEE_TCB_SVN,
            mrseam: [0x5e; 48],
            mrsignerseam: [0; 48],
            seam_attributes: [0; 8],
            td_attributes: TD_ATTRIBUTES,
            xfam: XFAM,
            mrtd: [0; 48],
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
            rtmr: [[0; 48]; 4],
            report_data: [0; 64],
        }
    }

    /// The 584 bytes of a TD report body 1.0.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(584);
        out.extend_from_slice(&self.tee_tcb_svn);
        out.extend_from_slice(&self.mrseam);
        out.extend_from_slice(&self.mrsignerseam);
        out.extend_from_slice(&self.seam_attributes);
        out.extend_from_slice(&self.td_attributes);
        out.extend_from_slice(&self.xfam);
        out.extend_from_slice(&self.mrtd);
        out.extend_from_slice(&self.mrconfigid);
        out.extend_from_slice(&self.mrowner);
        out.extend_from_slice(&self.mrownerconfig);
        out.extend_from_slice(&self.rtmr.concat());
        out.extend_from_slice(&self.report_data);
        out
    }
}

impl Default for TdBody {
    fn default() -> Self {
        Self::new()
    }
}

/// A quote in parts, before the QE report and the body are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteParts {
    /// 48 bytes.
    pub header: Vec<u8>,
    /// 584 bytes.
    pub body: Vec<u8>,
    /// X and Y of the attestation key.
    pub attestation_key: Vec<u8>,
    /// QE authentication data.
    pub qe_auth_data: Vec<u8>,
    /// SGX report of the quoting enclave, 384 bytes, signed by the PCK key.
    pub qe_report: Vec<u8>,
    /// Outer certification data type; 6.
    pub certification_type: u16,
    /// Inner certification data type; 5.
    pub inner_certification_type: u16,
    /// Inner certification data: PEM chain with the final NUL that real quotes have.
    pub chain: Vec<u8>,
}

impl TdxPki {
    /// A correctly signed quote over `body`.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn quote(&self, body: &TdBody) -> Result<Vec<u8>, PkiError> {
        self.quote_with(body, |_| {})
    }

    /// A quote whose parts `change` may break before they are signed with the right keys.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn quote_with(
        &self,
        body: &TdBody,
        change: impl FnOnce(&mut QuoteParts),
    ) -> Result<Vec<u8>, PkiError> {
        let qe_auth_data: Vec<u8> = (0..32).collect();
        let attestation_key = self.attestation.public_xy().to_vec();
        let mut parts = QuoteParts {
            header: header(),
            body: body.to_bytes(),
            qe_report: qe_report(&attestation_key, &qe_auth_data),
            attestation_key,
            qe_auth_data,
            certification_type: 6,
            inner_certification_type: 5,
            chain: [self.pck_chain_pem().as_bytes(), &[0]].concat(),
        };
        change(&mut parts);
        self.assemble(&parts)
    }

    fn assemble(&self, parts: &QuoteParts) -> Result<Vec<u8>, PkiError> {
        let signed = [parts.header.as_slice(), &parts.body].concat();
        let certification = [
            parts.qe_report.as_slice(),
            &self.pck.sign_fixed(&parts.qe_report)?,
            &length_u16(&parts.qe_auth_data),
            &parts.qe_auth_data,
            &parts.inner_certification_type.to_le_bytes(),
            &length_u32(&parts.chain),
            &parts.chain,
        ]
        .concat();
        let signature_data = [
            self.attestation.sign_fixed(&signed)?.as_slice(),
            &parts.attestation_key,
            &parts.certification_type.to_le_bytes(),
            &length_u32(&certification),
            &certification,
        ]
        .concat();
        Ok([signed.as_slice(), &length_u32(&signature_data), &signature_data].concat())
    }
}

fn header() -> Vec<u8> {
    let mut out = Vec::with_capacity(48);
    out.extend_from_slice(&4u16.to_le_bytes());
    // Attestation key type 2: ECDSA-256 with P-256.
    out.extend_from_slice(&2u16.to_le_bytes());
    out.extend_from_slice(&0x81u32.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&QE_VENDOR_ID);
    out.extend_from_slice(&[0; 20]);
    out
}

/// An SGX REPORT body (Intel SDM volume 3D, table 38-21).
fn qe_report(attestation_key: &[u8], qe_auth_data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(384);
    out.extend_from_slice(&SGX_TCB_COMPONENTS);
    // MISCSELECT and reserved.
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&QE_ATTRIBUTES);
    // MRENCLAVE, reserved.
    out.extend_from_slice(digest(&SHA256, b"casemate development quoting enclave").as_ref());
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(&QE_MRSIGNER);
    out.extend_from_slice(&[0; 96]);
    out.extend_from_slice(&QE_ISV_PROD_ID.to_le_bytes());
    out.extend_from_slice(&QE_ISV_SVN.to_le_bytes());
    out.extend_from_slice(&[0; 60]);
    out.extend_from_slice(digest(&SHA256, &[attestation_key, qe_auth_data].concat()).as_ref());
    out.extend_from_slice(&[0; 32]);
    out
}

fn length_u16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes()
}

fn length_u32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}
