//! Keys that say how an agent runs: command, user, health, restart, dependencies, end.

use std::collections::{BTreeMap, BTreeSet};

use crate::keys;
use crate::lock::{AgentName, Condition, Dependency, Health, Restart, RestartCondition, User};
use crate::problem::{At, Findings, Place, printable};
use crate::units::{self, SplitError};
use crate::yaml::{Node, Value};

use super::read::{self, list, parsed, scalar, text, texts, walk};

/// Most words of a command line.
const WORDS_MAX: usize = 1024;
/// Most further groups of one agent.
const GROUPS_MAX: usize = 32;
/// Shortest pause before a restart that a file may ask for.
const RESTART_DELAY_MS_MIN: u64 = 100;
/// Time between two checks until one passes, where the file names none and the interval is longer.
const START_INTERVAL_MS_DEFAULT: u64 = 250;
/// Longest time between checks, or before SIGKILL.
const DURATION_MS_MAX: u64 = 24 * 3_600_000;

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

/// A user or group id inside a compartment: below 65536.
pub(crate) fn id(text: &str) -> Option<u32> {
    units::natural(text).and_then(|id| u32::try_from(id).ok()).filter(|id| *id < 65_536)
}

/// `group_add`: numeric.
pub(crate) fn groups(node: &Node, f: &mut Findings<'_>) -> BTreeSet<u32> {
    let mut groups = BTreeSet::new();
    for item in list(node, "group_add", f) {
        let wanted = "a number below 65536: names depend on files in the image";
        groups.extend(parsed(item, "group_add", wanted, f, id).map(|at| at.value));
    }
    if groups.len() > GROUPS_MAX {
        f.problem(node.place, format!("more than {GROUPS_MAX} groups"), "name fewer");
    }
    groups
}

/// `user`: numeric.
pub(crate) fn user(node: &Node, f: &mut Findings<'_>) -> Option<User> {
    let text = text(node, "user", f)?;
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
pub(crate) fn hostname(node: &Node, f: &mut Findings<'_>) -> Option<At<String>> {
    let text = text(node, "hostname", f)?;
    let ok = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if !ok {
        let what = format!("`hostname` is `{}`", printable(&text));
        f.problem(node.place, what, "write 1 to 63 letters, digits and `-`");
    }
    ok.then_some(At { place: node.place, value: text })
}

/// A duration from 1 ms (or `min_ms`) to a day.
fn duration(node: &Node, key: &str, min_ms: u64, f: &mut Findings<'_>) -> Option<u64> {
    parsed(node, key, "a duration up to 24h, such as 1m30s or 500ms", f, |text| duration_from(text, min_ms))
        .map(|at| at.value)
}

fn duration_from(text: &str, min_ms: u64) -> Option<u64> {
    let text = if text == "0" { "0s" } else { text };
    units::duration_ms(text).filter(|ms| (min_ms..=DURATION_MS_MAX).contains(ms))
}

/// `healthcheck`.
pub(crate) fn health(node: &Node, f: &mut Findings<'_>) -> Option<Health> {
    let mut command = None;
    let mut disabled = false;
    let (mut interval_ms, mut timeout_ms, mut start_period_ms, mut retries) = (30_000, 30_000, 0, 3);
    let mut start_interval_ms = None;
    walk(&keys::HEALTHCHECK, node, f, |f, key, member| {
        let node = &member.node;
        match key {
            "test" => command = health_test(node, f),
            "disable" => disabled = read::truth(node, key, f).unwrap_or_default(),
            "interval" => interval_ms = duration(node, key, 1, f).unwrap_or(interval_ms),
            "timeout" => timeout_ms = duration(node, key, 1, f).unwrap_or(timeout_ms),
            "start_period" => start_period_ms = duration(node, key, 0, f).unwrap_or(start_period_ms),
            "start_interval" => start_interval_ms = duration(node, key, 1, f),
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
        Some(HealthTest::Command(command)) => Some(Health {
            command,
            interval_ms,
            timeout_ms,
            retries,
            start_period_ms,
            start_interval_ms: start_interval_ms
                .unwrap_or_else(|| interval_ms.min(START_INTERVAL_MS_DEFAULT)),
        }),
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
pub(crate) fn restart(node: &Node, f: &mut Findings<'_>) -> Option<At<Restart>> {
    let (text, _) = scalar(node, "restart", f)?;
    let restart = match text.split_once(':') {
        None => match text {
            "no" => Some(Restart::on(RestartCondition::No)),
            "always" | "unless-stopped" => Some(Restart::on(RestartCondition::Always)),
            "on-failure" => Some(Restart::on(RestartCondition::OnFailure)),
            _ => None,
        },
        Some(("on-failure", n)) => {
            attempts(n).map(|n| Restart { attempts_max: Some(n), ..Restart::on(RestartCondition::OnFailure) })
        }
        Some(_) => None,
    };
    if restart.is_none() {
        let what = format!("`restart` is `{}`", printable(text));
        f.problem(node.place, what, "write \"no\", always, on-failure, on-failure:3 or unless-stopped");
    }
    restart.map(|value| At { place: node.place, value })
}

fn attempts(text: &str) -> Option<u32> {
    units::natural(text).and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0)
}

/// `deploy.restart_policy`.
pub(crate) fn restart_policy(node: &Node, f: &mut Findings<'_>) -> Option<At<Restart>> {
    let mut restart = Restart::on(RestartCondition::Always);
    walk(&keys::RESTART_POLICY, node, f, |f, key, member| {
        let node = &member.node;
        match key {
            "condition" => {
                let read = parsed(node, key, "none, on-failure or any", f, |text| match text {
                    "none" => Some(RestartCondition::No),
                    "on-failure" => Some(RestartCondition::OnFailure),
                    "any" => Some(RestartCondition::Always),
                    _ => None,
                });
                restart.condition = read.map_or(restart.condition, |at| at.value);
            }
            "max_attempts" => {
                let read = parsed(node, key, "a number of at least 1", f, attempts);
                restart.attempts_max = read.map(|at| at.value);
            }
            "delay" => {
                restart.delay_ms = parsed(node, key, "a duration from 100ms to 24h, such as 5s", f, |text| {
                    duration_from(text, RESTART_DELAY_MS_MIN)
                })
                .map(|at| at.value);
            }
            _ => restart.window_ms = duration(node, key, 1, f),
        }
    });
    Some(At { place: node.place, value: restart })
}

/// Takes a restart policy that two keys may set; only one of them may.
pub(crate) fn set_restart(slot: &mut Option<At<Restart>>, read: Option<At<Restart>>, f: &mut Findings<'_>) {
    let Some(new) = read else { return };
    if slot.is_some() {
        let what = "both `restart` and `deploy.restart_policy` are written";
        f.problem(new.place, what, "keep one of the two");
    }
    *slot = Some(new);
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
pub(crate) fn depends_on(node: &Node, f: &mut Findings<'_>) -> BTreeMap<AgentName, At<Dependency>> {
    let mut all = BTreeMap::new();
    let mut put = |name: &str, place: Place, value: Dependency, f: &mut Findings<'_>| match name.parse() {
        Ok(name) => {
            if all.insert(name, At { place, value }).is_some() {
                f.problem(place, "dependency is written twice", "keep one of the two");
            }
        }
        Err(_) => f.problem(place, format!("no service is called `{}`", printable(name)), "name a service"),
    };
    let Value::Map(members) = &node.value else {
        for name in texts(node, "depends_on", f) {
            let started = Dependency { condition: Condition::ServiceStarted, required: true, restart: false };
            put(&name.value, name.place, started, f);
        }
        return all;
    };
    for member in members {
        let (mut condition, mut required, mut restart) = (None, true, false);
        walk(&keys::DEPENDENCY, &member.node, f, |f, key, member| match key {
            "condition" => {
                let read = self::condition(&member.node, f);
                condition = Some(read.unwrap_or(Condition::ServiceStarted));
            }
            "restart" => restart = read::truth(&member.node, key, f).unwrap_or_default(),
            _ => required = read::truth(&member.node, key, f).unwrap_or(true),
        });
        match condition {
            Some(condition) => {
                put(&member.key, member.key_place, Dependency { condition, required, restart }, f);
            }
            None => f.problem(
                member.key_place,
                "dependency has no `condition`",
                "write condition: service_started",
            ),
        }
    }
    all
}

fn condition(node: &Node, f: &mut Findings<'_>) -> Option<Condition> {
    let wanted = "service_started, service_healthy or service_completed_successfully";
    parsed(node, "condition", wanted, f, |text| match text {
        "service_started" => Some(Condition::ServiceStarted),
        "service_healthy" => Some(Condition::ServiceHealthy),
        "service_completed_successfully" => Some(Condition::ServiceCompletedSuccessfully),
        _ => None,
    })
    .map(|at| at.value)
}
