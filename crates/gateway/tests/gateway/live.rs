//! Limits of single edges, edges that are closed and opened, ports of the box, and what is told of them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use casemate_composition::lock::TrafficLimits;
use casemate_protocol::edges::{EdgeTraffic, Origin};
use casemate_protocol::gateway::{FromGateway, Target, ToGateway, Verdict};

use crate::warden::{PATIENCE, Warden, connect, echo, is_reset, listener, name, resets, server};

const NONE: TrafficLimits = TrafficLimits { connections: None, rate_bytes: None, total_bytes: None };

fn talk(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    say(&mut client);
    client
}

fn say(client: &mut TcpStream) {
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn pair(to: &str, port: u16, rule: &str) -> Option<(String, String)> {
    Some((format!("{to}:{port}"), rule.to_owned()))
}

fn judge(warden: &Warden, port: u16, verdict: Verdict) {
    let target = Target::Agent { agent: name("researcher"), port };
    warden.send(&ToGateway::Judge { agent: name("planner"), target, verdict }, &[]);
}

#[test]
fn holds_an_edge_to_its_connections_and_leaves_others_alone() {
    let warden = Warden::start();
    let port = server(echo).port();
    let limits = TrafficLimits { connections: Some(3), ..NONE };
    let edge = warden.limited("planner", "researcher", port, limits);
    let other = warden.edge("planner", "scribe", port);
    let mut held: Vec<_> = (0..3).map(|_| talk(edge)).collect();
    assert!(resets(edge));
    assert_eq!(warden.denied(), pair("researcher", port, "edge.connections"));
    talk(other);
    drop(held.pop());
    let deadline = Instant::now() + PATIENCE;
    while resets(edge) {
        assert!(Instant::now() < deadline, "the place is not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lets_exactly_the_bytes_of_an_edge_pass_and_ends_its_connections_then() {
    let warden = Warden::start();
    let port = server(echo).port();
    let limits = TrafficLimits { total_bytes: Some(20_000), ..NONE };
    let edge = warden.limited("planner", "researcher", port, limits);
    let mut client = connect(edge);
    // There and back again: each byte counts twice.
    let (sent, mut answer) = ([7; 10_000], [0; 10_000]);
    client.write_all(&sent).unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, sent);
    client.write_all(b"x").unwrap();
    assert!(is_reset(&mut client));
    assert_eq!(warden.denied(), pair("researcher", port, "edge.bytes"));
    assert!(resets(edge));
    // An agent that starts anew has no fresh budget.
    warden.send(&ToGateway::Forget { agent: name("planner") }, &[]);
    assert!(resets(warden.limited("planner", "researcher", port, limits)));
}

#[test]
fn ends_an_edge_in_order_where_its_last_byte_is_its_limit() {
    let warden = Warden::start();
    let port = server(echo).port();
    let limits = TrafficLimits { total_bytes: Some(8), ..NONE };
    let mut client = connect(warden.limited("planner", "researcher", port, limits));
    client.write_all(b"four").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"four");
}

#[test]
fn holds_an_edge_to_its_rate_over_all_its_connections() {
    let warden = Warden::start();
    let target = server(|mut stream| drop(std::io::copy(&mut stream, &mut std::io::sink())));
    let rate = 1 << 20;
    let limits = TrafficLimits { rate_bytes: Some(rate), ..NONE };
    let edge = warden.limited("planner", "researcher", target.port(), limits);
    let free = warden.edge("planner", "scribe", server(echo).port());
    let started = Instant::now();
    let until = started + Duration::from_secs(3);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = connect(edge);
                client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
                while Instant::now() < until {
                    let _ = client.write(&[0; 16 << 10]);
                }
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let asked = Instant::now();
        talk(free);
        slowest = slowest.max(asked.elapsed());
    }
    let passed = warden.traffic();
    let elapsed = started.elapsed().as_secs_f64();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let bytes = passed.iter().find(|edge| edge.to.starts_with("researcher")).unwrap().traffic.bytes as f64;
    let allowed = rate as f64 * elapsed;
    assert!(bytes < allowed * 1.2 + 64e3 && bytes > allowed * 0.5, "{bytes} of {allowed}");
    assert!(slowest < Duration::from_secs(1), "another edge waits: {slowest:?}");
}

#[test]
fn closing_an_edge_ends_its_connections_and_no_others_until_it_is_open_again() {
    let warden = Warden::start();
    let port = server(echo).port();
    let edge = warden.edge("planner", "researcher", port);
    let (other, back) = (warden.edge("planner", "scribe", port), warden.edge("researcher", "planner", port));
    let mut clients = [edge, other, back].map(talk);
    judge(&warden, port, Verdict::Denied);
    assert!(is_reset(&mut clients[0]));
    say(&mut clients[1]);
    say(&mut clients[2]);
    assert!(resets(edge));
    assert_eq!(warden.denied(), pair("researcher", port, "edge.denied"));
    // Starting anew does not open it.
    warden.send(&ToGateway::Forget { agent: name("planner") }, &[]);
    let again = warden.edge("planner", "researcher", port);
    assert!(resets(again));
    judge(&warden, port, Verdict::Allowed);
    warden.traffic();
    talk(again);
}

#[test]
fn an_edge_that_was_closed_before_it_was_served_is_closed() {
    let warden = Warden::start();
    let port = server(echo).port();
    judge(&warden, port, Verdict::Denied);
    assert!(resets(warden.edge("planner", "researcher", port)));
}

#[test]
fn a_port_of_the_box_leads_to_its_agent_until_the_agent_is_gone() {
    let warden = Warden::start();
    let port = server(echo).port();
    let address = warden.publish("researcher", port);
    // What comes from outside is not on the agent's own account.
    let own = warden.edge("researcher", "scribe", port);
    let _held: Vec<_> = (0..1024).map(|_| talk(address)).collect();
    assert!(resets(address));
    talk(own);
    warden.send(&ToGateway::Forget { agent: name("researcher") }, &[]);
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect_timeout(&address, PATIENCE).is_ok() {
        assert!(Instant::now() < deadline, "the port is still open");
    }
    assert!(TcpListener::bind(address).is_ok());
}

#[test]
fn tells_what_passed_over_each_edge() {
    let warden = Warden::start();
    assert_eq!(warden.traffic(), []);
    let port = server(echo).port();
    let edge = warden.edge("planner", "researcher", port);
    let address = warden.publish("researcher", port);
    let _open = talk(edge);
    let _outside = (talk(address), talk(address));
    judge(&warden, 9, Verdict::Denied);
    let (gone, nobody) = listener();
    drop(gone);
    assert!(resets(warden.edge("planner", "scribe", nobody.port())));
    let of = |all: &[EdgeTraffic], from: Origin, to: String| {
        all.iter().find(|edge| edge.from == from && edge.to == to).unwrap().traffic.clone()
    };
    let all = warden.traffic();
    let planner = || Origin::Agent(name("planner"));
    let called = of(&all, planner(), format!("researcher:{port}"));
    assert_eq!((called.open, called.connections, called.bytes, called.refused), (1, 1, 2, 0));
    let published = of(&all, Origin::Port(address), format!("researcher:{port}"));
    assert_eq!((published.open, published.connections, published.bytes), (2, 2, 4));
    let refused = of(&all, planner(), format!("scribe:{}", nobody.port()));
    assert_eq!((refused.refused, refused.last_refusal.as_deref()), (1, Some("edge.answers")));
    assert_eq!(all.len(), 4);
}

#[test]
fn tells_of_more_edges_than_one_message_holds() {
    let warden = Warden::start();
    for port in 1..=200 {
        judge(&warden, port, Verdict::Denied);
    }
    assert_eq!(warden.traffic().len(), 200);
}

#[test]
fn a_resolver_answers_the_names_that_it_is_given_later() {
    let warden = Warden::start();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, _) = listener();
    let message = ToGateway::Resolver { agent: name("planner"), names: BTreeMap::new() };
    warden.send(&message, &[udp.as_fd(), tcp.as_fd()]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let code = || {
        client.send(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x05added\0\0\x01\0\x01").unwrap();
        let mut answer = [0; 512];
        client.recv(&mut answer).unwrap();
        answer[3] & 15
    };
    assert_eq!(code(), 3);
    assert!(matches!(warden.receive(), Some(FromGateway::NameDenied { .. })));
    let names = BTreeMap::from([(String::from("Added"), Ipv4Addr::new(127, 127, 0, 1))]);
    warden.send(&ToGateway::Names { agent: name("planner"), names }, &[]);
    warden.traffic();
    assert_eq!(code(), 0);
}
