//! How a command fails: what happened and what to do on standard error, and the exit code.

use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use casemate_protocol::Refusal;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A rule refused.
    Refused,
    /// A file or an argument is not usable.
    Input,
    /// The machine or another program did not do its part.
    Environment,
    /// Likewise, in a command that says with 3 that something differs.
    NotCompared,
    /// A comparison was made, and something differs.
    Differs,
    /// The user interrupted.
    Interrupted,
    /// In a command that ends with the status of another: that one never ran.
    NotBegun,
    /// The other one's program is not there.
    NotFound,
    /// The other one's program cannot be executed.
    NotExecutable,
}

impl Kind {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Refused => 1,
            Self::Input | Self::NotCompared => 2,
            Self::Environment | Self::Differs => 3,
            Self::Interrupted => 130,
            Self::NotBegun => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

/// The text of `--help` about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    refused: a rule did not hold; it is printed with what was expected and found
  2    unusable input, or `up --locked` found that the lock would change
  3    the machine or another program did not do its part; of `lock --check` and `plan` alone: something
       changes (where the machine fails these, they end with 2)
  130  interrupted with Ctrl-C before it was done: what `up` started is stopped, and orders to a running box are
       carried out all the same. `up` that shows what agents write ends with 0: Ctrl-C is how it is stopped
  `exec` and `run` have codes of their own: see their help";

/// The text of the help of commands that end with the status of another one: [`Kind::code`] in words.
pub(crate) const EXIT_CODES_OF_ANOTHER: &str = "\
Exit codes:
  0-255  the program's own; 128 and the signal's number where a signal ended it
  125    it was not begun: refused, unusable input, or the machine did not do its part
  126    it cannot be executed
  127    the agent has no such program
  130    interrupted with Ctrl-C before it ended";

/// A command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Whose fault.
    pub(crate) kind: Kind,
    /// What happened, with file:line:column where there is a file.
    pub(crate) what: String,
    /// The line of the file that it is about, and marks below it; printable. None where there is no such line.
    pub(crate) excerpt: Vec<String>,
    /// What to do.
    pub(crate) todo: String,
    /// The rule that refused.
    pub(crate) refusal: Option<Box<Refusal>>,
    /// Further failures of the same kind.
    pub(crate) more: Vec<Self>,
}

/// What most commands return.
pub(crate) type Outcome<T = u8> = Result<T, Failure>;

impl Failure {
    /// A file or argument is not usable.
    pub(crate) fn input(what: impl fmt::Display, todo: impl fmt::Display) -> Self {
        Self::new(Kind::Input, what, todo)
    }

    /// The machine or another program did not do its part.
    pub(crate) fn environment(what: impl fmt::Display, todo: impl fmt::Display) -> Self {
        Self::new(Kind::Environment, what, todo)
    }

    /// A comparison was made, and something differs.
    pub(crate) fn differs(what: impl fmt::Display, todo: impl fmt::Display) -> Self {
        Self::new(Kind::Differs, what, todo)
    }

    /// The same failure in a command that says with 3 that something differs: nothing else ends it with 3.
    pub(crate) fn in_comparison(mut self) -> Self {
        if self.kind == Kind::Environment {
            self.kind = Kind::NotCompared;
        }
        self
    }

    /// The same failure in a command that ends with the status of another one.
    pub(crate) fn before_the_command(mut self) -> Self {
        if !matches!(self.kind, Kind::NotFound | Kind::NotExecutable) {
            self.kind = Kind::NotBegun;
        }
        self
    }

    /// Tells of it where something else decides how the command ends.
    pub(crate) fn tell(&self) {
        let _ = self.report();
    }

    /// The same failure, of a program that could not be executed; `status` as shells have it.
    pub(crate) fn of_program(mut self, status: i32) -> Self {
        self.kind = if status == 127 { Kind::NotFound } else { Kind::NotExecutable };
        self
    }

    /// A command in an agent could not be executed; `status` as shells have it.
    pub(crate) fn not_executed(what: impl fmt::Display, todo: impl fmt::Display, status: i32) -> Self {
        Self::new(Kind::NotExecutable, what, todo).of_program(status)
    }

    /// A rule refused.
    pub(crate) fn refused(what: impl fmt::Display, refusal: Refusal, todo: impl fmt::Display) -> Self {
        Self { refusal: Some(Box::new(refusal)), ..Self::new(Kind::Refused, what, todo) }
    }

    /// Ctrl-C.
    pub(crate) fn interrupted() -> Self {
        Self::new(
            Kind::Interrupted,
            "interrupted",
            "everything that was started is stopped; `casemate up` starts again",
        )
    }

    /// Ctrl-C while agents were waited for.
    pub(crate) fn interrupted_wait() -> Self {
        Self::new(
            Kind::Interrupted,
            "interrupted; the box and what was asked of its agents goes on",
            "look with `casemate ps`",
        )
    }

    fn new(kind: Kind, what: impl fmt::Display, todo: impl fmt::Display) -> Self {
        Self {
            kind,
            what: one_line(&what.to_string()),
            excerpt: Vec::new(),
            todo: one_line(&todo.to_string()),
            refusal: None,
            more: Vec::new(),
        }
    }

    /// Prints the failure and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // Nothing can be done where standard error is closed.
        let _ = write!(std::io::stderr().lock(), "{self}");
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.what)?;
        for line in &self.excerpt {
            writeln!(f, "{line}")?;
        }
        if let Some(refusal) = &self.refusal {
            writeln!(f, "  rule      {}", refusal.rule)?;
            writeln!(f, "  expected  {}", refusal.expected)?;
            writeln!(f, "  found     {}", refusal.found)?;
        }
        writeln!(f, "to do: {}", self.todo)?;
        self.more.iter().try_for_each(|failure| failure.fmt(f))
    }
}

/// Text from elsewhere on one line, without characters that turn it around or hide in it.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::new();
    for c in text.trim().chars().take(2000) {
        match c {
            '\n' => out.push_str("; "),
            c => out.push(c),
        }
    }
    casemate_protocol::refusal::printable_line(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_without_a_rule_is_two_lines() {
        let text = Failure::input("compose.yaml:3:7: unknown key `privilegd`", "remove it").to_string();
        assert_eq!(text, "error: compose.yaml:3:7: unknown key `privilegd`\nto do: remove it\n");
    }

    #[test]
    fn a_refusal_names_rule_expected_and_found() {
        let failure =
            Failure::refused("agent a was refused", Refusal::new("box.nonce", "1", "2"), "ask again");
        assert_eq!(failure.kind.code(), 1);
        assert!(failure.to_string().contains("rule      box.nonce\n  expected  1\n  found     2\n"));
    }

    #[test]
    fn a_comparison_ends_with_3_only_where_something_differs() {
        assert_eq!(Failure::differs("a", "b").in_comparison().kind.code(), 3);
        assert_eq!(Failure::environment("a", "b").in_comparison().kind.code(), 2);
        assert_eq!(Failure::input("a", "b").in_comparison().kind.code(), 2);
    }

    #[test]
    fn the_help_of_commands_that_end_with_anothers_status_has_the_codes_that_are_given() {
        for kind in [Kind::NotBegun, Kind::NotExecutable, Kind::NotFound, Kind::Interrupted] {
            let line = format!("\n  {} ", kind.code());
            assert!(EXIT_CODES_OF_ANOTHER.contains(&line), "{kind:?}");
        }
        let failure = |status| Failure::environment("a", "b").of_program(status).before_the_command();
        assert_eq!((failure(126).kind.code(), failure(127).kind.code()), (126, 127));
    }

    #[test]
    fn text_from_elsewhere_cannot_forge_a_line() {
        assert_eq!(
            Failure::input("a\nto do: b", "c\u{1b}[2J").to_string(),
            "error: a; to do: b\nto do: c\u{fffd}[2J\n"
        );
    }
}
