//! `casemate policy`: the appraisal policy for the composition as it is now, and reference values for it.

mod from_evidence;
mod import_corim;

use std::path::PathBuf;

use casemate_canon::Sha256;
use casemate_protocol::agent_token::Control;
use casemate_protocol::controls::Need;
use clap::{Args, Subcommand};

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::{ComposeFile, Project};
use crate::replicas::ScaleOptions;
use crate::supervisor::Platform;

/// What `policy` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate policy write")]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand, Debug)]
enum PolicyCommand {
    /// Write `policy.toml` beside the Compose file: what the broker and `verify` ask for
    #[command(before_help = "Example: casemate policy write --platform tdx")]
    Write(WriteArgs),
    /// Put the reference values of CoRIM files into the policy's lists
    ImportCorim(import_corim::ImportArgs),
}

#[derive(Args, Debug)]
struct WriteArgs {
    /// Replace a policy that is there
    #[arg(long)]
    force: bool,
    /// What the emulator stands in for
    #[arg(long, default_value = "tdx")]
    platform: Platform,
    /// Reference values of real hardware, in place of the emulator's
    #[arg(long, value_name = "FILE")]
    reference_values: Option<PathBuf>,
    /// Accept agents where this control is weaker than asked for. Repeat for each
    #[arg(long, value_name = "CONTROL", value_parser = control_named)]
    allow_weaker: Vec<Control>,
    /// Ask for this control, which not every machine or agent has: cores, speculation, core-scheduling,
    /// deny-write-execute. Repeat for each
    #[arg(long, value_name = "CONTROL", value_parser = control_not_always)]
    require: Vec<Control>,
    /// Accept what this raw quote or report shows, TRUST ON FIRST USE; its signatures must lead to the vendor
    #[arg(long, value_name = "FILE", requires = "bundle", conflicts_with_all = ["platform", "reference_values", "allow_weaker", "require"])]
    from_evidence: Option<PathBuf>,
    /// Endorsements for `--from-evidence`
    #[arg(long, value_name = "FILE", requires = "from_evidence")]
    bundle: Option<PathBuf>,
    /// VCEK or VLEK of a report that comes without it, for `--from-evidence`
    #[arg(long, value_name = "FILE", requires = "from_evidence")]
    certificate: Option<PathBuf>,
    /// Time at which `--from-evidence` is appraised [default: now]
    #[arg(long, value_name = "RFC3339", requires = "from_evidence")]
    now: Option<jiff::Timestamp>,
    /// Where the policy of `--from-evidence` goes [default: policy.toml]
    #[arg(short, long, value_name = "FILE", requires = "from_evidence")]
    output: Option<PathBuf>,
    #[command(flatten)]
    scale: ScaleOptions,
}

/// The control of this name that may be weaker, for the command line.
pub(crate) fn control_named(text: &str) -> Result<Control, String> {
    Control::from_name(text).filter(|control| control.may_be_missing()).ok_or_else(|| {
        let may_be_missing = Control::ALL.into_iter().filter(|control| control.may_be_missing());
        let names: Vec<&str> = may_be_missing.map(Control::name).collect();
        format!("controls that may be weaker are {}", names.join(", "))
    })
}

/// The control of this name that not every agent must have, for the command line.
fn control_not_always(text: &str) -> Result<Control, String> {
    let not_always = |control: &Control| control.need() != Need::Always;
    Control::from_name(text).filter(not_always).ok_or_else(|| {
        let names: Vec<&str> = Control::ALL.into_iter().filter(not_always).map(Control::name).collect();
        format!(
            "controls that not every agent has are {}; policies ask for all others anyway",
            names.join(", ")
        )
    })
}

/// Does what the subcommand says.
pub(crate) fn run(global: &Global, args: PolicyArgs) -> Outcome {
    match args.command {
        PolicyCommand::Write(args) => write(global, &args),
        PolicyCommand::ImportCorim(args) => import_corim::run(global, &args),
    }
}

fn write(global: &Global, args: &WriteArgs) -> Outcome {
    if let (Some(statement), Some(bundle)) = (&args.from_evidence, &args.bundle) {
        let output = args.output.clone().unwrap_or_else(|| PathBuf::from("policy.toml"));
        if output.exists() && !args.force {
            return Err(Failure::input(
                format!("{}: there is a policy already", output.display()),
                "read it, and replace it with `--force`, or name another file with `-o FILE`",
            ));
        }
        return from_evidence::run(&from_evidence::FromEvidence {
            statement,
            bundle,
            certificate: args.certificate.as_deref(),
            now: args.now,
            output,
        });
    }
    let file = ComposeFile::find(global)?.scaled(&args.scale);
    let path = inputs::policy_beside(&file)?;
    if path.exists() && !args.force {
        return Err(Failure::input(
            format!("{}: there is a policy already", path.display()),
            format!("read it, and replace it with `casemate {} policy write --force`", file.flags()),
        ));
    }
    let project = Project::of(global, &file)?;
    project.create_dirs()?;
    let lock = inputs::resolve(&file, &project)?;
    inputs::write_lock(&file, &lock, inputs::LockChange::Write)?;
    let reference_values = match &args.reference_values {
        Some(path) => inputs::read_bytes(path, inputs::REFERENCE_VALUES_BYTES_MAX, "name a readable file")?,
        None => inputs::emulated_reference_values(&project, args.platform)?,
    };
    let asked = inputs::ControlsAsked {
        allow_weaker: args.allow_weaker.iter().copied().collect(),
        require: args.require.iter().copied().collect(),
    };
    let policy = inputs::render_policy(&lock, &reference_values, &asked)?;
    inputs::write_file(&path, policy.text.as_bytes())?;
    if let Some(warning) = development_warning(&policy.development_roots) {
        lines::note(warning);
    }
    lines::print(format!("wrote {} for composition {}", path.display(), inputs::digest(&lock)?));
    Ok(0)
}

/// What to say of a policy that names development roots: whoever has the key of one can make any evidence.
fn development_warning(roots: &[Sha256]) -> Option<String> {
    if roots.is_empty() {
        return None;
    }
    let roots: Vec<String> = roots.iter().map(ToString::to_string).collect();
    Some(format!(
        "warning: this policy trusts SIMULATED hardware (development root {}); whoever has that root's key can make \
         evidence that it accepts. For development only: for real hardware, give `--reference-values` without \
         `development-root`",
        roots.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_trusts_a_development_root_says_so_loudly_and_another_says_nothing() {
        assert_eq!(development_warning(&[]), None);
        let root = Sha256::of(b"root");
        let warning = development_warning(&[root]).unwrap();
        assert!(warning.starts_with("warning: ") && !warning.contains('\n'), "{warning}");
        assert!(warning.contains("SIMULATED") && warning.contains(&root.to_string()), "{warning}");
    }
}
