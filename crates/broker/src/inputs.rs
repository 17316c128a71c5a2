//! Policy and endorsements: read from their files anew for each evidence, so that an edit takes effect at once.
//!
//! What it is: bounded reading and parsing. What it is not: a default: where a file is malformed, nothing is accepted
//! until it is mended. Endorsements that were verified are kept while their file holds the very same bytes. Who trusts it: `serve`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use casemate_canon::Sha256;
use casemate_endorsements::{BUNDLE_BYTES_MAX, BundleError, Collateral};
use casemate_protocol::Refusal;
use casemate_verifier::{Policy, PolicyError, VerifiedCollateral};

/// Largest policy file in bytes.
const POLICY_BYTES_MAX: usize = 1 << 20;

/// Why policy or endorsements cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputsError {
    /// The policy is malformed.
    #[error("{}:{error}", path.display())]
    Policy {
        /// File.
        path: PathBuf,
        /// Line, column, what.
        error: PolicyError,
    },
    /// The bundle is malformed.
    #[error("{}: {error}", path.display())]
    Bundle {
        /// File.
        path: PathBuf,
        /// What is wrong.
        error: BundleError,
    },
    /// Nobody who may signed the bundle.
    #[error("{}: {refusal}", path.display())]
    Signer {
        /// File.
        path: PathBuf,
        /// By rule `collateral.signer`.
        refusal: Refusal,
    },
    /// Not UTF-8.
    #[error("{}:1:1: not UTF-8 text", path.display())]
    NotText {
        /// File.
        path: PathBuf,
    },
    /// Too long.
    #[error("{}: more than {max} bytes", path.display())]
    TooLong {
        /// File.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
    /// Cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// File.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl InputsError {
    /// What a client is told: neither where the files lie nor what is in them.
    pub(crate) fn outward(&self) -> &'static str {
        match self {
            Self::Policy { .. } => "a malformed policy",
            Self::Bundle { .. } => "a malformed bundle",
            Self::Signer { .. } => "a bundle of another signer",
            Self::NotText { .. } | Self::TooLong { .. } | Self::Io { .. } => "a file that cannot be read",
        }
    }

    /// What to do about it.
    pub(crate) fn todo(&self) -> &str {
        match self {
            Self::Policy { error, .. } => &error.todo,
            Self::Bundle { .. } => "make the bundle anew with `casemate bundle create`",
            Self::Signer { .. } => {
                "make the bundle anew with `casemate bundle create --sign-key`, or name its signer"
            }
            Self::NotText { .. } | Self::TooLong { .. } => "give a policy file and a bundle",
            Self::Io { .. } => "check path and permissions",
        }
    }
}

/// Where policy and endorsements lie.
#[derive(Debug, Clone)]
pub(crate) struct InputFiles {
    /// Policy (TOML).
    pub(crate) policy: PathBuf,
    /// Bundle (JSON).
    pub(crate) bundle: PathBuf,
    /// Who may have signed the bundle; empty where anybody may have made it.
    pub(crate) bundle_signers: Vec<Sha256>,
}

/// Endorsements whose signatures were checked, the digest of the file that they came from, and the signers that the policy
/// named when it was read.
pub(crate) struct HeldCollateral {
    digest: Sha256,
    signers: Vec<Sha256>,
    collateral: VerifiedCollateral,
}

impl InputFiles {
    /// The policy as it is now.
    pub(crate) fn policy(&self) -> Result<Policy, InputsError> {
        let path = &self.policy;
        let text = String::from_utf8(read_bounded(path, POLICY_BYTES_MAX)?)
            .map_err(|_| InputsError::NotText { path: path.clone() })?;
        Policy::parse(&text).map_err(|error| InputsError::Policy { path: path.clone(), error })
    }

    /// The endorsements as they are now, if command line and policy accept who signed them.
    pub(crate) fn collateral(&self, policy: &Policy) -> Result<Collateral, InputsError> {
        self.read_collateral(&read_bounded(&self.bundle, BUNDLE_BYTES_MAX)?, policy)
    }

    /// Likewise, with their signatures checked. What was verified before is kept until the file holds other bytes, or the
    /// policy names other signers.
    pub(crate) fn verified<'v>(
        &self,
        held: &'v mut Option<HeldCollateral>,
        policy: &Policy,
    ) -> Result<&'v mut VerifiedCollateral, InputsError> {
        let bytes = read_bounded(&self.bundle, BUNDLE_BYTES_MAX)?;
        let digest = Sha256::of(&bytes);
        let signers = policy.values().bundle_signers.clone();
        let collateral = match held.take() {
            Some(kept) if kept.digest == digest && kept.signers == signers => kept.collateral,
            _ => VerifiedCollateral::verify(&self.read_collateral(&bytes, policy)?),
        };
        Ok(&mut held.insert(HeldCollateral { digest, signers, collateral }).collateral)
    }

    fn read_collateral(&self, bytes: &[u8], policy: &Policy) -> Result<Collateral, InputsError> {
        let path = &self.bundle;
        let bundle = casemate_endorsements::read(bytes)
            .map_err(|error| InputsError::Bundle { path: path.clone(), error })?;
        bundle
            .accept(&[&self.bundle_signers, &policy.values().bundle_signers])
            .map_err(|refusal| InputsError::Signer { path: path.clone(), refusal })
    }
}

fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, InputsError> {
    let failed = |error| InputsError::Io { path: path.to_owned(), error };
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() > max {
        return Err(InputsError::TooLong { path: path.to_owned(), max });
    }
    Ok(bytes)
}
