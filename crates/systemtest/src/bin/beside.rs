//! Runs the peer probe in a compartment as another one beside it, but for chosen namespaces, which are the peer's, and chosen calls,
//! which say that they did something and do nothing: `systemtest-beside LAUNCHER SPECIFICATION OWN OTHER KINDS CALLS`.
//!
//! What it is: one compartment less one control. A process is put into the namespaces of the process OWN, but for KINDS (`pid,net`), which
//! are those of OTHER; the box's own launcher then runs the probe beside that process, by the specification of a command in OWN's
//! compartment: same filter, rules, limits, ids, capabilities. CALLS (`NUMBER[:ARGUMENT:VALUE]…,…`) answer 0 to the launcher and to all
//! that it starts. `-` stands for none. What it is not: shipped, or something that the product could do. Who trusts it: the system tests.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use casemate_sys::spawn::{Streams, join_at};
use casemate_sys::spec::Spec;
use nix::sched::CloneFlags;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Namespaces in the order in which they are entered: each needs what the next ones take away. The process namespace comes first, and
/// holds for children alone.
const KINDS: [(&str, CloneFlags); 8] = [
    ("pid", CloneFlags::CLONE_NEWPID),
    ("time", CloneFlags::from_bits_retain(0x80)),
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("user", CloneFlags::CLONE_NEWUSER),
];
/// As agents have it (`casemate_sys::proc_view`).
const PROC_OPTIONS: &core::ffi::CStr = c"hidepid=invisible,subset=pid";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["numbers", own, other, kinds] => numbers(own, other, kinds),
        ["stand", own, other, kinds] => stand(own, other, kinds),
        [launcher, specification, own, other, kinds, calls] => {
            run(Path::new(launcher), Path::new(specification), [own, other, kinds], calls)
        }
        _ => Err("LAUNCHER SPECIFICATION OWN OTHER KINDS CALLS".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("beside: {error}");
            ExitCode::from(99)
        }
    }
}

fn run(launcher: &Path, specification: &Path, place: [&str; 3], calls: &str) -> Outcome<ExitCode> {
    let spec = Spec::decode(&std::fs::read(specification)?)?;
    let mut child = again("numbers", place, Stdio::piped())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let pid = Pid::from_raw(line.trim().parse()?).ok_or("no process stands there")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let streams = Streams::All {
        stdin: std::io::stdin().as_fd().try_clone_to_owned()?,
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: File::options().write(true).open("/dev/null")?.into(),
    };
    answer(calls)?;
    let (mut joined, released) = join_at(launcher, &spec, pidfd.as_fd(), None, &streams)?;
    released.executed()?;
    drop(streams);
    // Who stands there has shown the way, and ends with its input.
    drop(child.stdin.take());
    let _ = child.wait();
    let code = joined.wait()?.code().unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn again(role: &str, [own, other, kinds]: [&str; 3], output: Stdio) -> Outcome<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.args([role, own, other, kinds]).stdin(Stdio::piped()).stdout(output);
    Ok(command.spawn()?)
}

/// The namespaces, each of one of both.
fn opened(own: &str, other: &str, kinds: &str) -> Outcome<Vec<(&'static str, CloneFlags, OwnedFd)>> {
    let theirs: Vec<&str> = kinds.split(',').filter(|kind| *kind != "-").collect();
    let known = |kind: &&str| KINDS.iter().any(|(name, _)| name == kind);
    if !theirs.iter().all(known) {
        return Err(format!("unknown namespaces among {kinds}").into());
    }
    let open = |(kind, flag): (&'static str, CloneFlags)| -> Outcome<_> {
        let pid = if theirs.contains(&kind) { other } else { own };
        Ok((kind, flag, File::open(format!("/proc/{pid}/ns/{kind}"))?.into()))
    };
    KINDS.into_iter().map(open).collect()
}

/// Enters the process namespace, has a child that stands there, and tells its number.
fn numbers(own: &str, other: &str, kinds: &str) -> Outcome<ExitCode> {
    let all = opened(own, other, kinds)?;
    for (_, flag, namespace) in all.into_iter().filter(|(kind, ..)| *kind == "pid") {
        nix::sched::setns(namespace, flag)?;
    }
    let mut child = again("stand", [own, other, kinds], Stdio::piped())?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    if line != "stands\n" {
        return Err("nobody stands there".into());
    }
    println!("{}", child.id());
    let _ = std::io::stdin().read(&mut [0]);
    drop(child.stdin.take());
    let _ = child.wait();
    Ok(ExitCode::SUCCESS)
}

/// Enters all others, and stands there until its input ends.
fn stand(own: &str, other: &str, kinds: &str) -> Outcome<ExitCode> {
    let foreign = |kind: &str| kinds.split(',').any(|name| name == kind);
    for (kind, flag, namespace) in opened(own, other, kinds)? {
        if kind == "pid" {
            continue;
        }
        nix::sched::setns(namespace, flag)?;
        if kind == "mnt" && foreign("pid") != foreign("mnt") {
            // What shows processes is mounted for one process namespace, and this is another.
            nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("proc", "/proc", "proc", flags, PROC_OPTIONS)?;
        }
    }
    println!("stands");
    let _ = std::io::stdin().read(&mut [0]);
    Ok(ExitCode::SUCCESS)
}

/// From here on, these calls answer 0.
fn answer(calls: &str) -> Outcome<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in calls.split(',').filter(|call| *call != "-") {
        let parts: Vec<&str> = call.split(':').collect();
        let number = parts.first().ok_or("no number")?.parse()?;
        let of_number = rules.entry(number).or_default();
        let mut conditions = Vec::new();
        for pair in parts.get(1..).unwrap_or_default().chunks_exact(2) {
            if let [argument, value] = pair {
                let (argument, value) = (argument.parse()?, value.parse()?);
                let length = SeccompCmpArgLen::Dword;
                conditions.push(SeccompCondition::new(argument, length, SeccompCmpOp::Eq, value)?);
            }
        }
        if !conditions.is_empty() {
            of_number.push(SeccompRule::new(conditions)?);
        }
    }
    if rules.is_empty() {
        return Ok(());
    }
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), TargetArch::x86_64)?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&filter)?)
}
