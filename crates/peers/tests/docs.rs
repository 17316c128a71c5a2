//! The tables in the documents are those that the verifier gives.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::path::Path;

use casemate_peers::{report, vectors};

const STALE: &str = "not what it would be now: run `cargo xtask verdicts`";

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_table_of_differences_is_the_one_that_the_tests_use() {
    let text = document("verification.md");
    assert!(report::with_differences(&text).unwrap() == text, "docs/verification.md: {STALE}");
}

#[test]
fn the_table_of_verdicts_is_current() {
    let name = "the_table_of_verdicts_is_current";
    let Some(folder) = vectors::folder() else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{name}: vectors absent");
        eprintln!("{name}: not run: vectors absent");
        return;
    };
    let (found, expected) = (document("verdicts.md"), report::verdicts(&folder).unwrap());
    let differing = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(found == expected, "docs/verdicts.md: {STALE}; first line that differs: {differing:?}");
}
