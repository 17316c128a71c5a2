//! A measurement, not a test: bulk throughput and round trips through the gateway next to plain loopback.
//! Run with `--ignored --nocapture`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::warden::{Warden, connect, echo, server};

const CHUNK_BYTES: usize = 256 << 10;
const TOTAL_BYTES: usize = 2 << 30;
const ROUND_TRIPS: usize = 5_000;
const CONNECTIONS: usize = 2_000;

fn swallow(mut stream: TcpStream) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(1..) = stream.read(&mut buffer) {}
    let _ = stream.write_all(b"!");
}

fn gigabytes_per_second(address: SocketAddr) -> f64 {
    let mut client = connect(address);
    let chunk = vec![7; CHUNK_BYTES];
    let started = Instant::now();
    for _ in 0..TOTAL_BYTES / CHUNK_BYTES {
        client.write_all(&chunk).unwrap();
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    client.read_exact(&mut [0]).unwrap();
    TOTAL_BYTES as f64 / started.elapsed().as_secs_f64() / 1e9
}

fn round_trip_us(address: SocketAddr) -> (f64, f64) {
    let mut client = connect(address);
    client.set_nodelay(true).unwrap();
    let mut message = [1; 1024];
    let mut times: Vec<f64> = (0..ROUND_TRIPS)
        .map(|_| {
            let started = Instant::now();
            client.write_all(&message).unwrap();
            client.read_exact(&mut message).unwrap();
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[ROUND_TRIPS / 2], times[ROUND_TRIPS * 99 / 100])
}

fn connections_per_second(address: SocketAddr) -> f64 {
    let started = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut client = connect(address);
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    CONNECTIONS as f64 / started.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn measures_throughput_and_latency_next_to_plain_loopback() {
    let warden = Warden::start();
    let (bulk, small) = (server(swallow), server(echo));
    let bulk_edge = warden.edge("planner", "researcher", bulk.port());
    let small_edge = warden.edge("planner", "researcher", small.port());
    for round in 1..=3 {
        let (plain, carried) = (gigabytes_per_second(bulk), gigabytes_per_second(bulk_edge));
        let (plain_us, carried_us) = (round_trip_us(small), round_trip_us(small_edge));
        let (plain_rate, carried_rate) = (connections_per_second(small), connections_per_second(small_edge));
        println!(
            "round {round}: bulk {plain:.2} -> {carried:.2} GB/s; 1 KiB round trip p50/p99 \
             {:.0}/{:.0} -> {:.0}/{:.0} us; connections {plain_rate:.0} -> {carried_rate:.0} /s",
            plain_us.0, plain_us.1, carried_us.0, carried_us.1
        );
    }
}
