//! The composition of a one-off agent: what of the files is in it, and that it is measured as another one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;

use casemate_canon::Sha256;
use casemate_composition::lock::{AgentName, ImagePin, Lock, RestartCondition, User};
use casemate_composition::one_off::{Dependencies, OneOff};
use casemate_composition::{Compose, ImageFacts, compose};

const TEXT: &str = "name: t
services:
  job:
    image: i:1
    entrypoint: [python3]
    command: [serve.py]
    environment: { A: file, B: file }
    restart: always
    ports: [\"8080:80\"]
    expose: [\"80\"]
    secrets: [token]
    healthcheck: { test: [CMD, check] }
    post_start: [{ command: [ready] }]
    pre_stop: [{ command: [flush] }]
    depends_on: [db]
    volumes: [\"data:/data\"]
    x-casemate: { talks-to: [\"db:5432\", \"other:90\"] }
  db:
    image: i:1
    expose: [\"5432\"]
    depends_on: [disk]
  disk: { image: \"i:1\" }
  other:
    image: i:1
    expose: [\"90\"]
    ports: [\"9090:90\"]
    volumes: [\"more:/more\"]
volumes: { data: , more: }
secrets: { token: { external: true } }
";

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

fn parsed() -> Compose {
    compose::parse("c.yaml", TEXT, &BTreeMap::new()).unwrap()
}

fn resolved(compose: &Compose) -> Lock {
    let facts = ImageFacts {
        pin: ImagePin { manifest: Sha256::of(b"m"), config: Sha256::of(b"c"), rootfs: Sha256::of(b"r") },
        entrypoint: vec!["/entry".into()],
        command: vec!["default".into()],
        environment: BTreeMap::new(),
        working_dir: "/".into(),
        user: User { uid: 0, gid: 0 },
    };
    compose.resolve(&[("i:1".to_owned(), facts)].into()).unwrap()
}

fn one_off(change: &OneOff) -> Lock {
    resolved(&parsed().one_off(&name("job"), change).unwrap())
}

fn words(text: &str) -> Option<Vec<String>> {
    Some(text.split(' ').map(str::to_owned).collect())
}

#[test]
fn it_has_the_service_and_those_that_it_depends_on_and_reaches_nobody_else() {
    let lock = one_off(&OneOff { command: words("once.py x"), ..OneOff::default() });
    assert_eq!(lock.agents.keys().map(AgentName::as_str).collect::<Vec<_>>(), ["db", "disk", "job"]);
    let job = &lock.agents[&name("job")];
    assert_eq!(job.command, ["python3", "once.py", "x"]);
    assert_eq!(job.edges.iter().map(|edge| edge.to.as_str()).collect::<Vec<_>>(), ["db"]);
    assert_eq!((job.restart.condition, &job.health), (RestartCondition::No, &None));
    assert!(job.ports.is_empty() && job.post_start.is_empty() && job.pre_stop.is_empty());
    assert!(!resolved(&parsed()).agents[&name("job")].post_start.is_empty());
    assert_eq!(lock.volumes.keys().map(AgentName::as_str).collect::<Vec<_>>(), ["data"]);
    // The same secret as that of the service: whether it is released is for the policy to say.
    assert_eq!(job.secrets, resolved(&parsed()).agents[&name("job")].secrets);
    assert_eq!(Lock::from_json(&lock.to_json().unwrap()), Ok(lock));
}

#[test]
fn it_is_measured_as_another_composition_and_by_every_word_of_its_command() {
    let digest = |lock: &Lock| lock.digest().unwrap();
    let plain = one_off(&OneOff::default());
    assert_ne!(digest(&plain), digest(&resolved(&parsed())));
    let changed = |change: OneOff| {
        let lock = one_off(&change);
        assert_ne!(digest(&lock), digest(&plain), "{change:?}");
        assert_eq!(digest(&lock), digest(&one_off(&change)));
        // Who it depends on is measured as ever.
        assert_eq!(lock.agents[&name("db")], plain.agents[&name("db")]);
        lock.agents[&name("job")].clone()
    };
    changed(OneOff { command: words("once.py"), ..OneOff::default() });
    let shell = changed(OneOff { entrypoint: words("/bin/sh"), ..OneOff::default() });
    assert_eq!(shell.command, ["/bin/sh"]);
    let with = changed(OneOff { environment: [("A".into(), "run".into())].into(), ..OneOff::default() });
    assert_eq!((with.environment["A"].as_str(), with.environment["B"].as_str()), ("run", "file"));
    let user = User { uid: 7, gid: 8 };
    assert_eq!(changed(OneOff { user: Some(user), ..OneOff::default() }).user, user);
    changed(OneOff { working_dir: Some("/x".into()), ..OneOff::default() });
}

#[test]
fn without_dependencies_it_is_alone_and_waits_for_nobody() {
    let lock = one_off(&OneOff { dependencies: Dependencies::Leave, ..OneOff::default() });
    assert_eq!(lock.agents.keys().map(AgentName::as_str).collect::<Vec<_>>(), ["job"]);
    let job = &lock.agents[&name("job")];
    assert!(job.depends_on.is_empty() && job.edges.is_empty());
    assert!(parsed().one_off(&name("nobody"), &OneOff::default()).is_none());
}
