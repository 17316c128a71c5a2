//! `init --template existing`: what is said to the Compose files that are there, and an override to begin with.

use std::path::{Path, PathBuf};

use casemate_composition::load::Interpolation;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;
use crate::project::ComposeFile;

/// The file that is written, beside the first Compose file.
const NAME: &str = "compose.casemate.yaml";

/// Says what is wrong, key by key, and writes an override that takes out and declares what can be. The exit code says
/// whether the files are accepted together with it.
pub(super) fn run(global: &Global, force: bool) -> Outcome {
    // All that the files say, whatever is active.
    let all = Global { profile: vec!["*".to_owned()], ..global.clone() };
    let file = ComposeFile::find(&all)?;
    let flags = ComposeFile::find(global)?.flags();
    let path = beside(&file.path);
    if path.symlink_metadata().is_ok() && !force {
        return Err(Failure::input(
            format!("{}: there is a file already", path.display()),
            "add it with a further `-f` and ask with `casemate config`, or write it anew with `--force`",
        ));
    }
    let before = said(&file)?;
    let Some(text) = file.suggest()? else {
        return match before {
            None => {
                lines::print("accepted as it is; next:\n  casemate policy write\n  casemate up");
                Ok(0)
            }
            Some(failure) => Err(failure),
        };
    };
    if let Some(failure) = before {
        // What is refused is the answer here, not a failure of this command.
        failure.report();
    }
    inputs::write_file(&path, text.as_bytes())?;
    lines::print(format!("wrote {}: read every line of it", path.display()));
    let together = file.with(&path, &text);
    let left = said(&together)?;
    let flags = format!("{flags} -f {}", path.display());
    match left {
        None => {
            lines::print("with it the composition is accepted; next:");
            for next in ["config", "policy write", "up"] {
                lines::print(format!("  casemate {flags} {next}"));
            }
            Ok(0)
        }
        Some(failure) => {
            lines::print(format!("left to you, by hand; then: casemate {flags} config --quiet"));
            Err(failure)
        }
    }
}

/// Prints the warnings; what is wrong comes back.
fn said(file: &ComposeFile) -> Outcome<Option<Failure>> {
    match file.load(Interpolation::Done) {
        Ok(loaded) => {
            file.warn(&loaded);
            Ok(None)
        }
        Err(Ok(problems)) => Ok(Some(inputs::failure_of(problems))),
        Err(Err(failure)) => Err(failure),
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name(NAME)
}
