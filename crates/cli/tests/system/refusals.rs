//! Refusals that need a running box or a changed image. Each names its rule, what was expected and what was found.

use std::fs;
use std::os::unix::fs::FileExt as _;

use crate::bench::{Bench, assert_fails, assert_ok, stderr};

/// What one agent tries against the other, which holds the secret; one line each.
const ATTEMPTS: &str = r#"
import json, socket, time
def attempt(what, action):
    try:
        print("NOT REFUSED", what, action(), flush=True)
    except OSError as error:
        print("refused", what, type(error).__name__, flush=True)
def ask(request):
    s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect("/run/casemate/agent.sock")
    s.sendall(json.dumps(request).encode() + b"\n")
    answer = json.loads(s.makefile("rb").readline())
    if "ok" in answer: return "an answer"
    print("answer", json.dumps(answer), flush=True)
    raise PermissionError()
attempt("peer", lambda: socket.create_connection(("keeper", 8080), 3))
attempt("host", lambda: socket.create_connection(("exfil.example", 80), 3))
attempt("address", lambda: socket.create_connection(("192.0.2.1", 80), 3))
attempt("loopback of the box", lambda: socket.create_connection(("127.0.0.1", 22), 3))
attempt("secret", lambda: ask({"method": "secret", "name": "marker"}))
attempt("secret in its name", lambda: ask({"method": "secret", "name": "marker", "agent": "keeper"}))
print("tried all", flush=True)
time.sleep(600)
"#;

#[test]
#[ignore = "system test"]
fn an_agent_reaches_no_peer_no_host_and_no_secret_that_is_not_declared() {
    let bench = Bench::new("t-attempts");
    let path = bench.dir.path().join("compose.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let script = serde_json::to_string(ATTEMPTS).unwrap();
    let old = r#""import time; print('other'); time.sleep(600)""#;
    assert!(text.contains(old));
    fs::write(&path, text.replace(old, &script)).unwrap();
    bench.prepare();
    bench.up();
    let logs = bench.wait_for_log("other", "tried all");
    assert!(!logs.contains("NOT REFUSED"), "{logs}");
    assert_eq!(logs.matches("| refused").count(), 6, "{logs}");
    assert!(logs.contains(r#""rule": "agent.secrets""#), "{logs}");
    let why = bench.run(&["why", "other", "keeper:8080"]);
    assert_fails(&why, 1, "may not reach", "talks-to");
    assert!(stderr(&why).contains("rule      edge.declared"), "{}", stderr(&why));
}

#[test]
#[ignore = "system test"]
fn a_byte_changed_in_an_image_layer_is_refused() {
    let bench = Bench::ready("t-layer");
    let layer = fs::read_dir(bench.home().join("images/blobs/sha256"))
        .unwrap()
        .flatten()
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap()
        .path();
    // The store's files are shared with other tests by hard links.
    let own = layer.with_extension("own");
    fs::copy(&layer, &own).unwrap();
    fs::rename(&own, &layer).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&layer).unwrap();
    let middle = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let output = bench.run(&["up", "-d"]);
    assert_fails(&output, 1, "failed at rootfs", "import the image again");
    assert!(stderr(&output).contains("rule      image.layer.digest"), "{}", stderr(&output));
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn an_agent_that_ends_before_it_is_healthy_stops_up() {
    let bench = Bench::new("t-crash");
    let path = bench.dir.path().join("compose.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let crash = "\"import sys; sys.exit(7)\"]\n    healthcheck: { test: [\"CMD\", \"false\"], interval: 1s }";
    fs::write(&path, text.replace("\"import time; print('other'); time.sleep(600)\"]", crash)).unwrap();
    bench.prepare();
    assert_fails(&bench.run(&["up", "-d", "--wait-timeout", "20"]), 3, "other", "other.log");
    bench.assert_gone();
}

#[test]
#[ignore = "system test"]
fn a_broker_that_is_away_stops_up() {
    let bench = Bench::ready("t-away");
    // Once with the local broker, for a certificate.
    bench.up();
    assert_ok(&bench.run(&["down", "-t", "0"]));
    let certificate = bench.project_dir().join("broker/tls.crt").to_string_lossy().to_string();
    let output = bench.run(&["up", "-d", "--broker", "https://127.0.0.1:9", "--broker-cert", &certificate]);
    assert_fails(&output, 3, "", "");
    bench.assert_gone();
    bench.up();
}
