//! `casemate completions`: a completion script.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::lines;

/// What `completions` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate completions bash > /etc/bash_completion.d/casemate")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run<C: CommandFactory>(args: &CompletionsArgs) -> Outcome {
    lines::print_bytes(&script(&C::command(), args.shell));
    Ok(0)
}

/// The script, without the subcommands that are hidden.
fn script(command: &clap::Command, shell: Shell) -> Vec<u8> {
    let mut shown = clap::Command::new("casemate")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(command.get_arguments().cloned())
        .subcommands(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown, "casemate", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_names_all_subcommands_but_the_hidden_ones() {
        let command = clap::Command::new("casemate")
            .subcommand(clap::Command::new("inner-part").hide(true))
            .subcommand(clap::Command::new("start"));
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(script(&command, shell)).unwrap();
            assert!(script.contains("start") && !script.contains("inner-part"), "{shell}");
        }
    }
}
