//! What one agent can take from the others: its share and no more.

use std::io::{Read, Write};

use crate::warden::{Warden, connect, echo, resets, server};

#[test]
fn refuses_the_connection_past_an_agents_limit_and_serves_the_others() {
    let warden = Warden::start();
    let port = server(echo).port();
    let edge = warden.edge("planner", "researcher", port);
    let mut held: Vec<_> = (0..1024)
        .map(|_| {
            let mut client = connect(edge);
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
            client
        })
        .collect();
    assert!(resets(edge));
    let mut other = connect(warden.edge("scribe", "researcher", port));
    other.write_all(b"x").unwrap();
    other.read_exact(&mut [0]).unwrap();
    // Giving one up makes room for one.
    let ended = held.pop().unwrap();
    ended.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&ended).read(&mut [0]).unwrap(), 0);
    drop(ended);
    let mut again = connect(edge);
    again.write_all(b"x").unwrap();
    again.read_exact(&mut [0]).unwrap();
}
