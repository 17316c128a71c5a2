//! What the pretended machine measured when it started.
//!
//! The programs stand for the guest image: on hardware they are part of what MRTD and the RTMRs, or the launch digest,
//! cover. Here each program's SHA-384 goes into RTMR2 (TDX) or into MEASUREMENT (SNP), in the order given.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use casemate_canon::{Sha256, Sha384};

/// Largest program in bytes.
const PROGRAM_BYTES_MAX: u64 = 512 << 20;

const MRTD_LABEL: &[u8] = b"casemate emulator: initial TD";
const RTMR0_LABEL: &[u8] = b"casemate emulator: firmware configuration";
const RTMR1_LABEL: &[u8] = b"casemate emulator: kernel";
const SNP_LABEL: &[u8] = b"casemate emulator: launch digest";

/// Why a program could not be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MeasureError {
    /// It cannot be read.
    #[error("program {path} cannot be read: {kind}")]
    Unreadable { path: PathBuf, kind: std::io::ErrorKind },
    /// It is too large.
    #[error("program {path} is larger than {PROGRAM_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
}

/// Measurements of everything but the composition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaunchMeasurements {
    programs: Vec<Sha384>,
}

impl LaunchMeasurements {
    /// Measures the programs.
    pub(crate) fn of(programs: &[PathBuf]) -> Result<Self, MeasureError> {
        Ok(Self { programs: programs.iter().map(|path| measure(path)).collect::<Result<_, _>>()? })
    }

    pub(crate) fn mrtd(&self) -> Sha384 {
        Sha384::of(MRTD_LABEL)
    }

    pub(crate) fn rtmr0(&self) -> Sha384 {
        Sha384::ZERO.extend(&Sha384::of(RTMR0_LABEL))
    }

    pub(crate) fn rtmr1(&self) -> Sha384 {
        Sha384::ZERO.extend(&Sha384::of(RTMR1_LABEL))
    }

    pub(crate) fn rtmr2(&self) -> Sha384 {
        self.programs.iter().fold(Sha384::ZERO, |register, program| register.extend(program))
    }

    /// SEV-SNP's launch digest.
    pub(crate) fn snp_measurement(&self) -> Sha384 {
        let mut parts = vec![SNP_LABEL];
        parts.extend(self.programs.iter().map(|program| program.0.as_slice()));
        Sha384::of_parts(&parts)
    }
}

/// HOST_DATA: it has room for 32 bytes, the composition digest has 48.
pub(crate) fn host_data(composition: &Sha384) -> Sha256 {
    Sha256::of(&composition.0)
}

fn measure(path: &Path) -> Result<Sha384, MeasureError> {
    let unreadable =
        |error: std::io::Error| MeasureError::Unreadable { path: path.to_owned(), kind: error.kind() };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(PROGRAM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > PROGRAM_BYTES_MAX {
        return Err(MeasureError::TooLarge { path: path.to_owned() });
    }
    Ok(Sha384::of(&bytes))
}
