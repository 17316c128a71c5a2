//! The courier between a warden's socket and a broker: the real programs, real TLS, real evidence.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

// The same box as in the broker's tests: one description of it for both ends.
#[path = "../../broker/tests/support/desk.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "the broker's tests use more of it")]
mod desk;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use casemate_protocol::courier::{FromCourier, ToCourier};
use desk::{Desk, RESEARCHER_SECRET, SCRIBE_SECRET};

const WAIT: Duration = Duration::from_secs(30);
const SECRET: &[u8] = b"for researcher";

/// The broker's program: beside ours; cargo builds it here where it is missing (no program may depend on another).
fn broker_program() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_casemate-courier")).with_file_name("casemate-broker");
    let mut cargo = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "casemate-broker", "--target-dir"])
        .arg(path.parent().unwrap().parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = wait(&mut cargo, Duration::from_secs(500));
    assert!(status.success(), "the broker does not build");
    path
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Courier {
    child: Child,
    socket: UnixStream,
}

impl Drop for Courier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Courier {
    fn start(url: &str, certificate: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(WAIT)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_casemate-courier"))
            .args(["--socket-fd", "0", "--broker", url, "--broker-cert"])
            .arg(certificate)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket: ours }
    }

    fn send(&mut self, message: &ToCourier) {
        let bytes = message.encode();
        self.socket.write_all(&u32::try_from(bytes.len()).unwrap().to_le_bytes()).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    fn receive(&mut self) -> FromCourier {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.socket.read_exact(&mut bytes).unwrap();
        FromCourier::decode(&bytes).unwrap()
    }

    fn ask(&mut self, message: &ToCourier) -> FromCourier {
        self.send(message);
        self.receive()
    }

    fn begin(&mut self, session: u32) -> String {
        match self.ask(&ToCourier::Begin { session, tee: "tdx".into() }) {
            FromCourier::Challenge { session: found, nonce } if found == session => nonce,
            other => panic!("{other:?}"),
        }
    }
}

fn start_broker(root: &Path, desk: &Desk) -> (Running, String, PathBuf) {
    let program = broker_program();
    let (policy, bundle, state) = (root.join("policy.toml"), root.join("bundle.json"), root.join("state"));
    std::fs::write(&policy, desk.policy()).unwrap();
    std::fs::write(&bundle, desk.bundle()).unwrap();
    let secret = root.join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let mut put = Command::new(&program)
        .args(["secret", "put", RESEARCHER_SECRET, "--file"])
        .arg(&secret)
        .arg("--state")
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait(&mut put, WAIT).success());
    let mut child = Command::new(&program)
        .args(["serve", "--listen", "127.0.0.1:0", "--state"])
        .arg(&state)
        .arg("--policy")
        .arg(&policy)
        .arg("--bundle")
        .arg(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut running = Running { child, stdout };
    let mut line = String::new();
    running.stdout.read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let text = |name: &str| ready[name].as_str().unwrap().to_owned();
    (running, text("url"), text("certificate").into())
}

fn wait(child: &mut Child, limit: Duration) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn carries_sessions_side_by_side_from_challenge_to_sealed_secret() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (_broker, url, certificate) = start_broker(root.path(), &desk);
    let mut courier = Courier::start(&url, &certificate);

    let nonces = [courier.begin(1), courier.begin(2)];
    // In the other order than they began.
    for (session, agent) in [(2, "scribe"), (1, "researcher")] {
        let body = desk.attestation(agent, &nonces[session as usize - 1]);
        let answer = courier.ask(&ToCourier::Evidence { session, body });
        assert_eq!(answer, FromCourier::Appraised { session });
    }
    let fetch = |session, resource: &str| ToCourier::Fetch { session, resource: resource.into() };
    let FromCourier::Sealed { session: 1, sealed } = courier.ask(&fetch(1, RESEARCHER_SECRET)) else {
        panic!("no secret")
    };
    assert_eq!(desk.agent_key.open(&sealed, RESEARCHER_SECRET).unwrap().as_slice(), SECRET);
    let FromCourier::Refused { session: 2, refusal } = courier.ask(&fetch(2, RESEARCHER_SECRET)) else {
        panic!("no refusal")
    };
    assert_eq!(refusal.rule, "agent.secrets");
    let FromCourier::Refused { session: 2, refusal } = courier.ask(&fetch(2, SCRIBE_SECRET)) else {
        panic!("no refusal")
    };
    assert_eq!(refusal.rule, "secret.stored");

    courier.send(&ToCourier::End { session: 1 });
    assert!(matches!(courier.ask(&fetch(1, RESEARCHER_SECRET)), FromCourier::Failed { session: 1, .. }));
}

#[test]
fn reports_refusals_disorder_and_a_broker_that_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let desk = Desk::new();
    let (broker, url, certificate) = start_broker(root.path(), &desk);
    let mut courier = Courier::start(&url, &certificate);
    let failed = |answer: FromCourier| match answer {
        FromCourier::Failed { what, .. } => what,
        other => panic!("{other:?}"),
    };
    let evidence = |body: Vec<u8>| ToCourier::Evidence { session: 7, body };
    assert_eq!(failed(courier.ask(&evidence(vec![]))), "no such session");
    let old = courier.begin(7);
    let fetch = ToCourier::Fetch { session: 7, resource: RESEARCHER_SECRET.into() };
    assert_eq!(failed(courier.ask(&fetch)), "message out of order");
    let fresh = courier.begin(7);
    let FromCourier::Refused { session: 7, refusal } =
        courier.ask(&evidence(desk.attestation("researcher", &old)))
    else {
        panic!("no refusal")
    };
    assert_eq!((refusal.rule.as_str(), refusal.expected, refusal.found), ("nonce", fresh, old));
    drop(broker);
    let what = failed(courier.ask(&ToCourier::Begin { session: 7, tee: "tdx".into() }));
    assert!(what.contains("not reachable"), "{what}");
}

#[test]
fn ends_with_the_warden_and_at_a_malformed_message() {
    let root = tempfile::tempdir().unwrap();
    let certificate = root.path().join("c.pem");
    std::fs::write(&certificate, PEM).unwrap();
    let mut courier = Courier::start("https://127.0.0.1:1", &certificate);
    courier.socket.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(wait(&mut courier.child, WAIT).code(), Some(0));

    for message in [&[1, 0, 0, 0, 99][..], &[0xff; 4], &[0, 0, 0, 0]] {
        let mut courier = Courier::start("https://127.0.0.1:1", &certificate);
        courier.socket.write_all(message).unwrap();
        assert_eq!(wait(&mut courier.child, WAIT).code(), Some(1), "{message:?}");
    }
}

#[test]
fn does_not_outlive_whoever_started_it() {
    let root = tempfile::tempdir().unwrap();
    let certificate = root.path().join("c.pem");
    std::fs::write(&certificate, PEM).unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(WAIT)).unwrap();
    // The shell starts the courier and waits; killed, it leaves the courier to itself, and our end stays open.
    let script = "exec 3<&0; \"$0\" --socket-fd 3 --broker https://127.0.0.1:1 --broker-cert \"$1\" & wait";
    let mut shell = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_casemate-courier")])
        .arg(&certificate)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let message = ToCourier::Fetch { session: 1, resource: "a/b/c".into() }.encode();
    let asked = ours
        .write_all(&u32::try_from(message.len()).unwrap().to_le_bytes())
        .and_then(|()| ours.write_all(&message))
        .and_then(|()| ours.read_exact(&mut [0; 4]));
    shell.kill().unwrap();
    wait(&mut shell, WAIT);
    asked.unwrap();
    // The socket ends only when its last holder, the courier, is gone.
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).unwrap();
}

#[test]
fn refuses_to_start_with_another_address_or_certificate() {
    let root = tempfile::tempdir().unwrap();
    let (good, bad) = (root.path().join("good.pem"), root.path().join("bad.pem"));
    std::fs::write(&good, PEM).unwrap();
    std::fs::write(&bad, "no certificate").unwrap();
    for (url, certificate) in [
        ("http://127.0.0.1:1", &good),
        ("https://user@127.0.0.1:1", &good),
        ("https://127.0.0.1:1/path", &good),
        ("https://127.0.0.1:1", &bad),
        ("https://127.0.0.1:1", &root.path().join("missing.pem")),
    ] {
        let mut courier = Courier::start(url, certificate);
        assert_eq!(wait(&mut courier.child, WAIT).code(), Some(2), "{url}");
    }
}

#[test]
fn runs_without_new_privileges_or_dumps() {
    let root = tempfile::tempdir().unwrap();
    let certificate = root.path().join("c.pem");
    std::fs::write(&certificate, PEM).unwrap();
    let mut courier = Courier::start("https://127.0.0.1:1", &certificate);
    let fetch = ToCourier::Fetch { session: 1, resource: "a/b/c".into() };
    courier.ask(&fetch);
    let proc = PathBuf::from(format!("/proc/{}", courier.child.id()));
    let status = std::fs::read_to_string(proc.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert!(core.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{core}");
}

/// A certificate that nobody has the key of any more.
const PEM: &str = include_str!("nobody.pem");
