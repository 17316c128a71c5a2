//! The program: a server that reads orders, and a child of it for each part that is played.
//!
//! Each part is a process of its own: what one changes of itself does not help or harm the next, and where it takes all
//! memory, it is killed and not the server.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};

use crate::attack::{Args, Attack, Kind, Need, Slot, Why, now};
use crate::attacks::by_name;
use crate::channel::bits;
use crate::wire::{self, Role};

/// Variable that has the victim's secret.
pub const SECRET_VARIABLE: &str = "PROBE_SECRET";
/// Variable that has the most processes of the user, for a plain process.
pub(crate) const PROCESSES_VARIABLE: &str = "PROBE_PROCESSES_MAX";
/// Time that a victim of exhaustion works for one answer.
const BEATS_TIME: Duration = Duration::from_millis(400);
/// Time that a part has to end by itself, and between two looks whether it did.
const END_WAIT_MAX: Duration = Duration::from_millis(400);
const END_POLL: Duration = Duration::from_millis(1);

/// The program's life.
#[must_use]
pub fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let played = match (words.next(), words.next()) {
        (None, _) => serve(),
        (Some(role), Some(name)) => {
            let args: Vec<String> = words.collect();
            let parts = Role::from_name(&role).zip(by_name(&name));
            match parts.zip(wire::args(args.iter().map(String::as_str))) {
                Some(((role, attack), args)) => play(role, attack, &args),
                None => Err(Why::of("no such part")),
            }
        }
        _ => Err(Why::of("give no argument: orders come in as lines")),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(Why(why)) => {
            say(&["cannot", &why]);
            ExitCode::FAILURE
        }
    }
}

/// One line.
fn say(words: &[&str]) {
    let line: Vec<String> = words.iter().map(|text| text.replace(['\t', '\n', '\r'], " ")).collect();
    // One write: lines of server and child do not mix.
    let _ = std::io::stdout().write_all(format!("{}\n", line.join("\t")).as_bytes());
    let _ = std::io::stdout().flush();
}

/// What runs, and who waits for its end.
struct Playing {
    pid: Option<Pid>,
    input: Option<ChildStdin>,
    waiting: Option<JoinHandle<()>>,
}

impl Playing {
    /// Lets it take back what it made, and ends it where it does not end.
    fn end(mut self) {
        drop(self.input.take());
        let begun = Instant::now();
        let runs = |waiting: &JoinHandle<()>| !waiting.is_finished();
        while self.waiting.as_ref().is_some_and(runs) && begun.elapsed() < END_WAIT_MAX {
            std::thread::sleep(END_POLL);
        }
        if let Some(pid) = self.pid.filter(|_| self.waiting.as_ref().is_some_and(runs)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
    }
}

fn serve() -> Result<(), Why> {
    if let Some(most) = std::env::var(PROCESSES_VARIABLE).ok().and_then(|text| text.parse().ok()) {
        setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    say(&["up"]);
    let mut playing: Option<Playing> = None;
    let mut lines = std::io::stdin().lock();
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            playing.into_iter().for_each(Playing::end);
            return Ok(());
        }
        let mut words = line.trim_end_matches('\n').split('\t');
        match words.next() {
            Some("file") => say(&["file", &file_of_the_root().unwrap_or_default().to_string_lossy()]),
            Some("run") => {
                playing.take().into_iter().for_each(Playing::end);
                match begin(words.map(str::to_owned).collect()) {
                    Ok(begun) => playing = Some(begun),
                    Err(Why(why)) => say(&["cannot", &why]),
                }
            }
            Some("say") => {
                if let Some(input) = playing.as_mut().and_then(|playing| playing.input.as_mut()) {
                    let said: Vec<&str> = words.collect();
                    let _ = input.write_all(format!("{}\n", said.join("\t")).as_bytes());
                }
            }
            Some("end") => {
                playing.take().into_iter().for_each(Playing::end);
                say(&["ended"]);
            }
            _ => return Err(Why::of("an order that is not known")),
        }
    }
}

fn begin(words: Vec<String>) -> Result<Playing, Why> {
    let mark = words.iter().find_map(|word| word.strip_prefix("mark=")).unwrap_or_default();
    let secret = Args { mark: mark.to_owned(), ..Args::default() }.own_secret();
    let is_victim = words.first().is_some_and(|role| role == Role::Victim.name());
    let mut command = Command::new("/proc/self/exe");
    command.args(&words).stdin(Stdio::piped()).env_clear();
    if is_victim {
        command.env(SECRET_VARIABLE, secret);
    }
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let waiting = std::thread::Builder::new().spawn(move || {
        let _ = child.wait();
        say(&["gone"]);
    })?;
    Ok(Playing { pid, input, waiting: Some(waiting) })
}

fn play(role: Role, attack: &Attack, args: &Args) -> Result<(), Why> {
    match (attack.kind, role) {
        (Kind::Reach { offer, .. }, Role::Victim) => {
            let offer = offer(args)?;
            say(&["ready", &offer.told]);
            until_the_end();
            drop(offer);
        }
        (Kind::Reach { take, .. } | Kind::Surface { take, .. }, Role::Attacker) => tell(take(args)),
        (Kind::OneShot { bits: count, send, .. }, Role::Victim | Role::Idle) => {
            let bits = if role == Role::Idle { vec![false; count] } else { bits(count, args.seed) };
            send(args, &bits)?;
            say(&["done"]);
        }
        (Kind::OneShot { bits: count, forget, receive, .. }, Role::Attacker) => {
            forget(args)?;
            say(&["ready", ""]);
            hear()?;
            let begun = Instant::now();
            let samples = receive(args, count)?;
            tell_samples(begun.elapsed(), &samples);
        }
        (Kind::Slots { slot, bits: count, sender, .. }, Role::Victim | Role::Idle) => {
            let mut act = sender(args)?;
            say(&["ready", ""]);
            let begin = begin_time()?;
            for (number, bit) in bits(count, args.seed).into_iter().enumerate() {
                act(bit && role == Role::Victim, Slot::of(begin, slot, number))?;
            }
        }
        (Kind::Slots { slot, bits: count, receiver, .. }, Role::Attacker) => {
            let mut look = receiver(args)?;
            say(&["ready", ""]);
            let begin = begin_time()?;
            let samples: Result<Vec<f64>, Why> =
                (0..count).map(|number| look(Slot::of(begin, slot, number))).collect();
            tell_samples(now().saturating_sub(begin), &samples?);
        }
        (Kind::Exhaust { need, .. }, Role::Victim | Role::Idle) => {
            let mut need = need(args)?;
            say(&["ready", ""]);
            while hear().is_ok() {
                beat(&mut need);
            }
        }
        (Kind::Exhaust { take, .. }, Role::Attacker) => {
            let held = take(args)?;
            say(&["held", &held.told]);
            until_the_end();
            drop(held);
        }
        (Kind::Reach { .. } | Kind::Surface { .. }, Role::Idle) | (Kind::Surface { .. }, Role::Victim) => {
            return Err(Why::of("nobody plays this part"));
        }
    }
    Ok(())
}

/// Needs a little, again and again, and says how long that takes.
fn beat(need: &mut Need) {
    let begun = Instant::now();
    let (mut took, mut failed, mut why) = (Vec::new(), 0_u32, String::new());
    while begun.elapsed() < BEATS_TIME {
        let one = Instant::now();
        if let Err(Why(error)) = need() {
            failed = failed.saturating_add(1);
            why = error;
        }
        took.push(one.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort_unstable();
    let median = took.get(took.len() / 2).map_or(0, Duration::as_micros);
    say(&["beats", &failed.to_string(), &took.len().to_string(), &median.to_string(), &why]);
}

fn tell(outcome: Result<String, Why>) {
    match outcome {
        Ok(what) => say(&["got", &wire::word(&what)]),
        Err(Why(why)) => say(&["nothing", &wire::word(&why)]),
    }
}

fn tell_samples(took: Duration, samples: &[f64]) {
    let samples: Vec<String> = samples.iter().map(|sample| format!("{sample:.2}")).collect();
    say(&["samples", &took.as_micros().to_string(), &samples.join(",")]);
}

/// The next line of the driver.
fn hear() -> Result<String, Why> {
    let mut line = String::new();
    match std::io::stdin().lock().read_line(&mut line)? {
        0 => Err(Why::of("the driver went away")),
        _ => Ok(line),
    }
}

fn until_the_end() {
    while hear().is_ok() {}
}

fn begin_time() -> Result<Duration, Why> {
    let nanoseconds = hear()?.trim().parse::<u64>()?;
    Ok(Duration::from_nanos(nanoseconds))
}

/// Folders that are no part of the root.
const NOT_THE_ROOT: [&str; 6] = ["/proc", "/sys", "/dev", "/run", "/tmp", "/etc"];
/// Sizes of a file that is worth watching, and most files that are looked at.
const FILE_BYTES: std::ops::Range<u64> = 8192..256 << 20;
const FILES_MAX: usize = 20_000;

/// The largest file of the root that anybody can read; of equals, the first by name.
fn file_of_the_root() -> Option<PathBuf> {
    let mut best: Option<(u64, PathBuf)> = None;
    let mut folders = vec![PathBuf::from("/")];
    let mut looked = 0_usize;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            looked = looked.saturating_add(1);
            let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() && !NOT_THE_ROOT.iter().any(|not| Path::new(not) == path) {
                folders.push(path);
            } else if metadata.is_file()
                && FILE_BYTES.contains(&metadata.len())
                && best.as_ref().is_none_or(|(bytes, _)| metadata.len() > *bytes)
                && std::fs::File::open(&path).is_ok()
            {
                best = Some((metadata.len(), path));
            }
        }
        if looked > FILES_MAX {
            break;
        }
    }
    best.map(|(_, path)| path)
}
