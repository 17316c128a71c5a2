//! `casemate image pull`, and `--pull` of other commands, as a user runs them, against a real registry (Debian's
//! docker-registry) that skopeo fills from another image store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod machine;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use machine::{Machine, Registry};
use serde_json::Value;

#[test]
fn pull_says_what_the_name_is_pinned_to_and_when_it_moved() {
    let registry = Registry::start();
    let first = registry.publish("first", "team/app:1");
    let name = format!("{}/team/app:1", registry.host());
    let machine = Machine::new();

    let pulled = machine.succeeds(&["image", "pull", &name]);
    let pinned = format!("{}/team/app@{first}", registry.host());
    assert_eq!(pulled.stdout, format!("{pinned}\n"));
    // Not a terminal: plain lines, on standard error.
    assert!(pulled.stderr.contains(&format!("{name}: 2 parts, ")), "{}", pulled.stderr);
    assert!(pulled.stderr.contains(&format!("{name}: unpacking\n")), "{}", pulled.stderr);
    assert!(!pulled.stderr.contains('\u{1b}') && !pulled.stderr.contains("moved"), "{}", pulled.stderr);
    let listed = machine.succeeds(&["image", "ls"]).stdout;
    assert_eq!(listed.lines().count(), 1);
    assert_eq!(listed.split_whitespace().next(), Some(format!("{name}@{first}").as_str()));

    let second = registry.publish("second", "team/app:1");
    let pulled = machine.succeeds(&["image", "pull", "--quiet", &name]);
    assert_eq!(pulled.stdout, format!("{}/team/app@{second}\n", registry.host()));
    assert_eq!(pulled.stderr, format!("{name} moved: it was {first} and is {second}\n"));

    // The old one is what its digest says, still.
    let pulled = machine.succeeds(&["--json", "image", "pull", &pinned, &name]);
    let answers: Vec<Value> = pulled.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = answers.iter().map(|a| a.get("manifest").and_then(Value::as_str).unwrap()).collect();
    assert_eq!(found, [&first, &second]);
    assert_eq!(answers.get(1).and_then(|a| a.get("previous")).and_then(Value::as_str), Some(second.as_str()));
    assert_eq!(pulled.stderr, "");
}

#[test]
fn one_that_fails_does_not_keep_the_others_away() {
    let registry = Registry::start();
    registry.publish("first", "team/app:1");
    let machine = Machine::new();
    let good = format!("{}/team/app:1", registry.host());
    let missing = format!("{}/team/app:2", registry.host());
    let outcome = machine.run(&["image", "pull", "-q", "https://x", &missing, &good]);
    assert_eq!(outcome.code, Some(2));
    assert_eq!(outcome.stdout.lines().count(), 1);
    let expected = [
        "error: https://x: `https://x` is not an image reference: it is a URL; a reference has no `://`",
        "to do: leave out the scheme: `registry.example:5000/team/app:1.0`",
        &format!(
            "error: {missing}: http://{}/v2/team/app/manifests/2: not found: MANIFEST_UNKNOWN manifest unknown",
            registry.host()
        ),
        "to do: check the name, the tag and the registry",
    ];
    assert_eq!(outcome.stderr.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_composition_gets_its_images_when_it_says_so() {
    let registry = Registry::start();
    registry.publish("first", "team/app:1");
    let name = format!("{}/team/app:1", registry.host());
    let machine = Machine::new();
    machine
        .write("compose.yaml", &format!("name: t\nservices:\n  a:\n    image: {name}\n    command: [/x]\n"));

    let refused = machine.run(&["lock"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains(&format!("to do: get it with `casemate image pull {name}`, import it")),
        "{}",
        refused.stderr
    );
    let locked = machine.succeeds(&["lock", "--pull", "missing"]);
    assert!(locked.stdout.starts_with("composition sha384:"));
    assert!(
        locked.stderr.contains(&format!("pulled {}/team/app@sha256:", registry.host())),
        "{}",
        locked.stderr
    );
    machine.succeeds(&["image", "rm", &name]);
    assert_eq!(machine.succeeds(&["image", "pull", "-q"]).stdout.lines().count(), 1);

    // Services that need no registry.
    for (policy, lines) in [("missing", 0), ("never", 0), ("always", 1)] {
        let text = format!("name: t\nservices:\n  a:\n    image: {name}\n    pull_policy: {policy}\n");
        machine.write("policy.yaml", &text);
        let pulled = machine.succeeds(&["-f", "policy.yaml", "image", "pull", "-q"]);
        assert_eq!(pulled.stdout.lines().count(), lines, "{policy}");
        let left = pulled.stderr.ends_with(": left as it is, as `pull_policy` says\n");
        assert_eq!(left, lines == 0, "{}", pulled.stderr);
    }

    // What is there is not asked for; what is asked for is not always there.
    registry.stop();
    machine.succeeds(&["lock", "--pull", "missing"]);
    machine.succeeds(&["lock"]);
    let away = machine.run(&["lock", "--pull", "always"]);
    assert_eq!(away.code, Some(3));
    assert!(away.stderr.contains("no connection: connection refused\n"), "{}", away.stderr);
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let machine = Machine::new();
    machine.write("empty.pem", "");
    machine.write("docker/config.json", "{");
    for (arguments, expected) in [
        (&["--mirror", "mirror.example"][..], "error: mirror `mirror.example` has no URL that begins with"),
        (&["--plain-http", "http://x"], "error: host `http://x` is not a host name with an optional port\n"),
        (&["--ca", "empty.pem"], "error: file of authorities `--ca` holds no certificate\n"),
        (&["--ca", "none.pem"], "error: none.pem: "),
        (&["--platform", "linux/riscv64"], "error: platform `linux/riscv64` is not this machine's"),
    ] {
        let outcome = machine.run(&[&["image", "pull", "127.0.0.1:1/x"], arguments].concat());
        assert_eq!(outcome.code, Some(2), "{arguments:?}");
        assert!(outcome.stderr.starts_with(expected), "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 2);
    }
    let with =
        |name: &str, value: &str| machine.run_with(&["image", "pull", "127.0.0.1:1/x"], &[(name, value)]);
    let proxy = with("HTTPS_PROXY", "socks5://user:sesame@x:1");
    assert!(proxy.stderr.starts_with("error: HTTPS_PROXY `x:1` is not a proxy"), "{}", proxy.stderr);
    let mirror = with("CASEMATE_MIRRORS", "https://a.example,nonsense");
    assert!(mirror.stderr.starts_with("error: mirror `nonsense` has no URL"), "{}", mirror.stderr);
    let docker = with("DOCKER_CONFIG", &machine.path("docker").display().to_string());
    assert!(docker.stderr.contains("config.json: not Docker's JSON at 1:1\n"), "{}", docker.stderr);
}

#[test]
fn interrupted_it_leaves_nothing() {
    // Takes a connection and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let machine = Machine::new();
    // Plain HTTP by name: without the look whether TLS is spoken there.
    let host = format!("127.0.0.1:{port}");
    let child = machine.spawn(&["image", "pull", "--plain-http", &host, &format!("{host}/x:1")]);
    let connection = listener.accept().unwrap();
    let begun = Instant::now();
    let outcome = child.interrupt();
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(connection);
    assert_eq!(outcome.code, Some(130));
    assert_eq!(
        outcome.stderr,
        "error: interrupted\nto do: nothing of this image was stored; the same command begins again\n"
    );
    assert_eq!(std::fs::read_dir(machine.path("home/images/tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(machine.path("home/images/blobs/sha256")).unwrap().count(), 0);
}
