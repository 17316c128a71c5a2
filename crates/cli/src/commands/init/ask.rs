//! Questions on a terminal.

use std::io::{BufRead as _, Read as _, Write as _};

use crate::failure::{Failure, Outcome};

/// Longest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 1024;
/// How often a question is asked.
const ATTEMPTS_MAX: u32 = 3;

/// Asks until `read` takes the answer; an empty answer is `default`.
pub(crate) fn ask<T>(question: &str, default: &str, read: impl Fn(&str) -> Result<T, String>) -> Outcome<T> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS_MAX {
        prompt(&format!("{question} [{default}] "));
        let mut line = String::new();
        let taken = std::io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line);
        if !taken.is_ok_and(|bytes| bytes > 0) {
            return Err(no_answer("the input ended"));
        }
        let answer = line.trim();
        match read(if answer.is_empty() { default } else { answer }) {
            Ok(value) => return Ok(value),
            Err(problem) => {
                prompt(&format!("{problem}\n"));
                why = problem;
            }
        }
    }
    Err(no_answer(&why))
}

fn no_answer(why: &str) -> Failure {
    Failure::input(
        format!("no usable answer: {why}"),
        "give the answers as flags: see `casemate init --help`",
    )
}

/// On standard error, so that standard output holds what was done and nothing else.
fn prompt(text: &str) {
    let mut out = std::io::stderr().lock();
    // Nothing can be done where nobody can be asked: the answer will be missing.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
