//! The targets, by what they read.

mod binary;
mod compose;
mod corim;
mod documents;
mod image_document;
mod image_tar;
mod json;
mod kernel_text;
mod messages;
mod policy_fields;
mod registry;
mod tpm;
mod transfer;
mod verify;
mod x509;

use std::fmt::Display;

use crate::{Bound, Outcome, Target, Violation};

/// Every target.
pub(crate) fn all() -> Vec<Target> {
    [
        binary::all(),
        tpm::all(),
        x509::all(),
        json::all(),
        kernel_text::all(),
        corim::all(),
        compose::all(),
        messages::all(),
        verify::all(),
        image_document::all(),
        image_tar::all(),
        registry::all(),
        transfer::all(),
    ]
    .concat()
}

/// For a parser that borrows: nothing is allocated but the text of an outcome.
const BORROWING: Bound = Bound {
    input_bytes_max: 40 << 10,
    allocation_bytes: 32 << 10,
    allocation_bytes_per_input_byte: 0,
    time_us: 2_000,
    time_ns_per_input_byte: 100,
};

/// The outcome of a parser: its error, or `read` and what the caller says of the value.
fn outcome<T, E: Display>(result: Result<T, E>, read: impl FnOnce(T) -> String) -> Outcome {
    match result {
        Ok(value) => Outcome(format!("read {}", read(value))),
        Err(error) => Outcome(error.to_string()),
    }
}

/// A property of an input.
fn require(holds: bool, what: &str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(what.to_owned())) }
}
