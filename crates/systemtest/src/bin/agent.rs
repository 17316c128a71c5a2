//! The agent of the system tests: does the steps that its arguments are, one after the other, and says what happened.
//!
//! What it is: an ordinary program inside a compartment. What it is not: part of the project. Who trusts it: nobody;
//! the tests compare what it says with what they see from outside.
//!
//! Steps: `say TEXT`; `secret NAME` (mode, owner and content from its end to its beginning, so that the log does not
//! hold the content itself); `serve PORT TEXT` (`@` for the host name); `call HOST:PORT`; `watch HOST:PORT...`
//! (calls each again and again, and says what changes); `ask JSON` (over the agent socket); `answer JSON` (likewise, and says how
//! long the answer is); `reach PORT`
//! (exits 1 where nothing listens: a health check); `crash-until INSTANCE CODE`; `exit CODE`; `sleep MS`;
//! `write PATH TEXT`; `read PATH`; `direct PATH MIB` (writes and reads past the page cache, and says how long it
//! took); `eat MIB` (of memory); `spawn COUNT` (processes that wait); `orphans
//! COUNT` (processes whose parent, which `leave`s, ended); `flood LINES`; `hold
//! COUNT` (connections to the agent socket); `hear SIGNAL` (of TERM, USR1, WINCH: says so each time, and lives on);
//! `tick MS` (says a number each time, and goes on); `traffic HOST:PORT=ANSWER...` (calls all of them, for ever, and
//! tells of each other answer than that); `exhaust WHAT` (all that there is of it); `bomb` (processes without end);
//! `flood-on` (lines without end); `spin`; `beat HOST:PORT` (a little of everything, again and again); `pulse SECONDS
//! HOST:PORT` (work, and how long it took); `cores` (where it may run); `wait` (for ever); `input` (says each line that
//! it reads); `terminal` (what its input is); `status FIELD` (of `/proc/self/status`); `variable NAME`; `folder`; `until
//! PATH CODE` (waits for the file, then exits); `serve-socket PATH` (a Unix socket: tells what came), `call-socket PATH
//! [TEXT]`, `call-socket-with PATH KILOBYTES`, `watch-socket PATH`, `send-descriptor PATH`; `tamper PATH` (tries to put
//! something else there); `link TO PATH`.

#[path = "agent/exhaust.rs"]
mod exhaust;
#[path = "agent/pulse.rs"]
mod pulse;
#[path = "agent/sockets.rs"]
mod sockets;

use std::error::Error;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// Where the box answers this agent.
const AGENT_SOCKET: &str = "/run/casemate/agent.sock";
/// Time for one connection, read or write.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// Rounds of calls between two lines that tell of them.
const TRAFFIC_TOLD_EACH: u64 = 20;
/// Largest answer in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

type Step = Result<Option<u8>, Box<dyn Error>>;

fn main() -> ExitCode {
    for step in std::env::args().skip(1) {
        match run(&step) {
            Ok(None) => {}
            Ok(Some(code)) => return ExitCode::from(code),
            Err(error) => {
                say(&format!("failed: {step}: {error}"));
                return ExitCode::from(70);
            }
        }
    }
    ExitCode::SUCCESS
}

fn run(step: &str) -> Step {
    let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
    match verb {
        "say" => say(rest),
        "secret" => say(&secret(rest)?),
        "serve" => serve(rest)?,
        "call" => say(&call(rest)),
        "watch" => watch(rest),
        "serve-socket" => {
            sockets::serve(rest)?;
            say(&format!("serving at {rest}"));
        }
        "call-socket" => {
            let (path, text) = rest.split_once(' ').unwrap_or((rest, "ping"));
            say(&sockets::call(path, text));
        }
        "call-socket-with" => {
            let (path, kilobytes) = rest.split_once(' ').ok_or("no number")?;
            say(&sockets::call_with(path, kilobytes.parse()?));
        }
        "watch-socket" => watch_socket(rest),
        "send-descriptor" => say(&sockets::call_with_descriptor(rest)),
        "tamper" => say(&sockets::tamper(rest)),
        "link" => {
            let (to, path) = rest.split_once(' ').ok_or("no path")?;
            std::os::unix::fs::symlink(to, path)?;
        }
        "datagrams" => say(&datagrams()),
        "ask" => say(&format!("box says {}", ask(rest)?)),
        "answer" => say(&format!("answered {} bytes", ask(rest)?.len())),
        "reach" => return Ok(TcpStream::connect(("127.0.0.1", rest.parse::<u16>()?)).is_err().then_some(1)),
        "crash-until" => return crash_until(rest),
        "exit" => return Ok(Some(rest.parse()?)),
        "sleep" => std::thread::sleep(Duration::from_millis(rest.parse()?)),
        "write" => {
            let (path, text) = rest.split_once(' ').ok_or("no text")?;
            std::fs::write(path, text)?;
        }
        "read" => match std::fs::read_to_string(rest) {
            Ok(text) => say(&format!("{rest} has {text}")),
            Err(error) => say(&format!("{rest} fails {:?}", error.kind())),
        },
        "direct" => say(&direct(rest)?),
        "eat" => say(&format!("ate {} bytes", vec![1_u8; rest.parse::<usize>()? << 20].len())),
        "spawn" => spawn(rest.parse()?)?,
        "leave" => drop(std::process::Command::new(std::env::current_exe()?).arg("sleep 50").spawn()?),
        "with" => drop(std::process::Command::new(std::env::current_exe()?).args([rest, "wait"]).spawn()?),
        "orphans" => orphans(rest.parse()?)?,
        "flood" => (0..rest.parse::<u64>()?).for_each(|line| say(&format!("{line:0100}"))),
        "hold" => {
            let all: Vec<_> = (0..rest.parse::<u32>()?).map(|_| UnixStream::connect(AGENT_SOCKET)).collect();
            say(&format!("holds {}", all.iter().flatten().count()));
            // Kept until the program ends.
            std::mem::forget(all);
        }
        "traffic" => traffic(rest)?,
        "exhaust" => say(&exhaust::all(rest)?),
        "bomb" => exhaust::bomb(say)?,
        "flood-on" => loop {
            say(&"flood ".repeat(20));
        },
        "spin" => loop {
            std::hint::spin_loop();
        },
        "beat" => exhaust::beat(rest, say)?,
        "pulse" => say(&pulse::run(rest)?),
        "cores" => {
            let status = std::fs::read_to_string("/proc/self/status")?;
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
            say(&line.ok_or("no list")?.replace(char::is_whitespace, " "));
        }
        "hear" => hear(rest)?,
        "tick" => {
            let pause = Duration::from_millis(rest.parse()?);
            std::thread::spawn(move || {
                for number in 0_u64.. {
                    say(&format!("tick {number}"));
                    std::thread::sleep(pause);
                }
            });
        }
        "input" => {
            for line in std::io::stdin().lines() {
                say(&format!("read {}", line?));
            }
            say("input ended");
        }
        "terminal" => say(&terminal()),
        "status" => {
            let status = std::fs::read_to_string("/proc/self/status")?;
            let line = status.lines().find(|line| line.split(':').next() == Some(rest)).ok_or("no field")?;
            say(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        "variable" => say(&format!("{rest}={}", std::env::var(rest).unwrap_or_default())),
        "folder" => say(&format!("in {}", std::env::current_dir()?.display())),
        "until" => {
            let (path, code) = rest.split_once(' ').ok_or("no code")?;
            while !std::path::Path::new(path).exists() {
                std::thread::sleep(Duration::from_millis(20));
            }
            return Ok(Some(code.parse()?));
        }
        "wait" => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        _ => return Err("no such step".into()),
    }
    Ok(None)
}

/// What standard input is: a terminal with its size and whether it is this process's own, or none.
fn terminal() -> String {
    match rustix::termios::tcgetwinsize(std::io::stdin()) {
        Ok(size) => {
            let own = std::fs::File::options().read(true).write(true).open("/dev/tty").map(drop);
            format!("terminal of {} rows and {} columns, own {own:?}", size.ws_row, size.ws_col)
        }
        Err(_) => "no terminal".into(),
    }
}

fn say(text: &str) {
    // A closed log is no concern of the agent.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes this many MiB to a file past the page cache, reads them so, and says how many milliseconds each took.
fn direct(rest: &str) -> Result<String, Box<dyn Error>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    const PIECE: usize = 64 << 10;
    let (path, count) = rest.split_once(' ').ok_or("no size")?;
    let pieces = count.parse::<usize>()? << 4;
    let mut room = vec![7_u8; 2 * PIECE];
    // The kernel wants an address that is a multiple of the disk's blocks.
    let start = room.as_ptr().align_offset(PIECE);
    let piece = room.get_mut(start..start + PIECE).ok_or("no room")?;
    let flags = i32::try_from(rustix::fs::OFlags::DIRECT.bits())?;
    let open = || std::fs::File::options().read(true).write(true).create(true).custom_flags(flags).open(path);
    let begun = std::time::Instant::now();
    let mut file = open()?;
    for _ in 0..pieces {
        file.write_all(piece)?;
    }
    let wrote = begun.elapsed().as_millis();
    let begun = std::time::Instant::now();
    let mut file = open()?;
    for _ in 0..pieces {
        file.read_exact(piece)?;
    }
    Ok(format!("wrote in {wrote} ms, read in {} ms", begun.elapsed().as_millis()))
}

/// Takes a signal from now on.
fn hear(name: &str) -> Result<(), Box<dyn Error>> {
    use tokio::signal::unix::{SignalKind, signal};
    let kind = match name {
        "INT" => SignalKind::interrupt(),
        "TERM" => SignalKind::terminate(),
        "USR1" => SignalKind::user_defined1(),
        "WINCH" => SignalKind::window_change(),
        _ => return Err("no such signal".into()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut heard = {
        let _inside = runtime.enter();
        signal(kind)?
    };
    let name = name.to_owned();
    say(&format!("hears {name}"));
    std::thread::spawn(move || {
        runtime.block_on(async {
            while heard.recv().await.is_some() {
                say(&format!("heard {name}"));
            }
        });
    });
    Ok(())
}

/// Has processes started by one that ends at once, one after the other. They end soon after it.
fn orphans(count: u32) -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    for _ in 0..count {
        std::process::Command::new(&own).arg("leave").status()?;
    }
    say(&format!("left {count}"));
    Ok(())
}

/// Starts processes until one cannot be started.
fn spawn(count: u32) -> Result<(), Box<dyn Error>> {
    let own = std::env::current_exe()?;
    for started in 0..count {
        if let Err(error) = std::process::Command::new(&own).arg("wait").spawn() {
            say(&format!("spawned {started}, then {error}"));
            return Ok(());
        }
    }
    say(&format!("spawned all {count}"));
    Ok(())
}

fn secret(name: &str) -> Result<String, Box<dyn Error>> {
    let path = format!("/run/secrets/{name}");
    let metadata = std::fs::metadata(&path)?;
    let content: String = std::fs::read_to_string(&path)?.chars().rev().collect();
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    Ok(format!("secret {name} mode {mode:04o} owner {uid}:{gid} reversed {content}"))
}

fn serve(rest: &str) -> Result<(), Box<dyn Error>> {
    let (port, text) = rest.split_once(' ').ok_or("no text")?;
    let listener = TcpListener::bind(("0.0.0.0", port.parse::<u16>()?))?;
    let text = match text {
        "@" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        text => text.to_owned(),
    };
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A caller that goes away is no concern.
            let _ = writeln!(stream, "{text}");
        }
    });
    say(&format!("serving on {port}"));
    Ok(())
}

fn call(endpoint: &str) -> String {
    let answer = || -> Result<String, std::io::Error> {
        let address = endpoint.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        let mut text = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    match answer() {
        Ok(text) => format!("call {endpoint} answered {text}"),
        Err(error) => format!("call {endpoint} failed {:?}: {error}", error.kind()),
    }
}

/// Calls each endpoint again and again, and says each answer that is another one than before.
fn watch(endpoints: &str) -> ! {
    let mut last = std::collections::BTreeMap::new();
    loop {
        for endpoint in endpoints.split(' ') {
            let answer = call(endpoint);
            if last.insert(endpoint, answer.clone()).as_ref() != Some(&answer) {
                say(&answer);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// As [`watch`], of one socket.
fn watch_socket(path: &str) -> ! {
    let mut last = String::new();
    loop {
        let answer = sockets::call(path, "ping");
        if answer != last {
            say(&answer);
            last = answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether anything but TCP leads out: a datagram to an address of the outside, and a raw socket.
fn datagrams() -> String {
    let out = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", "192.0.2.1:53"));
    let raw = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::RAW,
        Some(rustix::net::ipproto::ICMP),
    );
    format!(
        "datagram {}, raw socket {}",
        out.map_or_else(|error| format!("fails {:?}", error.kind()), |_| "leaves".into()),
        raw.map_or_else(|errno| format!("fails {errno:?}"), |_| "made".into())
    )
}

/// Calls for ever. An answer of somebody else is told at once; that calls were answered, now and then.
fn traffic(rest: &str) -> Result<(), Box<dyn Error>> {
    let expected = |pair: &'static str| pair.split_once('=').ok_or("no answer");
    let rest: &'static str = rest.to_owned().leak();
    let all = rest.split_whitespace().map(expected).collect::<Result<Vec<_>, _>>()?;
    for round in 1_u64.. {
        for (endpoint, name) in &all {
            let answer = call(endpoint);
            let right = format!("call {endpoint} answered {name}");
            // Nobody there, or cut off: what faults do. Part of a name is no other name.
            let cut =
                answer.contains(" failed ") || right.starts_with(&answer) || answer.ends_with(" answered ");
            if answer != right && !cut {
                say(&format!("CROSSED {answer}, expected {name}"));
            }
        }
        if round % TRAFFIC_TOLD_EACH == 0 {
            say(&format!("called {round} times"));
        }
    }
    Ok(())
}

fn ask(line: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = UnixStream::connect(AGENT_SOCKET)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    writeln!(stream, "{line}")?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Exits with a code in every start before the given one, by what the box says which start this is.
fn crash_until(rest: &str) -> Step {
    let (instance, code) = rest.split_once(' ').ok_or("no code")?;
    let answer: serde_json::Value = serde_json::from_str(&ask(r#"{"method":"identity"}"#)?)?;
    let own = answer.get("ok").and_then(|ok| ok.get("instance")).and_then(serde_json::Value::as_u64);
    let own = own.ok_or("no instance in the answer")?;
    say(&format!("start {own}"));
    Ok((own < instance.parse()?).then_some(code.parse()?))
}
