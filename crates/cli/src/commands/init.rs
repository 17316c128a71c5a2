//! `casemate init`: an example Compose file to start from.

use std::path::Path;

use clap::Args;

use crate::cli::Global;
use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::lines;

const EXAMPLE: &str = include_str!("init.compose.yaml");

/// What `init` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate init")]
pub(crate) struct InitArgs {}

/// Writes the example, but never over a file.
pub(crate) fn run(global: &Global, _args: &InitArgs) -> Outcome {
    let path = global.file.clone().unwrap_or_else(|| Path::new("compose.yaml").to_owned());
    if path.exists() {
        return Err(Failure::input(
            format!("{}: there is a file already", path.display()),
            "name another with `casemate -f FILE init`",
        ));
    }
    inputs::write_file(&path, EXAMPLE.as_bytes())?;
    let flag = global.file.as_ref().map_or_else(String::new, |file| format!(" -f {}", file.display()));
    lines::print(format!("wrote {}; next:", path.display()));
    lines::print("  casemate image import localhost/python:1 --tar FILE");
    for next in ["policy write", "secret put greeting < FILE", "up"] {
        lines::print(format!("  casemate{flag} {next}"));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_without_warning() {
        let compose = casemate_composition::compose::parse("example", EXAMPLE, &Default::default()).unwrap();
        assert_eq!(compose.warnings, []);
        assert_eq!(compose.agents().count(), 2);
    }
}
