//! A warden that breaks the protocol ends the gateway: exit code 2, nothing guessed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use casemate_protocol::gateway::{Target, ToGateway};
use rustix::net::{AddressFamily, SocketType};

use crate::warden::{Warden, connect, echo, fresh, listener, name, odd_socket, server};

fn ends_with_2(what: &str, packet: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut warden = Warden::start();
    warden.send_raw(packet, descriptors);
    assert_eq!(warden.end().code(), Some(2), "{what}");
}

fn bytes(message: &ToGateway) -> Vec<u8> {
    serde_json::to_vec(message).unwrap()
}

fn listen() -> Vec<u8> {
    let target = Target::Agent { agent: name("b"), port: 1 };
    bytes(&ToGateway::Listen { agent: name("a"), target, limits: None })
}

fn host(host: &str) -> Vec<u8> {
    let target = Target::Host { host: String::from(host), port: 1, address: None };
    bytes(&ToGateway::Listen { agent: name("a"), target, limits: None })
}

fn resolver(host: &str) -> Vec<u8> {
    let names = BTreeMap::from([(String::from(host), std::net::Ipv4Addr::LOCALHOST)]);
    bytes(&ToGateway::Resolver { agent: name("a"), names })
}

fn pool() -> Vec<u8> {
    bytes(&ToGateway::Pool { agent: name("a") })
}

#[test]
fn ends_at_a_packet_that_is_no_message() {
    for packet in [&b"{"[..], b"null", b"{\"message\":\"other\"}", b"\xff", &[b' '; 1 << 16]] {
        ends_with_2("no message", packet, &[]);
    }
    let odd_name = br#"{"message":"forget","agent":"../x"}"#;
    ends_with_2("odd agent name", odd_name, &[]);
    let more = br#"{"message":"forget","agent":"a","more":1}"#;
    ends_with_2("unknown field", more, &[]);
}

#[test]
fn ends_at_a_packet_that_is_too_long() {
    let mut packet = bytes(&ToGateway::Forget { agent: name("a") });
    packet.resize((64 << 10) + 1, b' ');
    ends_with_2("too long", &packet, &[]);
}

#[test]
fn ends_at_missing_and_extra_descriptors() {
    let (tcp, _) = listener();
    let tcp = tcp.as_fd();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = udp.as_fd();
    ends_with_2("listen without", &listen(), &[]);
    ends_with_2("listen with two", &listen(), &[tcp, tcp]);
    ends_with_2("resolver without", &resolver("x"), &[]);
    ends_with_2("resolver with one", &resolver("x"), &[udp]);
    ends_with_2("resolver with three", &resolver("x"), &[udp, tcp, tcp]);
    ends_with_2("pool without", &pool(), &[]);
    ends_with_2("forget with one", &bytes(&ToGateway::Forget { agent: name("a") }), &[tcp]);
    let many: Vec<OwnedFd> = (0..65).map(|_| fresh()).collect();
    let many: Vec<_> = many.iter().map(AsFd::as_fd).collect();
    ends_with_2("pool with 65", &pool(), &many);
}

#[test]
fn ends_at_descriptors_of_another_kind() {
    let (tcp, address) = listener();
    let connected = connect(address);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = File::open("/dev/null").unwrap();
    let unix = odd_socket(AddressFamily::UNIX, SocketType::STREAM);
    let inet6 = TcpListener::bind("[::1]:0").map(OwnedFd::from);
    let inet6 = inet6.unwrap_or_else(|_| odd_socket(AddressFamily::UNIX, SocketType::DGRAM));
    let unconnected = fresh();
    let (tcp, connected, udp) = (tcp.as_fd(), connected.as_fd(), udp.as_fd());
    let (file, unix, inet6) = (file.as_fd(), unix.as_fd(), inet6.as_fd());
    for (what, fd) in
        [("connected", connected), ("udp", udp), ("file", file), ("unix", unix), ("inet6", inet6)]
    {
        ends_with_2(what, &listen(), &[fd]);
        ends_with_2(what, &resolver("x"), &[udp, fd]);
    }
    ends_with_2("not listening", &listen(), &[unconnected.as_fd()]);
    ends_with_2("swapped", &resolver("x"), &[tcp, udp]);
    for (what, fd) in [("connected", connected), ("listening", tcp), ("udp", udp), ("file", file)] {
        ends_with_2(what, &pool(), &[unconnected.as_fd(), fd]);
    }
}

#[test]
fn ends_at_names_that_are_no_host_names() {
    let (tcp, _) = listener();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for text in ["", "a b", "a\0.example", "*.example.com", "a..b"] {
        ends_with_2(text, &host(text), &[tcp.as_fd()]);
        ends_with_2(text, &resolver(text), &[udp.as_fd(), tcp.as_fd()]);
    }
}

#[test]
fn does_not_start_on_anything_but_a_packet_socket() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let stream: TcpStream = connect(listener().1);
    for stdin in [OwnedFd::from(theirs), stream.into(), File::open("/dev/null").unwrap().into()] {
        let status = Command::new(env!("CARGO_BIN_EXE_casemate-gateway"))
            .args(["--socket-fd", "0"])
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(2));
    }
    drop(ours);
}

fn status_field(warden: &Warden, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", warden.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn serves_without_privileges() {
    let warden = Warden::start();
    assert_eq!(status_field(&warden, "NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(status_field(&warden, set), "0000000000000000", "{set}");
    }
}

#[test]
fn becomes_the_user_that_it_is_given() {
    let warden = Warden::start_with_arguments(&["--uid", "1073676290"]);
    for ids in ["Uid:", "Gid:"] {
        assert_eq!(status_field(&warden, ids), ["1073676290"; 4].join(" "), "{ids}");
    }
    assert_eq!(status_field(&warden, "Groups:"), "");
    let mut client = connect(warden.edge("a", "b", server(echo).port()));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}
