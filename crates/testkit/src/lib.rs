//! A development PKI for Intel TDX and AMD SEV-SNP, and evidence signed under it.
//!
//! What it is: keys, certificates, CRLs, TCB information, TDX quotes and SNP reports, structurally what the vendors
//! issue and correctly signed, for the emulator and for tests, valid or with one chosen defect. What it is not:
//! hardware, or part of any shipped program. Who trusts it: nobody but a policy that names the development root, and
//! every result of such an appraisal says `simulated`. The private keys lie in a directory in clear.

mod der_out;
mod error;
mod keys;
mod snp;
mod store;
mod tdx_collateral;
mod tdx_pki;
mod tdx_quote;
pub mod vectors;
mod x509;

use std::fmt;
use std::path::Path;

use casemate_canon::Sha256;
use serde::{Deserialize, Serialize};

pub use error::PkiError;
pub use snp::{
    CLOUD, PRODUCT, REPORT_BYTES, SnpBody, SnpCollateralParts, SnpGeneration, SnpKey, SnpPki, SnpSpec,
    SnpTcb, TCB,
};
pub use tdx_collateral::TdxCollateralParts;
pub use tdx_pki::{FMSPC, PCE_ID, PCE_SVN, SGX_TCB_COMPONENTS, TDX_ROOT_COMMON_NAME, TdxPki};
pub use tdx_quote::{QE_MRSIGNER, QuoteParts, TD_ATTRIBUTES, TEE_TCB_SVN, TdBody, XFAM};

use keys::KeyKind;
use store::{Manifest, Store};

/// Organisation in every name of every development certificate.
pub const ORGANISATION: &str = "Casemate Development";
/// How long certificates are valid: ten years.
pub const CERTIFICATE_SECONDS: u64 = 10 * 365 * 24 * 3600;
/// How long collateral is valid: thirty days, as Intel's.
pub const COLLATERAL_SECONDS: u64 = 30 * 24 * 3600;
/// Validity begins this long before the time given, so that a clock a little behind does not refuse.
pub(crate) const CLOCK_SKEW_SECONDS: u64 = 3600;

/// Kind of trusted execution environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tee {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
}

impl fmt::Display for Tee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tdx => "tdx",
            Self::Snp => "snp",
        })
    }
}

/// Which certificate freshly issued CRLs revoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked {
    /// None.
    None,
    /// The PCK certificate. (AMD's CRL cannot name a VCEK: nothing for SNP.)
    Leaf,
    /// The PCK platform CA, or the ASK.
    Intermediate,
    /// The TCB signer. (Nothing for SNP.)
    CollateralSigner,
}

/// How collateral is to be issued. Start from [`CollateralSpec::at`] and change one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralSpec {
    /// Unix seconds: issueDate, thisUpdate.
    pub issued_at: u64,
    /// Unix seconds: nextUpdate.
    pub next_update: u64,
    /// What the CRLs revoke.
    pub revoked: Revoked,
    /// Status of the platform's TCB level.
    pub platform_status: String,
    /// Status of the TDX module's TCB level.
    pub module_status: String,
    /// Status of the quoting enclave's TCB level.
    pub qe_status: String,
    /// tcbEvaluationDataNumber.
    pub tcb_evaluation_data_number: u32,
}

impl CollateralSpec {
    /// Good collateral, valid from an hour before `now` for thirty days.
    #[must_use]
    pub fn at(now: u64) -> Self {
        Self {
            issued_at: now.saturating_sub(CLOCK_SKEW_SECONDS),
            next_update: now + COLLATERAL_SECONDS,
            revoked: Revoked::None,
            platform_status: "UpToDate".into(),
            module_status: "UpToDate".into(),
            qe_status: "UpToDate".into(),
            tcb_evaluation_data_number: 18,
        }
    }
}

/// Collateral of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollateralParts {
    /// For TDX.
    Tdx(TdxCollateralParts),
    /// For SEV-SNP.
    Snp(SnpCollateralParts),
}

/// A development PKI. No `Debug`: it holds private keys.
#[derive(Clone)]
pub enum DevPki {
    /// For TDX.
    Tdx(Box<TdxPki>),
    /// For SEV-SNP.
    Snp(Box<SnpPki>),
}

impl DevPki {
    /// New keys, certificates and collateral; `now` in unix seconds. SNP takes seconds: two RSA-4096 keys.
    ///
    /// # Errors
    /// [`PkiError::Crypto`], [`PkiError::Time`].
    pub fn generate(tee: Tee, now: u64) -> Result<Self, PkiError> {
        Ok(match tee {
            Tee::Tdx => Self::Tdx(Box::new(TdxPki::generate(now)?)),
            Tee::Snp => Self::Snp(Box::new(SnpPki::generate(now)?)),
        })
    }

    /// The PKI stored in `dir`. Collateral that is not valid at `now` is issued anew and stored.
    ///
    /// # Errors
    /// [`PkiError::Missing`] where there is none; [`PkiError::CertificatesNotValid`] after ten years, or before its time.
    pub fn load(dir: &Path, now: u64) -> Result<Self, PkiError> {
        if !dir.is_dir() {
            return Err(PkiError::Missing { path: dir.to_owned() });
        }
        Self::load_from(&Store::open(dir)?, now)
    }

    /// The PKI stored in `dir`, which is made, mode 0700, where it does not exist.
    ///
    /// # Errors
    /// As [`Self::load`]; [`PkiError::WrongTee`] where the directory holds one of another kind.
    pub fn load_or_generate(dir: &Path, tee: Tee, now: u64) -> Result<Self, PkiError> {
        let store = Store::open(dir)?;
        match Self::load_from(&store, now) {
            Err(PkiError::Missing { .. }) => {
                let pki = Self::generate(tee, now)?;
                pki.save(&store, now)?;
                Ok(pki)
            }
            Ok(pki) if pki.tee() != tee => Err(PkiError::WrongTee { expected: tee, found: pki.tee() }),
            other => other,
        }
    }

    /// Which kind it is.
    #[must_use]
    pub fn tee(&self) -> Tee {
        match self {
            Self::Tdx(_) => Tee::Tdx,
            Self::Snp(_) => Tee::Snp,
        }
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo: how a policy names the development root.
    #[must_use]
    pub fn root_spki_sha256(&self) -> Sha256 {
        match self {
            Self::Tdx(pki) => Sha256::of(&pki.root.spki()),
            Self::Snp(pki) => Sha256::of(&pki.ark.spki()),
        }
    }

    /// The collateral issued last.
    #[must_use]
    pub fn collateral(&self) -> CollateralParts {
        match self {
            Self::Tdx(pki) => CollateralParts::Tdx(pki.collateral.clone()),
            Self::Snp(pki) => CollateralParts::Snp(pki.collateral.clone()),
        }
    }

    /// Collateral issued as `spec` says. The PKI keeps its own.
    ///
    /// # Errors
    /// [`PkiError::Crypto`], [`PkiError::Time`].
    pub fn collateral_with(&self, spec: &CollateralSpec) -> Result<CollateralParts, PkiError> {
        Ok(match self {
            Self::Tdx(pki) => CollateralParts::Tdx(tdx_collateral::issue(pki, spec)?),
            Self::Snp(pki) => {
                CollateralParts::Snp(SnpCollateralParts { crl: pki.crl(spec)?, ..pki.collateral.clone() })
            }
        })
    }

    /// The TDX side.
    ///
    /// # Errors
    /// [`PkiError::WrongTee`].
    pub fn tdx(&self) -> Result<&TdxPki, PkiError> {
        match self {
            Self::Tdx(pki) => Ok(pki),
            Self::Snp(_) => Err(PkiError::WrongTee { expected: Tee::Tdx, found: Tee::Snp }),
        }
    }

    /// The SEV-SNP side.
    ///
    /// # Errors
    /// [`PkiError::WrongTee`].
    pub fn snp(&self) -> Result<&SnpPki, PkiError> {
        match self {
            Self::Snp(pki) => Ok(pki),
            Self::Tdx(_) => Err(PkiError::WrongTee { expected: Tee::Snp, found: Tee::Tdx }),
        }
    }

    /// A correctly signed TDX quote.
    ///
    /// # Errors
    /// [`PkiError::WrongTee`], [`PkiError::Crypto`].
    pub fn tdx_quote(&self, body: &TdBody) -> Result<Vec<u8>, PkiError> {
        self.tdx()?.quote(body)
    }

    /// A correctly signed SNP report.
    ///
    /// # Errors
    /// [`PkiError::WrongTee`], [`PkiError::Crypto`].
    pub fn snp_report(&self, body: &SnpBody) -> Result<Vec<u8>, PkiError> {
        self.snp()?.report(body)
    }

    /// ARK, ASK and VCEK as the host hands them to a guest.
    ///
    /// # Errors
    /// [`PkiError::WrongTee`].
    pub fn snp_certificate_table(&self) -> Result<Vec<u8>, PkiError> {
        Ok(self.snp()?.certificate_table())
    }

    fn load_from(store: &Store, now: u64) -> Result<Self, PkiError> {
        let manifest = store.manifest()?;
        let (from, until) = (manifest.certificates_from, manifest.certificates_until);
        if !(from..=until).contains(&now) {
            return Err(PkiError::CertificatesNotValid { from, until, now });
        }
        let mut pki = match manifest.tee {
            Tee::Tdx => Self::Tdx(Box::new(read_tdx(store)?)),
            Tee::Snp => Self::Snp(Box::new(read_snp(store)?)),
        };
        if !(manifest.collateral_from..=manifest.collateral_until).contains(&now) {
            pki.renew_collateral(now)?;
            pki.save_collateral(store)?;
            let spec = CollateralSpec::at(now);
            store.write_manifest(&Manifest {
                collateral_from: spec.issued_at,
                collateral_until: spec.next_update,
                ..manifest
            })?;
        }
        Ok(pki)
    }

    fn renew_collateral(&mut self, now: u64) -> Result<(), PkiError> {
        let spec = CollateralSpec::at(now);
        match self {
            Self::Tdx(pki) => pki.collateral = tdx_collateral::issue(pki, &spec)?,
            Self::Snp(pki) => pki.collateral.crl = pki.crl(&spec)?,
        }
        Ok(())
    }

    fn save(&self, store: &Store, now: u64) -> Result<(), PkiError> {
        let files: Vec<(&str, &[u8])> = match self {
            Self::Tdx(pki) => vec![
                ("root.p8", pki.root.pkcs8()),
                ("platform.p8", pki.platform.pkcs8()),
                ("pck.p8", pki.pck.pkcs8()),
                ("tcb-signer.p8", pki.tcb_signer.pkcs8()),
                ("attestation.p8", pki.attestation.pkcs8()),
                ("root.der", &pki.root_certificate),
                ("platform.der", &pki.platform_certificate),
                ("pck.der", &pki.pck_certificate),
                ("tcb-signer.der", &pki.tcb_signer_certificate),
            ],
            Self::Snp(pki) => vec![
                ("ark.p8", pki.ark.pkcs8()),
                ("ask.p8", pki.ask.pkcs8()),
                ("vcek.p8", pki.vcek.pkcs8()),
                ("ark.der", &pki.collateral.ark),
                ("ask.der", &pki.collateral.ask),
                ("vcek.der", &pki.collateral.vek),
            ],
        };
        for (name, bytes) in files {
            store.write(name, bytes)?;
        }
        self.save_collateral(store)?;
        let spec = CollateralSpec::at(now);
        store.write_manifest(&Manifest {
            tee: self.tee(),
            certificates_from: now.saturating_sub(CLOCK_SKEW_SECONDS),
            certificates_until: now + CERTIFICATE_SECONDS,
            collateral_from: spec.issued_at,
            collateral_until: spec.next_update,
        })
    }

    fn save_collateral(&self, store: &Store) -> Result<(), PkiError> {
        match self {
            Self::Tdx(pki) => {
                store.write("root.crl", &pki.collateral.root_ca_crl)?;
                store.write("pck.crl", &pki.collateral.pck_crl)?;
                store.write("tcb-info.json", &pki.collateral.tcb_info)?;
                store.write("qe-identity.json", &pki.collateral.qe_identity)
            }
            Self::Snp(pki) => store.write("ark.crl", &pki.collateral.crl),
        }
    }
}

fn read_tdx(store: &Store) -> Result<TdxPki, PkiError> {
    let key = |name| store.read_key(name, KeyKind::P256);
    let mut pki = TdxPki {
        root: key("root.p8")?,
        platform: key("platform.p8")?,
        pck: key("pck.p8")?,
        tcb_signer: key("tcb-signer.p8")?,
        attestation: key("attestation.p8")?,
        root_certificate: store.read("root.der")?,
        platform_certificate: store.read("platform.der")?,
        pck_certificate: store.read("pck.der")?,
        tcb_signer_certificate: store.read("tcb-signer.der")?,
        collateral: TdxCollateralParts::default(),
    };
    let signer_chain = pki.tcb_signer_chain_pem().into_bytes();
    pki.collateral = TdxCollateralParts {
        root_ca_crl: store.read("root.crl")?,
        pck_crl: store.read("pck.crl")?,
        pck_crl_chain: pki.platform_chain_pem().into_bytes(),
        tcb_info: store.read("tcb-info.json")?,
        tcb_info_chain: signer_chain.clone(),
        qe_identity: store.read("qe-identity.json")?,
        qe_identity_chain: signer_chain,
    };
    Ok(pki)
}

fn read_snp(store: &Store) -> Result<SnpPki, PkiError> {
    Ok(SnpPki {
        ark: store.read_key("ark.p8", KeyKind::Rsa4096)?,
        ask: store.read_key("ask.p8", KeyKind::Rsa4096)?,
        vcek: store.read_key("vcek.p8", KeyKind::P384)?,
        collateral: SnpCollateralParts {
            ark: store.read("ark.der")?,
            ask: store.read("ask.der")?,
            crl: store.read("ark.crl")?,
            vek: store.read("vcek.der")?,
        },
    })
}
