//! What trust rests on: the policy, endorsements, and the development platform's reference values.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_canon::Sha256;
use casemate_composition::compose::RelyingParty;
use casemate_endorsements::Bundle;
use casemate_verifier::{Collateral, POLICY_BYTES_MAX, Policy, UnixTime};

use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::programs::Program;
use crate::project::{ComposeFile, Project};
use crate::supervisor::Platform;

/// Largest file of reference values in bytes.
pub(crate) const REFERENCE_VALUES_BYTES_MAX: usize = 1 << 20;

/// The policy that the Compose file names, or `policy.toml` beside it.
pub(crate) fn policy_beside(file: &ComposeFile) -> Outcome<PathBuf> {
    Ok(policy_in(&file.folder()?, &inputs::relying_party(file)?))
}

fn policy_in(folder: &Path, said: &RelyingParty) -> PathBuf {
    folder.join(said.policy.as_deref().unwrap_or("policy.toml"))
}

/// Reads a policy.
pub(crate) fn read_policy(path: &Path) -> Outcome<Policy> {
    let text = inputs::read_text(path, POLICY_BYTES_MAX, "write one with `casemate policy write`")?;
    Policy::parse(&text).map_err(|error| {
        Failure::input(
            format!("{}:{}:{}: {}", path.display(), error.line, error.column, error.what),
            &error.todo,
        )
    })
}

/// The endorsements of the project's development platform.
pub(crate) fn bundle_file(project: &Project) -> PathBuf {
    project.emulator().join("bundle.json")
}

/// Reads endorsements whose file is signed by one of these and by one that the policy names, where they name any.
pub(crate) fn read_bundle(path: &Path, signers: &[Sha256], policy: &Policy) -> Outcome<Collateral> {
    let bundle = read_bundle_file(path)?;
    bundle.accept(&[signers, &policy.values().bundle_signers]).map_err(|refusal| {
        let todo = "use a bundle of that signer: `casemate bundle create --sign-key` makes one";
        Failure::refused(format!("{}: bundle is refused", path.display()), refusal, todo)
    })
}

/// Reads a bundle as it is.
pub(crate) fn read_bundle_file(path: &Path) -> Outcome<Bundle> {
    let todo = "name a bundle that is whole; `casemate bundle create` makes one, and `casemate up` for the development platform";
    let bytes = inputs::read_bytes(path, casemate_endorsements::BUNDLE_BYTES_MAX, todo)?;
    casemate_endorsements::read(&bytes)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display()), todo))
}

/// The time of a `--now`, or of this machine.
pub(crate) fn time_of(now: Option<jiff::Timestamp>) -> Outcome<UnixTime> {
    let now = now.unwrap_or_else(jiff::Timestamp::now).as_second();
    let now = u64::try_from(now).map_err(|_| Failure::input("time before 1970", "give a later `--now`"))?;
    Ok(UnixTime(now))
}

/// What every call of the emulator takes: platform, state and the programs that it measures.
pub(crate) fn emulator_arguments(project: &Project, platform: Platform) -> Outcome<Vec<OsString>> {
    let mut arguments: Vec<OsString> =
        vec!["--platform".into(), platform.name().into(), "--state".into(), project.emulator().into()];
    for program in Program::IN_THE_BOX {
        arguments.extend(["--program".into(), program.path()?.into()]);
    }
    Ok(arguments)
}

/// Asks the emulator for its reference values. Its state is made at the first call.
pub(crate) fn emulated_reference_values(project: &Project, platform: Platform) -> Outcome<Vec<u8>> {
    inputs::make_dir(&project.emulator())?;
    let program = Program::Emulator.path()?;
    let output = Command::new(&program)
        .arg("--print-reference-values")
        .args(emulator_arguments(project, platform)?)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::environment(
                format!("{}: {error}", program.display()),
                "build it with `cargo xtask dist`",
            )
        })?;
    if !output.status.success() || output.stdout.len() > REFERENCE_VALUES_BYTES_MAX {
        let said = one_line(&String::from_utf8_lossy(&output.stderr));
        return Err(Failure::environment(
            format!("emulator ended ({}): {said}", output.status),
            format!("make {} writable, or remove it to begin anew", project.emulator().display()),
        ));
    }
    inputs::write_private_file(&project.emulator().join("reference-values.json"), &output.stdout)?;
    Ok(output.stdout)
}

/// Makes the emulator's state, so that the broker finds its endorsements.
pub(crate) fn prepare_emulator(project: &Project, platform: Platform) -> Outcome<()> {
    emulated_reference_values(project, platform).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_where_the_compose_file_says_or_beside_it() {
        let policy = |policy: Option<&str>| {
            let said = RelyingParty { policy: policy.map(str::to_owned), collateral_days_max: None };
            policy_in(Path::new("/desk"), &said)
        };
        assert_eq!(policy(None), Path::new("/desk/policy.toml"));
        assert_eq!(policy(Some("rules/p.toml")), Path::new("/desk/rules/p.toml"));
        assert_eq!(policy(Some("/etc/p.toml")), Path::new("/etc/p.toml"));
    }
}
