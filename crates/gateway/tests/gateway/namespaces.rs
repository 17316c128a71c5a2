//! Sockets born in network namespaces of their own, served from outside of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use casemate_protocol::gateway::{FromGateway, RESOLVER, Target, ToGateway};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::names::ALIAS;
use crate::warden::{PATIENCE, Warden, connect, echo, fresh, name, serve_on};

/// A network namespace with nothing but loopback, held by a sleeping process.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 120"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0; 3];
        holder.stdout.take().unwrap().read_exact(&mut said).expect("needs root, unshare and ip");
        Self { holder }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Runs `act` in a thread that is in the namespace.
    fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(self.path()).unwrap();
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        thread::spawn(inside).join().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn carries_from_one_namespace_to_a_port_of_another() {
    let (planner, researcher) = (Namespace::new(), Namespace::new());
    let namespace = File::open(researcher.path()).unwrap();
    let born_in_researcher = move || -> OwnedFd {
        let namespace = namespace.try_clone().unwrap();
        let born = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            fresh()
        };
        thread::spawn(born).join().unwrap()
    };
    let warden = Warden::start_with(Some(Box::new(born_in_researcher)));
    let server = researcher.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap());
    serve_on(server, echo);
    let alias = SocketAddr::from((ALIAS, 80));
    let edge = planner.inside(move || TcpListener::bind(alias).unwrap());
    let target = Target::Agent { agent: name("researcher"), port: 80 };
    warden.send(&ToGateway::Listen { agent: name("planner"), target, limits: None }, &[edge.as_fd()]);
    drop(edge);
    let mut client = planner.inside(move || connect(alias));
    client.write_all(b"over the wall").unwrap();
    let mut answer = [0; 13];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"over the wall");
    let direct = planner.inside(|| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).unwrap_err().kind()
    });
    assert_eq!(direct, std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn answers_the_c_library_of_a_namespace() {
    let planner = Namespace::new();
    let warden = Warden::start();
    let (udp, tcp) =
        planner.inside(|| (UdpSocket::bind(RESOLVER).unwrap(), TcpListener::bind(RESOLVER).unwrap()));
    let names = BTreeMap::from([(String::from("researcher"), ALIAS)]);
    warden.send(&ToGateway::Resolver { agent: name("planner"), names }, &[udp.as_fd(), tcp.as_fd()]);
    drop((udp, tcp));
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("resolv.conf");
    let lookup = |options: &str, host: &str| {
        std::fs::write(&configuration, format!("nameserver 127.0.0.53\noptions {options}\n")).unwrap();
        let script = "mount --bind \"$1\" /etc/resolv.conf && exec getent -s dns ahosts \"$2\"";
        let net = format!("--net={}", planner.path());
        let output = Command::new("timeout")
            .args(["20", "nsenter", &net, "unshare", "--mount", "sh", "-c", script, "sh"])
            .arg(&configuration)
            .arg(host)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for options in ["timeout:5", "timeout:5 edns0", "timeout:5 use-vc", "timeout:5 single-request trust-ad"] {
        let found = lookup(options, "researcher");
        assert!(found.contains("127.64.0.2"), "{options}: {found:?}");
    }
    assert_eq!(lookup("timeout:5", "evil.example"), "");
    let expected = FromGateway::NameDenied { agent: name("planner"), name: String::from("evil.example") };
    assert_eq!(warden.receive_within(PATIENCE), Some(expected));
}

/// A replica of `web` in a namespace of its own, with sockets for the gateway, whose port 80 says its number.
fn replica(warden: &Warden, number: u8) -> Namespace {
    let namespace = Namespace::new();
    let server = namespace.inside(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 80)).unwrap());
    serve_on(server, move |mut stream| {
        let _ = stream.write_all(&[number]);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    supply(warden, &namespace, number);
    namespace
}

fn supply(warden: &Warden, namespace: &Namespace, number: u8) {
    let sockets = namespace.inside(|| (0..32).map(|_| fresh()).collect::<Vec<_>>());
    let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    warden.send(&ToGateway::Pool { agent: name(&format!("web-{number}")) }, &borrowed);
}

/// Which replica answers; none where the connection is reset.
fn who_answers(edge: SocketAddr) -> (TcpStream, Option<u8>) {
    let mut client = connect(edge);
    let mut number = [0];
    let answered = client.read_exact(&mut number).is_ok();
    (client, answered.then_some(number[0]))
}

#[test]
fn connections_to_a_service_go_to_its_replicas_in_turn_and_past_those_that_do_not_answer() {
    let warden = Warden::start_with(None);
    let target = Target::Service {
        service: name("web"),
        replicas: (1..=4).map(|number| name(&format!("web-{number}"))).collect(),
        port: 80,
    };
    let edge = warden.listen("client", target);
    let answers = |count: usize| {
        let mut all: Vec<Option<u8>> = (0..count).map(|_| who_answers(edge).1).collect();
        all.sort_unstable();
        all
    };
    // Nobody runs: reset at once, not after a wait for sockets.
    let begun = std::time::Instant::now();
    assert_eq!(who_answers(edge).1, None);
    assert!(begun.elapsed() < Duration::from_millis(900));
    let _running: Vec<Namespace> = (1..=2).map(|number| replica(&warden, number)).collect();
    let third = replica(&warden, 3);
    // The fourth runs, and nobody listens there.
    let deaf = Namespace::new();
    supply(&warden, &deaf, 4);
    let one_each = answers(12);
    for number in 1..=3 {
        assert!(one_each.iter().filter(|answer| **answer == Some(number)).count() >= 3, "{one_each:?}");
    }
    assert!(!one_each.contains(&None));
    // What is open to a replica ends with it, and what is open to the others does not.
    let mut open: Vec<(TcpStream, Option<u8>)> = (0..6).map(|_| who_answers(edge)).collect();
    drop(third);
    warden.send(&ToGateway::Forget { agent: name("web-3") }, &[]);
    for (client, answered) in &mut open {
        let wait = if *answered == Some(3) { PATIENCE } else { Duration::from_millis(200) };
        client.set_read_timeout(Some(wait)).unwrap();
        let ended =
            !matches!(client.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        assert_eq!(ended, *answered == Some(3), "{answered:?}");
    }
    drop(open);
    let left = answers(8);
    assert!(left.iter().all(|answer| matches!(answer, Some(1 | 2))), "{left:?}");
    let passed = warden.traffic();
    let counts: Vec<(&str, u64)> =
        passed.iter().map(|edge| (edge.to.as_str(), edge.traffic.refused)).collect();
    assert_eq!(counts, [("web:80", 1)], "one edge, and one refusal");
}
