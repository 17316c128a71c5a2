//! The resolver over real sockets.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use casemate_protocol::gateway::{FromGateway, ToGateway};

use crate::warden::{PATIENCE, Warden, connect, listener, name, resets};

pub(crate) const ALIAS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 2);

fn resolver(warden: &Warden) -> (UdpSocket, SocketAddr) {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, tcp_address) = listener();
    let names = BTreeMap::from([(String::from("researcher"), ALIAS)]);
    let message = ToGateway::Resolver { agent: name("planner"), names };
    warden.send(&message, &[udp.as_fd(), tcp.as_fd()]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(udp.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, tcp_address)
}

fn query(id: u16, host: &str) -> Vec<u8> {
    let mut out = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in host.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}

fn ask(client: &UdpSocket, query: &[u8]) -> Vec<u8> {
    client.send(query).unwrap();
    let mut answer = [0; 512];
    let length = client.recv(&mut answer).unwrap();
    answer[..length].to_vec()
}

#[test]
fn answers_over_udp() {
    let warden = Warden::start();
    let (client, _) = resolver(&warden);
    let answer = ask(&client, &query(7, "Researcher"));
    assert_eq!((&answer[..2], answer[3] & 15), (&[0, 7][..], 0));
    assert!(answer.ends_with(&ALIAS.octets()));
}

#[test]
fn answers_several_queries_on_one_tcp_connection() {
    let warden = Warden::start();
    let (_, address) = resolver(&warden);
    let mut client = connect(address);
    let queries: Vec<Vec<u8>> = (0..3).map(|id| query(id, "researcher")).collect();
    for query in &queries {
        // In two pieces: the length need not arrive with the message.
        client.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        client.write_all(query).unwrap();
    }
    for query in &queries {
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..2], query[..2]);
        assert!(answer.ends_with(&ALIAS.octets()));
    }
}

#[test]
fn closes_a_tcp_connection_with_a_query_that_is_too_long_or_none() {
    let warden = Warden::start();
    let (_, address) = resolver(&warden);
    for start in [[0xff, 0xff, 0], [0, 1, 0]] {
        let mut client = connect(address);
        client.write_all(&start).unwrap();
        match client.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            other => panic!("{start:?}: {other:?}"),
        }
    }
}

#[test]
fn limits_the_tcp_connections_of_an_agent() {
    let warden = Warden::start();
    let (_, address) = resolver(&warden);
    let held: Vec<_> = (0..16).map(|_| connect(address)).collect();
    assert!(resets(address));
    drop(held);
}

#[test]
fn denies_and_reports_a_name_that_is_not_declared() {
    let warden = Warden::start();
    let (client, _) = resolver(&warden);
    let answer = ask(&client, &query(9, "evil.example"));
    assert_eq!(answer[3] & 15, 3);
    let expected = FromGateway::NameDenied { agent: name("planner"), name: String::from("evil.example") };
    assert_eq!(warden.receive(), Some(expected));
}

#[test]
fn reports_at_most_a_few_denied_names_a_second_and_answers_all() {
    let warden = Warden::start();
    let (client, _) = resolver(&warden);
    for n in 0..500 {
        assert_eq!(ask(&client, &query(n, &format!("evil{n}.example")))[3] & 15, 3);
    }
    let reported = std::iter::from_fn(|| warden.receive_within(Duration::from_millis(200))).count();
    // Eight a second; 500 queries take well under three.
    assert!((8..=32).contains(&reported), "{reported}");
}

#[test]
fn still_answers_after_each_truncated_query_and_noise() {
    let warden = Warden::start();
    let (client, _) = resolver(&warden);
    let whole = query(1, "researcher");
    for end in 0..whole.len() {
        client.send(&whole[..end]).unwrap();
        client.send(&vec![0xff; end * 60]).unwrap();
        let mut answer = ask(&client, &query(0x0102, "researcher"));
        while answer[..2] != [1, 2] {
            let mut next = [0; 512];
            let length = client.recv(&mut next).unwrap();
            answer = next[..length].to_vec();
        }
    }
}
