//! The example composition: it reads without a warning, and every choice of its lock is the one that is meant. Its lock
//! and measurements are a vector in `docs/vectors`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use casemate_canon::Sha256;
use casemate_composition::explain::{diff, explain_edge};
use casemate_composition::lock::{
    AgentName, Condition, Dependency, ImagePin, Lock, Mount, Restart, RestartCondition, Secret, User,
};
use casemate_composition::network::{Target, aliases};
use casemate_composition::{Compose, ImageFacts, compose};

const TEXT: &str = include_str!("../../../examples/research-desk/compose.yaml");

fn facts() -> ImageFacts {
    ImageFacts {
        pin: ImagePin {
            manifest: Sha256::of(b"manifest"),
            config: Sha256::of(b"config"),
            rootfs: Sha256::of(b"rootfs"),
        },
        entrypoint: Vec::new(),
        command: vec!["python3".into()],
        environment: [("LANG".to_owned(), "C.UTF-8".to_owned())].into(),
        working_dir: String::new(),
        user: User { uid: 0, gid: 0 },
    }
}

fn read(text: &str) -> Compose {
    match compose::parse("compose.yaml", text, &BTreeMap::new()) {
        Ok(compose) => compose,
        Err(problems) => panic!("{problems}"),
    }
}

fn lock(text: &str) -> Lock {
    read(text).resolve(&[("localhost/research-desk:1".to_owned(), facts())].into()).unwrap()
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

#[test]
fn reads_without_a_warning_and_names_its_one_image() {
    let compose = read(TEXT);
    assert_eq!(compose.warnings, []);
    assert_eq!(compose.project(), &name("research-desk"));
    assert_eq!(compose.images().into_iter().collect::<Vec<_>>(), ["localhost/research-desk:1"]);
    assert_eq!(
        compose.agents().map(AgentName::as_str).collect::<Vec<_>>(),
        ["planner", "researcher", "scribe"]
    );
}

#[test]
fn resolves_every_choice() {
    let lock = lock(TEXT);
    let researcher = &lock.agents[&name("researcher")];
    assert_eq!(researcher.command, ["python3", "-u", "/agents/researcher.py"]);
    assert_eq!(researcher.environment.keys().collect::<Vec<_>>(), ["API_URL", "LANG", "PATH"]);
    assert_eq!((researcher.working_dir.as_str(), researcher.hostname.as_str()), ("/", "researcher"));
    assert_eq!(researcher.user, User { uid: 1000, gid: 1000 });
    let secret = Secret { resource: "research-desk/secret/api_token".into(), target: "api_token".into() };
    assert_eq!(researcher.secrets, [secret]);
    assert_eq!((researcher.limits.memory_bytes, researcher.limits.pids), (128 << 20, 32));
    assert_eq!(researcher.limits.cpu_milli, Some(500));
    assert_eq!(
        researcher.restart,
        Restart { attempts_max: Some(3), ..Restart::on(RestartCondition::OnFailure) }
    );
    let healthy = Dependency { condition: Condition::ServiceHealthy, required: true, restart: false };
    assert_eq!(researcher.depends_on[&name("scribe")], healthy);
    assert_eq!(
        researcher.health.as_ref().map(|health| (health.interval_ms, health.retries)),
        Some((1000, 10))
    );
    assert_eq!((researcher.stop.signal, researcher.stop.grace_ms), (15, 5000));
    let tmp = Mount::Tmpfs { target: "/tmp".into(), size_bytes: 64 << 20, mode: 0o1777 };
    let data = Mount::Volume { name: name("answers"), target: "/data".into(), read_only: false };
    assert_eq!(researcher.mounts, std::slice::from_ref(&tmp));
    assert_eq!(lock.agents[&name("scribe")].mounts, [data, tmp]);
    assert_eq!(Lock::from_json(&lock.to_json().unwrap()), Ok(lock));
}

#[test]
fn each_agent_has_an_alias_for_each_name_it_may_call() {
    let lock = lock(TEXT);
    let agent = |agent: &str, port| Target::Agent { agent: name(agent), port };
    let of = |agent: &str| {
        let all = aliases(&lock, &name(agent)).into_iter();
        all.map(|alias| (alias.name, alias.address, alias.ports)).collect::<Vec<_>>()
    };
    assert_eq!(
        of("planner"),
        [
            ("researcher".into(), Ipv4Addr::new(127, 64, 0, 1), [(8080, agent("researcher", 8080))].into()),
            ("scribe".into(), Ipv4Addr::new(127, 64, 0, 2), [(8081, agent("scribe", 8081))].into()),
        ]
    );
    let api = Target::Host {
        host: "api.desk.test".into(),
        port: 8090,
        address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    assert_eq!(
        of("researcher"),
        [
            ("api.desk.test".into(), Ipv4Addr::new(127, 64, 0, 1), [(8090, api)].into()),
            ("scribe".into(), Ipv4Addr::new(127, 64, 0, 2), [(8081, agent("scribe", 8081))].into()),
        ]
    );
    assert_eq!(of("scribe"), []);
    assert_eq!(of("nobody"), []);
}

#[test]
fn tells_why_a_call_is_allowed_or_refused() {
    let lock = lock(TEXT);
    let why = |from: &str, host: &str, port| {
        explain_edge(&lock, &name(from), host, port).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        why("planner", "researcher", 8080).unwrap(),
        "planner may call researcher:8080: talks-to \"researcher:8080\" of planner"
    );
    assert_eq!(
        why("researcher", "api.desk.test", 8090).unwrap(),
        "researcher may call api.desk.test:8090: egress \"api.desk.test:8090\" of researcher, \
         at 127.0.0.1 (extra_hosts)"
    );
    assert_eq!(
        why("planner", "researcher", 9999).unwrap_err(),
        "refused by rule edge.declared: expected one of researcher:8080, scribe:8081, \
         found planner to researcher:9999"
    );
    assert_eq!(
        why("planner", "exfil.example", 80).unwrap_err(),
        "refused by rule egress.declared: expected nothing: none is declared, found planner to exfil.example:80"
    );
    assert_eq!(
        why("scribe", "researcher", 8080).unwrap_err(),
        "refused by rule edge.declared: expected nothing: none is declared, found scribe to researcher:8080"
    );
    assert_eq!(
        why("intruder", "researcher", 8080).unwrap_err(),
        "refused by rule agent.declared: expected one of planner, researcher, scribe, found agent intruder"
    );
}

#[test]
fn tells_what_changed_between_two_locks() {
    let before = lock(TEXT);
    assert_eq!(diff(&before, &before), []);
    let after = lock(
        &TEXT
            .replace("/agents/researcher.py", "/agents/other.py")
            .replace("name: research-desk\n", "name: desk\n"),
    );
    let changes: Vec<String> = diff(&before, &after).iter().map(ToString::to_string).collect();
    assert_eq!(
        changes,
        [
            "composition: project changed from \"research-desk\" to \"desk\"",
            "agent researcher: command changed from [\"python3\",\"-u\",\"/agents/researcher.py\"] \
             to [\"python3\",\"-u\",\"/agents/other.py\"]",
            "agent researcher: secrets changed from [{\"resource\":\"research-desk/secret/api_token\",\
             \"target\":\"api_token\"}] to [{\"resource\":\"desk/secret/api_token\",\"target\":\"api_token\"}]",
            "agent scribe: secrets changed from [{\"resource\":\"research-desk/secret/signing_key\",\
             \"target\":\"signing_key\"}] to [{\"resource\":\"desk/secret/signing_key\",\"target\":\"signing_key\"}]",
        ]
    );
    let mut fewer = before.clone();
    fewer.agents.remove(&name("scribe"));
    assert_eq!(diff(&before, &fewer)[0].to_string(), "agent scribe is gone");
    assert_eq!(diff(&fewer, &before)[0].to_string(), "agent scribe is new");
}
