//! `casemate-probe`: plays victim and attacker, on orders that come in as lines.

use std::process::ExitCode;

fn main() -> ExitCode {
    casemate_probe::program::main()
}
