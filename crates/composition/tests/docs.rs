//! `docs/compose.md` holds the tables that the programs read, and examples that are true.
//!
//! With `CASEMATE_BLESS=1` (`cargo xtask docs`) the tables are written anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use casemate_composition::compose::{self, RelyingParty};
use casemate_composition::keys;

const BEGIN: &str = "<!-- keys: begin, written by `cargo xtask docs` -->\n";
const END: &str = "<!-- keys: end -->\n";

#[test]
fn the_tables_of_the_document_are_those_of_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compose.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", keys::markdown());
    if std::env::var_os("CASEMATE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap() == wanted,
        "docs/compose.md is stale: `cargo xtask docs`"
    );
}

#[test]
fn each_example_of_the_document_is_read_without_a_warning() {
    let text = include_str!("../../../docs/compose.md");
    let examples: Vec<&str> =
        text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let read = compose::parse("compose.yaml", example, &BTreeMap::new());
        let compose = read.unwrap_or_else(|problems| panic!("{problems}\n{example}"));
        assert_eq!(compose.warnings, [], "{example}");
    }
}

#[test]
fn what_is_said_to_a_relying_party_is_read_alone_and_is_not_in_the_model_of_agents() {
    let text = "x-casemate: { policy: rules.toml, collateral-age: 30d }\nservices: 7\n";
    let wanted = RelyingParty { policy: Some("rules.toml".into()), collateral_days_max: Some(30) };
    assert_eq!(compose::relying_party("c.yaml", text, &BTreeMap::new()), Ok(wanted));
    let none = compose::relying_party("c.yaml", "name: t\n", &BTreeMap::new());
    assert_eq!(none, Ok(RelyingParty::default()));
    let set = [("WHERE".to_owned(), "here.toml".to_owned())].into();
    let text = "x-casemate: { policy: \"${WHERE}\" }\n";
    assert_eq!(compose::relying_party("c.yaml", text, &set).unwrap().policy.as_deref(), Some("here.toml"));
    assert!(compose::relying_party("c.yaml", text, &BTreeMap::new()).is_err());
}
