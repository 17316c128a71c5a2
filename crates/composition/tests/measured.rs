//! What is measured: every change of behaviour, and nothing else.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::Sha256;
use casemate_composition::lock::{Agent, AgentName, ImagePin, Lock, Mount, Ulimit, UlimitValues, User};
use casemate_composition::merkle::agent_leaf;
use casemate_composition::{ImageFacts, compose};

fn facts(tag: &str) -> ImageFacts {
    ImageFacts {
        pin: ImagePin {
            manifest: Sha256::of(tag.as_bytes()),
            config: Sha256::of(b"config"),
            rootfs: Sha256::of(b"rootfs"),
        },
        entrypoint: vec!["/entry".into()],
        command: vec!["default".into()],
        environment: [("PATH".to_owned(), "/bin".to_owned()), ("LANG".to_owned(), "C".to_owned())].into(),
        working_dir: "/srv".into(),
        user: User { uid: 7, gid: 8 },
    }
}

fn lock_with(text: &str, images: &BTreeMap<String, ImageFacts>) -> Lock {
    match compose::parse("c.yaml", text, &BTreeMap::new()) {
        Ok(compose) => compose.resolve(images).unwrap(),
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn lock(text: &str) -> Lock {
    lock_with(text, &[("i:1".to_owned(), facts("1")), ("i:2".to_owned(), facts("2"))].into())
}

fn agent(service: &str) -> Agent {
    let body: String = service.lines().map(|line| format!("    {line}\n")).collect();
    let name: AgentName = "a".parse().unwrap();
    lock(&format!("name: t\nservices:\n  a:\n    image: i:1\n{body}")).agents[&name].clone()
}

/// The keys of the service under test, each a piece that may stand in any order.
const PIECES: [&str; 36] = [
    "image: i:1",
    "command: [\"run\", \"it\"]",
    "environment: { A: \"1\", B: \"2\" }",
    "working_dir: /work",
    "user: \"1000:1000\"",
    "hostname: host",
    "tmpfs: [\"/scratch:size=1m,mode=0700\"]",
    "volumes: [\"data:/data\", \"more:/more:ro\"]",
    "secrets: [token, { source: key, target: key.pem }]",
    "mem_limit: 64m",
    "pids_limit: 10",
    "cpus: \"0.5\"",
    "ulimits: { nofile: 100, nproc: { soft: 20, hard: 30 } }",
    "expose: [\"90\", \"91\"]",
    "restart: on-failure:2",
    "healthcheck: { test: [\"CMD\", \"ok\"], interval: 2s, timeout: 3s, retries: 4, start_period: 5s, start_interval: 1s }",
    "depends_on: { peer: { condition: service_started, required: false } }",
    "group_add: [\"7\", 8]",
    "mem_reservation: 32m",
    "cpu_shares: 512",
    "shm_size: 8m",
    "oom_score_adj: 10",
    "configs: [{ source: conf, target: /etc/conf, uid: \"1\", gid: \"2\", mode: 0440 }]",
    "container_name: own",
    "networks: { default: { aliases: [further] } }",
    "platform: linux/amd64",
    "pull_policy: missing",
    "stop_signal: SIGINT",
    "stop_grace_period: 3s",
    "extra_hosts: { h.example: 10.0.0.1 }",
    "x-casemate: { talks-to: [\"peer:80\", \"peer:/run/s\"], sockets: [\"/run/own\", \"/run/two\"], egress: [\"h.example:1\", \"g.example:2\"], trust: desk, exec: deny }",
    "stdin_open: true",
    "tty: true",
    "post_start: [{ command: [\"made\", \"it\"], user: \"0:1\", working_dir: /hook, environment: { H: \"1\" } }, { command: then }]",
    "pre_stop: [{ command: drain }]",
    "logging: { options: { max-size: 1m, max-file: 3 } }",
];

fn file(pieces: &[&str], between: &str) -> String {
    let body: String = pieces.iter().map(|piece| format!("    {piece}\n{between}")).collect();
    format!(
        "name: t\nservices:\n  a:\n{body}  peer:\n    image: i:1\n    expose: [\"80\", \"82\"]\n    x-casemate: {{ sockets: [\"/run/s\", \"/run/t\"] }}\n    networks: {{ default: {{ aliases: [colleague] }} }}\n    healthcheck: {{ test: \
         [\"CMD\", \"ok\"] }}\nvolumes:\n  data:\n  more:\nconfigs:\n  conf: {{ content: text }}\nsecrets:\n  token: {{ external: true }}\n  key: {{ external: \
         true, name: tls-key }}\n"
    )
}

#[test]
fn neither_order_nor_comments_nor_layout_change_the_digest() {
    let base = lock(&file(&PIECES, ""));
    let mut state = 7_u32;
    for _ in 0..200 {
        let mut pieces = PIECES;
        for last in (1..pieces.len()).rev() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            pieces.swap(last, (state >> 8) as usize % (last + 1));
        }
        let between = ["", "\n", "    # a remark\n"][(state >> 4) as usize % 3];
        assert_eq!(lock(&file(&pieces, between)), base);
    }
}

#[test]
fn line_ends_and_a_byte_order_mark_do_not_change_the_digest() {
    let text = file(&PIECES, "");
    assert_eq!(lock(&text.replace('\n', "\r\n")), lock(&text));
    assert_eq!(lock(&format!("\u{feff}{text}")), lock(&text));
}

#[test]
fn other_spellings_of_the_same_thing_do_not_change_the_digest() {
    let base = file(&PIECES, "");
    let digest = lock(&base).digest().unwrap();
    for (from, to) in [
        ("[\"run\", \"it\"]", "run 'it'"),
        ("{ A: \"1\", B: \"2\" }", "[\"B=2\", A=1]"),
        (
            "mem_limit: 64m",
            "deploy: { resources: { limits: { memory: 65536k }, reservations: { memory: 32MB } } }",
        ),
        ("restart: on-failure:2", "deploy: { restart_policy: { condition: on-failure, max_attempts: 2 } }"),
        ("cpus: \"0.5\"", "cpu_quota: 50000"),
        ("cpus: \"0.5\"", "cpu_period: \"10000\"\n    cpu_quota: 5000"),
        ("nofile: 100,", "nofile: { soft: 100, hard: 100 },"),
        ("shm_size: 8m", "shm_size: 8388608"),
        ("mode: 0440", "mode: \"440\""),
        ("mode: 0440", "mode: 0o440"),
        ("group_add: [\"7\", 8]", "group_add: [8, 7, 7]"),
        ("    platform: linux/amd64\n", ""),
        ("    pull_policy: missing\n", "    pull_policy: never\n"),
        ("mem_limit: 64m", "mem_limit: 64m\n    memswap_limit: 67108864"),
        ("  data:\n", "  data: { name: data }\n"),
        ("name: t\n", "name: t\nx-casemate: { policy: p.toml, collateral-age: 30d }\n"),
        ("/scratch:size=1m,mode=0700", "/scratch:mode=700,size=1024k"),
        (
            "\"data:/data\", \"more:/more:ro\"",
            "\"more:/more:ro\", { type: volume, source: data, target: /data/ }",
        ),
        (
            "[token, { source: key, target: key.pem }]",
            "[{ source: key, target: /run/secrets/key.pem }, token]",
        ),
        ("expose: [\"90\", \"91\"]\n", "expose: [91/tcp, 90-91]\n"),
        ("interval: 2s", "interval: 2000ms"),
        ("stop_signal: SIGINT", "stop_signal: \"2\""),
        ("{ H: \"1\" }", "[H=1]"),
        ("[\"made\", \"it\"], user", "made it, privileged: false, user"),
        (
            "{ peer: { condition: service_started, required: false } }",
            "{ peer: { required: \"false\", condition: \"service_started\", restart: false } }",
        ),
        ("{ h.example: 10.0.0.1 }", "[\"h.example=10.0.0.1\"]"),
        ("[\"h.example:1\", \"g.example:2\"]", "[\"g.example:2\", \"h.example:1\"]"),
        (
            "    image: i:1\n    command",
            "    image: i:1\n    read_only: true\n    labels: [a=b]\n    command",
        ),
        ("name: t\n", "name: t\nx-note: { any: thing }\n"),
        ("working_dir: /work", "working_dir: ${UNSET:-/work}"),
    ] {
        let changed = base.replacen(from, to, 1);
        assert_ne!(changed, base, "{from}");
        assert_eq!(lock(&changed).digest().unwrap(), digest, "{to}");
    }
}

#[test]
fn every_change_of_behaviour_changes_the_agent_and_no_other() {
    let base = file(&PIECES, "");
    let (name, peer): (AgentName, AgentName) = ("a".parse().unwrap(), "peer".parse().unwrap());
    let before = lock(&base);
    let mut seen = BTreeSet::from([before.agents[&name].measurement().unwrap()]);
    for (from, to) in [
        ("image: i:1", "image: i:2"),
        ("\"run\"", "\"ruN\""),
        ("\"run\", \"it\"", "\"run it\""),
        ("command:", "entrypoint:"),
        ("A: \"1\"", "A: \"2\""),
        ("A: \"1\"", "C: \"1\""),
        ("/work", "/other"),
        ("1000:1000", "1000:1001"),
        ("1000:1000", "1001:1000"),
        ("hostname: host", "hostname: other"),
        ("size=1m", "size=2m"),
        ("mode=0700", "mode=0777"),
        ("/scratch", "/tmp"),
        ("data:/data", "data:/dat"),
        ("\"data:/data\"", "\"data:/data:ro\""),
        ("more:/more:ro", "more:/more"),
        ("\"data:/data\"", "\"more:/data\""),
        ("[token, ", "["),
        ("target: key.pem", "target: key"),
        ("name: tls-key", "name: other-key"),
        ("64m", "65m"),
        ("pids_limit: 10", "pids_limit: 11"),
        ("0.5", "0.501"),
        ("    cpus: \"0.5\"\n", ""),
        ("nofile: 100", "nofile: 101"),
        ("nofile: 100", "nofile: { soft: 100, hard: 200 }"),
        ("soft: 20", "soft: 21"),
        ("hard: 30", "hard: 31"),
        ("hard: 30", "hard: -1"),
        (", nproc: { soft: 20, hard: 30 }", ""),
        ("[\"7\", 8]", "[\"7\"]"),
        ("mem_reservation: 32m", "mem_reservation: 33m"),
        ("    mem_reservation: 32m\n", ""),
        ("cpu_shares: 512", "cpu_shares: 513"),
        ("shm_size: 8m", "shm_size: 9m"),
        ("oom_score_adj: 10", "oom_score_adj: 11"),
        ("content: text", "content: Text"),
        ("target: /etc/conf", "target: /etc/other"),
        ("uid: \"1\"", "uid: \"2\""),
        ("gid: \"2\"", "gid: \"3\""),
        ("mode: 0440", "mode: 0444"),
        ("exec: deny", "exec: allow"),
        ("peer:/run/s", "peer:/run/t"),
        (", \"peer:/run/s\"", ""),
        ("[\"/run/own\", \"/run/two\"]", "[\"/run/own\"]"),
        ("stdin_open: true", "stdin_open: false"),
        ("tty: true", "tty: false"),
        ("\"made\"", "\"Made\""),
        ("\"made\", \"it\"", "\"made it\""),
        ("user: \"0:1\"", "user: \"0:2\""),
        ("working_dir: /hook", "working_dir: /Hook"),
        ("H: \"1\"", "H: \"2\""),
        (", { command: then }", ""),
        ("{ command: drain }", "{ command: drained }"),
        ("pre_stop: [{ command: drain }]", "pre_stop: []"),
        ("max-size: 1m", "max-size: 2m"),
        ("max-file: 3", "max-file: 4"),
        ("trust: desk", "trust: other"),
        (", trust: desk", ""),
        (
            "restart: on-failure:2",
            "deploy: { restart_policy: { condition: on-failure, max_attempts: 2, delay: 1s } }",
        ),
        (
            "restart: on-failure:2",
            "deploy: { restart_policy: { condition: on-failure, max_attempts: 2, window: 1s } }",
        ),
        ("restart: on-failure:2", "deploy: { restart_policy: { max_attempts: 2 } }"),
        ("start_interval: 1s", "start_interval: 2s"),
        ("required: false", "required: true"),
        ("  data:\n", "  data: { name: other }\n"),
        ("\"91\"", "\"93\""),
        ("on-failure:2", "on-failure:3"),
        ("on-failure:2", "on-failure"),
        ("on-failure:2", "always"),
        ("on-failure:2", "\"no\""),
        ("[\"CMD\", \"ok\"], interval", "[\"CMD\", \"no\"], interval"),
        ("interval: 2s", "interval: 1s"),
        ("timeout: 3s", "timeout: 4s"),
        ("retries: 4", "retries: 5"),
        ("start_period: 5s", "start_period: 6s"),
        ("start_period: 5s", "disable: true"),
        ("service_started", "service_healthy"),
        ("SIGINT", "SIGTERM"),
        ("stop_grace_period: 3s", "stop_grace_period: 4s"),
        ("10.0.0.1", "10.0.0.2"),
        ("\"peer:80\"", "\"peer:82\""),
        ("\"peer:80\", ", ""),
        ("h.example:1\"", "h.example:3\""),
        (", \"g.example:2\"", ""),
    ] {
        let changed = base.replacen(from, to, 1);
        assert_ne!(changed, base, "{from}");
        let after = lock(&changed);
        assert!(seen.insert(after.agents[&name].measurement().unwrap()), "{from} to {to}");
        assert_ne!(after.digest(), before.digest(), "{from} to {to}");
        assert_eq!(after.agents[&peer], before.agents[&peer], "{from} to {to}");
    }
}

#[test]
fn the_names_of_an_agent_are_measured_in_those_who_may_use_them() {
    let base = file(&PIECES, "");
    let before = lock(&base);
    let (a, peer): (AgentName, AgentName) = ("a".parse().unwrap(), "peer".parse().unwrap());
    let names = [("colleague".parse().unwrap(), peer.clone())].into();
    assert_eq!(before.agents[&a].names, names);
    assert!(before.agents[&peer].names.is_empty(), "nobody calls `a`");
    let after = lock(&base.replacen("[colleague]", "[workmate]", 1));
    assert_ne!(after.agents[&a].measurement(), before.agents[&a].measurement());
    assert_eq!(after.agents[&peer], before.agents[&peer]);
    let aliases = casemate_composition::network::aliases(&before, &a);
    let of = |name: &str| aliases.iter().find(|alias| alias.name == name).unwrap();
    assert_eq!(of("colleague").ports, of("peer").ports);
    assert_ne!(of("colleague").address, of("peer").address);
    let why = |host| casemate_composition::explain::explain_edge(&before, &a, host, 80);
    assert_eq!(why("colleague"), why("peer"));
    assert!(why("peer").is_ok());
}

#[test]
fn denied_executable_memory_is_measured_in_those_who_ask_for_it_and_in_nobody_else() {
    use casemate_composition::lock::Memory;
    let (without, with) = (agent(""), agent("x-casemate: { memory: deny-write-execute }"));
    assert_eq!((without.memory, with.memory), (None, Some(Memory::DenyWriteExecute)));
    assert_ne!(without.measurement(), with.measurement());
    assert_eq!(without, casemate_composition::lock::Agent { memory: None, ..with.clone() });
    let json = |agent| serde_json::to_value(agent).unwrap();
    assert_eq!(json(&with)["memory"], "deny-write-execute");
    assert!(json(&without).get("memory").is_none(), "measurements without it stay as they were");
}

#[test]
fn terminals_and_hooks_are_measured_in_those_who_have_them_and_in_nobody_else() {
    let json = serde_json::to_value(agent("")).unwrap();
    for name in ["tty", "post_start", "pre_stop"] {
        assert!(json.get(name).is_none(), "measurements without `{name}` stay as they were");
    }
    let hook = agent("post_start: [{ command: x }]").post_start;
    assert_eq!(hook.len(), 1);
    assert_eq!(
        (hook[0].command.as_slice(), hook[0].user, &hook[0].working_dir),
        (&["x".to_owned()][..], None, &None)
    );
}

#[test]
fn a_change_of_the_image_changes_the_measurement() {
    let text = file(&PIECES, "");
    let with = |change: fn(&mut ImagePin)| {
        let mut facts = facts("1");
        change(&mut facts.pin);
        lock_with(&text, &[("i:1".to_owned(), facts)].into()).digest().unwrap()
    };
    let all = BTreeSet::from([
        with(|_| {}),
        with(|pin| pin.manifest = Sha256::ZERO),
        with(|pin| pin.config = Sha256::ZERO),
        with(|pin| pin.rootfs = Sha256::ZERO),
    ]);
    assert_eq!(all.len(), 4);
}

#[test]
fn project_and_volumes_are_measured_globally() {
    let base = file(&PIECES, "");
    let digest = |text: &str| lock(text).digest().unwrap();
    assert_ne!(digest(&base), digest(&base.replacen("volumes:\n  data:", "volumes:\n  unused:\n  data:", 1)));
    assert_ne!(digest(&base), digest(&base.replacen("name: t\n", "name: u\n", 1)));
}

#[test]
fn each_agent_proves_that_it_belongs_to_the_composition() {
    let lock = lock(&file(&PIECES, ""));
    for (name, agent) in &lock.agents {
        let leaf = agent_leaf(name, &agent.measurement().unwrap());
        let proof = lock.proof(name).unwrap().unwrap();
        assert_eq!(proof.root(&leaf), Some(lock.digest().unwrap()));
    }
}

#[test]
fn entrypoint_and_command_merge_as_compose_does() {
    for (service, want) in [
        ("", vec!["/entry", "default"]),
        ("command: [x]", vec!["/entry", "x"]),
        ("command: []", vec!["/entry"]),
        ("command: \"\"", vec!["/entry"]),
        ("command:", vec!["/entry", "default"]),
        ("entrypoint: [e]", vec!["e"]),
        ("entrypoint: e -f\ncommand: x 'y z'", vec!["e", "-f", "x", "y z"]),
        ("entrypoint: []\ncommand: [x]", vec!["x"]),
    ] {
        assert_eq!(agent(service).command, want, "{service}");
    }
}

#[test]
fn defaults_come_from_the_image_and_then_from_us() {
    let agent = agent("environment: { LANG: C.UTF-8 }");
    assert_eq!(agent.environment["PATH"], "/bin");
    assert_eq!(agent.environment["LANG"], "C.UTF-8");
    assert_eq!((agent.working_dir.as_str(), agent.user), ("/srv", User { uid: 7, gid: 8 }));
    assert_eq!(
        (agent.limits.memory_bytes, agent.limits.pids, agent.limits.cpu_milli),
        (512 << 20, 256, None)
    );
    let files = UlimitValues { soft: Some(1024), hard: Some(1024) };
    assert_eq!(agent.limits.ulimits, [(Ulimit::Nofile, files)].into());
    assert_eq!(
        (agent.limits.cpu_shares, agent.limits.shm_bytes, agent.limits.oom_score_adj),
        (1024, 64 << 20, 0)
    );
    assert_eq!((agent.trust.as_str(), agent.limits.memory_reserved_bytes), ("a", None));
    let tmp = Mount::Tmpfs { target: "/tmp".into(), size_bytes: 64 << 20, mode: 0o1777 };
    assert_eq!(agent.mounts, [tmp]);
    assert_eq!(agent.seccomp_rules, casemate_composition::rules::seccomp_rules_digest());
    assert_ne!(agent.seccomp_rules, agent.landlock_rules);
}

#[test]
fn refuses_an_image_that_is_missing_or_has_no_command() {
    let compose =
        compose::parse("c.yaml", "name: t\nservices:\n  a:\n    image: i:1\n", &BTreeMap::new()).unwrap();
    let problems = compose.resolve(&BTreeMap::new()).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "c.yaml:4:12: image `i:1` is not in the store\n  \
           4 |     image: i:1\n    \
             |            ^^^\n  \
           do: get it with `casemate image pull i:1`, import it with `casemate image import`, or correct the reference"
    );
    let empty = ImageFacts { entrypoint: Vec::new(), command: Vec::new(), ..facts("1") };
    let problems = compose.resolve(&[("i:1".to_owned(), empty)].into()).unwrap_err();
    assert_eq!(problems.as_slice()[0].what, "service `a` has no command, and neither has its image");
}

#[test]
fn the_largest_composition_resolves_and_one_more_service_is_refused() {
    let file = |count: usize| {
        let services: String = (0..count)
            .map(|n| {
                let to = (n + 1) % count;
                format!(
                    "  s{n}:\n    image: i:1\n    expose: [\"{}\"]\n    x-casemate: {{ talks-to: [\"s{to}:{}\"] }}\n",
                    n + 1,
                    to + 1
                )
            })
            .collect();
        format!("name: t\nservices:\n{services}")
    };
    let lock = lock(&file(1000));
    assert_eq!(lock.agents.len(), 1000);
    assert_eq!(Lock::from_json(&lock.to_json().unwrap()), Ok(lock));
    let problems = compose::parse("c.yaml", &file(1001), &BTreeMap::new()).unwrap_err();
    assert_eq!(problems.as_slice()[0].what, "file has 1001 services, 1 to 1000 are possible");
}

#[test]
fn a_file_of_nothing_but_mistakes_is_answered_in_bounded_words() {
    let keys: String = (0..30_000).map(|n| format!("    imgae{n}: x\n")).collect();
    let problems = compose::parse("c.yaml", &format!("name: t\nservices:\n  a:\n{keys}"), &BTreeMap::new());
    let problems = problems.unwrap_err();
    assert_eq!(problems.as_slice().len(), 101);
    assert!(problems.to_string().len() < 32_000);
}

#[test]
fn a_shared_root_is_measured_in_those_who_share_it_and_in_nobody_else() {
    let file = |more: &str| {
        let two = format!("image: i:1\n    x-casemate: {{ trust: t{more} }}");
        format!("name: t\nservices:\n  a:\n    {two}\n  b:\n    {two}\n  c:\n    image: i:1\n")
    };
    let (without, with) = (lock(&file("")), lock(&file(", share: g")));
    assert_ne!(without.digest(), with.digest());
    let [a, b, c] = ["a", "b", "c"].map(|text| -> AgentName { text.parse().unwrap() });
    for (agent, shares_with) in [(&a, vec![b.clone()]), (&b, vec![a.clone()]), (&c, vec![])] {
        let measured = |lock: &Lock| lock.agents[agent].measurement().unwrap();
        assert_eq!(measured(&without) != measured(&with), *agent != c, "{agent}");
        assert_eq!(with.shares_root_with(agent), shares_with);
        assert_eq!(without.shares_root_with(agent), []);
    }
}

#[test]
fn no_value_is_shown_in_another_order_than_it_has() {
    let said = "a value of service `a`, or of its image or its files, has U+202E: what follows is shown in another order \
                than it has";
    let mut hostile = facts("1");
    hostile.environment.insert("A".into(), "x\u{202e}y".into());
    for (facts, keys) in [(hostile, ""), (facts("1"), "    command: [\"x\\u202ey\"]\n")] {
        let text = format!("name: t\nservices:\n  a:\n    image: i:1\n{keys}");
        let compose = compose::parse("c.yaml", &text, &BTreeMap::new()).unwrap();
        let problems = compose.resolve(&[("i:1".to_owned(), facts)].into()).unwrap_err();
        assert_eq!(problems.as_slice()[0].what, said);
    }
}

#[test]
fn two_values_of_a_change_never_look_the_same() {
    let with = |end: &str, more: usize| {
        let text = format!("command: [\"{}{end}\"]", "x".repeat(more));
        agent(&text)
    };
    for (more, from, to) in [(1000, "one", "two"), (0, "a\\u200b", "a\\u200c"), (0, "\\u0085", "\\u0084")] {
        let (old, new) = (with(from, more), with(to, more));
        let of = |agent: Agent| {
            let mut lock = lock("name: t\nservices:\n  a: { image: i:1 }\n");
            lock.agents.insert("a".parse().unwrap(), agent);
            lock
        };
        let changes = casemate_composition::explain::diff(&of(old), &of(new));
        let line = changes[0].to_string();
        let (before, after) = line.split_once(" changed from ").unwrap().1.split_once(" to ").unwrap();
        assert_ne!(before, after, "{line}");
        assert!(line.chars().count() < 1000 && (more == 0 || before.ends_with("xone\"]")), "{line}");
    }
}
