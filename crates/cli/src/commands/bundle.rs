//! `casemate bundle`: makes, signs and shows the file of endorsements that an appraisal uses offline.

mod create;
mod gather;
mod inspect;
mod keygen;

use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::failure::Outcome;

/// What a signature is for, and what not.
const SIGNING: &str = "\
    A bundle holds nothing that is believed because of where it lies: every part is signed by Intel or AMD, an appraisal \
    verifies all of them up to roots that are built in, and the policy says how old they may be. So an unsigned bundle \
    may come from anywhere. What somebody who can replace the file can still do is choose: an older set that has not \
    expired, or one for another platform. A signature takes that choice away: where `--bundle-signer sha256:...` or \
    `bundle-signers` in the policy name keys, a bundle that another key or nobody signed is refused by rule `collateral.signer`.";

/// What `bundle` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate bundle create --from-evidence evidence.json --pccs https://pccs.example -o bundle.json",
    after_help = SIGNING
)]
pub(crate) struct BundleArgs {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Subcommand, Debug)]
enum BundleCommand {
    /// Make a bundle from files, from what evidence carries, and from services that you name
    Create(Box<create::CreateArgs>),
    /// Show what a bundle holds, until when, and who signed it
    Inspect(inspect::InspectArgs),
    /// Make a key to sign bundles with
    Keygen(keygen::KeygenArgs),
}

/// Does what the subcommand says.
pub(crate) fn run(global: &Global, args: &BundleArgs) -> Outcome {
    match &args.command {
        BundleCommand::Create(args) => create::run(global, args),
        BundleCommand::Inspect(args) => inspect::run(global, args),
        BundleCommand::Keygen(args) => keygen::run(args),
    }
}
