//! `docs/doctor.md` holds the tables that the program reads. With `CASEMATE_BLESS=1` (`cargo xtask docs`) they are
//! written anew.

use std::path::Path;

use casemate_posture::doctor;

const BEGIN: &str = "<!-- checks: begin, written by `cargo xtask docs` -->\n";
const END: &str = "<!-- checks: end -->\n";

#[test]
fn the_tables_of_the_page_are_those_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}{END}{after}", doctor::markdown());
    if std::env::var_os("CASEMATE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == wanted, "docs/doctor.md is stale: `cargo xtask docs`");
}

#[test]
fn the_list_of_sources_is_that_of_the_program() {
    const BEGIN: &str = "<!-- sources: begin, written by `cargo xtask docs` -->\n";
    const END: &str = "<!-- sources: end -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sources.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}{END}{after}", casemate_posture::sources::markdown());
    if std::env::var_os("CASEMATE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "docs/sources.md is stale: `cargo xtask docs`"
    );
}
