//! Compositions of several files: an input is their texts with a record separator (0x1e) between them.

use std::collections::BTreeMap;

use casemate_composition::Problems;
use casemate_composition::load::{self, Files, Interpolation, Loaded, ReadError, Request, Text};

use super::require;
use crate::{Bound, Outcome, Target, Violation};

/// The names that the texts have, in order. The first two are main files, the others are named by them.
const NAMES: [&str; 6] = ["compose.yaml", "over.yaml", "base.yaml", "inc/compose.yaml", "a.env", "inc/.env"];
const FILE_BYTES_MAX: usize = 1 << 20;
const MAIN_FILES: usize = 2;
const SEPARATOR: u8 = 0x1e;

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "compose",
        what: "casemate_composition::load",
        seeds,
        words: &[
            &[SEPARATOR],
            b"&a ",
            b"*a",
            b"<<: *a",
            b"!reset ",
            b"!override ",
            b"${A:-",
            b"${A:?",
            b"$$",
            b"services:\n",
            b"extends: {file: base.yaml, service: base}",
            b"extends: a",
            b"include: [inc/compose.yaml]\n",
            b"env_file: a.env",
            b"profiles: [on]",
            b"scale: 100",
            b"deploy: {replicas: 2}",
            b"depends_on: [a]",
            b"environment: [A]",
            b"'",
            b"\"",
            b"\\u2028",
            b"|\n",
            b"- ",
            b"? ",
            b": ",
            b"# ",
            b"010",
            b"1:30",
            b"null",
        ],
        run,
        bound: Bound {
            input_bytes_max: 32 << 10,
            // Aliases may make 100,000 values and 8 MiB of text of a few bytes, and the output is read twice again.
            allocation_bytes: 192 << 20,
            allocation_bytes_per_input_byte: 1 << 10,
            time_us: 3_000_000,
            time_ns_per_input_byte: 20_000,
        },
    }]
}

fn seeds() -> Vec<Vec<u8>> {
    let main = "name: t\ninclude: [inc/compose.yaml]\nx-a: &a {image: i:1, user: \"1:1\"}\nservices:\n  a:\n    <<: *a\n    \
                extends: {file: base.yaml, service: base}\n    env_file: [a.env, {path: b.env, required: false}]\n    \
                depends_on: {c: {condition: service_started}}\n  b: {<<: *a, extends: a, depends_on: !reset [], profiles: [on, off]}\n";
    let over = "services:\n  a: {command: [x, \"$$y\"], environment: [A=2], expose: !override [\"81\"]}\nvolumes: {v: }\n";
    let base = "services: {base: {image: \"i:${TAG:-1}\", environment: {A: 1, B: \"${A-x}\"}, expose: [\"80\"], volumes: [\"v:/v\"]}}\n";
    let include = "services: {c: {image: \"i:$T\", x-casemate: {egress: [\"h.example:443\"]}}}\n";
    let variables = "# c\nexport C=1\nD=\"a\\n$C\" # c\nE='x\ny'\nF\n";
    let parts = [main, over, base, include, variables, "T=1\n"];
    let whole = parts.join("\u{1e}").into_bytes();
    let alone = b"name: t\nservices:\n  a: {image: i:1, command: a b}\n".to_vec();
    vec![whole, alone]
}

struct Parts(BTreeMap<&'static str, Vec<u8>>);

impl Files for Parts {
    fn read(&mut self, path: &str, bytes_max: usize) -> Result<Vec<u8>, ReadError> {
        match self.0.get(path) {
            Some(bytes) if bytes.len() > bytes_max => Err(ReadError::TooLarge),
            Some(bytes) => Ok(bytes.clone()),
            None => Err(ReadError::NotFound),
        }
    }
}

fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let parts: Vec<&[u8]> = input.split(|byte| *byte == SEPARATOR).collect();
    let main: Vec<String> =
        parts.iter().take(MAIN_FILES).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    let others = NAMES.into_iter().zip(&parts).skip(MAIN_FILES).map(|(name, part)| (name, part.to_vec()));
    let mut files = Parts(others.collect());
    // Variables that stay as they are must do no harm either.
    let left = load::load(&request(&main, Interpolation::LeftOut), &mut files);
    drop(left);
    let loaded = match load::load(&request(&main, Interpolation::Done), &mut files) {
        Ok(loaded) => loaded,
        Err(problems) => return refused(&problems),
    };
    let yaml = loaded.to_yaml();
    // Aliases written out may be longer than a file may be.
    for text in [yaml.clone(), loaded.to_json()].into_iter().filter(|text| text.len() <= FILE_BYTES_MAX) {
        let again = load::load(&request(&[text], Interpolation::Done), &mut load::NoFiles);
        let again = again.map_err(|problems| Violation(format!("output is refused: {problems}")))?;
        require(again.to_yaml() == yaml, "output reads differently")?;
        require(names(&again) == names(&loaded), "output has other agents")?;
    }
    Ok(Outcome(format!("read {} agents, {} warnings", names(&loaded).len(), loaded.warnings().len())))
}

fn request(texts: &[String], interpolation: Interpolation) -> Request<'_> {
    let files = NAMES.iter().zip(texts).map(|(name, text)| Text { name, text }).collect();
    let variables = [("A".to_owned(), "outside".to_owned())].into();
    let profiles = ["on".to_owned()].into();
    Request { files, profiles, interpolation, ..Request::of("", "", variables) }
}

fn refused(problems: &Problems) -> Result<Outcome, Violation> {
    let all = problems.as_slice();
    require(!all.is_empty(), "refused without a problem")?;
    require(problems.to_string().lines().count() <= all.len() * 4, "a problem has more than four lines")?;
    let whats = all.iter().map(|problem| problem.what.split('`').step_by(2).collect::<String>());
    Ok(Outcome(whats.take(3).collect::<Vec<_>>().join("; ")))
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.compose().map_or_else(Vec::new, |compose| compose.agents().map(ToString::to_string).collect())
}
