//! `casemate policy import-corim`: reference values of a CoRIM into the lists of a policy, where a person reads them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use casemate_endorsements::{
    CORIM_BYTES_MAX, CorimSigner, KEY_BYTES_MAX, ReferenceValues, read_corim, read_public_key,
};
use casemate_verifier::{Measurement, POLICY_BYTES_MAX, Policy, PolicyValues};
use clap::Args;

use crate::cli::Global;
use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::lines;
use crate::project::ComposeFile;

/// What is read, and what the lists cannot say.
const READ: &str = "\
Read are reference triples with SHA-384 digests:
  TDX      vendor Intel, model TDX: measurements mrtd, rtmr0, rtmr1, rtmr2, or integrity registers 0 to 2
  SEV-SNP  vendor AMD, model SEV-SNP: measurement; or measurement key 0 of the classes of
           draft-deeglaze-amd-sev-snp-corim-profile

The values of all files replace the policy's lists of the same names; what no file names stays as it is, and \
comments of your own are lost. A CoRIM may say more than a policy's lists can: it is refused, and what is \
left out is named, unless you accept that. Lists stand for themselves: a policy with two values in each of \
two lists accepts all four pairs.";

/// What `policy import-corim` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate policy import-corim box.corim --signer maker.pem", after_help = READ)]
pub(super) struct ImportArgs {
    /// CoRIM files (CBOR, or COSE where signed)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Take only files signed with this public key (PEM, DER or JWK; P-256 or P-384). Repeat for each. Without it a signed
    /// file is refused, and an unsigned one is taken on your word
    #[arg(long, value_name = "FILE")]
    signer: Vec<PathBuf>,
    /// The policy to change [default: policy.toml beside the Compose file]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Time at which the files must hold [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
    /// Take the values though the files say more than a policy can
    #[arg(long)]
    leave_out: bool,
}

/// Reads all files, then changes the policy.
pub(super) fn run(global: &Global, args: &ImportArgs) -> Outcome {
    let path = match &args.policy {
        Some(path) => path.clone(),
        None => inputs::policy_beside(&ComposeFile::find(global)?)?,
    };
    let policy = inputs::read_policy(&path)?;
    let values = read_all(args)?;
    let mut changed = policy.values().clone();
    let lines = put(&mut changed, &values).map_err(|what| {
        Failure::input(
            format!("{}: {what}", path.display()),
            "import values of boxes that the policy accepts, or add the table to the policy first",
        )
    })?;
    let text = Policy::render(&changed);
    // What was not asked for must stay as it is.
    let unchanged = Policy::parse(&text).is_ok_and(|read| *read.values() == changed);
    if !unchanged || text.len() > POLICY_BYTES_MAX {
        return Err(Failure::environment(
            format!("{}: the changed policy cannot be written", path.display()),
            "write the values into the policy by hand",
        ));
    }
    inputs::write_file(&path, text.as_bytes())?;
    for line in lines {
        lines::print(line);
    }
    lines::print(format!("wrote {}", path.display()));
    Ok(0)
}

fn read_all(args: &ImportArgs) -> Outcome<ReferenceValues> {
    let now = inputs::time_of(args.now)?;
    let signer = signer(args)?;
    let mut all = ReferenceValues::default();
    for path in &args.files {
        let bytes = inputs::read_bytes(path, CORIM_BYTES_MAX, "give a CoRIM")?;
        let values = read_corim(&bytes, &signer, now).map_err(|error| {
            let todo = "give a CoRIM that holds; name the key of a signed one with `--signer FILE`";
            Failure::input(format!("{}: {error}", path.display()), todo)
        })?;
        if !values.left_out.is_empty() && !args.leave_out {
            let left_out: BTreeSet<String> = values.left_out.iter().map(|text| one_line(text)).collect();
            let left_out: Vec<String> = left_out.into_iter().take(LEFT_OUT_SHOWN_MAX).collect();
            return Err(Failure::input(
                format!("{}: says more than a policy's lists can: {}", path.display(), left_out.join(", ")),
                "read what is left out; where the policy says it elsewhere or you can do without, give `--leave-out`",
            ));
        }
        all.mrtd.extend(values.mrtd);
        for (to, from) in all.rtmr.iter_mut().zip(values.rtmr) {
            to.extend(from);
        }
        all.snp_measurement.extend(values.snp_measurement);
    }
    Ok(all)
}

/// Most things named that are left out.
const LEFT_OUT_SHOWN_MAX: usize = 8;

fn signer(args: &ImportArgs) -> Outcome<CorimSigner> {
    if args.signer.is_empty() {
        return Ok(CorimSigner::Unsigned);
    }
    let todo = "give a public key: `openssl pkey -in KEY -pubout` writes that of a private one";
    let read = |path: &PathBuf| {
        let bytes = inputs::read_bytes(path, KEY_BYTES_MAX, todo)?;
        read_public_key(&bytes).map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo))
    };
    Ok(CorimSigner::Named(args.signer.iter().map(read).collect::<Outcome<_>>()?))
}

/// Replaces the lists that have values, and says which.
fn put(policy: &mut PolicyValues, values: &ReferenceValues) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut replace = |name: &str, list: &mut Vec<Measurement>, found: &BTreeSet<Measurement>| {
        if found.is_empty() {
            return;
        }
        lines.push(format!("{name}: {} in place of {}", count(found.len()), count(list.len())));
        list.clear();
        list.extend(found);
    };
    let is_tdx = !values.mrtd.is_empty() || values.rtmr.iter().any(|set| !set.is_empty());
    match &mut policy.tdx {
        Some(tdx) => {
            replace("mrtd", &mut tdx.mrtd, &values.mrtd);
            for ((name, list), found) in
                ["rtmr0", "rtmr1", "rtmr2"].iter().zip(&mut tdx.rtmr).zip(&values.rtmr)
            {
                replace(name, list, found);
            }
        }
        None if is_tdx => return Err("values of TDX boxes, and the policy accepts none".to_owned()),
        None => {}
    }
    match &mut policy.snp {
        Some(snp) => replace("measurement", &mut snp.measurement, &values.snp_measurement),
        None if !values.snp_measurement.is_empty() => {
            return Err("values of SEV-SNP boxes, and the policy accepts none".to_owned());
        }
        None => {}
    }
    Ok(lines)
}

fn count(values: usize) -> String {
    if values == 1 { "1 value".to_owned() } else { format!("{values} values") }
}
