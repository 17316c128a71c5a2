//! A TPM's statement: a quote, its signature, the register values that it is over, and where its key's trust comes from.
//!
//! What it is: the shape in memory, and JSON forms of it: ours, those of the evidence that Azure attesters of Confidential
//! Containers write, and theirs for a plain TPM. What it is not: a judge; every byte here is an allegation.
//! Who trusts it: the verifier for shapes, the command line for reading files.

mod json;

use casemate_evidence::TpmHash;

pub use json::{FORMAT, VTPM_JSON_BYTES_MAX, VtpmJsonError};

/// Most register values of a statement: 4 banks of 32.
pub const PCRS_MAX: usize = 128;
/// Most certificates of an attestation key's chain, the root included.
pub const AK_CERTIFICATES_MAX: usize = 4;

/// A TPM's statement. All parts are allegations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vtpm {
    /// `TPMS_ATTEST`: what is signed.
    pub message: Vec<u8>,
    /// `TPMT_SIGNATURE` over the message.
    pub signature: Vec<u8>,
    /// Values of the quoted registers, in the order of the quote: banks as selected, indices ascending. At most
    /// [`PCRS_MAX`].
    pub pcrs: Vec<Pcr>,
    /// Where trust in the attestation key comes from.
    pub ak: AkEvidence,
}

/// The value of one register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcr {
    /// Its bank.
    pub bank: TpmHash,
    /// Its index, 0 to 31.
    pub index: u8,
    /// Its value: as long as the bank's digests.
    pub digest: Vec<u8>,
}

/// What speaks for an attestation key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AkEvidence {
    /// Azure, SEV-SNP: the key is in the HCL report, whose SNP report holds a digest of it.
    AzureSnp {
        /// HCL report.
        hcl_report: Vec<u8>,
        /// VCEK or VLEK of the SNP report, DER, where the evidence carries it.
        vek: Option<Vec<u8>>,
    },
    /// Azure, TDX: the key is in the HCL report, and the quote holds a digest of it.
    AzureTdx {
        /// HCL report.
        hcl_report: Vec<u8>,
        /// TDX quote.
        td_quote: Vec<u8>,
    },
    /// Nothing but the key itself: `TPM2B_PUBLIC`, `TPMT_PUBLIC` or DER of SubjectPublicKeyInfo. The policy must name it.
    Key(Vec<u8>),
    /// Certificates, DER: the attestation key's first, then its issuers. At most [`AK_CERTIFICATES_MAX`].
    Certificates(Vec<Vec<u8>>),
}
