//! Keys that say how an agent runs: command, user, limits, health, restart, dependencies, end.

use std::collections::BTreeMap;

use crate::keys;
use crate::lock::{AgentName, Condition, Health, Restart, User};
use crate::problem::{At, Findings, Place, printable};
use crate::units::{self, SplitError};
use crate::yaml::{Node, Value};

use super::read::{self, parsed, scalar, text, texts, walk};

/// Most words of a command line.
const WORDS_MAX: usize = 1024;
/// Smallest memory limit: less does not start a process with its C library.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// Largest memory limit: 2^53 and more have no canonical form.
const MEMORY_BYTES_MAX: u64 = 1 << 52;
/// Most processes and threads of one agent.
const PIDS_MAX: u64 = 1 << 22;
/// Most open files of one process.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// Longest time between checks, or before SIGKILL.
const DURATION_MS_MAX: u64 = 24 * 3_600_000;

/// The limits as written; each remembers where.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenLimits {
    pub(crate) memory_bytes: Option<At<u64>>,
    pub(crate) pids: Option<At<u32>>,
    pub(crate) cpu_milli: Option<At<u32>>,
    pub(crate) open_files: Option<At<u32>>,
}

/// `command` and `entrypoint`: none means the image's own.
pub(crate) fn command(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<Vec<String>> {
    if node.is_null() {
        return None;
    }
    let words = match &node.value {
        Value::Scalar { .. } => split(node.place, &text(node, key, f)?, key, f)?,
        _ => texts(node, key, f).into_iter().map(|word| word.value).collect(),
    };
    if words.len() > WORDS_MAX {
        f.problem(node.place, format!("`{key}` has more than {WORDS_MAX} words"), "move them into a script");
        return None;
    }
    Some(words)
}

fn split(place: Place, text: &str, key: &str, f: &mut Findings<'_>) -> Option<Vec<String>> {
    match units::split_words(text) {
        Ok(words) => Some(words),
        Err(SplitError::Open) => {
            f.problem(
                place,
                format!("`{key}` has an open quote or ends with a backslash"),
                "close the quote",
            );
            None
        }
        Err(SplitError::Shell(c)) => {
            let what = format!("`{key}` has `{c}` outside quotes, and no shell runs it");
            f.problem(place, what, "quote it, or write [\"/bin/sh\", \"-c\", \"...\"]");
            None
        }
    }
}

/// `user`: numeric.
pub(crate) fn user(node: &Node, f: &mut Findings<'_>) -> Option<User> {
    let text = text(node, "user", f)?;
    let id =
        |text: &str| units::natural(text).and_then(|id| u32::try_from(id).ok()).filter(|id| *id < 65_536);
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (id(uid), id(gid)),
        None => {
            let uid = id(&text);
            if let Some(uid) = uid {
                let what = format!("`user` names no group; group {uid} is used");
                f.warning(node.place, what, format!("write \"{uid}:{uid}\""));
            }
            (uid, uid)
        }
    };
    let (Some(uid), Some(gid)) = (uid, gid) else {
        let what = format!("`user` is `{}`, not numbers below 65536", printable(&text));
        f.problem(node.place, what, "write \"1000:1000\": names depend on files in the image");
        return None;
    };
    Some(User { uid, gid })
}

/// `hostname`.
pub(crate) fn hostname(node: &Node, f: &mut Findings<'_>) -> Option<String> {
    let text = text(node, "hostname", f)?;
    let ok = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if !ok {
        let what = format!("`hostname` is `{}`", printable(&text));
        f.problem(node.place, what, "write 1 to 63 letters, digits and `-`");
    }
    ok.then_some(text)
}

/// `mem_limit` and `deploy.resources.limits.memory`.
pub(crate) fn memory(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u64>> {
    parsed(node, key, "a size of at least 4m, such as 512m", f, |text| {
        units::bytes(text).filter(|bytes| (MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(bytes))
    })
}

/// `pids_limit` and `deploy.resources.limits.pids`.
pub(crate) fn pids(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u32>> {
    parsed(node, key, "a number from 1 to 4194304: no agent is unlimited", f, |text| {
        units::natural(text).filter(|pids| (1..=PIDS_MAX).contains(pids))?.try_into().ok()
    })
}

/// `cpus` and `deploy.resources.limits.cpus`.
pub(crate) fn cpus(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u32>> {
    parsed(node, key, "a number of cores above 0 with at most 3 decimals, such as \"0.5\"", f, |text| {
        units::milli(text).filter(|milli| *milli > 0)
    })
}

/// Takes a limit that two keys may set; they must agree.
pub(crate) fn set_limit<T: PartialEq>(
    slot: &mut Option<At<T>>,
    read: Option<At<T>>,
    keys: &str,
    f: &mut Findings<'_>,
) {
    let Some(new) = read else { return };
    match slot {
        Some(old) if old.value != new.value => {
            f.problem(new.place, format!("{keys} say different things"), "keep one of the two");
        }
        _ => *slot = Some(new),
    }
}

/// `deploy`: its resource limits.
pub(crate) fn deploy(node: &Node, limits: &mut WrittenLimits, f: &mut Findings<'_>) {
    walk(&keys::DEPLOY, node, f, |f, _, resources| {
        walk(&keys::RESOURCES, &resources.node, f, |f, _, written| {
            walk(&keys::RESOURCE_LIMITS, &written.node, f, |f, key, member| {
                let node = &member.node;
                match key {
                    "memory" => {
                        let read = memory(node, "memory", f);
                        set_limit(&mut limits.memory_bytes, read, "`mem_limit` and `deploy`", f);
                    }
                    "pids" => {
                        let read = pids(node, "pids", f);
                        set_limit(&mut limits.pids, read, "`pids_limit` and `deploy`", f);
                    }
                    _ => {
                        let read = cpus(node, "cpus", f);
                        set_limit(&mut limits.cpu_milli, read, "`cpus` and `deploy`", f);
                    }
                }
            });
        });
    });
}

/// `ulimits`: open files.
pub(crate) fn ulimits(node: &Node, limits: &mut WrittenLimits, f: &mut Findings<'_>) {
    let read = |node: &Node, f: &mut Findings<'_>| {
        parsed(node, "nofile", "a number from 16 to 1048576", f, |text| {
            let files = units::natural(text).filter(|files| (16..=OPEN_FILES_MAX).contains(files))?;
            u32::try_from(files).ok()
        })
    };
    walk(&keys::ULIMITS, node, f, |f, _, member| {
        let node = &member.node;
        let Value::Map(_) = node.value else {
            limits.open_files = read(node, f);
            return;
        };
        let (mut soft, mut hard) = (None, None);
        walk(&keys::ULIMIT, node, f, |f, key, member| match key {
            "soft" => soft = read(&member.node, f),
            _ => hard = read(&member.node, f),
        });
        match (soft, hard) {
            (Some(soft), Some(hard)) if soft.value == hard.value => limits.open_files = Some(hard),
            (Some(_), Some(_)) => {
                f.problem(node.place, "`soft` and `hard` of `nofile` differ", "write one number for both");
            }
            _ => f.problem(node.place, "`nofile` needs both `soft` and `hard`", "write `nofile: 1024`"),
        }
    });
}

/// A duration from 1 ms (or `min_ms`) to a day.
fn duration(node: &Node, key: &str, min_ms: u64, f: &mut Findings<'_>) -> Option<u64> {
    parsed(node, key, "a duration up to 24h, such as 1m30s or 500ms", f, |text| {
        let text = if text == "0" { "0s" } else { text };
        units::duration_ms(text).filter(|ms| (min_ms..=DURATION_MS_MAX).contains(ms))
    })
    .map(|at| at.value)
}

/// `healthcheck`.
pub(crate) fn health(node: &Node, f: &mut Findings<'_>) -> Option<Health> {
    let mut command = None;
    let mut disabled = false;
    let (mut interval_ms, mut timeout_ms, mut start_period_ms, mut retries) = (30_000, 30_000, 0, 3);
    walk(&keys::HEALTHCHECK, node, f, |f, key, member| {
        let node = &member.node;
        match key {
            "test" => command = health_test(node, f),
            "disable" => disabled = read::truth(node, key, f).unwrap_or_default(),
            "interval" => interval_ms = duration(node, key, 1, f).unwrap_or(interval_ms),
            "timeout" => timeout_ms = duration(node, key, 1, f).unwrap_or(timeout_ms),
            "start_period" => start_period_ms = duration(node, key, 0, f).unwrap_or(start_period_ms),
            _ => {
                let read = parsed(node, key, "a number from 1 to 1000", f, |text| {
                    units::natural(text).filter(|n| (1..=1000).contains(n))?.try_into().ok()
                });
                retries = read.map_or(retries, |at| at.value);
            }
        }
    });
    if disabled {
        return None;
    }
    match command {
        Some(HealthTest::Command(command)) => {
            Some(Health { command, interval_ms, timeout_ms, retries, start_period_ms })
        }
        Some(HealthTest::None | HealthTest::Wrong) => None,
        None => {
            f.problem(node.place, "`healthcheck` has no `test`", "write test: [\"CMD\", \"program\"]");
            None
        }
    }
}

enum HealthTest {
    Command(Vec<String>),
    None,
    Wrong,
}

fn health_test(node: &Node, f: &mut Findings<'_>) -> Option<HealthTest> {
    let shell = |line: String| vec!["/bin/sh".to_owned(), "-c".to_owned(), line];
    if let Value::Scalar { .. } = node.value {
        return Some(
            text(node, "test", f).map_or(HealthTest::Wrong, |line| HealthTest::Command(shell(line))),
        );
    }
    let mut words = texts(node, "test", f).into_iter().map(|word| word.value);
    let kind = words.next();
    let rest: Vec<String> = words.collect();
    let test = match (kind.as_deref(), rest.as_slice()) {
        (Some("NONE"), []) => HealthTest::None,
        (Some("CMD"), [_, ..]) => HealthTest::Command(rest),
        (Some("CMD-SHELL"), [line]) => HealthTest::Command(shell(line.clone())),
        _ => {
            let what = "`test` does not begin with CMD, CMD-SHELL and one line, or NONE alone";
            f.problem(node.place, what, "write [\"CMD\", \"program\", \"argument\"]");
            HealthTest::Wrong
        }
    };
    Some(test)
}

/// `restart`.
pub(crate) fn restart(node: &Node, f: &mut Findings<'_>) -> Option<Restart> {
    let (text, _) = scalar(node, "restart", f)?;
    let attempts = |text: &str| units::natural(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let restart = match text.split_once(':') {
        None => match text {
            "no" => Some(Restart::No),
            "always" | "unless-stopped" => Some(Restart::Always),
            "on-failure" => Some(Restart::OnFailure { attempts_max: None }),
            _ => None,
        },
        Some(("on-failure", n)) => attempts(n).map(|n| Restart::OnFailure { attempts_max: Some(n) }),
        Some(_) => None,
    };
    if restart.is_none() {
        let what = format!("`restart` is `{}`", printable(text));
        f.problem(node.place, what, "write \"no\", always, on-failure, on-failure:3 or unless-stopped");
    }
    restart
}

/// `stop_signal`.
pub(crate) fn stop_signal(node: &Node, f: &mut Findings<'_>) -> Option<i32> {
    parsed(node, "stop_signal", "a signal, such as SIGTERM", f, units::signal).map(|at| at.value)
}

/// `stop_grace_period`.
pub(crate) fn stop_grace(node: &Node, f: &mut Findings<'_>) -> Option<u64> {
    duration(node, "stop_grace_period", 0, f)
}

/// `depends_on`.
pub(crate) fn depends_on(node: &Node, f: &mut Findings<'_>) -> BTreeMap<AgentName, At<Condition>> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, place: Place, condition: Condition, f: &mut Findings<'_>| match name.parse() {
        Ok(name) => {
            if all.insert(name, At { place, value: condition }).is_some() {
                f.problem(place, "dependency is written twice", "keep one of the two");
            }
        }
        Err(_) => f.problem(place, format!("no service is called `{}`", printable(name)), "name a service"),
    };
    let Value::Map(members) = &node.value else {
        for name in texts(node, "depends_on", f) {
            put(&name.value, name.place, Condition::ServiceStarted, f);
        }
        return all;
    };
    for member in members {
        let mut condition = None;
        walk(&keys::DEPENDENCY, &member.node, f, |f, _, member| {
            let read = parsed(
                &member.node,
                "condition",
                "service_started, service_healthy or service_completed_successfully",
                f,
                |text| match text {
                    "service_started" => Some(Condition::ServiceStarted),
                    "service_healthy" => Some(Condition::ServiceHealthy),
                    "service_completed_successfully" => Some(Condition::ServiceCompletedSuccessfully),
                    _ => None,
                },
            );
            condition = Some(read.map_or(Condition::ServiceStarted, |at| at.value));
        });
        match condition {
            Some(condition) => put(&member.key, member.key_place, condition, f),
            None => f.problem(
                member.key_place,
                "dependency has no `condition`",
                "write condition: service_started",
            ),
        }
    }
    all
}
