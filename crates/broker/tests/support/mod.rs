//! A broker process on loopback and requests by hand, for the tests of the program.
//!
//! What it is: real processes, real TLS, bytes as a stock client writes them. What it is not: shipped.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test binary uses a part")]

pub mod desk;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use casemate_protocol::rcar::ErrorInformation;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// The program.
pub const BROKER: &str = env!("CARGO_BIN_EXE_casemate-broker");
/// How long anything may take.
pub const WAIT: Duration = Duration::from_secs(20);

/// A TLS connection of a client.
pub type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

/// A running broker; ended when dropped.
pub struct Broker {
    child: Child,
    pub address: SocketAddr,
    pub url: String,
    pub certificate: PathBuf,
    pub state: PathBuf,
    pub policy: PathBuf,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error, whose shape every answer but 200 has.
    pub fn error(&self) -> ErrorInformation {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn variant(&self) -> String {
        self.error().kind.rsplit('/').next().unwrap().to_owned()
    }

    pub fn cookie(&self) -> String {
        let line = self.head.lines().find_map(|l| l.strip_prefix("set-cookie: ")).unwrap();
        line.split(';').next().unwrap().to_owned()
    }
}

impl Broker {
    /// Starts a broker in `root` and waits until it is ready.
    pub fn start(root: &Path, policy: &str, bundle: &[u8]) -> Self {
        let (policy_path, bundle_path) = (root.join("policy.toml"), root.join("bundle.json"));
        std::fs::write(&policy_path, policy).unwrap();
        std::fs::write(&bundle_path, bundle).unwrap();
        Self::start_with_files(root, &policy_path, &bundle_path)
    }

    pub fn start_with_files(root: &Path, policy: &Path, bundle: &Path) -> Self {
        Self::start_with(root, policy, bundle, &[])
    }

    /// One more of the same state, with a policy of its own.
    pub fn start_beside(root: &Path, policy: &str) -> Self {
        let path = root.join("other.toml");
        std::fs::write(&path, policy).unwrap();
        Self::start_with(root, &path, &root.join("bundle.json"), &["--beside"])
    }

    fn start_with(root: &Path, policy: &Path, bundle: &Path, more: &[&str]) -> Self {
        let state = root.join("state");
        let stderr = std::fs::OpenOptions::new().create(true).append(true).open(root.join("stderr")).unwrap();
        let mut child = Command::new(BROKER)
            .args(["serve", "--listen", "127.0.0.1:0", "--state"])
            .arg(&state)
            .arg("--policy")
            .arg(policy)
            .arg("--bundle")
            .arg(bundle)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(WAIT).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{}", std::fs::read_to_string(root.join("stderr")).unwrap()));
        let url = ready["url"].as_str().unwrap().to_owned();
        Self {
            child,
            address: url.strip_prefix("https://").unwrap().parse().unwrap(),
            url,
            certificate: ready["certificate"].as_str().unwrap().into(),
            state,
            policy: policy.to_owned(),
        }
    }

    pub fn pem(&self) -> Vec<u8> {
        std::fs::read(&self.certificate).unwrap()
    }

    /// A connection that trusts this broker alone.
    pub fn tls(&self) -> TlsStream {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&self.pem()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(WAIT)).unwrap();
        tcp.set_write_timeout(Some(WAIT)).unwrap();
        rustls::StreamOwned::new(tls, tcp)
    }

    /// The most memory that the process has had, in KiB.
    pub fn memory_peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The limits of the process, as the kernel lists them.
    pub fn limits(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).unwrap()
    }

    /// Sends bytes over a TLS connection of their own and reads to its end.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.tls();
        // A broker that refuses early may close before it has read everything: the answer counts.
        let _ = stream.write_all(request);
        let _ = stream.flush();
        let mut answer = Vec::new();
        let _ = stream.take(1 << 20).read_to_end(&mut answer);
        let split = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8(answer[..split].to_vec()).unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_lowercase(),
            body: answer[split + 4..].to_vec(),
        }
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        self.raw(&[request.as_bytes(), body].concat())
    }

    /// `POST auth` as a stock client writes it. Gives cookie and nonce.
    pub fn auth(&self, tee: &str) -> (String, String) {
        let body = format!(
            r#"{{"version":"0.4.0","tee":"{tee}","extra-params":{{"supported-hash-algorithms":["sha256","sha384","sha512","sm3"]}}}}"#
        );
        let answer =
            self.request("POST", "/kbs/v0/auth", &[("Content-Type", "application/json")], body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        (answer.cookie(), answer.json()["nonce"].as_str().unwrap().to_owned())
    }

    pub fn attest(&self, cookie: &str, body: &[u8]) -> Answer {
        let headers = [("Content-Type", "application/json"), ("Cookie", cookie)];
        self.request("POST", "/kbs/v0/attest", &headers, body)
    }

    pub fn get(&self, resource: &str, headers: &[(&str, &str)]) -> Answer {
        self.request("GET", &format!("/kbs/v0/resource/{resource}"), headers, b"")
    }

    /// The log, row by row, and the last line.
    pub fn log(&self) -> (Vec<Value>, Value) {
        let output = run(&["log", "--json", "--state", self.state.to_str().unwrap()], b"");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let chain = rows.pop().unwrap();
        (rows, chain)
    }

    pub fn put_secret(&self, resource: &str, secret: &[u8]) {
        let output = run(&["secret", "put", resource, "--state", self.state.to_str().unwrap()], secret);
        assert!(output.status.success(), "{output:?}");
    }

    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        wait(&mut self.child).code()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits with a bound.
pub fn wait(child: &mut Child) -> std::process::ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if start.elapsed() > WAIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("did not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a subcommand that ends by itself.
pub fn run(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut out = tempfile::tempfile().unwrap();
    let mut err = tempfile::tempfile().unwrap();
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(stdin).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let mut child = Command::new(BROKER)
        .args(arguments)
        .stdin(input)
        .stdout(out.try_clone().unwrap())
        .stderr(err.try_clone().unwrap())
        .spawn()
        .unwrap();
    let status = wait(&mut child);
    let read = |file: &mut std::fs::File| {
        std::io::Seek::rewind(file).unwrap();
        let mut bytes = Vec::new();
        file.take(1 << 22).read_to_end(&mut bytes).unwrap();
        bytes
    };
    Output { status, stdout: read(&mut out), stderr: read(&mut err) }
}

/// Every file below `directory` that holds `marker`.
pub fn files_with(directory: &Path, marker: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, marker));
        } else if std::fs::read(&path).unwrap().windows(marker.len()).any(|window| window == marker) {
            found.push(path);
        }
    }
    found
}
