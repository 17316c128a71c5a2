//! Edges between Unix sockets: the warden of these tests connects to the path as it is.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use casemate_composition::lock::TrafficLimits;
use casemate_protocol::gateway::{Dialled, FromGateway, Target, ToGateway, Verdict};

use crate::warden::{PATIENCE, Warden, fresh, name};

const NONE: TrafficLimits = TrafficLimits { connections: None, rate_bytes: None, total_bytes: None };

fn serve(path: &Path, serve_one: impl Fn(UnixStream) + Send + Clone + 'static) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve_one = serve_one.clone();
            thread::spawn(move || serve_one(stream.unwrap()));
        }
    });
}

fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the connection is over: ended, or reset because what was written was not read.
fn is_over(stream: &mut UnixStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
        || stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
}

struct Places {
    _folder: tempfile::TempDir,
    caller: PathBuf,
    target: PathBuf,
}

fn places() -> Places {
    let folder = tempfile::tempdir().unwrap();
    let (caller, target) = (folder.path().join("caller"), folder.path().join("target"));
    Places { _folder: folder, caller, target }
}

fn target(places: &Places) -> Target {
    Target::Socket { agent: name("db"), path: places.target.to_str().unwrap().parse().unwrap() }
}

#[test]
fn half_closes_pass_in_both_directions() {
    let (warden, places) = (Warden::start(), places());
    serve(&places.target, |mut stream| {
        stream.write_all(b"all that I have").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"and what I have");
    });
    warden.socket_edge("app", &places.caller, "db", &places.target, None);
    let mut client = connect(&places.caller);
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"all that I have");
    client.write_all(b"and what I have").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while warden.traffic()[0].traffic.open != 0 {
        assert!(Instant::now() < deadline, "it stays open");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(warden.traffic()[0].traffic.bytes, 30);
}

#[test]
fn bulk_passes_untouched_and_a_side_that_does_not_read_holds_the_other_up() {
    const BYTES: usize = 8 << 20;
    let (warden, places) = (Warden::start(), places());
    serve(&places.target, |mut stream| {
        thread::sleep(Duration::from_millis(300));
        echo(stream.try_clone().unwrap());
        stream.flush().unwrap();
    });
    warden.socket_edge("app", &places.caller, "db", &places.target, None);
    let client = connect(&places.caller);
    let mut writer = client.try_clone().unwrap();
    let sending = thread::spawn(move || {
        let all: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        writer.write_all(&all).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut all = Vec::new();
    (&client).read_to_end(&mut all).unwrap();
    sending.join().unwrap();
    assert_eq!(all.len(), BYTES);
    assert!(all.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
}

#[test]
fn a_path_at_which_nobody_listens_ends_the_connection_and_is_told() {
    let (warden, places) = (Warden::start(), places());
    warden.socket_edge("app", &places.caller, "db", &places.target, None);
    assert!(is_over(&mut connect(&places.caller)));
    let (to, rule) = warden.denied().unwrap();
    assert_eq!((to, rule.as_str()), (format!("db:{}", places.target.display()), "edge.answers"));
}

#[test]
fn limits_and_closing_hold_for_sockets_too() {
    let (warden, places) = (Warden::start(), places());
    serve(&places.target, echo);
    let limits = TrafficLimits { connections: Some(1), total_bytes: Some(100), ..NONE };
    warden.socket_edge("app", &places.caller, "db", &places.target, Some(limits));
    let mut first = connect(&places.caller);
    first.write_all(&[1; 40]).unwrap();
    first.read_exact(&mut [0; 40]).unwrap();
    assert!(is_over(&mut connect(&places.caller)));
    assert_eq!(warden.denied().unwrap().1, "edge.connections");
    first.write_all(&[1; 40]).unwrap();
    assert!(first.read_to_end(&mut Vec::new()).is_ok() || is_over(&mut first));
    assert_eq!(warden.denied().unwrap().1, "edge.bytes");
    warden.send(
        &ToGateway::Judge { agent: name("app"), target: target(&places), verdict: Verdict::Denied },
        &[],
    );
    assert!(is_over(&mut connect(&places.caller)));
    assert_eq!(warden.denied().unwrap().1, "edge.denied");
}

#[test]
fn a_full_queue_is_tried_again_and_few_questions_are_open_at_a_time() {
    let (warden, places) = (Warden::start_with(None), places());
    serve(&places.target, echo);
    warden.socket_edge("app", &places.caller, "db", &places.target, None);
    let mut clients: Vec<_> = (0..12).map(|_| connect(&places.caller)).collect();
    let ask = |within| match warden.receive_within(within) {
        Some(FromGateway::Dial { id, .. }) => Some(id),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    let mut open: Vec<u64> = (0..4).map(|_| ask(PATIENCE).unwrap()).collect();
    assert_eq!(ask(Duration::from_millis(200)), None, "a fifth question of one caller");
    // Each is put off once; then all are answered.
    for id in &open {
        warden.send(&ToGateway::Dialled { id: *id, outcome: Dialled::Full }, &[]);
    }
    open.clear();
    for client in 0..12 {
        let id = ask(PATIENCE).unwrap_or_else(|| panic!("no question for {client}"));
        let stream = UnixStream::connect(&places.target).unwrap();
        warden.send(&ToGateway::Dialled { id, outcome: Dialled::Connected }, &[stream.as_fd()]);
    }
    for client in &mut clients {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    // Nobody waits for this one.
    let stream = UnixStream::connect(&places.target).unwrap();
    warden.send(&ToGateway::Dialled { id: 4711, outcome: Dialled::Connected }, &[stream.as_fd()]);
    assert_eq!(warden.traffic().len(), 1);
}

#[test]
fn a_caller_that_calls_without_end_asks_the_warden_only_so_often() {
    const CALLS: u32 = 40;
    let (warden, places) = (Warden::start_with(None), places());
    warden.socket_edge("app", &places.caller, "db", &places.target, None);
    let clients: Vec<_> = (0..CALLS).map(|_| connect(&places.caller)).collect();
    let (began, mut asked) = (Instant::now(), 0);
    while asked < CALLS {
        if let FromGateway::Dial { id, .. } = warden.receive_within(PATIENCE).unwrap() {
            warden.send(&ToGateway::Dialled { id, outcome: Dialled::Refused }, &[]);
            asked += 1;
        }
    }
    // Four at a time, each for ten milliseconds at least; the first four may have begun before.
    assert!(began.elapsed() >= Duration::from_millis(80), "{:?}", began.elapsed());
    drop(clients);
}

#[test]
fn a_caller_that_is_gone_after_a_half_close_ends_the_connection() {
    let (warden, places) = (Warden::start(), places());
    // The server keeps its side open without a word.
    let silent = places.target.with_extension("silent");
    serve(&silent, |stream| {
        thread::sleep(PATIENCE);
        drop(stream);
    });
    warden.socket_edge("app", &places.caller, "db", &silent, None);
    let client = connect(&places.caller);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(warden.traffic()[0].traffic.open, 1);
    drop(client);
    let deadline = Instant::now() + PATIENCE / 2;
    while warden.traffic()[0].traffic.open != 0 {
        assert!(Instant::now() < deadline, "it stays open");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn other_descriptors_than_promised_end_the_gateway() {
    let places = places();
    let listener = UnixListener::bind(&places.target).unwrap();
    let (tcp, (one, _two)) = (fresh(), UnixStream::pair().unwrap());
    let listen = |target| ToGateway::Listen { agent: name("app"), target, limits: None };
    let port = Target::Agent { agent: name("db"), port: 80 };
    let connected = ToGateway::Dialled { id: 0, outcome: Dialled::Connected };
    let refused = ToGateway::Dialled { id: 0, outcome: Dialled::Refused };
    for (message, descriptors) in [
        (listen(target(&places)), vec![tcp.as_fd()]),
        (listen(target(&places)), vec![one.as_fd()]),
        (listen(port), vec![listener.as_fd()]),
        (connected.clone(), vec![]),
        (connected.clone(), vec![tcp.as_fd()]),
        (connected, vec![listener.as_fd()]),
        (refused, vec![one.as_fd()]),
    ] {
        let mut warden = Warden::start();
        warden.send(&message, &descriptors);
        assert_eq!(warden.end().code(), Some(2), "{message:?}");
    }
}
