//! The SEV-SNP side: ARK, ASK, VCEK, attestation reports, certificate table.
//!
//! What it is: AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230) and
//! "SEV Secure Nested Paging Firmware ABI Specification" (56860, attestation report version 3), product Genoa, under a
//! development ARK. What it is not: AMD's. The common names are AMD's, because they name product and role; every
//! organisation says that this is development.

use aws_lc_rs::digest::{SHA256, SHA512, digest};

use crate::der_out::{integer_u64, tlv};
use crate::keys::{KeyKind, SigningKey};
use crate::x509::{
    CertificateSpec, Criticality, CrlSpec, SignatureSpelling, authority, authority_key_identifier,
    crl_distribution_point, extension, issue_certificate, issue_crl, key_usage_authority,
    key_usage_certificate_sign, name, subject_key_identifier,
};
use crate::{CERTIFICATE_SECONDS, CLOCK_SKEW_SECONDS, CollateralSpec, PkiError, Revoked};

/// Product that the pretended chip belongs to.
pub const PRODUCT: &str = "Genoa";
/// Length of an attestation report in bytes.
pub const REPORT_BYTES: usize = 1184;

const ARK_COMMON_NAME: &str = "ARK-Genoa";
const ASK_COMMON_NAME: &str = "SEV-Genoa";
const VCEK_COMMON_NAME: &str = "SEV-VCEK";
/// Serial numbers of AMD's Genoa ARK and ASK; every VCEK has serial number 0.
const ARK_SERIAL: [u8; 3] = [2, 0, 0];
const ASK_SERIAL: [u8; 3] = [2, 0, 2];
const AMD: [u32; 8] = [1, 3, 6, 1, 4, 1, 3704, 1];

/// Where the fields of the report stand (56860, table "ATTESTATION_REPORT").
const SIGNED_BYTES: usize = 0x2a0;

/// TCB_VERSION of Milan and Genoa, in wire order: boot loader, TEE, four reserved, SNP, microcode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpTcb {
    /// Boot loader.
    pub bootloader: u8,
    /// PSP operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

/// TCB of the pretended chip.
pub const TCB: SnpTcb = SnpTcb { bootloader: 0x0a, tee: 0, snp: 0x17, microcode: 0x54 };

impl SnpTcb {
    /// Eight bytes as in the report.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode]
    }
}

/// What a report says. All fields are public: a test may say anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpBody {
    /// Guest policy: bit 16 SMT allowed, bit 17 always one, bit 19 debug allowed.
    pub policy: u64,
    /// Privilege level of the asker.
    pub vmpl: u32,
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// Chosen by the guest.
    pub report_data: [u8; 64],
    /// Launch measurement.
    pub measurement: [u8; 48],
    /// Chosen by the host at launch: SHA-256 of the composition digest.
    pub host_data: [u8; 32],
    /// Current TCB.
    pub current_tcb: SnpTcb,
    /// Reported TCB, for which the VCEK was derived.
    pub reported_tcb: SnpTcb,
    /// Committed TCB.
    pub committed_tcb: SnpTcb,
    /// TCB at launch.
    pub launch_tcb: SnpTcb,
}

impl SnpBody {
    /// An ordinary production guest (no debug) of the pretended chip; measurements are zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            policy: 0x3_0000,
            vmpl: 0,
            // SMT enabled, ECC, alias check complete.
            platform_info: 0x25,
            report_data: [0; 64],
            measurement: [0; 48],
            host_data: [0; 32],
            current_tcb: TCB,
            reported_tcb: TCB,
            committed_tcb: TCB,
            launch_tcb: TCB,
        }
    }
}

impl Default for SnpBody {
    fn default() -> Self {
        Self::new()
    }
}

/// SNP collateral as bytes, member for member what the verifier takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnpCollateralParts {
    /// ARK, DER.
    pub ark: Vec<u8>,
    /// ASK, DER.
    pub ask: Vec<u8>,
    /// CRL issued by the ARK, DER.
    pub crl: Vec<u8>,
    /// VCEK, DER.
    pub vek: Vec<u8>,
}

/// Development keys and certificates for SEV-SNP. No `Debug`: it holds private keys.
#[derive(Clone)]
pub struct SnpPki {
    pub(crate) ark: SigningKey,
    pub(crate) ask: SigningKey,
    pub(crate) vcek: SigningKey,
    pub(crate) collateral: SnpCollateralParts,
}

impl SnpPki {
    pub(crate) fn generate(now: u64) -> Result<Self, PkiError> {
        // Two RSA-4096 keys take seconds: make them side by side.
        let (ark, ask) = std::thread::scope(|scope| {
            let ask = scope.spawn(|| SigningKey::generate(KeyKind::Rsa4096));
            let ark = SigningKey::generate(KeyKind::Rsa4096);
            (ark, ask.join().unwrap_or(Err(PkiError::Crypto { doing: "generate a key" })))
        });
        let mut pki = Self {
            ark: ark?,
            ask: ask?,
            vcek: SigningKey::generate(KeyKind::P384)?,
            collateral: SnpCollateralParts::default(),
        };
        pki.collateral = SnpCollateralParts {
            ark: pki.ark_certificate(now)?,
            ask: pki.ask_certificate(now)?,
            vek: pki.vcek_certificate(now)?,
            crl: pki.crl(&CollateralSpec::at(now))?,
        };
        Ok(pki)
    }

    /// Identifier of the pretended chip: HWID in the VCEK, CHIP_ID in the report.
    #[must_use]
    pub fn chip_id(&self) -> Vec<u8> {
        digest(&SHA512, &self.vcek.spki()).as_ref().to_vec()
    }

    /// A correctly signed report, version 3.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn report(&self, body: &SnpBody) -> Result<Vec<u8>, PkiError> {
        self.report_with(body, |_| {})
    }

    /// A report whose 672 signed bytes `change` may break before they are signed.
    ///
    /// # Errors
    /// [`PkiError::Crypto`].
    pub fn report_with(&self, body: &SnpBody, change: impl FnOnce(&mut [u8])) -> Result<Vec<u8>, PkiError> {
        let mut report = vec![0; SIGNED_BYTES];
        self.fill(&mut report, body);
        change(&mut report);
        let signature = self.vcek.sign_fixed(&report)?;
        // r and s: little-endian, each in a field of 72 bytes; the rest of the 512 bytes is zero.
        for half in signature.chunks(48) {
            report.extend(half.iter().rev());
            report.extend_from_slice(&[0; 24]);
        }
        report.resize(REPORT_BYTES, 0);
        Ok(report)
    }

    /// The certificate table of the guest-host communication block (56421, section 4.1.8.1): ARK, ASK, VCEK.
    #[must_use]
    pub fn certificate_table(&self) -> Vec<u8> {
        let certificates = [
            (GUID_ARK, &self.collateral.ark),
            (GUID_ASK, &self.collateral.ask),
            (GUID_VCEK, &self.collateral.vek),
        ];
        // One entry is GUID, offset and length; an entry of zeros ends the table.
        let header_bytes = 24 * (certificates.len() + 1);
        let (mut header, mut data) = (Vec::new(), Vec::new());
        for (guid, certificate) in certificates {
            let offset = u32::try_from(header_bytes + data.len()).unwrap_or(u32::MAX);
            let length = u32::try_from(certificate.len()).unwrap_or(u32::MAX);
            header.extend_from_slice(&guid);
            header.extend_from_slice(&offset.to_le_bytes());
            header.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(certificate);
        }
        header.resize(header_bytes, 0);
        [header, data].concat()
    }

    pub(crate) fn crl(&self, spec: &CollateralSpec) -> Result<Vec<u8>, PkiError> {
        // AMD's CRL is the root's: it can name the ASK only, since every VCEK has serial number 0.
        let revoked_serials = match spec.revoked {
            Revoked::Intermediate => vec![ASK_SERIAL.to_vec()],
            Revoked::None | Revoked::Leaf | Revoked::CollateralSigner => vec![],
        };
        let crl = CrlSpec {
            issuer: &name(ARK_COMMON_NAME),
            issuer_spki: &self.ark.spki(),
            this_update: spec.issued_at,
            next_update: spec.next_update,
            number: 1,
            revoked_serials,
        };
        issue_crl(&crl, &self.ark, SignatureSpelling::PssWithTrailer)
    }

    fn fill(&self, report: &mut [u8], body: &SnpBody) {
        put(report, 0x00, &3u32.to_le_bytes());
        put(report, 0x08, &body.policy.to_le_bytes());
        put(report, 0x30, &body.vmpl.to_le_bytes());
        // Signature algorithm 1: ECDSA P-384 with SHA-384.
        put(report, 0x34, &1u32.to_le_bytes());
        put(report, 0x38, &body.current_tcb.to_bytes());
        put(report, 0x40, &body.platform_info.to_le_bytes());
        put(report, 0x50, &body.report_data);
        put(report, 0x90, &body.measurement);
        put(report, 0xc0, &body.host_data);
        put(report, 0x140, digest(&SHA256, b"casemate development guest").as_ref());
        // No migration agent.
        put(report, 0x160, &[0xff; 32]);
        put(report, 0x180, &body.reported_tcb.to_bytes());
        // CPUID family 0x19, model 0x11, stepping 1: Genoa.
        put(report, 0x188, &[0x19, 0x11, 0x01]);
        put(report, 0x1a0, &self.chip_id());
        put(report, 0x1e0, &body.committed_tcb.to_bytes());
        // Firmware 1.55.39, current and committed: build, minor, major.
        put(report, 0x1e8, &[39, 55, 1, 0, 39, 55, 1, 0]);
        put(report, 0x1f0, &body.launch_tcb.to_bytes());
    }

    fn ark_certificate(&self, now: u64) -> Result<Vec<u8>, PkiError> {
        let spki = self.ark.spki();
        let extensions = vec![
            key_usage_authority(),
            subject_key_identifier(&spki),
            authority(None),
            crl_distribution_point("ark.crl"),
        ];
        names(&ARK_SERIAL, ARK_COMMON_NAME, ARK_COMMON_NAME, &spki).issue(
            now,
            extensions,
            &self.ark,
            SignatureSpelling::PssWithTrailer,
        )
    }

    fn ask_certificate(&self, now: u64) -> Result<Vec<u8>, PkiError> {
        let spki = self.ask.spki();
        let extensions = vec![
            subject_key_identifier(&spki),
            authority_key_identifier(&self.ark.spki()),
            authority(Some(0)),
            key_usage_certificate_sign(),
            crl_distribution_point("ark.crl"),
        ];
        names(&ASK_SERIAL, ARK_COMMON_NAME, ASK_COMMON_NAME, &spki).issue(
            now,
            extensions,
            &self.ark,
            SignatureSpelling::PssWithTrailer,
        )
    }

    fn vcek_certificate(&self, now: u64) -> Result<Vec<u8>, PkiError> {
        let member =
            |arcs: &[u32], value: &[u8]| extension(&[&AMD[..], arcs].concat(), Criticality::Plain, value);
        let svn = |arc: u32, value: u8| member(&[3, arc], &integer_u64(u64::from(value)));
        let extensions = vec![
            member(&[1], &integer_u64(0)),
            member(&[2], &tlv(0x16, PRODUCT.as_bytes())),
            svn(1, TCB.bootloader),
            svn(2, TCB.tee),
            svn(4, 0),
            svn(5, 0),
            svn(6, 0),
            svn(7, 0),
            svn(3, TCB.snp),
            svn(8, TCB.microcode),
            // HWID is the bare 64 bytes, as in every real VCEK of Milan and Genoa.
            member(&[4], &self.chip_id()),
        ];
        let spki = self.vcek.spki();
        names(&[0], ASK_COMMON_NAME, VCEK_COMMON_NAME, &spki).issue(
            now,
            extensions,
            &self.ask,
            SignatureSpelling::Pss,
        )
    }
}

/// GUIDs of the GHCB specification (56421), table 6, in the order they are written.
const GUID_ARK: [u8; 16] = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128.to_be_bytes();
const GUID_ASK: [u8; 16] = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782_u128.to_be_bytes();
const GUID_VCEK: [u8; 16] = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes();

/// A certificate to be issued, with its names.
struct Names<'a> {
    serial: &'a [u8],
    issuer: Vec<u8>,
    subject: Vec<u8>,
    spki: &'a [u8],
}

fn names<'a>(serial: &'a [u8], issuer: &str, subject: &str, spki: &'a [u8]) -> Names<'a> {
    Names { serial, issuer: name(issuer), subject: name(subject), spki }
}

impl Names<'_> {
    fn issue(
        &self,
        now: u64,
        extensions: Vec<Vec<u8>>,
        issuer: &SigningKey,
        spelling: SignatureSpelling,
    ) -> Result<Vec<u8>, PkiError> {
        let spec = CertificateSpec {
            serial: self.serial,
            issuer: &self.issuer,
            subject: &self.subject,
            not_before: now.saturating_sub(CLOCK_SKEW_SECONDS),
            not_after: now + CERTIFICATE_SECONDS,
            spki: self.spki,
            extensions,
        };
        issue_certificate(&spec, issuer, spelling)
    }
}

fn put(report: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(field) = report.get_mut(offset..offset + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}
