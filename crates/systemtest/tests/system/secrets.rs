//! Secrets: only by policy, only to their agent, and on no disk.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::census::entries;
use crate::project::{COMMAND_BOUND, Project, agent};

/// Most bytes searched at once.
const CHUNK_BYTES: usize = 1 << 20;

fn holder() -> String {
    agent("holder", &["secret api_token", "wait"], "secrets: [api_token]")
}

#[test]
fn a_secret_that_the_policy_does_not_grant_is_refused() {
    let project = Project::ready("ungranted", &holder(), &[("api_token", "x")]);
    project.edit("policy.toml", |text| {
        text.replace("secrets = [\"ungranted/secret/api_token\"]", "secrets = []")
    });
    let (_, found) = project.try_up(&[]).assert_refused("agent.secrets");
    assert!(found.contains("api_token"), "{found}");
    assert!(
        !fs::read_to_string(project.project_dir().join("logs/holder.log"))
            .is_ok_and(|l| l.contains("secret"))
    );
    project.assert_nothing_left();
    project.write_policy(&[]);
    project.up();
    project.down();
}

#[test]
fn a_secret_that_the_broker_does_not_hold_is_named() {
    let project = Project::new("missing", &holder(), &["api_token"]);
    project.write_policy(&[]);
    let output = project.try_up(&[]);
    let (expected, _) = output.assert_refused("secret.stored");
    assert_eq!(expected, "a secret under missing/secret/api_token");
    assert!(output.stderr.contains("casemate secret put"), "{}", output.stderr);
    project.assert_nothing_left();
    project.put_secret("api_token", "x");
    project.up();
    project.run(&["secret", "rm", "api_token"]).assert_ok();
    assert!(!project.run(&["secret", "ls"]).stdout.contains("api_token"));
    project.down();
}

/// What of a process's memory holds `needle`, by what is mapped there; and whether any of it is out of the kernel's map.
fn mappings_with(pid: u32, needle: &[u8]) -> (Vec<String>, bool) {
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (number(start), number(end));
        while at < end {
            let size = usize::try_from((end - at).min(CHUNK_BYTES as u64)).unwrap();
            let mut piece = vec![0; size];
            // What cannot be read by way of the kernel: secret memory, and what no page is behind.
            let read = memory.read_at(&mut piece, at).unwrap_or(0);
            if contains(&piece[..read], needle) {
                found.push(line.to_owned());
                break;
            }
            at += (size as u64).saturating_sub(needle.len() as u64).max(1);
            if size < CHUNK_BYTES {
                break;
            }
        }
    }
    (found, maps.contains("/secretmem"))
}

#[test]
fn a_secret_is_in_no_memory_of_the_warden_that_the_kernel_maps_once_it_is_delivered_and_asked_for() {
    let number = std::process::id();
    let (marker, told) = (format!("marker-94aa01d3-{number}"), format!("told-5be07c11-{number}"));
    // What it is answered is not printed: the warden copies what agents print.
    let asks = format!("answer {}", r#"{"method":"secret","name":"api_token"}"#);
    let more = format!("secrets: [api_token]\nenvironment: {{ TOLD: {told} }}");
    let holder = agent("holder", &["secret api_token", asks.as_str(), "wait"], &more);
    let project = Project::ready("memory", &holder, &[("api_token", marker.as_str())]);
    project.up();
    let answer =
        format!("answered {} bytes", r#"{"ok":{"name":"api_token","value":""}}"#.len() + marker.len());
    project.logs_with("holder", &answer);
    let warden = project.pid_of("casemate-warden");
    let (found, secret) = mappings_with(warden, marker.as_bytes());
    // What stands in the lock is in the warden's ordinary memory: the search finds what is there.
    assert!(!mappings_with(warden, told.as_bytes()).0.is_empty());
    assert_eq!(found, Vec::<String>::new());
    if !secret {
        eprintln!("not run: secrets in memory that no kernel maps: this kernel has no memfd_secret");
    }
    project.down();
}

#[test]
fn a_secret_is_in_its_agent_and_in_no_file_command_line_environment_or_log() {
    // Two halves: the marker as a whole is not in this program's file either.
    let marker = format!("marker-{}-{}", "7d1f0c5e", std::process::id());
    let bystander = agent("bystander", &["say here", "wait"], "");
    let project =
        Project::ready("marker", &format!("{}{bystander}", holder()), &[("api_token", marker.as_str())]);
    project.up();
    let reversed: String = marker.chars().rev().collect();
    project.logs_with("holder", &reversed);
    project.attest("holder", "nonce-one", "e.json").assert_ok();

    let search = |when: &str| {
        let found = files_with(project.dir.path(), marker.as_bytes());
        assert_eq!(found, Vec::<PathBuf>::new(), "{when}");
        for pid in project.processes() {
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                assert!(!contains(&bytes, marker.as_bytes()), "{when}: {file} of {pid}");
            }
        }
    };
    search("while it runs");
    // The search finds what is there: the reversed marker is in the agent's log.
    assert_eq!(files_with(&project.project_dir(), reversed.as_bytes()).len(), 1);
    // The other agent's root holds no secret.
    let holds = |agent: &str| {
        let pid = project.ps()["agents"][agent]["pid"].as_u64().unwrap();
        entries(Path::new(&format!("/proc/{pid}/root/run/secrets"))).len()
    };
    assert_eq!((holds("holder"), holds("bystander")), (1, 0));

    project.kill("casemate-warden");
    project.assert_nothing_left();
    search("after the warden was killed");
    project.up();
    project.down();
    search("after it ended");
    for shared in ["/dev/shm", "/var/lib/casemate", "/run/casemate"] {
        assert_eq!(files_with(Path::new(shared), marker.as_bytes()), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_secret_of_any_content_arrives_as_it_is_or_is_refused() {
    let steps = ["secret odd", "secret big", "secret empty", "wait"];
    let project = Project::new(
        "content",
        &agent("one", &steps, "secrets: [odd, big, empty]"),
        &["odd", "big", "empty"],
    );
    project.write_policy(&[]);
    let odd = "line one\nzero \0 and \u{1F512} and no end";
    project.put_secret("odd", odd);
    let big = "0123456789abcdef".repeat(4096);
    project.put_secret("big", &big);
    let empty = project.run_with(&["secret", "put", "empty"], COMMAND_BOUND, Some(""));
    if !empty.status.success() {
        assert_eq!(empty.status.code(), Some(2), "{}", empty.stderr);
        project.put_secret("empty", "e");
    }
    let too_big = "x".repeat((8 << 20) + 1);
    let refused = project.run_with(&["secret", "put", "big"], COMMAND_BOUND, Some(&too_big));
    refused.assert_fails(2, "bytes", "");
    project.run(&["secret", "rm", "nothing"]).assert_fails(2, "no secret is stored", "secret ls");
    project.run(&["secret", "put", "../odd"]).assert_fails(2, "../odd", "");
    project.up();
    let log = project.project_dir().join("logs/one.log");
    project.logs_with("one", "secret empty");
    // Each line of the file stands behind the time of its arrival.
    let logs: Vec<String> = fs::read_to_string(log)
        .unwrap()
        .split('\n')
        .map(|line| line.split_once(' ').map_or_else(String::new, |(_, text)| text.to_owned()))
        .collect();
    let logs = logs.join("\n");
    for content in [odd, big.as_str()] {
        assert!(logs.contains(&content.chars().rev().collect::<String>()));
    }
    project.down();
}

#[test]
fn no_process_but_broker_warden_and_agent_ever_has_the_secret_in_its_memory() {
    let marker = format!("memory-{}-{}", "19c2aa70", std::process::id());
    let project = Project::ready("memory", &holder(), &[("api_token", marker.as_str())]);
    project.up();
    for program in ["casemate-courier", "casemate-gateway", "casemate-emulator", "box-supervisor"] {
        let pid = project.pid_of(program);
        assert!(!memory_contains(pid, marker.as_bytes()), "{program} has the secret in its memory");
    }
    // The search works: it finds the marker where it must be, in the agent's own pages of /run/secrets or its heap.
    let pid = project.pid_of("casemate-gateway");
    assert!(memory_contains(pid, b"casemate-gateway"), "the search finds nothing at all");
    project.down();
}

fn memory_contains(pid: u32, wanted: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|p| p.starts_with('r'))).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (mut at, end) = (number(from), number(to));
        let mut chunk = vec![0; CHUNK_BYTES];
        while at < end {
            let Ok(read) = memory.read_at(&mut chunk, at) else { return false };
            if read == 0 {
                return false;
            }
            if contains(&chunk[..read], wanted) {
                return true;
            }
            // Chunks overlap, so that nothing hides at a border.
            at += if read == chunk.len() { (read - wanted.len()) as u64 } else { read as u64 };
        }
        false
    })
}

fn files_with(dir: &Path, wanted: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(dir) {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            found.extend(files_with(&path, wanted));
        } else if metadata.is_file() && fs::read(&path).is_ok_and(|bytes| contains(&bytes, wanted)) {
            found.push(path);
        }
    }
    found
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == first) {
        if bytes[from + at..].starts_with(wanted) {
            return true;
        }
        from += at + 1;
    }
    false
}
