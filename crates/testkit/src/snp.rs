//! The SEV-SNP side: ARK, ASK, VCEK, attestation reports, certificate table.
//!
//! What it is: AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230) and
//! "SEV Secure Nested Paging Firmware ABI Specification" (56860), under a development ARK: a chip of product Genoa with
//! reports of version 3, and for tests of every product, key and version that there is, or with one chosen defect. What
//! it is not: AMD's. The common names are AMD's, because they name product and role; every organisation says that this
//! is development.

use aws_lc_rs::digest::{SHA256, SHA512, digest};

use crate::der_out::{integer_u64, tlv};
use crate::keys::{KeyKind, SigningKey};
use crate::x509::{
    CertificateSpec, Criticality, CrlSpec, SignatureSpelling, authority, authority_key_identifier,
    crl_distribution_point, extension, issue_certificate, issue_crl, key_usage_authority,
    key_usage_certificate_sign, name, subject_key_identifier,
};
use crate::{CERTIFICATE_SECONDS, CLOCK_SKEW_SECONDS, COLLATERAL_SECONDS, CollateralSpec, PkiError, Revoked};

/// Product that the pretended chip belongs to.
pub const PRODUCT: &str = "Genoa";
/// Length of an attestation report in bytes.
pub const REPORT_BYTES: usize = 1184;

/// Serial number of every VCEK and VLEK of AMD.
const VEK_SERIAL: [u8; 1] = [0];
const AMD: [u32; 8] = [1, 3, 6, 1, 4, 1, 3704, 1];

/// Where the fields of the report stand (56860, table "ATTESTATION_REPORT").
const SIGNED_BYTES: usize = 0x2a0;

/// A product of AMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpGeneration {
    /// Zen 3.
    Milan,
    /// Zen 4.
    Genoa,
    /// Zen 5.
    Turin,
}

impl SnpGeneration {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// AMD's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }

    /// CPUID family, model and stepping of a processor of this product.
    #[must_use]
    pub const fn cpuid(self) -> [u8; 3] {
        match self {
            Self::Milan => [0x19, 0x01, 0x01],
            Self::Genoa => [0x19, 0x11, 0x01],
            Self::Turin => [0x1a, 0x02, 0x01],
        }
    }

    /// First byte of the serial numbers of AMD's ARK, ASK and ASVK.
    const fn serial(self) -> u8 {
        match self {
            Self::Milan => 1,
            Self::Genoa => 2,
            Self::Turin => 3,
        }
    }
}

/// Which kind of key signs reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpKey {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key.
    Vlek,
}

/// Cloud that a development VLEK is lent to.
pub const CLOUD: &str = "CN=cloud.casemate-development.invalid";

/// TCB_VERSION, each component by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnpTcb {
    /// First mutable code; Turin only.
    pub fmc: u8,
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
pub const TCB: SnpTcb = SnpTcb { fmc: 0, bootloader: 0x0a, tee: 0, snp: 0x17, microcode: 0x54 };

impl SnpTcb {
    /// Eight bytes as in a report of this product.
    #[must_use]
    pub const fn to_bytes(self, generation: SnpGeneration) -> [u8; 8] {
        let Self { fmc, bootloader, tee, snp, microcode } = self;
        match generation {
            SnpGeneration::Milan | SnpGeneration::Genoa => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            SnpGeneration::Turin => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        }
    }
}

/// What the certificates and the CRL of a pretended chip say. Start from [`SnpSpec::new`] and change one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpSpec {
    /// Common name of the ARK.
    pub ark_name: String,
    /// Serial number of the ARK.
    pub ark_serial: Vec<u8>,
    /// Common name of the ASK or ASVK.
    pub ask_name: String,
    /// Serial number of the ASK or ASVK.
    pub ask_serial: Vec<u8>,
    /// Common name of the VCEK or VLEK.
    pub vek_name: String,
    /// First and last second of the ARK, the ASK or ASVK, and the VCEK or VLEK.
    pub valid: [(u64, u64); 3],
    /// AMD's extensions of the VCEK or VLEK: what follows 1.3.6.1.4.1.3704.1, and the content.
    pub extensions: Vec<(Vec<u32>, Vec<u8>)>,
    /// thisUpdate and nextUpdate of the CRL.
    pub crl_valid: (u64, u64),
    /// Serial numbers that the CRL names.
    pub revoked: Vec<Vec<u8>>,
}

impl SnpSpec {
    /// Good ones, as AMD issues them for this product and kind of key. A VCEK is valid for seven years, a VLEK for one.
    #[must_use]
    pub fn new(pki: &SnpPki, generation: SnpGeneration, key: SnpKey, tcb: SnpTcb, now: u64) -> Self {
        let name = generation.name();
        let from = now.saturating_sub(CLOCK_SKEW_SECONDS);
        let years = |years: u64| (from, now + years * 365 * 24 * 3600);
        let serial = |low: u8| vec![generation.serial(), u8::from(key == SnpKey::Vlek), low];
        let turin = generation == SnpGeneration::Turin;
        let spl = |arc: u32, value: u8| (vec![3, arc], integer_u64(u64::from(value)));
        let mut extensions = vec![
            (vec![1], integer_u64(u64::from(turin))),
            (vec![2], tlv(0x16, name.as_bytes())),
            spl(1, tcb.bootloader),
            spl(2, tcb.tee),
            if turin { spl(9, tcb.fmc) } else { spl(4, 0) },
            spl(5, 0),
            spl(6, 0),
            spl(7, 0),
            spl(3, tcb.snp),
            spl(8, tcb.microcode),
        ];
        extensions.push(match key {
            // HWID is the bare bytes, as in every real VCEK that is known.
            SnpKey::Vcek => (vec![4], pki.hwid(generation)),
            SnpKey::Vlek => (vec![5], tlv(0x16, CLOUD.as_bytes())),
        });
        Self {
            ark_name: format!("ARK-{name}"),
            ark_serial: vec![generation.serial(), 0, 0],
            ask_name: match key {
                SnpKey::Vcek => format!("SEV-{name}"),
                SnpKey::Vlek => format!("SEV-VLEK-{name}"),
            },
            ask_serial: match (key, generation) {
                (SnpKey::Vcek, SnpGeneration::Genoa) => serial(2),
                _ => serial(1),
            },
            vek_name: if key == SnpKey::Vlek { "SEV-VLEK".into() } else { "SEV-VCEK".into() },
            valid: [years(10), years(10), if key == SnpKey::Vlek { years(1) } else { years(7) }],
            extensions,
            crl_valid: (from, now + COLLATERAL_SECONDS),
            revoked: vec![],
        }
    }
}

/// What a report says. All fields are public: a test may say anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpBody {
    /// Version of the report: from 3 on it names the processor, from 5 on the mitigations.
    pub version: u32,
    /// Product that the report's layout and processor are of.
    pub generation: SnpGeneration,
    /// KEY_INFO: bit 0 author key, bit 1 chip key masked, bits 4:2 the signing key (0 VCEK, 1 VLEK).
    pub key_info: u32,
    /// Security version that the guest's owner gave.
    pub guest_svn: u32,
    /// CHIP_ID; none: that of the pretended chip.
    pub chip_id: Option<[u8; 64]>,
    /// Firmware version: build, minor, major; current and committed.
    pub firmware: [[u8; 3]; 2],
    /// Mitigations at launch and now; from version 5 on.
    pub mitigations: [u64; 2],
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
            version: 3,
            generation: SnpGeneration::Genoa,
            key_info: 0,
            guest_svn: 0,
            chip_id: None,
            firmware: [[39, 55, 1]; 2],
            mitigations: [3; 2],
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
        let until = now + CERTIFICATE_SECONDS;
        let from = now.saturating_sub(CLOCK_SKEW_SECONDS);
        let spec = SnpSpec {
            valid: [(from, until); 3],
            ..SnpSpec::new(&pki, SnpGeneration::Genoa, SnpKey::Vcek, TCB, now)
        };
        pki.collateral = pki.certify(&spec)?;
        Ok(pki)
    }

    /// Certificates and a CRL under this PKI's keys, correctly signed, that say what `spec` says.
    ///
    /// # Errors
    /// [`PkiError::Crypto`], [`PkiError::Time`].
    pub fn certify(&self, spec: &SnpSpec) -> Result<SnpCollateralParts, PkiError> {
        Ok(SnpCollateralParts {
            ark: self.ark_certificate(spec)?,
            ask: self.ask_certificate(spec)?,
            vek: self.vek_certificate(spec)?,
            crl: self.crl_of(spec)?,
        })
    }

    /// Identifier of the pretended chip of product Genoa: HWID in the VCEK, CHIP_ID in the report.
    #[must_use]
    pub fn chip_id(&self) -> Vec<u8> {
        self.hwid(SnpGeneration::Genoa)
    }

    /// HWID of the pretended chip: 64 bytes, on Turin 8.
    #[must_use]
    pub fn hwid(&self, generation: SnpGeneration) -> Vec<u8> {
        let bytes = if generation == SnpGeneration::Turin { 8 } else { 64 };
        digest(&SHA512, &self.vcek.spki()).as_ref().iter().copied().take(bytes).collect()
    }

    /// A correctly signed report.
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
        let good = SnpSpec::new(self, SnpGeneration::Genoa, SnpKey::Vcek, TCB, spec.issued_at);
        // AMD's CRL is the root's: it can name the ASK only, since every VCEK has serial number 0.
        let revoked = match spec.revoked {
            Revoked::Intermediate => vec![good.ask_serial.clone()],
            Revoked::None | Revoked::Leaf | Revoked::CollateralSigner => vec![],
        };
        self.crl_of(&SnpSpec { crl_valid: (spec.issued_at, spec.next_update), revoked, ..good })
    }

    fn crl_of(&self, spec: &SnpSpec) -> Result<Vec<u8>, PkiError> {
        let crl = CrlSpec {
            issuer: &name(&spec.ark_name),
            issuer_spki: &self.ark.spki(),
            this_update: spec.crl_valid.0,
            next_update: spec.crl_valid.1,
            number: 1,
            revoked_serials: spec.revoked.clone(),
        };
        issue_crl(&crl, &self.ark, SignatureSpelling::Pss)
    }

    fn fill(&self, report: &mut [u8], body: &SnpBody) {
        let tcb = |tcb: SnpTcb| tcb.to_bytes(body.generation);
        put(report, 0x00, &body.version.to_le_bytes());
        put(report, 0x04, &body.guest_svn.to_le_bytes());
        put(report, 0x08, &body.policy.to_le_bytes());
        put(report, 0x30, &body.vmpl.to_le_bytes());
        // Signature algorithm 1: ECDSA P-384 with SHA-384.
        put(report, 0x34, &1u32.to_le_bytes());
        put(report, 0x38, &tcb(body.current_tcb));
        put(report, 0x40, &body.platform_info.to_le_bytes());
        put(report, 0x48, &body.key_info.to_le_bytes());
        put(report, 0x50, &body.report_data);
        put(report, 0x90, &body.measurement);
        put(report, 0xc0, &body.host_data);
        put(report, 0x140, digest(&SHA256, b"casemate development guest").as_ref());
        // No migration agent.
        put(report, 0x160, &[0xff; 32]);
        put(report, 0x180, &tcb(body.reported_tcb));
        if body.version >= 3 {
            put(report, 0x188, &body.generation.cpuid());
        }
        match &body.chip_id {
            Some(chip_id) => put(report, 0x1a0, chip_id),
            None => put(report, 0x1a0, &self.hwid(body.generation)),
        }
        put(report, 0x1e0, &tcb(body.committed_tcb));
        for (offset, version) in [0x1e8, 0x1ec].into_iter().zip(&body.firmware) {
            put(report, offset, version);
        }
        put(report, 0x1f0, &tcb(body.launch_tcb));
        if body.version >= 5 {
            for (offset, vector) in [0x1f8, 0x200].into_iter().zip(&body.mitigations) {
                put(report, offset, &vector.to_le_bytes());
            }
        }
    }

    fn ark_certificate(&self, spec: &SnpSpec) -> Result<Vec<u8>, PkiError> {
        let spki = self.ark.spki();
        let extensions = vec![
            key_usage_authority(),
            subject_key_identifier(&spki),
            authority(None),
            crl_distribution_point("ark.crl"),
        ];
        let [valid, ..] = spec.valid;
        names(&spec.ark_serial, &spec.ark_name, &spec.ark_name, &spki).issue(
            valid,
            extensions,
            &self.ark,
            SignatureSpelling::PssWithTrailer,
        )
    }

    fn ask_certificate(&self, spec: &SnpSpec) -> Result<Vec<u8>, PkiError> {
        let spki = self.ask.spki();
        let extensions = vec![
            subject_key_identifier(&spki),
            authority_key_identifier(&self.ark.spki()),
            authority(Some(0)),
            key_usage_certificate_sign(),
            crl_distribution_point("ark.crl"),
        ];
        let [_, valid, _] = spec.valid;
        names(&spec.ask_serial, &spec.ark_name, &spec.ask_name, &spki).issue(
            valid,
            extensions,
            &self.ark,
            SignatureSpelling::PssWithTrailer,
        )
    }

    fn vek_certificate(&self, spec: &SnpSpec) -> Result<Vec<u8>, PkiError> {
        let member = |(arcs, value): &(Vec<u32>, Vec<u8>)| {
            extension(&[&AMD[..], arcs.as_slice()].concat(), Criticality::Plain, value)
        };
        let extensions = spec.extensions.iter().map(member).collect();
        let [.., valid] = spec.valid;
        names(&VEK_SERIAL, &spec.ask_name, &spec.vek_name, &self.vcek.spki()).issue(
            valid,
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
        (not_before, not_after): (u64, u64),
        extensions: Vec<Vec<u8>>,
        issuer: &SigningKey,
        spelling: SignatureSpelling,
    ) -> Result<Vec<u8>, PkiError> {
        let spec = CertificateSpec {
            serial: self.serial,
            issuer: &self.issuer,
            subject: &self.subject,
            not_before,
            not_after,
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
