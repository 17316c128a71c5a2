//! Real protocols through the gateway, spoken by real programs where there are any: nothing of them may be changed,
//! reordered or held back.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::warden::{PATIENCE, Warden, connect, listener, server};

/// A program that ends with its test.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Program {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Program(
        quiet.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; `cargo xtask setup` installs it")),
    )
}

/// Runs a program to its end, within bounds.
fn output(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    let shown = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {shown}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    listener().1.port()
}

fn wait_for(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// An HTTP/1.1 server that answers each request of a connection with its path, in order.
fn http_1(stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap().to_owned();
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        writer.write_all(answer.as_bytes()).unwrap();
    }
}

fn answered(reader: &mut impl std::io::BufRead) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

#[test]
fn http_1_keeps_a_connection_alive_and_answers_pipelined_requests_in_order() {
    let warden = Warden::start();
    let edge = warden.edge("planner", "web", server(http_1).port());
    let mut client = connect(edge);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for n in 0..20 {
        client.write_all(format!("GET /{n} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(answered(&mut reader), format!("/{n}"));
    }
    let all: String = (0..500).map(|n| format!("GET /p{n} HTTP/1.1\r\nHost: web\r\n\r\n")).collect();
    client.write_all(all.as_bytes()).unwrap();
    for n in 0..500 {
        assert_eq!(answered(&mut reader), format!("/p{n}"));
    }
    assert_eq!(warden.traffic()[0].traffic.connections, 1);
    let curl = output("curl", &["-s", "-m", "20", &format!("http://{edge}/a"), &format!("http://{edge}/b")]);
    assert_eq!(text(&curl), "/a/b");
}

#[test]
fn a_web_socket_speaks_both_ways_at_once_after_its_upgrade() {
    let warden = Warden::start();
    let target = server(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::from("-");
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        writer.write_all(upgrade.as_bytes()).unwrap();
        // Says something unasked for, and sends each frame back with a mark.
        writer.write_all(b"\x82\x05hello").unwrap();
        let mut frame = [0; 2];
        while reader.read_exact(&mut frame).is_ok() {
            let mut payload = vec![0; usize::from(frame[1])];
            reader.read_exact(&mut payload).unwrap();
            payload.reverse();
            writer.write_all(&[&frame[..], &payload].concat()).unwrap();
        }
    });
    let mut client = connect(warden.edge("planner", "web", target.port()));
    let request = "GET /chat HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 101"), "{line}");
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let mut greeting = [0; 7];
    reader.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"\x82\x05hello");
    for n in 0..200_u8 {
        client.write_all(&[0x82, 3, b'a', b'b', n]).unwrap();
        let mut back = [0; 5];
        reader.read_exact(&mut back).unwrap();
        assert_eq!(back, [0x82, 3, n, b'b', b'a']);
    }
}

/// An HTTP/2 server; with a certificate for `web.example` in `folder` where `tls`.
fn http_2(folder: &Path, tls: bool) -> (Program, u16) {
    let port = free_port();
    let mut command = Command::new("nghttpd");
    command.arg("--address=127.0.0.1").arg("--echo-upload").arg("-d").arg(folder);
    if tls {
        let (key, certificate) = (folder.join("key.pem"), folder.join("cert.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=web.example", "-addext", "subjectAltName=DNS:web.example"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        command.arg(port.to_string()).arg(key).arg(certificate);
    } else {
        command.arg("--no-tls").arg(port.to_string());
    }
    let program = start(&mut command);
    wait_for(port);
    (program, port)
}

#[test]
fn http_2_carries_many_streams_over_one_connection() {
    let warden = Warden::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page"), "x".repeat(40_000)).unwrap();
    let (_server, port) = http_2(folder.path(), false);
    let edge = warden.edge("planner", "web", port);
    let load = output("h2load", &["-n", "2000", "-c", "4", "-m", "50", &format!("http://{edge}/page")]);
    let said = text(&load);
    assert!(said.contains("2000 succeeded, 0 failed, 0 errored"), "{said}");
    let curl = [
        "-s",
        "-m",
        "20",
        "--http2-prior-knowledge",
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{size_download}",
    ];
    let curl = output("curl", &[&curl[..], &[&format!("http://{edge}/page")]].concat());
    assert_eq!(text(&curl), "2 40000");
}

#[test]
fn a_stream_of_http_2_goes_both_ways_at_once_as_grpc_needs_it() {
    let warden = Warden::start();
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = http_2(folder.path(), false);
    let edge = warden.edge("planner", "web", port);
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 31 % 251) as u8).collect();
    let path = folder.path().join("body");
    std::fs::write(&path, &sent).unwrap();
    let address = format!("http://{edge}/echo");
    let header = ["-H", "content-type: application/grpc", "-H", "te: trailers"];
    let nghttp = output("nghttp", &[&header[..], &["-d", path.to_str().unwrap(), &address]].concat());
    assert!(nghttp.status.success());
    assert!(nghttp.stdout == sent, "{} bytes came back", nghttp.stdout.len());
}

#[test]
fn tls_ends_at_the_peer_whose_certificate_the_caller_sees() {
    let warden = Warden::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("page"), "text").unwrap();
    let (_server, port) = http_2(folder.path(), true);
    let edge = warden.edge("planner", "web", port);
    let certificate = folder.path().join("cert.pem");
    let resolve = format!("web.example:{}:127.0.0.1", edge.port());
    let address = format!("https://web.example:{}/page", edge.port());
    let trusted = ["-s", "-m", "20", "--cacert", certificate.to_str().unwrap(), "--resolve", &resolve];
    let told =
        output("curl", &[&trusted[..], &["-w", " %{http_version} %{ssl_verify_result}", &address]].concat());
    assert_eq!(text(&told), "text 2 0");
    // The gateway has nothing to show in its place: who does not know the certificate gets no further.
    let untrusted = output("curl", &["-s", "-m", "20", "--resolve", &resolve, &address]);
    assert_eq!(untrusted.status.code(), Some(60));
}

fn postgres(arguments: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).args(arguments);
    command.env("LC_ALL", "C").current_dir("/");
    command
}

#[test]
fn postgresql_is_asked_and_answers_and_copies_in_bulk() {
    let warden = Warden::start();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let binaries = std::fs::read_dir("/usr/lib/postgresql")
        .expect("`cargo xtask setup` installs it")
        .map(|version| version.unwrap().path().join("bin"))
        .max()
        .unwrap();
    let (initdb, server) = (binaries.join("initdb"), binaries.join("postgres"));
    let (data, port) = (data.to_str().unwrap(), free_port());
    let made = postgres(&[
        "timeout",
        "120",
        initdb.to_str().unwrap(),
        "-N",
        "-A",
        "trust",
        "-U",
        "agent",
        "-D",
        data,
    ])
    .stdin(Stdio::null())
    .output()
    .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let sockets = folder.path().join("sockets");
    std::fs::create_dir(&sockets).unwrap();
    std::os::unix::fs::chown(&sockets, Some(65534), Some(65534)).unwrap();
    let in_folder = format!("unix_socket_directories={}", sockets.display());
    let port_text = port.to_string();
    let arguments =
        [server.to_str().unwrap(), "-D", data, "-F", "-p", &port_text, "-h", "127.0.0.1", "-c", &in_folder];
    let _server = start(&mut postgres(&arguments));
    let edge = warden.edge("planner", "database", port);
    let ask = |query: &str| {
        let place = ["-h", "127.0.0.1", "-p", &edge.port().to_string(), "-U", "agent", "-d", "postgres"]
            .map(str::to_owned);
        let place: Vec<&str> = place.iter().map(String::as_str).collect();
        output("psql", &[&place[..], &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query]].concat())
    };
    let deadline = Instant::now() + PATIENCE;
    while !ask("select 1").status.success() {
        assert!(Instant::now() < deadline, "it does not answer");
        thread::sleep(Duration::from_millis(100));
    }
    text(&ask("create table t as select n, repeat('x', n % 100) as s from generate_series(1, 100000) n"));
    assert_eq!(text(&ask("select count(*), sum(length(s)) from t")).trim(), "100000|4950000");
    let copied = text(&ask("copy t to stdout"));
    assert_eq!((copied.lines().count(), copied.lines().last().unwrap()), (100_000, "100000\t"));
    assert!(!ask("select 1/0").status.success());

    // The same over its Unix socket, found by its client in the folder of an edge.
    let callers = folder.path().join("edge");
    std::fs::create_dir(&callers).unwrap();
    let file = format!(".s.PGSQL.{port}");
    warden.socket_edge("planner", &callers.join(&file), "database", &sockets.join(&file), None);
    let ask = |query: &str| {
        let place = ["-h", callers.to_str().unwrap(), "-p", &port_text, "-U", "agent", "-d", "postgres"];
        output("psql", &[&place[..], &["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", query]].concat())
    };
    assert_eq!(text(&ask("select count(*), sum(length(s)) from t")).trim(), "100000|4950000");
    assert_eq!(text(&ask("copy t to stdout")).lines().count(), 100_000);
    assert_eq!(
        text(&ask("select client_addr is null from pg_stat_activity where pid = pg_backend_pid()")).trim(),
        "t"
    );
    assert!(!ask("select 1/0").status.success());
}

#[test]
fn half_closes_pass_in_both_directions() {
    let warden = Warden::start();
    // The server ends its stream first, and reads on until the caller ends the other one.
    let (sender, seen) = mpsc::channel();
    let target = server(move |mut stream| {
        stream.write_all(b"all that I have").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        sender.send(rest).unwrap();
    });
    let mut client = connect(warden.edge("planner", "web", target.port()));
    let mut said = Vec::new();
    client.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"all that I have");
    thread::sleep(Duration::from_millis(50));
    client.write_all(b"and what I have").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), b"and what I have");
}

/// Kilobytes of the gateway's own memory.
fn memory_kib(warden: &Warden) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", warden.pid())).unwrap();
    let of = |name: &str| -> usize {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    of("RssAnon:")
}

/// How many connections this process and the gateway can have both ends of, at most `wanted`. Raises limits where it may.
fn room_for(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// What the gateway keeps back for everything else, and enough for a test.
    const BESIDES: u64 = 2048;
    let enough = 2 * wanted as u64 + BESIDES;
    let allowed = getrlimit(Resource::Nofile);
    let most = allowed.maximum.unwrap_or(u64::MAX).max(enough);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) });
    if raised.is_err() {
        setrlimit(Resource::Nofile, Rlimit { current: allowed.maximum, maximum: allowed.maximum }).unwrap();
    }
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let room = usize::try_from(most.saturating_sub(BESIDES) / 2).unwrap();
    if room < wanted {
        println!(
            "not run: {wanted} connections at once: a process may have {most} descriptors here, enough for {room}"
        );
    }
    room.min(wanted)
}

#[test]
fn ten_thousand_idle_connections_cost_little_beside_a_thousand_busy_ones_and_all_still_work() {
    const AGENTS: usize = 12;
    const BUSY: usize = 1_000;
    let count = room_for(10_000 + BUSY);
    let warden = Warden::start();
    let (listener, address) = listener();
    // One thread for all: what is accepted is kept, and a byte is answered when it comes.
    let accepting = thread::spawn(move || {
        let all: Vec<TcpStream> = (0..count).map(|_| listener.accept().unwrap().0).collect();
        all
    });
    let edges: Vec<SocketAddr> =
        (0..AGENTS).map(|n| warden.edge(&format!("a{n}"), "web", address.port())).collect();
    let before = memory_kib(&warden);
    let mut clients: Vec<TcpStream> = (0..count).map(|n| connect(edges[n % AGENTS])).collect();
    let served = accepting.join().unwrap();
    let after = memory_kib(&warden);
    let each = after.saturating_sub(before) * 1024 / count;
    println!("{count} connections cost the gateway {each} bytes each of its own memory");
    assert!(each < 8 << 10, "{each} bytes each");
    // Each says its number, by which its other end is found.
    for (number, client) in clients.iter_mut().enumerate() {
        client.write_all(&(number as u64).to_be_bytes()).unwrap();
    }
    let mut ends: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    for mut stream in served {
        let mut number = [0; 8];
        stream.read_exact(&mut number).unwrap();
        let at = usize::try_from(u64::from_be_bytes(number)).unwrap();
        assert!(ends[at].replace(stream).is_none(), "{at} twice");
    }
    let mut served: Vec<TcpStream> = ends.into_iter().flatten().collect();
    let mut piece = [0; 4096];
    for round in 0..20_usize {
        for (number, client) in clients.iter_mut().take(BUSY).enumerate() {
            client.write_all(&[(number + round) as u8; 4096]).unwrap();
        }
        for stream in served.iter_mut().take(BUSY) {
            stream.read_exact(&mut piece).unwrap();
            stream.write_all(&piece).unwrap();
        }
        for (number, client) in clients.iter_mut().take(BUSY).enumerate() {
            client.read_exact(&mut piece).unwrap();
            assert!(piece.iter().all(|byte| *byte == (number + round) as u8));
        }
    }
    for (number, stream) in served.iter_mut().enumerate() {
        stream.write_all(&[number as u8]).unwrap();
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte[0], number as u8);
    }
    let later = memory_kib(&warden);
    assert!(later < after + (8 << 10), "{after} -> {later} KiB");
}

#[test]
fn a_thousand_busy_connections_all_move_within_bounded_memory() {
    const COUNT: usize = 1000;
    const BYTES: usize = 256 << 10;
    assert_eq!(room_for(COUNT), COUNT);
    let warden = Warden::start();
    let target = server(|mut stream| {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    });
    let edges: Vec<SocketAddr> =
        (0..4).map(|n| warden.edge(&format!("a{n}"), "web", target.port())).collect();
    let most = thread::scope(|scope| {
        let clients: Vec<_> = (0..COUNT)
            .map(|n| {
                let edge = edges[n % edges.len()];
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || {
                        let client = connect(edge);
                        let mut writer = client.try_clone().unwrap();
                        let sending = thread::Builder::new().stack_size(128 << 10).spawn(move || {
                            for _ in 0..BYTES / 8192 {
                                writer.write_all(&[n as u8; 8192]).unwrap();
                            }
                            writer.shutdown(std::net::Shutdown::Write).unwrap();
                        });
                        let mut reader = client;
                        let mut count = 0;
                        let mut buffer = vec![0; 8192];
                        while let length @ 1.. = reader.read(&mut buffer).unwrap() {
                            assert!(buffer[..length].iter().all(|byte| *byte == n as u8));
                            count += length;
                        }
                        sending.unwrap().join().unwrap();
                        assert_eq!(count, BYTES);
                    })
                    .unwrap()
            })
            .collect();
        let mut most = 0;
        while !clients.iter().all(|client| client.is_finished()) {
            most = most.max(memory_kib(&warden));
            thread::sleep(Duration::from_millis(20));
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        most
    });
    println!("{COUNT} busy connections cost the gateway at most {most} KiB of its own memory");
    assert!(most < 96 << 10, "{most} KiB");
}
