//! Keys that say how much an agent may use: memory, processes, cores, and the limits of each process.

use std::collections::{BTreeMap, BTreeSet};

use crate::keys;
use crate::lock::{DiskLimits, Ulimit, UlimitValues};
use crate::problem::{At, Findings, Place};
use crate::units;
use crate::yaml::{Node, Value};

use super::blkio;
use super::read::{parsed, walk};
use super::replicas;
use super::run;
use super::service::Service;

/// Smallest memory limit: less does not start a process with its C library.
const MEMORY_BYTES_MIN: u64 = 4 << 20;
/// Largest size: 2^53 and more have no canonical form.
const BYTES_MAX: u64 = 1 << 52;
/// Most processes and threads of one agent.
const PIDS_MAX: u64 = 1 << 22;
/// Most open files of one process.
const OPEN_FILES_MAX: u64 = 1 << 20;
/// Length of a period of the processor's scheduler, in microseconds, where the file names none.
const CPU_PERIOD_US: u64 = 100_000;

/// The limits as written; each remembers where.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenLimits {
    pub(crate) memory_bytes: Option<At<u64>>,
    pub(crate) memory_reserved_bytes: Option<At<u64>>,
    pub(crate) memory_and_swap_bytes: Option<At<u64>>,
    pub(crate) pids: Option<At<u32>>,
    pub(crate) cpu_milli: Option<At<u32>>,
    pub(crate) cpu_period_us: Option<At<u64>>,
    pub(crate) cpu_quota_us: Option<At<u64>>,
    pub(crate) cpu_shares: Option<At<u32>>,
    pub(crate) cpuset: Option<At<BTreeSet<u16>>>,
    pub(crate) shm_bytes: Option<At<u64>>,
    pub(crate) oom_score_adj: Option<At<u32>>,
    pub(crate) ulimits: BTreeMap<Ulimit, UlimitValues>,
    pub(crate) disk: Option<DiskLimits>,
}

/// The limit that `key` of a service sets. Whether it sets one.
pub(crate) fn limit(key: &str, node: &Node, limits: &mut WrittenLimits, f: &mut Findings<'_>) -> bool {
    match key {
        "mem_limit" => {
            let read = memory(node, key, f);
            set(&mut limits.memory_bytes, read, "`mem_limit` and `deploy`", f);
        }
        "mem_reservation" => {
            let read = memory(node, key, f);
            set(&mut limits.memory_reserved_bytes, read, "`mem_reservation` and `deploy`", f);
        }
        "memswap_limit" => limits.memory_and_swap_bytes = memory(node, key, f),
        "pids_limit" => {
            let read = pids(node, key, f);
            set(&mut limits.pids, read, "`pids_limit` and `deploy`", f);
        }
        "cpus" => {
            let read = cpus(node, key, f);
            set(&mut limits.cpu_milli, read, "`cpus` and `deploy`", f);
        }
        "cpu_period" => {
            limits.cpu_period_us = number(node, key, "microseconds from 1000 to 1000000", 1000, 1_000_000, f);
        }
        "cpu_quota" => {
            let wanted = "microseconds of at least 1000, such as 50000";
            limits.cpu_quota_us = number(node, key, wanted, 1000, 9_999_999_999, f);
        }
        "cpu_shares" => {
            limits.cpu_shares = number(node, key, "a weight from 2 to 262144; 1024 is usual", 2, 262_144, f);
        }
        "cpuset" => {
            let wanted = "numbers of processors below 4096, each once, such as \"0-2,5\"";
            limits.cpuset = parsed(node, key, wanted, f, units::processors);
        }
        "shm_size" => {
            limits.shm_bytes = parsed(node, key, "a size of at least 4096 bytes, such as 64m", f, |text| {
                units::bytes(text).filter(|bytes| (4096..=BYTES_MAX).contains(bytes))
            });
        }
        "oom_score_adj" => {
            let wanted = "a number from 0 to 1000: no agent outlives the box's own programs";
            limits.oom_score_adj = number(node, key, wanted, 0, 1000, f);
        }
        "blkio_config" => limits.disk = blkio::blkio(node, f),
        "ulimits" => ulimits(node, &mut limits.ulimits, f),
        _ => return false,
    }
    true
}

/// A whole number from `min` to `max`.
fn number<T: TryFrom<u64>>(
    node: &Node,
    key: &str,
    wanted: &str,
    min: u64,
    max: u64,
    f: &mut Findings<'_>,
) -> Option<At<T>> {
    parsed(node, key, wanted, f, |text| {
        units::natural(text).filter(|value| (min..=max).contains(value))?.try_into().ok()
    })
}

fn memory(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u64>> {
    parsed(node, key, "a size of at least 4m, such as 512m", f, |text| {
        units::bytes(text).filter(|bytes| (MEMORY_BYTES_MIN..=BYTES_MAX).contains(bytes))
    })
}

fn pids(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u32>> {
    number(node, key, "a number from 1 to 4194304: no agent is unlimited", 1, PIDS_MAX, f)
}

fn cpus(node: &Node, key: &str, f: &mut Findings<'_>) -> Option<At<u32>> {
    parsed(node, key, "a number of cores above 0 with at most 3 decimals, such as \"0.5\"", f, |text| {
        units::milli(text).filter(|milli| *milli > 0)
    })
}

/// Takes a limit that two keys may set; they must agree.
fn set<T: PartialEq>(slot: &mut Option<At<T>>, read: Option<At<T>>, keys: &str, f: &mut Findings<'_>) {
    let Some(new) = read else { return };
    match slot {
        Some(old) if old.value != new.value => {
            f.problem(new.place, format!("{keys} say different things"), "keep one of the two");
        }
        _ => *slot = Some(new),
    }
}

/// `deploy`: resources, the restart policy, and how many agents.
pub(crate) fn deploy(node: &Node, service: &mut Service, f: &mut Findings<'_>) {
    let Service { limits, restart, replicas, .. } = service;
    walk(&keys::DEPLOY, node, f, |f, key, member| match key {
        "resources" => walk(&keys::RESOURCES, &member.node, f, |f, key, member| match key {
            "limits" => walk(&keys::RESOURCE_LIMITS, &member.node, f, |f, key, member| {
                let key = match key {
                    "memory" => "mem_limit",
                    "pids" => "pids_limit",
                    other => other,
                };
                limit(key, &member.node, limits, f);
            }),
            _ => walk(&keys::RESERVATIONS, &member.node, f, |f, _, member| {
                limit("mem_reservation", &member.node, limits, f);
            }),
        }),
        "replicas" => replicas::count(&member.node, key, replicas, f),
        _ => {
            let policy = run::restart_policy(&member.node, f);
            run::set_restart(restart, policy, f);
        }
    });
}

/// `ulimits`.
fn ulimits(node: &Node, all: &mut BTreeMap<Ulimit, UlimitValues>, f: &mut Findings<'_>) {
    walk(&keys::ULIMITS, node, f, |f, key, member| {
        let Some((name, min, max, wanted)) = ulimit(key) else { return };
        let node = &member.node;
        let read = |node: &Node, f: &mut Findings<'_>| {
            parsed(node, key, wanted, f, |text| match text {
                "-1" | "unlimited" if name != Ulimit::Nofile => Some(None),
                text => units::natural(text).filter(|value| (min..=max).contains(value)).map(Some),
            })
            .map(|at| at.value)
        };
        let Value::Map(_) = node.value else {
            if let Some(both) = read(node, f) {
                all.insert(name, UlimitValues { soft: both, hard: both });
            }
            return;
        };
        let (mut soft, mut hard) = (None, None);
        let mut written = 0_usize;
        walk(&keys::ULIMIT, node, f, |f, key, member| {
            written = written.saturating_add(1);
            match key {
                "soft" => soft = read(&member.node, f),
                _ => hard = read(&member.node, f),
            }
        });
        match (soft, hard) {
            (Some(soft), Some(hard)) if at_most(soft, hard) => {
                all.insert(name, UlimitValues { soft, hard });
            }
            (Some(_), Some(_)) => {
                let what = format!("`soft` of `{key}` is above `hard`");
                f.problem(node.place, what, "write a `soft` that is at most `hard`");
            }
            _ if written == 2 => {}
            _ => {
                let what = format!("`{key}` needs both `soft` and `hard`");
                f.problem(node.place, what, format!("write both, or one number as `{key}: 1024`"));
            }
        }
    });
}

const fn at_most(soft: Option<u64>, hard: Option<u64>) -> bool {
    match (soft, hard) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(soft), Some(hard)) => soft <= hard,
    }
}

/// A limit by its name, its smallest and largest value, and how to write it.
fn ulimit(key: &str) -> Option<(Ulimit, u64, u64, &'static str)> {
    const ANY: u64 = 9_999_999_999;
    Some(match key {
        "cpu" => (Ulimit::Cpu, 1, ANY, "seconds of at least 1, or -1"),
        "data" => (Ulimit::Data, 4 << 20, ANY, "bytes of at least 4194304, or -1"),
        "fsize" => (Ulimit::Fsize, 0, ANY, "a number of bytes, or -1"),
        "memlock" => (Ulimit::Memlock, 0, ANY, "a number of bytes, or -1"),
        "msgqueue" => (Ulimit::Msgqueue, 0, ANY, "a number of bytes, or -1"),
        "nofile" => (Ulimit::Nofile, 16, OPEN_FILES_MAX, "a number from 16 to 1048576"),
        "nproc" => (Ulimit::Nproc, 16, PIDS_MAX, "a number from 16 to 4194304, or -1"),
        "sigpending" => (Ulimit::Sigpending, 0, ANY, "a number of signals, or -1"),
        "stack" => (Ulimit::Stack, 64 << 10, ANY, "bytes of at least 65536, or -1"),
        _ => return None,
    })
}

/// What follows from several limits of one service.
pub(crate) fn cross_check(limits: &mut WrittenLimits, f: &mut Findings<'_>) {
    quota(limits, f);
    if let (Some(milli), Some(cpuset)) = (&limits.cpu_milli, &limits.cpuset) {
        let has = u32::try_from(cpuset.value.len()).unwrap_or(u32::MAX);
        if milli.value > has.saturating_mul(1000) {
            let what = format!("`cpuset` has fewer processors, {has}, than `cpus` asks for");
            f.problem(cpuset.place, what, "write a larger `cpuset`, or fewer `cpus`");
        }
    }
    let memory = limits.memory_bytes.as_ref().map(|at| at.value);
    if let Some(both) = &limits.memory_and_swap_bytes {
        let place = both.place;
        match memory {
            Some(bytes) if bytes == both.value => {}
            Some(bytes) => {
                let what = "`memswap_limit` differs from `mem_limit`, and agents do not swap";
                f.problem(place, what, format!("write memswap_limit: {bytes}b, or remove it"));
            }
            None => {
                f.problem(place, "`memswap_limit` is written without `mem_limit`", "write mem_limit instead")
            }
        }
    }
    let most = memory.unwrap_or(crate::resolve::MEMORY_BYTES_DEFAULT);
    if let Some(reserved) = limits.memory_reserved_bytes.as_ref().filter(|at| at.value > most) {
        let what = format!("memory reservation of {} bytes is above the limit of {most}", reserved.value);
        f.problem(reserved.place, what, "raise `mem_limit`, or reserve less");
    }
}

/// `cpu_quota` in `cpu_period` as thousandths of a core.
fn quota(limits: &mut WrittenLimits, f: &mut Findings<'_>) {
    let (Some(quota), period) = (&limits.cpu_quota_us, &limits.cpu_period_us) else {
        if let Some(period) = &limits.cpu_period_us {
            let what = "`cpu_period` is written without `cpu_quota`, and has no effect alone";
            f.problem(period.place, what, "write `cpus`, or `cpu_quota` too");
        }
        return;
    };
    let place: Place = quota.place;
    let period = period.as_ref().map_or(CPU_PERIOD_US, |at| at.value);
    let milli = quota.value.saturating_mul(1000);
    let read = match milli.checked_rem(period) {
        Some(0) => milli.checked_div(period).and_then(|milli| u32::try_from(milli).ok()),
        _ => None,
    };
    match read {
        Some(value) => {
            let keys = "`cpus` and `cpu_quota` with `cpu_period`";
            set(&mut limits.cpu_milli, Some(At { place, value }), keys, f);
        }
        None => {
            let what = format!("`cpu_quota` of {} in {period} is no whole thousandth of a core", quota.value);
            f.problem(place, what, "write `cpus` with at most 3 decimals");
        }
    }
}
