//! Bytes between agents and to the outside.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use casemate_protocol::gateway::{FromGateway, Target, ToGateway};
use rustix::net::bind;

use crate::warden::{
    PATIENCE, Warden, connect, echo, fresh, is_reset, listener, name, reset, resets, server,
};

#[test]
fn says_ready_and_ends_well_when_the_warden_hangs_up() {
    let mut warden = Warden::start();
    warden.hang_up();
    assert!(warden.end().success());
}

#[test]
fn carries_bytes_to_the_target_and_back() {
    let warden = Warden::start();
    let edge = warden.edge("planner", "researcher", server(echo).port());
    let mut client = connect(edge);
    let mut answer = [0; 5];
    for word in [b"hello", b"there"] {
        client.write_all(word).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, word);
    }
}

#[test]
fn keeps_a_half_closed_connection_open_the_other_way() {
    let warden = Warden::start();
    let target = server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        thread::sleep(Duration::from_millis(50));
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut client = connect(warden.edge("planner", "researcher", target.port()));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
    client.write_all(&sent).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    answer.reverse();
    assert!(answer == sent);
}

#[test]
fn carries_200_connections_at_once_without_mixing_them() {
    let warden = Warden::start();
    let port = server(echo).port();
    let edge = warden.edge("planner", "researcher", port);
    let clients: Vec<_> = (0..200_u32)
        .map(|n| {
            thread::spawn(move || {
                let mut client = connect(edge);
                let sent: Vec<u8> = n.to_be_bytes().repeat(5_000);
                let mut reader = client.try_clone().unwrap();
                let expected = sent.clone();
                let reading = thread::spawn(move || {
                    let mut answer = Vec::new();
                    reader.read_to_end(&mut answer).unwrap();
                    assert!(answer == expected);
                });
                client.write_all(&sent).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
                reading.join().unwrap();
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn passes_a_reset_of_the_target_to_the_caller() {
    let warden = Warden::start();
    let target = server(|mut stream| {
        let _ = stream.read(&mut [0]);
        reset(stream);
    });
    let mut client = connect(warden.edge("planner", "researcher", target.port()));
    client.write_all(b"x").unwrap();
    assert!(is_reset(&mut client));
}

#[test]
fn passes_a_reset_of_the_caller_to_the_target() {
    let warden = Warden::start();
    let (sender, seen) = mpsc::channel();
    let target = server(move |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        stream.write_all(b"y").unwrap();
        sender.send(is_reset(&mut stream)).unwrap();
    });
    let mut client = connect(warden.edge("planner", "researcher", target.port()));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    reset(client);
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(true));
}

#[test]
fn notices_that_the_target_is_gone_after_the_caller_half_closed() {
    let warden = Warden::start();
    let target = server(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        reset(stream);
    });
    let mut client = connect(warden.edge("planner", "researcher", target.port()));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_reset(&mut client));
}

#[test]
fn notices_that_a_caller_which_half_closed_is_gone_while_the_target_is_silent() {
    let warden = Warden::start();
    let (sender, seen) = mpsc::channel();
    let target = server(move |mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        sender.send(None).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(error) = stream.take_error().unwrap() {
                sender.send(Some(error.kind())).unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        }
    });
    let client = connect(warden.edge("planner", "researcher", target.port()));
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(None));
    reset(client);
    // A reset on a socket whose stream from there had ended is a broken pipe to the kernel.
    assert_eq!(seen.recv_timeout(PATIENCE), Ok(Some(std::io::ErrorKind::BrokenPipe)));
}

#[test]
fn resets_the_caller_where_the_target_does_not_listen() {
    let warden = Warden::start();
    let (gone, address) = listener();
    drop(gone);
    assert!(resets(warden.edge("planner", "researcher", address.port())));
}

#[test]
fn never_connects_a_socket_to_itself() {
    let warden = Warden::start_with(None);
    let socket = fresh();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = TcpStream::from(socket.try_clone().unwrap()).local_addr().unwrap().port();
    warden.send(&ToGateway::Pool { agent: name("researcher") }, &[socket.as_fd()]);
    drop(socket);
    assert!(resets(warden.edge("planner", "researcher", port)));
}

#[test]
fn asks_for_sockets_and_waits_for_them() {
    let warden = Warden::start_with(None);
    let mut client = connect(warden.edge("planner", "researcher", server(echo).port()));
    client.write_all(b"x").unwrap();
    let Some(FromGateway::NeedSockets { agent, count: 1..=64 }) = warden.receive() else { panic!() };
    assert_eq!(agent, name("researcher"));
    thread::sleep(Duration::from_millis(300));
    warden.send(&ToGateway::Pool { agent }, &[fresh().as_fd()]);
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn resets_the_caller_where_no_socket_comes_in_time() {
    let warden = Warden::start_with(None);
    let started = Instant::now();
    assert!(resets(warden.edge("planner", "researcher", server(echo).port())));
    assert!((4..8).contains(&started.elapsed().as_secs()));
    let asked = std::iter::from_fn(|| warden.receive_within(Duration::ZERO)).count();
    assert!((4..=6).contains(&asked), "asked {asked} times in five seconds");
}

#[test]
fn dials_the_address_that_the_composition_gives() {
    let warden = Warden::start();
    let target = server(echo);
    let host = String::from("api.example.com");
    let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let mut client = connect(warden.listen("planner", Target::Host { host, port: target.port(), address }));
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn never_dials_an_inside_address_that_a_name_stands_for() {
    let warden = Warden::start();
    let (target, address) = listener();
    target.set_nonblocking(true).unwrap();
    for host in ["localhost", "127.0.0.1", "::1", "0.0.0.0", "127.1", "2130706433", "0x7f000001"] {
        let host = String::from(host);
        let target = Target::Host { host: host.clone(), port: address.port(), address: None };
        assert!(resets(warden.listen("planner", target)), "{host}");
    }
    assert!(target.accept().is_err());
}

#[test]
fn forgets_an_agent_with_all_that_is_its_own_and_nothing_else() {
    let warden = Warden::start();
    let port = server(echo).port();
    let own = warden.edge("planner", "researcher", port);
    let to_it = warden.edge("scribe", "planner", port);
    let other = warden.edge("scribe", "researcher", port);
    let mut clients = [own, to_it, other].map(connect);
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    warden.send(&ToGateway::Forget { agent: name("planner") }, &[]);
    let [mine, to_me, others] = &mut clients;
    assert!(is_reset(mine) && is_reset(to_me));
    others.write_all(b"y").unwrap();
    others.read_exact(&mut [0]).unwrap();
    let refused = TcpStream::connect_timeout(&own, PATIENCE).unwrap_err().kind();
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    assert!(TcpListener::bind(own).is_ok(), "the gateway still holds the listening socket");
    // It may come back, and the edges of others to it were theirs all along.
    for edge in [warden.edge("planner", "researcher", port), to_it] {
        let mut again = connect(edge);
        again.write_all(b"z").unwrap();
        again.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn stops_reading_from_a_caller_whose_target_does_not_read() {
    let warden = Warden::start();
    let (held, holding) = mpsc::channel();
    let target = server(move |stream| held.send(stream).unwrap());
    let mut client = connect(warden.edge("planner", "researcher", target.port()));
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let chunk = vec![0; 64 << 10];
    let mut taken_bytes = 0_usize;
    while let Ok(length) = client.write(&chunk) {
        taken_bytes += length;
        assert!(taken_bytes < 256 << 20, "no back-pressure");
    }
    let mut stream = holding.recv_timeout(PATIENCE).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", warden.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    let anonymous_kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(anonymous_kib < 8 << 10, "{line}");
    drop(client);
    let read_bytes = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    assert_eq!(read_bytes, taken_bytes as u64);
}
