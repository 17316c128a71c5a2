//! Edges to Unix sockets: what a Compose file says of them, and what it is refused for.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;

use casemate_canon::Sha256;
use casemate_composition::ImageFacts;
use casemate_composition::compose;
use casemate_composition::explain::explain_socket;
use casemate_composition::lock::{AgentName, ImagePin, Lock, User};
use casemate_composition::plan::{Access, Plan};
use casemate_composition::sockets::{SocketEdge, listeners};

const TEXT: &str = "name: t
services:
  db:
    image: i:1
    x-casemate:
      sockets: [\"/run/pg/s\", /run/pg/t]
  app:
    image: i:1
    x-casemate:
      talks-to: [\"db:/run/pg/t\", { to: \"db:/run/pg/s\", connections: 2 }]
";

fn read(text: &str) -> Result<Lock, String> {
    let facts = ImageFacts {
        pin: ImagePin { manifest: Sha256::of(b"m"), config: Sha256::of(b"c"), rootfs: Sha256::of(b"r") },
        entrypoint: vec!["/entry".into()],
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 0, gid: 0 },
    };
    let compose =
        compose::parse("c.yaml", text, &BTreeMap::new()).map_err(|problems| problems.to_string())?;
    compose.resolve(&[("i:1".to_owned(), facts)].into()).map_err(|problems| problems.to_string())
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn edge(to: &str, path: &str) -> SocketEdge {
    SocketEdge { to: name(to), path: path.parse().unwrap() }
}

#[test]
fn an_edge_to_a_socket_is_in_the_lock_of_both_and_found_below_one_folder() {
    let lock = read(TEXT).unwrap();
    let (app, db) = (&lock.agents[&name("app")], &lock.agents[&name("db")]);
    let offered: Vec<&str> = db.sockets.iter().map(|path| path.as_str()).collect();
    assert_eq!(offered, ["/run/pg/s", "/run/pg/t"]);
    let places: Vec<String> = listeners(app).map(|(place, _)| place).collect();
    assert_eq!(places, ["/run/casemate/edges/db/run/pg/s", "/run/casemate/edges/db/run/pg/t"]);
    assert_eq!(app.traffic["db:/run/pg/s"].connections, Some(2));
    assert!(app.edges.is_empty() && db.socket_edges.is_empty());
    let without = read(&TEXT.replace("[\"db:/run/pg/t\", ", "[")).unwrap();
    assert_ne!(without.agents[&name("app")].measurement(), app.measurement());
    assert_eq!(without.agents[&name("db")].measurement(), db.measurement());
    let plan = Plan::new(Some(&without), &lock, &BTreeMap::new()).unwrap();
    let access = Access::CallSocket { to: name("db"), path: "/run/pg/t".parse().unwrap() };
    assert_eq!(plan.agents[&name("app")].gains, [access].into());
}

#[test]
fn who_has_no_socket_has_the_lock_entry_of_before() {
    let lock = read("name: t\nservices:\n  a:\n    image: i:1\n").unwrap();
    let text = serde_json::to_string(&lock).unwrap();
    assert!(!text.contains("socket"), "{text}");
}

#[test]
fn why_names_the_declaration_and_the_place() {
    let lock = read(TEXT).unwrap();
    let because = explain_socket(&lock, &name("app"), &edge("db", "/run/pg/s")).unwrap();
    assert_eq!(
        because,
        "app may call db:/run/pg/s, which it finds at /run/casemate/edges/db/run/pg/s: talks-to \"db:/run/pg/s\" of app"
    );
    let refused = explain_socket(&lock, &name("db"), &edge("app", "/s")).unwrap_err();
    assert_eq!((refused.rule, refused.found.as_str()), ("edge.declared", "db to app:/s"));
    let refused = explain_socket(&lock, &name("nobody"), &edge("db", "/s")).unwrap_err();
    assert_eq!(refused.rule, "agent.declared");
}

#[test]
fn what_cannot_be_an_edge_to_a_socket_is_refused_with_the_line() {
    let calls = |to: &str| TEXT.replace("[\"db:/run/pg/t\", ", &format!("[\"{to}\", "));
    let long = format!("/{}", "x".repeat(90));
    let offers_long =
        TEXT.replace("/run/pg/t]", &format!("{long}]")).replace("db:/run/pg/t", &format!("db:{long}"));
    for (text, said) in [
        (calls("db:/run/pg/u"), "c.yaml:10:18: `talks-to` names `db:/run/pg/u`, which `db` does not offer"),
        (calls("dp:/run/pg/t"), "`talks-to` names `dp`, which is no service of this file"),
        (calls("app:/run/s"), "`app` talks to itself"),
        (calls("db:/run/../s"), "it is not an absolute path"),
        (calls("db:/run/pg/s/t"), "`db:/run/pg/s/t`, which `db` does not offer"),
        (calls("db:/run/pg/s"), "is written twice"),
        (TEXT.replace("/run/pg/t]", "/run/casemate/agent.sock]"), "it lies below /run/casemate"),
        (TEXT.replace("/run/pg/t]", "/run/pg/s]"), "`/run/pg/s` is written twice"),
        (TEXT.replace("/run/pg/t]", "run]"), "`sockets` has `run`: it is not an absolute path"),
        (offers_long, "which no socket's path can be"),
        (
            TEXT.replace(
                "    image: i:1\n    x-casemate:\n      sockets",
                "    image: i:1\n    scale: 2\n    x-casemate:\n      sockets",
            ),
            "has replicas: not supported yet",
        ),
        (
            TEXT.replace("      sockets", "      backend: gvisor\n      sockets"),
            "runs under gVisor and offers the socket `/run/pg/s`",
        ),
        (
            TEXT.replace("      talks-to", "      backend: gvisor\n      talks-to"),
            "runs under gVisor and calls a socket of `db`",
        ),
    ] {
        let problems = read(&text).expect_err(said);
        assert!(problems.contains(said), "{said}\n{problems}");
    }
    let nested = TEXT.replace("/run/pg/t]", "/run/pg/s/t]").replace("db:/run/pg/t", "db:/run/pg/s/t");
    assert!(read(&nested).unwrap_err().contains("is a folder on the way to another socket of `db`"));
}
