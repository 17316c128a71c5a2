//! Broken Compose files, one defect each, with the exact messages they get.
//!
//! Each file of `broken/` ends with comment lines that hold the messages, so no line number shifts:
//! `#! 4:5: what`, the line with its marks, and `#!   do: what to do`. With `CASEMATE_BLESS=1` the test writes them anew, for review.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use casemate_composition::compose;
use casemate_composition::keys::{self, Disposition};

fn messages(file: &str, text: &str) -> String {
    let environment = [("SET".to_owned(), "value".to_owned()), ("EMPTY".to_owned(), String::new())].into();
    let all: Vec<_> = match compose::parse(file, text, &environment) {
        Ok(compose) => {
            let warnings = compose.warnings.into_iter();
            warnings.map(|warning| ("warning: ", warning)).collect()
        }
        Err(problems) => problems.into_iter().map(|problem| ("", problem)).collect(),
    };
    let mut out = String::new();
    for (kind, problem) in all {
        let (line, column) = (problem.line, problem.column);
        let _ = writeln!(out, "#! {line}:{column}: {kind}{}", problem.what);
        for shown in problem.excerpt_lines() {
            let _ = writeln!(out, "#! {shown}");
        }
        let _ = writeln!(out, "#!   do: {}", problem.todo);
    }
    out
}

#[test]
fn every_broken_file_gets_its_messages() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 100, "only {} files", files.len());
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (source, expected) = text.split_at(text.find("#! ").unwrap_or(text.len()));
        let found = messages(name, &text);
        if std::env::var_os("CASEMATE_BLESS").is_some() {
            std::fs::write(&path, format!("{source}{found}")).unwrap();
        } else if found != expected || found.is_empty() {
            wrong.push(format!("{name}: expected\n{expected}found\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_refused_and_each_ignored_key_has_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let corpus: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut missing = Vec::new();
    for table in keys::TABLES {
        for key in table.keys {
            let (message, todo) = match key.disposition {
                Disposition::Refused { reason: keys::NOT_YET, instead } => {
                    (format!("`{}` is not supported yet\n", key.name), instead)
                }
                Disposition::Refused { reason, instead } => {
                    (format!("`{}` is refused: {reason}\n", key.name), instead)
                }
                Disposition::Ignored(reason) => {
                    (format!("warning: `{}` has no effect: {reason}\n", key.name), "remove it")
                }
                Disposition::Honoured | Disposition::Limited(_) | Disposition::NoEffect(_) => continue,
            };
            let todo = format!("do: {todo}\n");
            if !corpus.iter().any(|text| text.contains(&message) && text.contains(&todo)) {
                missing.push(format!("{}.{}", table.path, key.name));
            }
        }
    }
    assert!(missing.is_empty(), "no file of `broken/` has {}", missing.join(", "));
}

#[test]
fn all_problems_of_a_file_come_at_once_in_its_order() {
    let text = "services:\n  a:\n    imgae: x\n    privileged: true\n    volumes: [/:/host]\n  b: {}\n";
    let problems = compose::parse("c.yaml", text, &BTreeMap::new()).unwrap_err();
    let places: Vec<_> = problems.as_slice().iter().map(|problem| (problem.line, problem.column)).collect();
    assert_eq!(places, [(1, 1), (2, 3), (3, 5), (4, 5), (5, 15), (6, 3)]);
    assert_eq!(
        problems.as_slice()[2].to_string(),
        "c.yaml:3:5: unknown key `imgae` in service, did you mean `image`?\n  \
           3 |     imgae: x\n    \
             |     ^^^^^\n  \
           do: correct or remove it"
    );
}

#[test]
fn no_cut_or_mangled_file_panics() {
    let text = include_str!("../../../examples/research-desk/compose.yaml");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let _ = compose::parse("c.yaml", &text[..end], &BTreeMap::new());
    }
    const MARKS: &[u8] = b"\n: -[]{}&*!|>'\"%@`$#?,x0\t";
    let mut state = 1_u32;
    for _ in 0..2000 {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (state >> 8) as usize % bytes.len();
            bytes[at] = MARKS[(state >> 3) as usize % MARKS.len()];
        }
        let mangled = String::from_utf8_lossy(&bytes);
        let _ = compose::parse("c.yaml", &mangled, &BTreeMap::new());
    }
}
