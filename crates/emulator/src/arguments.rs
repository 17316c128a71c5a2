//! The command line: what a virtual machine monitor would decide at launch.

use std::path::PathBuf;

use casemate_canon::Sha384;
use casemate_testkit::Tee;

/// Development only: answers configfs-tsm with simulated evidence.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "casemate-emulator", version)]
pub(crate) struct Arguments {
    /// Which hardware to stand in for.
    #[arg(long, value_enum)]
    pub(crate) platform: Platform,
    /// Directory of the development PKI, reference-values.json and bundle.json; made where missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Empty directory to mount on.
    #[arg(long, value_name = "DIR", required_unless_present = "print_reference_values")]
    pub(crate) mount: Option<PathBuf>,
    /// Composition digest, bound at launch: `sha384:` and 96 hexadecimal digits.
    #[arg(long, value_name = "DIGEST", required_unless_present = "print_reference_values")]
    pub(crate) composition_digest: Option<Sha384>,
    /// Program measured at launch; give each, in order.
    #[arg(long = "program", value_name = "FILE", num_args = 1.., required = true)]
    pub(crate) programs: Vec<PathBuf>,
    /// Write reference-values.json and bundle.json, print the former, and exit without mounting.
    #[arg(long)]
    pub(crate) print_reference_values: bool,
}

/// Hardware to stand in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Platform {
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    Snp,
}

impl Platform {
    pub(crate) fn tee(self) -> Tee {
        match self {
            Self::Tdx => Tee::Tdx,
            Self::Snp => Tee::Snp,
        }
    }
}
