//! What one agent can take from the others: its share and no more.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use casemate_protocol::gateway::ToGateway;

use crate::warden::{PATIENCE, Warden, connect, echo, listener, name, resets, server};

fn talk(address: SocketAddr) -> TcpStream {
    let mut client = connect(address);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

fn descriptors(warden: &Warden) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", warden.pid())).unwrap().count()
}

/// Waits until `count` descriptors or fewer are open, and gives how many are.
fn settled_descriptors(warden: &Warden, count: usize) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while descriptors(warden) > count && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    descriptors(warden)
}

#[test]
fn refuses_the_connection_past_an_agents_limit_and_serves_the_others() {
    let warden = Warden::start();
    let port = server(echo).port();
    let edge = warden.edge("planner", "researcher", port);
    let mut held: Vec<_> = (0..1024).map(|_| talk(edge)).collect();
    assert!(resets(edge));
    talk(warden.edge("scribe", "researcher", port));
    // Giving one up makes room for one.
    let ended = held.pop().unwrap();
    ended.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&ended).read(&mut [0]).unwrap(), 0);
    drop(ended);
    talk(edge);
}

#[test]
fn refuses_the_connection_past_the_limit_of_all() {
    // 2048 descriptors are kept back, so 80 connections fit, 20 of one agent.
    let warden = Warden::start_with_descriptors(2048 + 160);
    let port = server(echo).port();
    let mut held = Vec::new();
    for agent in ["a", "b", "c", "d"] {
        let edge = warden.edge(agent, "researcher", port);
        held.extend((0..20).map(|_| talk(edge)));
        assert!(resets(edge), "{agent}");
    }
    assert!(resets(warden.edge("e", "researcher", port)));
}

#[test]
fn keeps_no_descriptor_of_an_agent_over_many_lives() {
    let warden = Warden::start();
    let port = server(echo).port();
    // The researcher's pool lives on; let it fill first.
    drop(talk(warden.edge("planner", "researcher", port)));
    warden.send(&ToGateway::Forget { agent: name("planner") }, &[]);
    thread::sleep(Duration::from_millis(300));
    let before = descriptors(&warden);
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (tcp, resolver) = listener();
        let names = BTreeMap::from([(String::from("x"), Ipv4Addr::LOCALHOST)]);
        warden.send(&ToGateway::Resolver { agent: name("planner"), names }, &[udp.as_fd(), tcp.as_fd()]);
        let edge = warden.edge("planner", "researcher", port);
        let held = [talk(edge), talk(edge), connect(resolver)];
        warden.send(&ToGateway::Forget { agent: name("planner") }, &[]);
        drop(held);
    }
    let after = settled_descriptors(&warden, before);
    // The pool of the researcher may have grown up to its limit; a leak would be five a life.
    assert!(after <= before + 256, "{before} before, {after} after");
    warden.send(&ToGateway::Forget { agent: name("researcher") }, &[]);
    let after = settled_descriptors(&warden, 12);
    assert!(after <= 12, "{after} left with no agent");
}

#[test]
fn serves_an_agent_beside_one_that_connects_and_asks_without_end() {
    let warden = Warden::start();
    // Targets of their own: the accept queue of a target is shared by its callers whatever the gateway does.
    let good = warden.edge("good", "researcher", server(echo).port());
    let bad = warden.edge("bad", "scribe", server(echo).port());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, _) = listener();
    let message = ToGateway::Resolver { agent: name("bad"), names: BTreeMap::new() };
    warden.send(&message, &[udp.as_fd(), tcp.as_fd()]);
    let resolver = udp.local_addr().unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    let connecting = thread::spawn(move || {
        let mut held = Vec::new();
        while Instant::now() < until {
            held.extend(TcpStream::connect(bad));
            held.truncate(2000);
        }
    });
    let asking = thread::spawn(move || {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        while Instant::now() < until {
            let _ = client.send_to(&[0xff; 64], resolver);
        }
    });
    let mut client = talk(good);
    let mut worst = Duration::ZERO;
    while Instant::now() < until {
        let started = Instant::now();
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        drop(talk(good));
        worst = worst.max(started.elapsed());
    }
    connecting.join().unwrap();
    asking.join().unwrap();
    println!("slowest exchange and connection beside the abuser: {worst:?}");
    assert!(worst < Duration::from_secs(1), "{worst:?}");
}
