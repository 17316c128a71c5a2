//! Reference values out of a CoRIM (draft-ietf-rats-corim-11): measurements of boxes, as whoever built them publishes them.
//!
//! What it is: reading `reference-triples` whose digests an appraisal policy can hold: MRTD and RTMR0 to RTMR2 of TDX, the
//! launch measurement of SEV-SNP; the check of a COSE signature by a key that the user names. What it is not: appraisal, or
//! an interpreter of profiles: what else a CoRIM says is handed back by name, never dropped silently.
//! Who trusts it: the command line, which writes the values where a person reads them.
//!
//! Environments: `vendor` Intel and `model` TDX with measurements keyed `mrtd`, `rtmr0`, `rtmr1`, `rtmr2`; AMD and SEV-SNP
//! with `measurement`; and the class identifiers and measurement key 0 of draft-deeglaze-amd-sev-snp-corim-profile-02,
//! section 3.1.

use std::collections::BTreeSet;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use casemate_verifier::{Measurement, UnixTime};
use corim::cbor::DecodeLimits;
use corim::document::{TimeCheck, ValidationContext, validate};
use corim::profile::ProfileRegistry;
use corim::types::common::{ClassIdChoice, MeasuredElement};
use corim::types::environment::{ClassMap, EnvironmentMap};
use corim::types::measurement::{Digest, IntegrityRegisterId, MeasurementMap, MeasurementValuesMap};
use corim::types::signed::{CoseAlgorithm, CoseSign1Corim};
use corim::types::triples::ReferenceTriple;

use crate::keys::{Point, PublicKey};

/// Largest CoRIM in bytes.
pub const CORIM_BYTES_MAX: usize = 1 << 20;
/// Most CBOR values in one, and most levels.
const CORIM_VALUES_MAX: usize = 100_000;
const CORIM_DEPTH_MAX: usize = 32;
/// SHA-384 in the registry of Named Information hash algorithms (RFC 6920), which CoRIM's digests use.
const SHA_384: i64 = 7;
/// Class identifiers of SEV-SNP by chip and by cloud (draft-deeglaze-amd-sev-snp-corim-profile-02, section 3.1.1).
const SNP_CLASSES: [[u8; 16]; 2] = [
    0xd05e_6d1b_9f46_4ae2_a610_ce3e_6ee7_e153_u128.to_be_bytes(),
    0x89a7_a1f0_e704_4faa_acbd_81c8_6df8_a961_u128.to_be_bytes(),
];

/// Whose CoRIM is taken.
#[derive(Debug, Clone)]
pub enum CorimSigner {
    /// The file has no signature: whoever gives it vouches for it.
    Unsigned,
    /// It is signed with one of these keys.
    Named(Vec<PublicKey>),
}

/// The values of one CoRIM. Each set may be empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferenceValues {
    /// Measurements of the initial contents of TDX boxes.
    pub mrtd: BTreeSet<Measurement>,
    /// Run-time measurement registers 0, 1 and 2.
    pub rtmr: [BTreeSet<Measurement>; 3],
    /// Launch measurements of SEV-SNP boxes.
    pub snp_measurement: BTreeSet<Measurement>,
    /// What the CoRIM says besides, one line each: a policy made of the values alone is wider by it.
    pub left_out: Vec<String>,
}

/// Why a CoRIM gives no reference values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorimError {
    /// Larger than [`CORIM_BYTES_MAX`].
    #[error("CoRIM of {found} bytes, at most {CORIM_BYTES_MAX} allowed")]
    TooLong {
        /// Its size.
        found: usize,
    },
    /// Not a CoRIM, or not one at this time.
    #[error("not a CoRIM that holds: {reason}")]
    Invalid {
        /// What the library said.
        reason: String,
    },
    /// It is signed, and no key was named.
    #[error("CoRIM is signed, and nobody is named whose signature is taken")]
    SignerNotNamed,
    /// A key was named, and it is not signed.
    #[error("CoRIM is not signed, and a signer is named")]
    NotSigned,
    /// None of the named keys signed it.
    #[error("CoRIM is not signed by a key that is named (algorithm {algorithm})")]
    Signature {
        /// Algorithm of its header.
        algorithm: String,
    },
    /// A digest of the right kind has another length.
    #[error("{register}: digest of {found} bytes where SHA-384 has 48")]
    DigestLength {
        /// Which register.
        register: &'static str,
        /// Its length.
        found: usize,
    },
    /// A register without a SHA-384 digest, or with two in one measurement.
    #[error("{register}: {found} SHA-384 digests in one measurement where one is expected")]
    Digests {
        /// Which register.
        register: &'static str,
        /// How many.
        found: usize,
    },
    /// No value that is read here.
    #[error("CoRIM has no measurement of a TDX or SEV-SNP box")]
    Nothing,
}

/// The reference values of the CoRIM in `bytes`, whose signer is as named and which holds at `now`.
///
/// # Errors
/// [`CorimError`].
pub fn read_corim(bytes: &[u8], signer: &CorimSigner, now: UnixTime) -> Result<ReferenceValues, CorimError> {
    if bytes.len() > CORIM_BYTES_MAX {
        return Err(CorimError::TooLong { found: bytes.len() });
    }
    let invalid = |error: &dyn std::fmt::Display| CorimError::Invalid { reason: error.to_string() };
    let registry = ProfileRegistry::new();
    let now = i64::try_from(now.0).map_err(|error| invalid(&error))?;
    let mut limits = DecodeLimits::default();
    limits.max_input_bytes = CORIM_BYTES_MAX;
    limits.max_values = CORIM_VALUES_MAX;
    limits.max_collection_items = CORIM_VALUES_MAX;
    limits.max_depth = CORIM_DEPTH_MAX;
    let context = ValidationContext::new(TimeCheck::At(now), &registry).with_limits(limits);
    let document = validate(bytes, &context).map_err(|error| invalid(&error))?;
    match (document.envelope(), signer) {
        (None, CorimSigner::Unsigned) => {}
        (None, CorimSigner::Named(_)) => return Err(CorimError::NotSigned),
        (Some(_), CorimSigner::Unsigned) => return Err(CorimError::SignerNotNamed),
        (Some(envelope), CorimSigner::Named(keys)) => require_signed_by(envelope, keys)?,
    }
    let mut values = ReferenceValues::default();
    for index in document.coverage().unexamined_tags() {
        values.left_out.push(format!("tag {index} of an unknown kind"));
    }
    let payload = document.payload();
    for (count, kind) in
        [(payload.cotls.len(), "lists of tags"), (payload.coswids.len(), "software identities")]
    {
        if count > 0 {
            values.left_out.push(format!("{count} {kind}"));
        }
    }
    if payload.corim.dependent_rims.is_some() {
        values.left_out.push("further manifests that it depends on".to_owned());
    }
    for comid in &payload.comids {
        let triples = &comid.triples;
        let others = [
            (triples.endorsed_triples.is_some(), "endorsed values"),
            (triples.identity_triples.is_some(), "identity keys"),
            (triples.attest_key_triples.is_some(), "attestation keys"),
            (triples.dependency_triples.is_some(), "dependencies"),
            (triples.membership_triples.is_some(), "memberships"),
            (triples.coswid_triples.is_some(), "software identities"),
            (triples.conditional_endorsement_series.is_some(), "conditional endorsements"),
            (triples.conditional_endorsement.is_some(), "conditional endorsements"),
        ];
        values.left_out.extend(others.iter().filter(|(there, _)| *there).map(|(_, what)| (*what).to_owned()));
        for triple in triples.reference_triples.iter().flatten() {
            values.take(triple)?;
        }
    }
    let sets = values.rtmr.iter().chain([&values.mrtd, &values.snp_measurement]);
    if sets.map(BTreeSet::len).sum::<usize>() == 0 {
        return Err(CorimError::Nothing);
    }
    Ok(values)
}

/// RFC 9052 section 4.4: over protected header and payload as received.
fn require_signed_by(envelope: &CoseSign1Corim, keys: &[PublicKey]) -> Result<(), CorimError> {
    let algorithm = envelope.protected().alg;
    let refused = || CorimError::Signature { algorithm: algorithm.name().to_owned() };
    let signed = envelope.to_be_signed(&[]).map_err(|_| refused())?;
    let by = |key: &PublicKey| match (algorithm, &key.point) {
        (CoseAlgorithm::Es256 | CoseAlgorithm::Esp256, Point::P256(point)) => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(&signed, &envelope.signature)
                .is_ok()
        }
        (CoseAlgorithm::Es384 | CoseAlgorithm::Esp384, Point::P384(point)) => {
            UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
                .verify(&signed, &envelope.signature)
                .is_ok()
        }
        _ => false,
    };
    if keys.iter().any(by) { Ok(()) } else { Err(refused()) }
}

/// Which boxes an environment is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Environment {
    Tdx,
    /// By names.
    Snp,
    /// By the class identifiers of AMD's profile.
    SnpProfile,
}

/// A register that a policy has a list for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Mrtd,
    Rtmr(usize),
    Snp,
}

impl Register {
    const fn name(self) -> &'static str {
        match self {
            Self::Mrtd => "mrtd",
            Self::Rtmr(0) => "rtmr0",
            Self::Rtmr(1) => "rtmr1",
            Self::Rtmr(_) => "rtmr2",
            Self::Snp => "measurement",
        }
    }

    fn of(environment: Environment, key: &MeasuredElement) -> Option<Self> {
        match (environment, key) {
            (Environment::Tdx, MeasuredElement::Text(name)) => Self::of_tdx(name),
            (Environment::Snp, MeasuredElement::Text(name)) if name == "measurement" => Some(Self::Snp),
            (Environment::SnpProfile, MeasuredElement::Uint(0)) => Some(Self::Snp),
            _ => None,
        }
    }

    fn of_tdx(name: &str) -> Option<Self> {
        [Self::Mrtd, Self::Rtmr(0), Self::Rtmr(1), Self::Rtmr(2)]
            .into_iter()
            .find(|register| register.name() == name)
    }
}

impl ReferenceValues {
    fn take(&mut self, triple: &ReferenceTriple) -> Result<(), CorimError> {
        let environment = triple.environment();
        let named = describe(environment);
        let Some(kind) = kind_of(environment.class.as_ref()) else {
            self.left_out.push(format!("reference values of {named}"));
            return Ok(());
        };
        if environment.instance.is_some() || environment.group.is_some() {
            self.left_out.push(format!("that values of {named} are those of one instance or group"));
        }
        for measurement in triple.measurements() {
            self.take_measurement(kind, &named, measurement)?;
        }
        Ok(())
    }

    fn take_measurement(
        &mut self,
        environment: Environment,
        named: &str,
        measurement: &MeasurementMap,
    ) -> Result<(), CorimError> {
        let key = measurement.mkey.as_ref();
        if measurement.authorized_by.is_some() {
            self.left_out.push(format!("who may have measured {named}"));
        }
        if let Some(register) = key.and_then(|key| Register::of(environment, key)) {
            match &measurement.mval.digests {
                Some(digests) => self.insert(register, digests)?,
                None => return Err(CorimError::Digests { register: register.name(), found: 0 }),
            }
            if says_more_than(&measurement.mval, |only, all| only.digests.clone_from(&all.digests)) {
                self.left_out.push(format!("values of {named}, {}, besides its digest", register.name()));
            }
            return Ok(());
        }
        match (&measurement.mval.integrity_registers, environment) {
            (Some(registers), Environment::Tdx) => {
                for (id, digests) in &registers.0 {
                    match register_of_id(id) {
                        Some(register) => self.insert(register, digests)?,
                        None => self.left_out.push(format!("integrity register {id:?} of {named}")),
                    }
                }
                let only = |only: &mut MeasurementValuesMap, all: &MeasurementValuesMap| {
                    only.integrity_registers.clone_from(&all.integrity_registers);
                };
                if says_more_than(&measurement.mval, only) {
                    self.left_out.push(format!("values of {named} besides its integrity registers"));
                }
            }
            _ => {
                let key = key.map_or_else(|| "without a key".to_owned(), |key| format!("{key:?}"));
                self.left_out.push(format!("measurement {key} of {named}"));
            }
        }
        Ok(())
    }

    fn insert(&mut self, register: Register, digests: &[Digest]) -> Result<(), CorimError> {
        let name = register.name();
        let is_sha_384 = |digest: &&Digest| {
            digest.alg().as_int() == Some(SHA_384) || digest.alg().as_text() == Some("sha-384")
        };
        let found: Vec<&Digest> = digests.iter().filter(is_sha_384).collect();
        let [digest] = found.as_slice() else {
            return Err(CorimError::Digests { register: name, found: found.len() });
        };
        let bytes: [u8; 48] = digest
            .value()
            .try_into()
            .map_err(|_| CorimError::DigestLength { register: name, found: digest.value().len() })?;
        let set = match register {
            Register::Mrtd => Some(&mut self.mrtd),
            Register::Rtmr(number) => self.rtmr.get_mut(number),
            Register::Snp => Some(&mut self.snp_measurement),
        };
        if let Some(set) = set {
            set.insert(Measurement(bytes));
        }
        Ok(())
    }
}

/// Whether a measurement has values besides those that `keep` copies.
fn says_more_than(
    all: &MeasurementValuesMap,
    keep: impl Fn(&mut MeasurementValuesMap, &MeasurementValuesMap),
) -> bool {
    let mut only = MeasurementValuesMap::new();
    keep(&mut only, all);
    only != *all
}

fn register_of_id(id: &IntegrityRegisterId) -> Option<Register> {
    match id {
        IntegrityRegisterId::Text(name) => Register::of_tdx(name),
        IntegrityRegisterId::Uint(number @ 0..=2) => usize::try_from(*number).ok().map(Register::Rtmr),
        _ => None,
    }
}

fn kind_of(class: Option<&ClassMap>) -> Option<Environment> {
    let ClassMap { class_id, vendor, model, layer: None, index: None } = class? else { return None };
    match (class_id, vendor.as_deref(), model.as_deref()) {
        (None, Some("Intel" | "Intel Corporation"), Some("TDX")) => Some(Environment::Tdx),
        (None, Some("AMD"), Some("SEV-SNP")) => Some(Environment::Snp),
        (Some(ClassIdChoice::Uuid(uuid)), None, None) if SNP_CLASSES.contains(uuid) => {
            Some(Environment::SnpProfile)
        }
        _ => None,
    }
}

fn describe(environment: &EnvironmentMap) -> String {
    let Some(class) = &environment.class else { return "an environment without a class".to_owned() };
    let vendor = class.vendor.as_deref().unwrap_or("no vendor");
    let model = class.model.as_deref().unwrap_or("no model");
    match &class.class_id {
        Some(id) => format!("class {id:?}"),
        None => format!("{vendor} {model}"),
    }
}

#[cfg(test)]
#[path = "reference_values_tests.rs"]
mod tests;
