//! Egress with a name server of the test's own: names are asked for again for each connection, a connection stays with
//! the address that it was made to, and no answer leads inside.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use casemate_protocol::gateway::Target;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::warden::{PATIENCE, Warden, connect, fresh, is_reset, resets};

const PORT: u16 = 4000;
const ONE: Ipv4Addr = Ipv4Addr::new(1, 1, 1, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(8, 8, 4, 4);
/// The box's own: called from itself. The two above are called from another address, as hosts outside are.
const OWN: Ipv4Addr = Ipv4Addr::new(9, 9, 9, 9);
const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A gateway in a network of its own, where the test plays the outside.
struct Outside {
    warden: Warden,
    /// The answers of the name server: for each query for an IPv4 address the next one; the last one stays.
    answers: Arc<Mutex<Vec<Vec<Ipv4Addr>>>>,
    /// Keeps the files that the gateway reads.
    _folder: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("resolv.conf"),
            "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("hosts"), "127.0.0.1 localhost\n").unwrap();
        std::fs::write(folder.path().join("nsswitch.conf"), "hosts: files dns\n").unwrap();
        let script = "ip link set lo up \
            && for a in 1.1.1.1 8.8.4.4 9.9.9.9 10.0.0.1 169.254.169.254; do ip address add $a/32 dev lo || exit 1; done \
            && for a in 1.1.1.1 8.8.4.4; do ip route replace local $a dev lo proto kernel scope host table local \
            src 10.0.0.1 || exit 1; done \
            && for f in resolv.conf hosts nsswitch.conf; do mount --bind \"$1/$f\" /etc/$f || exit 1; done \
            && gateway=$2 && shift 2 && exec \"$gateway\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", script, "sh"]);
        command.arg(folder.path()).arg(env!("CARGO_BIN_EXE_casemate-gateway"));
        let warden = Warden::start_program(command, Some(Box::new(fresh)));
        let outside = Self { warden, answers: Arc::default(), _folder: folder };
        outside.serve_names();
        outside
    }

    fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.warden.pid())).unwrap();
        let inside = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        };
        thread::spawn(inside).join().unwrap()
    }

    fn serve_names(&self) {
        let socket = self.inside(|| UdpSocket::bind("127.0.0.1:53").unwrap());
        let answers = Arc::clone(&self.answers);
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, asker)) = socket.recv_from(&mut query) {
                let query = &query[..length];
                let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
                let is_a = query[end - 3] == 1;
                let addresses = if is_a { next(&answers) } else { Vec::new() };
                let mut reply =
                    [&query[..2], &[0x81, 0x80, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]].concat();
                reply.extend_from_slice(&query[12..end]);
                for address in addresses {
                    reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                    reply.extend_from_slice(&address.octets());
                }
                let _ = socket.send_to(&reply, asker);
            }
        });
    }

    fn answer(&self, answers: &[&[Ipv4Addr]]) {
        *self.answers.lock().unwrap() = answers.iter().map(|all| all.to_vec()).collect();
    }

    /// Says `word` to whoever connects to `address`, and sends back what it is told.
    fn serve(&self, address: Ipv4Addr, word: &'static str) {
        let listener = self.inside(move || TcpListener::bind((address, PORT)).unwrap());
        crate::warden::serve_on(listener, move |mut stream: TcpStream| {
            stream.write_all(word.as_bytes()).unwrap();
            crate::warden::echo(stream);
        });
    }

    /// An address that nobody may come to.
    fn trap(&self, address: Ipv4Addr) -> TcpListener {
        let listener = self.inside(move || TcpListener::bind((address, PORT)).unwrap());
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn edge(&self, address: Option<IpAddr>) -> SocketAddr {
        let host = String::from("api.test");
        self.warden.listen("planner", Target::Host { host, port: PORT, address })
    }
}

fn next(answers: &Mutex<Vec<Vec<Ipv4Addr>>>) -> Vec<Ipv4Addr> {
    let mut answers = answers.lock().unwrap();
    if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() }
}

fn word(stream: &mut TcpStream) -> String {
    let mut word = [0; 3];
    stream.read_exact(&mut word).unwrap();
    String::from_utf8_lossy(&word).into_owned()
}

#[test]
fn each_connection_asks_again_and_stays_with_the_address_it_was_made_to() {
    let outside = Outside::new();
    outside.serve(ONE, "one");
    outside.serve(TWO, "two");
    let edge = outside.edge(None);
    outside.answer(&[&[ONE]]);
    let mut first = connect(edge);
    assert_eq!(word(&mut first), "one");
    outside.answer(&[&[TWO]]);
    assert_eq!(word(&mut connect(edge)), "two");
    first.write_all(b"abc").unwrap();
    assert_eq!(word(&mut first), "abc");
    outside.answer(&[&[ONE]]);
    assert_eq!(word(&mut connect(edge)), "one");
}

#[test]
fn a_name_that_stands_for_an_inside_address_is_refused_and_the_rule_is_told() {
    let outside = Outside::new();
    let traps = [PRIVATE, METADATA, Ipv4Addr::LOCALHOST].map(|address| (address, outside.trap(address)));
    let edge = outside.edge(None);
    for (address, trap) in &traps {
        outside.answer(&[&[*address]]);
        assert!(resets(edge), "{address}");
        assert!(trap.accept().is_err(), "{address}");
    }
    let denied = outside.warden.denied();
    assert_eq!(denied, Some((format!("api.test:{PORT}"), String::from("egress.address"))));
    outside.answer(&[]);
    assert!(resets(edge));
    let traffic = &outside.warden.traffic()[0].traffic;
    assert_eq!((traffic.refused, traffic.last_refusal.as_deref()), (4, Some("egress.resolves")));
}

#[test]
fn a_name_that_stands_for_a_public_address_of_the_box_is_refused() {
    let outside = Outside::new();
    outside.serve(OWN, "own");
    outside.answer(&[&[OWN]]);
    let edge = outside.edge(None);
    assert!(resets(edge));
    let denied = outside.warden.denied();
    assert_eq!(denied, Some((format!("api.test:{PORT}"), String::from("egress.address"))));
}

#[test]
fn of_several_addresses_only_public_ones_are_called() {
    let outside = Outside::new();
    let trap = outside.trap(PRIVATE);
    outside.serve(TWO, "two");
    outside.answer(&[&[PRIVATE, TWO]]);
    let edge = outside.edge(None);
    for _ in 0..5 {
        assert_eq!(word(&mut connect(edge)), "two");
    }
    assert!(trap.accept().is_err());
}

#[test]
fn a_name_server_that_changes_its_answer_between_look_and_call_gains_nothing() {
    let outside = Outside::new();
    let trap = outside.trap(Ipv4Addr::LOCALHOST);
    outside.serve(ONE, "one");
    let edge = outside.edge(None);
    for _ in 0..20 {
        outside.answer(&[&[ONE], &[Ipv4Addr::LOCALHOST]]);
        assert_eq!(word(&mut connect(edge)), "one");
        assert!(resets(edge), "the second answer is of the next connection");
    }
    assert!(trap.accept().is_err());
}

#[test]
fn an_address_that_the_composition_names_needs_no_name_server() {
    let outside = Outside::new();
    outside.serve(PRIVATE, "own");
    outside.answer(&[&[ONE]]);
    assert_eq!(word(&mut connect(outside.edge(Some(IpAddr::V4(PRIVATE))))), "own");
}

#[test]
fn a_host_that_resets_is_a_reset_for_the_agent() {
    let outside = Outside::new();
    let listener = outside.inside(|| TcpListener::bind((ONE, PORT)).unwrap());
    crate::warden::serve_on(listener, |stream| {
        thread::sleep(Duration::from_millis(50));
        crate::warden::reset(stream);
    });
    outside.answer(&[&[ONE]]);
    let mut client = connect(outside.edge(None));
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_reset(&mut client));
}
