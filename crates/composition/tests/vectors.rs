//! The published vectors of `docs/vectors`: what this crate makes of them, and what `docs/recompute.py` says, which has
//! nothing in common with it.
//!
//! Each folder has a Compose file and the facts of its images, and what follows from them: the lock, and in
//! `vectors.json` the measurements, the leaves, the root and the inclusion proofs.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use casemate_canon::{Sha384, value_to_canonical_json, value_to_readable_json};
use casemate_composition::lock::{AgentName, ImagePin, User};
use casemate_composition::merkle::agent_leaf;
use casemate_composition::{ImageFacts, Lock, LockError, Proof, compose};
use serde_json::{Value, json};

/// Folder below `docs/vectors`, and its Compose file from there.
const VECTORS: [(&str, &str); 5] = [
    ("one-agent", "compose.yaml"),
    ("replicas", "compose.yaml"),
    ("research-desk", "../../../examples/research-desk/compose.yaml"),
    ("seven-leaves", "compose.yaml"),
    ("traps", "compose.yaml"),
];
/// Makes the files anew, in place of comparing them.
const UPDATE: &str = "UPDATE_VECTORS";
/// Time for one run of the script.
const SCRIPT_BOUND: Duration = Duration::from_secs(60);

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn folder(name: &str) -> PathBuf {
    docs().join("vectors").join(name)
}

fn facts(value: &Value) -> ImageFacts {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let texts = |value: &Value| value.as_array().unwrap().iter().map(text).collect();
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let digest = |name: &str| text(&value[name]).parse().unwrap();
    ImageFacts {
        pin: ImagePin { manifest: digest("manifest"), config: digest("config"), rootfs: digest("rootfs") },
        entrypoint: texts(&value["entrypoint"]),
        command: texts(&value["command"]),
        environment: value["environment"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(k, v)| (k.clone(), text(v)))
            .collect(),
        working_dir: text(&value["working_dir"]),
        user: User { uid: id(&value["user"]["uid"]), gid: id(&value["user"]["gid"]) },
    }
}

fn lock(name: &str, compose_file: &str) -> Lock {
    let text = fs::read_to_string(folder(name).join(compose_file)).unwrap();
    let images: Value = serde_json::from_slice(&fs::read(folder(name).join("images.json")).unwrap()).unwrap();
    let images =
        images.as_object().unwrap().iter().map(|(name, value)| (name.clone(), facts(value))).collect();
    let compose = compose::parse("compose.yaml", &text, &BTreeMap::new())
        .unwrap_or_else(|problems| panic!("{problems}"));
    compose.resolve(&images).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What follows from a lock. Leaves are those that the proofs are about; the first, which is global, is the one that is
/// left of the first agent.
fn vectors(lock: &Lock) -> Value {
    let measurements = lock.measurements().unwrap();
    let proofs: BTreeMap<&AgentName, Proof> =
        measurements.keys().map(|name| (name, lock.proof(name).unwrap().unwrap())).collect();
    let global = proofs.values().next().and_then(|first| first.path.first()).unwrap();
    let agents = measurements.iter().map(|(name, measurement)| agent_leaf(name, measurement));
    let leaves: Vec<Sha384> = std::iter::once(*global).chain(agents).collect();
    json!({"composition": lock.digest().unwrap(), "leaves": leaves, "measurements": measurements, "proofs": proofs})
}

/// Makes the files anew where that is asked for, once and before any test reads them.
fn prepared() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if std::env::var_os(UPDATE).is_none() {
            return;
        }
        for (name, compose_file) in VECTORS {
            for (file, content) in files(name, compose_file) {
                fs::write(folder(name).join(file), content).unwrap();
            }
        }
        let (text, mark, _) = page();
        fs::write(docs().join("measurement.md"), text + &mark + &worked_example()).unwrap();
    });
}

/// What follows from a Compose file, as files.
fn files(name: &str, compose_file: &str) -> [(&'static str, String); 2] {
    let lock = lock(name, compose_file);
    let files = [
        ("compose.lock", lock.to_json().unwrap()),
        ("vectors.json", value_to_readable_json(&vectors(&lock)).unwrap()),
    ];
    files.map(|(file, content)| (file, String::from_utf8(content).unwrap()))
}

/// What to do where a file is not what it should be.
const AGAIN: &str = "what is measured has changed. Where that is meant, look at `git diff docs` after\n  \
    UPDATE_VECTORS=1 cargo test -p casemate-composition --test vectors";

#[test]
fn the_vectors_are_what_this_crate_makes_of_them() {
    prepared();
    let known: Vec<String> = VECTORS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut there: Vec<String> = fs::read_dir(docs().join("vectors"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    assert_eq!(there, known, "folders of docs/vectors");
    for (name, compose_file) in VECTORS {
        for (file, found) in files(name, compose_file) {
            let expected = fs::read_to_string(folder(name).join(file)).unwrap_or_default();
            let line = expected.lines().zip(found.lines()).take_while(|(a, b)| a == b).count() + 1;
            assert!(expected == found, "docs/vectors/{name}/{file}, line {line}: {AGAIN}");
        }
    }
}

/// `docs/measurement.md`: its text, the mark below it, and the example.
fn page() -> (String, String, String) {
    let page = fs::read_to_string(docs().join("measurement.md")).unwrap();
    let mark = page.split_inclusive('\n').find(|line| line.contains(UPDATE)).unwrap();
    let (text, example) = page.split_once(mark).unwrap();
    (text.to_owned(), mark.to_owned(), example.to_owned())
}

/// The worked example of `docs/measurement.md`: with digests made here of the file's members, by the page's own rules.
fn worked_example() -> String {
    let read = |file: &str| -> Value {
        serde_json::from_slice(&fs::read(folder("one-agent").join(file)).unwrap()).unwrap()
    };
    let (mut lock, vectors) = (read("compose.lock"), read("vectors.json"));
    let text = |value: &Value| String::from_utf8(value_to_canonical_json(value).unwrap()).unwrap();
    let agent = text(&lock["agents"]["agent"]);
    lock.as_object_mut().unwrap().retain(|name, _| name != "about" && name != "agents");
    let global = text(&lock);
    let measurement = Sha384::of_parts(&[b"casemate:measurement/1\0", agent.as_bytes()]);
    let leaves = [
        Sha384::of_parts(&[b"\0casemate:global/1\0", global.as_bytes()]),
        Sha384::of_parts(&[b"\0casemate:agent/1\0agent\0", &measurement.0]),
    ];
    let root = Sha384::of_parts(&[b"\x01", &leaves[0].0, &leaves[1].0]);
    assert_eq!(vectors["composition"], root.to_string());
    assert_eq!(vectors["leaves"], json!(leaves));
    assert_eq!(vectors["measurements"]["agent"], measurement.to_string());
    assert_eq!(vectors["proofs"]["agent"], json!({"index": 1, "size": 2, "path": [leaves[0]]}));
    format!(
        "\n```\nwhat is global, {} bytes\n{global}\nits leaf, number 0\n{}\n\nvalue of the agent `agent`, {} bytes\n{agent}\n\
         its measurement\n{measurement}\nits leaf, number 1\n{}\n\ncomposition digest: the node over both\n{root}\n\
         proof of `agent`: index 1, size 2, path: leaf 0\n```\n",
        global.len(),
        leaves[0],
        agent.len(),
        leaves[1],
    )
}

#[test]
fn the_page_about_measurement_has_this_example_and_every_field() {
    prepared();
    let (text, _, example) = page();
    assert!(example == worked_example(), "docs/measurement.md: {AGAIN}");
    let mut missing = Vec::new();
    for (name, compose_file) in VECTORS {
        let lock = serde_json::to_value(lock(name, compose_file)).unwrap();
        for agent in lock["agents"].as_object().unwrap().values() {
            for (field, value) in agent.as_object().unwrap() {
                missing.push(field.clone());
                let members =
                    value.as_object().filter(|_| !["environment", "depends_on"].contains(&field.as_str()));
                missing.extend(members.into_iter().flat_map(|members| members.keys().cloned()));
            }
        }
    }
    missing.retain(|field| !text.contains(&format!("`{field}`")));
    assert_eq!(missing, [""; 0], "fields that docs/measurement.md does not name");
}

#[test]
fn every_proof_leads_from_its_leaf_to_the_root_and_from_no_other() {
    prepared();
    for (name, _) in VECTORS {
        let lock = Lock::from_json(&fs::read(folder(name).join("compose.lock")).unwrap()).unwrap();
        let vectors: Value =
            serde_json::from_slice(&fs::read(folder(name).join("vectors.json")).unwrap()).unwrap();
        let root: Sha384 = vectors["composition"].as_str().unwrap().parse().unwrap();
        let leaves: Vec<Sha384> = serde_json::from_value(vectors["leaves"].clone()).unwrap();
        assert_eq!(leaves.len(), lock.agents.len() + 1);
        for (agent, position) in lock.agents.keys().zip(1..) {
            let proof: Proof = serde_json::from_value(vectors["proofs"][agent.as_str()].clone()).unwrap();
            assert_eq!(lock.proofs().unwrap().get(agent), Some(&proof), "{name}: {agent}");
            for (index, leaf) in leaves.iter().enumerate() {
                assert_eq!(
                    proof.root(leaf) == Some(root),
                    index == position,
                    "{name}: {agent}, leaf {index}"
                );
            }
        }
    }
}

/// Runs the script; its exit code and all that it said.
fn recompute(files: &[&Path]) -> (Option<i32>, String) {
    let out = tempfile(".out");
    let file = File::create(&out).unwrap();
    let mut command = Command::new("python3");
    command.arg("-I").arg(docs().join("recompute.py")).args(files);
    let both = (file.try_clone().unwrap(), file);
    let mut child = command.stdin(Stdio::null()).stdout(both.0).stderr(both.1).spawn().unwrap();
    let end = Instant::now() + SCRIPT_BOUND;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > end => {
                child.kill().unwrap();
                panic!("recompute.py takes too long: {}", child.wait().unwrap());
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = fs::read_to_string(&out).unwrap();
    fs::remove_file(&out).unwrap();
    (status.code(), said)
}

/// A name for a file of this process and thread.
fn tempfile(end: &str) -> PathBuf {
    let thread =
        format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_alphanumeric(), "");
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vectors-{}-{thread}{end}", std::process::id()))
}

#[test]
fn the_script_recomputes_every_vector() {
    prepared();
    for (name, _) in VECTORS {
        let lock = Lock::from_json(&fs::read(folder(name).join("compose.lock")).unwrap()).unwrap();
        let (code, said) =
            recompute(&[&folder(name).join("compose.lock"), &folder(name).join("vectors.json")]);
        assert_eq!(
            (code, said),
            (Some(0), format!("composition {}: all agrees\n", lock.digest().unwrap())),
            "{name}"
        );
    }
}

#[test]
fn the_script_refuses_every_changed_lock_and_vector() {
    prepared();
    let whole = fs::read_to_string(folder("traps").join("compose.lock")).unwrap();
    let changed = tempfile(".lock");
    for (from, to, code, says) in [
        ("/bin/a", "/bin/c", 1, "measurements is not"),
        ("\"project\": \"traps\"", "\"project\": \"trap\"", 1, "composition is not"),
        ("\"composition\": \"sha384:", "\"composition\": \"sha384:0", 1, "composition is not"),
        ("\"a-b\": \"sha384:", "\"a-c\": \"sha384:", 1, "measurements is not"),
        ("\"about\": {", "\"about\":  {", 1, "not in the form"),
        ("\"about\": {", "\"about\": {\n    \"approved\": \"yes\",", 1, "not in the form"),
        ("\\u0001", "\\u0000", 1, "measurements is not"),
        ("\\t", "\\u0009", 1, "not in the form"),
        ("\"stop\": {", "\"stop\": {}, \"stop\": {", 2, "a member is there twice"),
        ("4503599627370496", "9007199254740991", 1, "measurements is not"),
        ("4503599627370496", "9007199254740992", 2, "is 2^53 or more"),
        ("4503599627370496", "4503599627370496.0", 2, "4503599627370496.0"),
        ("4503599627370496", "4e15", 2, "4e15"),
        ("4503599627370496", "NaN", 2, "NaN"),
        ("\"/bin/a\"", "\"\\ud800\"", 2, "surrogates not allowed"),
        ("\"version\": 1", "\"version\": -0", 1, "composition is not"),
        ("{\n", "", 2, "unusable"),
    ] {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from}");
        fs::write(&changed, &text).unwrap();
        let (found, said) = recompute(&[&changed]);
        assert_eq!(found, Some(code), "{to}: {said}");
        assert!(said.contains(says), "{to}: {said}");
        // Casemate reads none of them either.
        assert!(Lock::from_json(text.as_bytes()).is_err(), "{to}");
    }
    // In the order of code points, as most programs write it.
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let at = lines.iter().position(|line| line.contains("private use")).unwrap();
    let mut other = lines.clone();
    other[at - 2..=at].rotate_right(1);
    assert!(lines[at - 2].contains("U+FFFF") && other.concat() != whole);
    fs::write(&changed, other.concat()).unwrap();
    assert_eq!(recompute(&[&changed]).0, Some(1));
    assert!(matches!(Lock::from_json(other.concat().as_bytes()), Err(LockError::Form { .. })));
    let lock = folder("traps").join("compose.lock");
    let vectors = fs::read_to_string(folder("traps").join("vectors.json")).unwrap();
    for name in ["composition", "leaves", "measurements", "proofs"] {
        let mut value: Value = serde_json::from_str(&vectors).unwrap();
        value[name] = json!(0);
        fs::write(&changed, value.to_string()).unwrap();
        let (found, said) = recompute(&[&lock, &changed]);
        assert_eq!((found, said.contains(&format!("{name} is not"))), (Some(1), true), "{name}: {said}");
    }
    fs::remove_file(&changed).unwrap();
}

#[test]
fn the_script_is_short_and_needs_the_standard_library_alone() {
    let text = fs::read_to_string(docs().join("recompute.py")).unwrap();
    assert!(text.lines().count() <= 60, "{} lines", text.lines().count());
    let imports: Vec<&str> = text.lines().filter(|line| line.contains("import ")).collect();
    assert_eq!(imports, ["import hashlib, json, sys"]);
}
