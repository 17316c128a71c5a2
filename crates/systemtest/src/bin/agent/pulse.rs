//! The same small work again and again for some seconds, and how long each took: what `bench abuse` compares.

use std::error::Error;
use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Steps of a calculation that takes some tenth of a millisecond.
const STEPS: u64 = 100_000;
/// Memory that is taken, touched and given back.
const MEMORY_BYTES: usize = 1 << 20;
/// What is written and read back.
const FILE_BYTES: usize = 16 << 10;
/// Pause between two rounds: a peer that works all the time would only measure itself.
const PAUSE: Duration = Duration::from_millis(1);

/// `SECONDS HOST:PORT`: work of its own, and a call over an edge. Gives rounds, and µs at the median and at 99 of 100.
pub(crate) fn run(rest: &str) -> Result<String, Box<dyn Error>> {
    let (seconds, endpoint) = rest.split_once(' ').ok_or("no endpoint")?;
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut works, mut calls) = (Vec::new(), Vec::new());
    while Instant::now() < end {
        works.push(time(work)?);
        calls.push(time(|| call(endpoint))?);
        std::thread::sleep(PAUSE);
    }
    let rounds = works.len();
    let (work, call) = (quantiles(&mut works), quantiles(&mut calls));
    Ok(format!("pulse {rounds} {} {} {} {}", work.0, work.1, call.0, call.1))
}

fn time(what: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<u128> {
    let began = Instant::now();
    what()?;
    Ok(began.elapsed().as_micros())
}

fn work() -> std::io::Result<()> {
    let mut value = 1_u64;
    for step in 0..STEPS {
        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    std::hint::black_box(vec![1_u8; MEMORY_BYTES]);
    std::fs::write("/tmp/pulse", vec![value as u8; FILE_BYTES])?;
    std::fs::read("/tmp/pulse").map(|read| drop(std::hint::black_box(read)))
}

fn call(endpoint: &str) -> std::io::Result<()> {
    let mut answer = String::new();
    TcpStream::connect(endpoint)?.read_to_string(&mut answer)?;
    if answer.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn quantiles(times: &mut [u128]) -> (u128, u128) {
    times.sort_unstable();
    let at = |hundredths: usize| times.get(times.len() * hundredths / 100).copied().unwrap_or(0);
    (at(50), at(99))
}
