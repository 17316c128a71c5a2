//! Replicas of a service: their names, what is measured of them, and who calls and waits for them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;

use casemate_canon::Sha256;
use casemate_composition::explain::explain_edge;
use casemate_composition::load::{self, NoFiles, Request};
use casemate_composition::lock::{AgentName, ImagePin, Lock, User};
use casemate_composition::network::{Target, aliases};
use casemate_composition::{ImageFacts, LockError};

const TEXT: &str = "name: t
services:
  web:
    image: i:1
    expose: [\"80\"]
    networks: { default: { aliases: [front] } }
    deploy: { replicas: 3 }
  client:
    image: i:1
    depends_on: [web]
    x-casemate:
      talks-to: [{ to: \"web:80\", connections: 2 }]
";

fn facts() -> ImageFacts {
    ImageFacts {
        pin: ImagePin { manifest: Sha256::of(b"m"), config: Sha256::of(b"c"), rootfs: Sha256::of(b"r") },
        entrypoint: vec!["/entry".into()],
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 0, gid: 0 },
    }
}

fn scaled(text: &str, scale: &[(&str, u32)]) -> Result<Lock, String> {
    let scale = scale.iter().map(|(service, count)| (name(service), *count)).collect();
    let request = Request { scale, ..Request::of("c.yaml", text, BTreeMap::new()) };
    let compose = load::load(&request, &mut NoFiles).map_err(|problems| problems.to_string())?;
    let images = [("i:1".to_owned(), facts())].into();
    compose.into_compose().unwrap().resolve(&images).map_err(|problems| problems.to_string())
}

fn lock(text: &str) -> Lock {
    scaled(text, &[]).unwrap()
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn names(lock: &Lock) -> Vec<&str> {
    lock.agents.keys().map(AgentName::as_str).collect()
}

#[test]
fn each_replica_is_an_agent_that_differs_from_the_others_by_its_name_alone() {
    let lock = lock(TEXT);
    assert_eq!(names(&lock), ["client", "web-1", "web-2", "web-3"]);
    let [first, second] = ["web-1", "web-2"].map(|replica| lock.agents[&name(replica)].clone());
    assert_eq!((first.hostname.as_str(), first.trust.as_str()), ("web-1", "web-1"));
    assert_eq!(first.replica_of, Some(name("web")));
    let mut renamed = second.clone();
    renamed.hostname = "web-1".into();
    renamed.trust = name("web-1");
    assert_eq!(renamed, first);
    assert_ne!(first.measurement().unwrap(), second.measurement().unwrap());
}

#[test]
fn one_replica_is_the_service_itself_with_the_measurement_that_it_has_without_a_number() {
    let plain = TEXT.replace("    deploy: { replicas: 3 }\n", "");
    assert_eq!(lock(&TEXT.replace("replicas: 3", "replicas: 1")), lock(&plain));
    assert_eq!(scaled(TEXT, &[("web", 1)]).unwrap(), lock(&plain));
    assert!(!String::from_utf8(lock(&plain).to_json().unwrap()).unwrap().contains("replica_of"));
}

#[test]
fn the_command_line_decides_over_the_files_and_names_services_alone() {
    assert_eq!(names(&scaled(TEXT, &[("web", 2)]).unwrap()), ["client", "web-1", "web-2"]);
    assert_eq!(scaled(TEXT, &[("web", 2)]), Ok(lock(&TEXT.replace("replicas: 3", "replicas: 2"))));
    let unknown = scaled(TEXT, &[("wep", 2)]).unwrap_err();
    assert!(
        unknown.contains("names `wep`, which is no service of this file, did you mean `web`?"),
        "{unknown}"
    );
    assert!(scaled(TEXT, &[("web", 101)]).unwrap_err().contains("ask for 0 to 100"));
}

#[test]
fn an_edge_to_a_service_leads_to_all_replicas_under_each_of_its_names_and_has_one_limit() {
    let lock = lock(TEXT);
    let client = &lock.agents[&name("client")];
    assert_eq!(client.traffic.keys().collect::<Vec<_>>(), ["web:80"]);
    let replicas = ["web-1", "web-2", "web-3"].map(name).to_vec();
    let to = Target::Service { service: name("web"), replicas, port: 80 };
    let found = aliases(&lock, &name("client"));
    let found: Vec<_> = found.iter().map(|alias| (alias.name.as_str(), &alias.ports)).collect();
    let ports = BTreeMap::from([(80, to)]);
    assert_eq!(found, [("front", &ports), ("web", &ports)]);
    assert_eq!(
        explain_edge(&lock, &name("client"), "web", 80).unwrap(),
        "client may call web:80, any of web-1, web-2, web-3: talks-to \"web:80\" of client"
    );
    for host in ["web-1", "web"] {
        assert_eq!(explain_edge(&lock, &name("client"), host, 81).unwrap_err().rule, "edge.declared");
    }
    // Who calls does not change with how many are called.
    let two = scaled(TEXT, &[("web", 2)]).unwrap();
    assert_eq!(client.edges, two.agents[&name("client")].edges);
}

#[test]
fn replicas_do_not_multiply_what_a_file_brings_past_the_size_of_a_lock() {
    let large = TEXT.replace(
        "    deploy: {",
        &format!("    environment: {{ A: \"{}\" }}\n    deploy: {{", "x".repeat(60_000)),
    );
    assert!(scaled(&large, &[("web", 50)]).is_ok());
    assert!(scaled(&large, &[("web", 100)]).unwrap_err().contains("lock would have more than 4194304 bytes"));
}

#[test]
fn replicas_are_in_the_order_of_their_numbers() {
    let lock = scaled(TEXT, &[("web", 11)]).unwrap();
    let all: Vec<String> = (1..=11).map(|number| format!("web-{number}")).collect();
    let meant: Vec<String> = lock.meant_by(&name("web")).iter().map(ToString::to_string).collect();
    assert_eq!(meant, all);
    assert_eq!(lock.meant_by(&name("web-3")), [name("web-3")]);
    assert_eq!(lock.meant_by(&name("nobody")), []);
}

#[test]
fn who_depends_on_a_service_waits_for_each_replica() {
    let lock = lock(TEXT);
    let waits: Vec<&str> = lock.agents[&name("client")].depends_on.keys().map(AgentName::as_str).collect();
    assert_eq!(waits, ["web-1", "web-2", "web-3"]);
}

#[test]
fn a_service_without_a_replica_is_not_there_and_nobody_calls_it_or_waits_for_it() {
    let lock = scaled(TEXT, &[("web", 0)]).unwrap();
    assert_eq!(names(&lock), ["client"]);
    let client = &lock.agents[&name("client")];
    assert!(client.edges.is_empty() && client.traffic.is_empty() && client.names.is_empty());
    assert!(client.depends_on.is_empty());
    assert!(scaled(TEXT, &[("web", 0), ("client", 0)]).unwrap_err().contains("0 agents"));
}

#[test]
fn a_file_of_a_lock_has_replicas_numbered_from_one_or_is_refused() {
    let good = lock(TEXT);
    assert_eq!(Lock::from_json(&good.to_json().unwrap()), Ok(good.clone()));
    let refused = |change: &dyn Fn(&mut Lock)| {
        let mut changed = good.clone();
        change(&mut changed);
        let error = Lock::from_json(&changed.to_json().unwrap()).unwrap_err();
        assert!(matches!(error, LockError::Replicas { .. }), "{error}");
    };
    refused(&|lock| drop(lock.agents.remove(&name("web-1"))));
    refused(&|lock| lock.agents.retain(|other, _| !["web-2", "web-3"].contains(&other.as_str())));
    refused(&|lock| lock.agents.get_mut(&name("client")).unwrap().replica_of = Some(name("web")));
    refused(&|lock| {
        let plain = lock.agents[&name("client")].clone();
        lock.agents.insert(name("web"), plain);
    });
}
