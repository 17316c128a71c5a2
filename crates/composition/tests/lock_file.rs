//! The file form of a lock: one byte form, and a head that agrees with the rest.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use casemate_composition::lock::{AgentName, LOCK_BYTES_MAX};
use casemate_composition::lock_file::LOCK_NOTE;
use casemate_composition::{Lock, LockError};
use serde_json::Value;

const FILE: &str = include_str!("../../../docs/vectors/research-desk/compose.lock");

fn read(text: &str) -> Result<Lock, LockError> {
    Lock::from_json(text.as_bytes())
}

fn changed(from: &str, to: &str) -> String {
    let text = FILE.replacen(from, to, 1);
    assert_ne!(text, FILE, "{from}");
    text
}

#[test]
fn begins_with_what_it_is_and_how_to_make_it_again() {
    let first: Vec<&str> = FILE.lines().take(9).map(str::trim).collect();
    assert_eq!(first[..2], ["{", "\"about\": {"]);
    assert!(first[2].starts_with("\"composition\": \"sha384:"), "{first:?}");
    assert!(first[4].starts_with("\"planner\": \"sha384:"), "{first:?}");
    assert_eq!(first[8], format!("\"note\": \"{LOCK_NOTE}\""));
    assert!(LOCK_NOTE.contains("casemate lock") && LOCK_NOTE.contains("docs/measurement.md"));
}

#[test]
fn reads_back_what_it_wrote() {
    let lock = read(FILE).unwrap();
    assert_eq!(String::from_utf8(lock.to_json().unwrap()).unwrap(), FILE);
    let value: Value = serde_json::from_str(FILE).unwrap();
    assert_eq!(value["about"]["composition"], lock.digest().unwrap().to_string());
    for (name, agent) in &lock.agents {
        assert_eq!(value["about"]["measurements"][name.as_str()], agent.measurement().unwrap().to_string());
    }
}

#[test]
fn refuses_every_other_form_of_the_same_values_and_says_where() {
    let value: Value = serde_json::from_str(FILE).unwrap();
    let forms = [
        ("compact", value.to_string()),
        ("no line end at the end", FILE.trim_end().to_owned()),
        ("two line ends at the end", format!("{FILE}\n")),
        ("a space at an end", changed(",\n", ", \n")),
        ("other line ends", FILE.replace('\n', "\r\n")),
        ("tabs", changed("  \"about\"", "\t\"about\"")),
        ("an escape that need not be", changed("\"volumes\"", "\"volume\\u0073\"")),
        (
            "another order",
            changed("\"gid\": 1000,\n        \"uid\": 1000", "\"uid\": 1000,\n        \"gid\": 1000"),
        ),
        ("another note", changed("do not edit it", "edit it")),
        ("a member twice", changed("\"LANG\":", "\"LANG\": \"x\",\n        \"LANG\":")),
    ];
    for (what, text) in forms {
        match read(&text).unwrap_err() {
            LockError::Form { line, expected, found } => {
                let same = FILE.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
                let before = FILE.as_bytes()[..same].iter().filter(|b| **b == b'\n').count();
                assert_eq!(line, before + 1, "{what}: {expected} / {found}");
                let there = FILE.lines().nth(before).unwrap_or("the end of the file");
                assert!(there.starts_with(&expected), "{what}: {expected}");
            }
            other => panic!("{what}: {other}"),
        }
    }
    for text in [format!("\u{feff}{FILE}"), changed("\"pids\": 32", "\"pids\": 32.0")] {
        assert!(matches!(read(&text), Err(LockError::Shape { .. })), "{text}");
    }
}

#[test]
fn refuses_a_head_that_says_other_digests_than_the_content_gives() {
    let lock = read(FILE).unwrap();
    let measurement = |name: &str| lock.agents[&name.parse::<AgentName>().unwrap()].measurement().unwrap();
    let refused = |text: &str| match read(text).unwrap_err() {
        LockError::Digest { field, expected, found } => (field, expected, found),
        other => panic!("{other}"),
    };
    // The content was edited, and the head was not.
    let (field, expected, found) = refused(&changed("/agents/planner.py", "/agents/planned.py"));
    assert_eq!((field.as_str(), found), ("about.measurements.planner", measurement("planner").to_string()));
    assert_ne!(expected, found_of("planner"));
    let (field, _, found) = refused(&changed("\"project\": \"research-desk\"", "\"project\": \"research\""));
    assert_eq!((field.as_str(), found), ("about.composition", lock.digest().unwrap().to_string()));
    // The head was edited, and the content was not.
    let (field, expected, found) =
        refused(&changed(&measurement("scribe").to_string(), &measurement("planner").to_string()));
    assert_eq!(
        (field.as_str(), expected, found),
        ("about.measurements.scribe", measurement("scribe").to_string(), measurement("planner").to_string())
    );
    let more = format!("\"measurements\": {{\n      \"aaa\": \"{}\",", measurement("planner"));
    let (field, expected, _) = refused(&changed("\"measurements\": {", &more));
    assert_eq!((field.as_str(), expected.as_str()), ("about.measurements.aaa", "nothing"));
    let line = format!(",\n      \"scribe\": \"{}\"", measurement("scribe"));
    let (field, _, found) = refused(&changed(&line, ""));
    assert_eq!((field.as_str(), found.as_str()), ("about.measurements.scribe", "nothing"));
}

fn found_of(name: &str) -> String {
    let value: Value = serde_json::from_str(FILE).unwrap();
    value["about"]["measurements"][name].as_str().unwrap_or_default().to_owned()
}

#[test]
fn refuses_what_is_no_lock_each_for_its_reason() {
    assert_eq!(read(&" ".repeat(LOCK_BYTES_MAX + 1)), Err(LockError::TooLong { found: LOCK_BYTES_MAX + 1 }));
    assert_eq!(read(&changed("\"version\": 1", "\"version\": 2")), Err(LockError::Version { found: 2 }));
    for (from, to, why) in [
        ("\"about\"", "\"abouts\"", "unknown field `abouts`"),
        ("\"note\"", "\"notes\"", "unknown field `notes`"),
        ("\"volumes\": {", "\"volume\": {", "unknown field `volume`"),
        ("\"stop\": {", "\"stops\": {", "unknown field `stops`"),
        ("\"backend\": \"native\"", "\"backend\": \"other\"", "unknown variant `other`"),
        ("\"composition\": \"sha384:", "\"composition\": \"sha256:", "digest is not `sha384:`"),
        ("\"version\": 1", "\"version\": 1e0", "invalid type"),
        ("\"pids\": 32", "\"pids\": -0", "invalid"),
        ("\"planner\": {", "\"Planner\": {", "name `Planner`"),
    ] {
        match read(&changed(from, to)).unwrap_err() {
            LockError::Shape { reason } => {
                assert!(reason.contains(why) && reason.contains(" at line "), "{to}: {reason}")
            }
            other => panic!("{to}: {other}"),
        }
    }
    let large = changed("\"memory_bytes\": 134217728", "\"memory_bytes\": 9007199254740992");
    assert!(matches!(read(&large), Err(LockError::Number(_))));
    for end in 0..FILE.len() {
        assert!(read(&FILE[..end]).is_err(), "{end}");
    }
}

#[test]
fn agents_that_share_a_root_are_of_one_trust_group() {
    let group: AgentName = "readers".parse().unwrap();
    let shared = |trusts: [&str; 2]| {
        let mut lock = read(FILE).unwrap();
        for (agent, trust) in lock.agents.values_mut().zip(trusts) {
            agent.share = Some(group.clone());
            agent.trust = trust.parse().unwrap();
        }
        Lock::from_json(&lock.to_json().unwrap())
    };
    assert!(shared(["desk", "desk"]).is_ok());
    let (first, second) = ("desk".parse().unwrap(), "guest".parse().unwrap());
    assert_eq!(shared(["desk", "guest"]), Err(LockError::ShareTrust { group: group.clone(), first, second }));
}
