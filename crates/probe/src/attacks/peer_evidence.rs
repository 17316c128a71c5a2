//! Evidence in the peer's name.
//!
//! Mechanism: who reaches an agent's socket is that agent: the box makes evidence about whoever's socket a request comes in on, and
//! takes no name (`AgentRequest`). So the attacker asks on every socket in reach: its own with the peer's name forged into the request,
//! the peer's by path and through `/proc/PID/root`, each that `/proc/net/unix` lists, and the box's. Source: docs/architecture.md.
//! Stopped by: `private-root` (no socket of another in sight), `namespaces`, `user-namespace`. Positive control: the victim plays the box
//! behind a socket of its own in a folder, and answers whoever comes; the box itself has nobody behind the socket of a probe, so that no
//! evidence is ever made about one (decision 0019). Negative control: nobody answers. That the box refuses a forged name where
//! it does answer is tried by tests of `AgentRequest`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use crate::attack::{Args, Attack, Kind, Length, Offer, Through, Why};
use crate::attacks::{Removed, others, places};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "peer-evidence",
    title: "evidence in the peer's name",
    stopped_by: &["private-root", "namespaces", "user-namespace"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Reach { offer, take },
};

/// Where an agent has its socket (`protocol::agent_api::AGENT_SOCKET_PATH`).
const AGENT_SOCKET: &str = "/run/casemate/agent.sock";
/// Time for an answer, longest one, and most sockets that are asked.
const ANSWER_BOUND: Duration = Duration::from_millis(150);
const ANSWER_BYTES_MAX: u64 = 64 << 10;
const SOCKETS_MAX: usize = 200;

/// The victim's side plays the box: evidence about the victim to whoever asks here.
fn offer(args: &Args) -> Result<Offer, Why> {
    let folder = places::writable().next().ok_or_else(|| Why::of("no folder to write to"))?;
    let path = format!("{folder}/{}-agent.sock", args.mark);
    let listener = UnixListener::bind(&path)?;
    let answer = format!("{{\"ok\":\"evidence about {}\"}}\n", args.own_secret());
    // Ends with the process.
    std::thread::Builder::new().spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let asked = stream.try_clone().map(|clone| BufReader::new(clone).lines().next());
            if matches!(asked, Ok(Some(Ok(_)))) {
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    })?;
    Ok(Offer { told: path.clone(), kept: Box::new(Removed(path)) })
}

fn take(args: &Args) -> Result<String, Why> {
    let paths: Vec<&str> = [args.told.as_str(), AGENT_SOCKET, args.box_socket.as_str()]
        .into_iter()
        .filter(|p| !p.is_empty())
        .collect();
    let mut connections: Vec<(String, UnixStream)> = Vec::new();
    let roots = others().unwrap_or_default().into_iter().map(|pid| format!("/proc/{pid}/root"));
    for root in std::iter::once(String::new()).chain(roots) {
        let named = paths.iter().map(|path| format!("{root}{path}"));
        connections.extend(named.filter_map(|path| Some((path.clone(), UnixStream::connect(path).ok()?))));
    }
    connections.extend(listed().into_iter().filter_map(|name| Some((name.clone(), connect(&name).ok()?))));
    let count = connections.len();
    let victim = args.own_secret();
    let plain = r#"{"method":"evidence","nonce":"0123456789abcdef"}"#;
    let forged = format!(r#"{{"method":"evidence","nonce":"0123456789abcdef","agent":"{}"}}"#, args.mark);
    for (name, stream) in connections {
        // A socket answers one line after another, or one alone.
        for request in [forged.as_str(), plain] {
            let answer = ask(&stream, request).unwrap_or_default();
            if answer.contains(&victim) || (request != plain && answer.starts_with("{\"ok\"")) {
                return Ok(format!("evidence about the victim from {name}"));
            }
        }
    }
    Err(Why::of(format!("no evidence about the victim from {count} sockets that take a connection")))
}

fn ask(mut stream: &UnixStream, request: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_BOUND))?;
    stream.set_write_timeout(Some(ANSWER_BOUND))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut answer)?;
    Ok(answer)
}

/// Names of Unix sockets that listen, as the kernel lists them: abstract ones begin with `@`.
fn listed() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    // `SO_ACCEPTCON` (linux/net.h) among the flags.
    let listens = |words: &[&str]| words.get(3).is_some_and(|flags| *flags == "00010000");
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names =
        lines.filter(|words| listens(words)).filter_map(|words| words.get(7).map(|name| (*name).to_owned()));
    names.take(SOCKETS_MAX).collect()
}

fn connect(name: &str) -> std::io::Result<UnixStream> {
    match name.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(name),
    }
}
