//! `casemate bundle keygen`: a key to sign bundles with, and how a policy names it.

use std::path::PathBuf;

use casemate_endorsements::{signer_id, signing_key_pem};
use casemate_jose::SigningKey;
use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

/// What `bundle keygen` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate bundle keygen -o bundle-key.pem",
    after_help = "The file is PKCS #8 in PEM. To use a key that you have: `openssl pkcs8 -topk8 -nocrypt` makes one of a \
        P-256 key; a private JWK is taken too. The name of a key is SHA-256 over its public key: `openssl pkey -in KEY \
        -pubout -outform DER | sha256sum`."
)]
pub(super) struct KeygenArgs {
    /// Where the private key goes, for its owner alone. A file that is there is never replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Makes the key and prints its name.
pub(super) fn run(args: &KeygenArgs) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error, "try again");
    let key = SigningKey::generate().map_err(|error| failed(&error))?;
    let pem = signing_key_pem(&key).map_err(|error| failed(&error))?;
    let signer = signer_id(&key).map_err(|error| failed(&error))?;
    inputs::write_new_key(&args.output, &pem)?;
    lines::print(signer);
    Ok(0)
}
