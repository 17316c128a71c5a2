//! Copies into a standing compartment and out of it, by a process confined as the agent: it sees what the agent sees and
//! resolves names as the agent would, and no program of the image takes part.

use std::fs::File;
use std::io::{BufReader, BufWriter};

use crate::spec::Spec;
use crate::syscall;
use crate::transfer::{Item, Limits, receive, send};

/// Writes the files at the path that stands as the command to standard output. The status to end with.
pub(super) fn out(spec: &Spec) -> i32 {
    let (Some(path), Ok(stdout)) = (spec.command.first(), syscall::inherited(1)) else { return 1 };
    i32::from(send(path, &mut BufWriter::new(File::from(stdout))).is_err())
}

/// Makes the files that arrive on standard input at the path that stands as the command, and answers on standard output
/// with one item: the end, or why not. The status to end with. What it may write, the agent's own limits say.
pub(super) fn into(spec: &Spec) -> i32 {
    let Some(path) = spec.command.first() else { return 1 };
    let (Ok(stdin), Ok(stdout)) = (syscall::inherited(0), syscall::inherited(1)) else { return 1 };
    let limits = Limits { bytes: u64::MAX, entries: u64::MAX };
    let answer = match receive(&mut BufReader::new(File::from(stdin)), path, limits) {
        Ok(_) => Item::End,
        Err(error) => Item::Failed { reason: error.to_string() },
    };
    i32::from(answer.write(&mut File::from(stdout)).is_err() || answer != Item::End)
}
