//! Groups 20 to 22: switches of the kernel (sysctl).

use super::facts::Facts;
use super::{Check, Heading, Look, Seen, Vantage, Verdict, says};
use crate::agents::status_field;
use crate::tree::Unread;

const USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";
const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";

/// A check of a file with one number.
macro_rules! switch {
    ($id:literal, $path:literal, $what:literal, $expected:literal, $good:expr, $verdicts:expr, $bad:expr, $attack:literal) => {
        Check {
            id: $id,
            heading: Heading::LocalSurface,
            vantage: Vantage::GuestObserved,
            what: $what,
            place: concat!("/proc/sys/", $path),
            expected: $expected,
            attack: $attack,
            fix: concat!("set it with sysctl in the measured image (/proc/sys/", $path, ")"),
            verdicts: $verdicts,
            look: Look::Number { path: concat!("/proc/sys/", $path), good: $good, otherwise: $bad },
        }
    };
}

/// A row that fails, and a row that warns.
macro_rules! must {
    ($id:literal, $path:literal, $what:literal, $expected:literal, $good:expr, $attack:literal) => {
        switch!($id, $path, $what, $expected, $good, says::PASS_FAIL, Verdict::Fail, $attack)
    };
}
macro_rules! should {
    ($id:literal, $path:literal, $what:literal, $expected:literal, $good:expr, $attack:literal) => {
        switch!($id, $path, $what, $expected, $good, says::PASS_WARN, Verdict::Warn, $attack)
    };
}

const SWITCHES: [Check; 25] = [
    must!(
        "D21.io-uring",
        "kernel/io_uring_disabled",
        "io_uring",
        "2",
        |v| v == 2,
        "operations of io_uring pass by system call filters; a large source of kernel holes"
    ),
    must!(
        "D21.bpf",
        "kernel/unprivileged_bpf_disabled",
        "bpf for unprivileged processes",
        "1 or 2",
        |v| v == 1 || v == 2,
        "programs in the kernel by unprivileged processes: Spectre gadgets, verifier holes"
    ),
    should!(
        "D21.bpf-jit",
        "net/core/bpf_jit_harden",
        "hardening of compiled bpf",
        "2",
        |v| v == 2,
        "JIT spraying: constants of an attacker as kernel code"
    ),
    should!(
        "D21.perf",
        "kernel/perf_event_paranoid",
        "performance counters for unprivileged processes",
        "3 or more where the kernel knows it; 2 lets a process count itself",
        |v| v >= 3,
        "counters as a clock for side channels; a source of kernel holes"
    ),
    must!(
        "D21.userfaultfd",
        "vm/unprivileged_userfaultfd",
        "userfaultfd for unprivileged processes",
        "0",
        |v| v == 0,
        "kernel code is held still at a page fault to win races"
    ),
    must!(
        "D21.ptrace",
        "kernel/yama/ptrace_scope",
        "tracing of processes that are no children",
        "1 or more",
        |v| (1..=3).contains(&v),
        "one process of a user reads the memory of its others"
    ),
    should!(
        "D22.kptr",
        "kernel/kptr_restrict",
        "kernel addresses in /proc",
        "2",
        |v| v == 2,
        "addresses for kernel exploits"
    ),
    must!(
        "D22.dmesg",
        "kernel/dmesg_restrict",
        "kernel log for unprivileged processes",
        "1",
        |v| v == 1,
        "addresses, and what other agents do"
    ),
    must!(
        "D22.aslr",
        "kernel/randomize_va_space",
        "addresses of processes at random",
        "2",
        |v| v == 2,
        "exploits that know addresses beforehand"
    ),
    should!(
        "D22.kexec",
        "kernel/kexec_load_disabled",
        "loading another kernel",
        "1",
        |v| v == 1,
        "root of the box replaces the measured kernel"
    ),
    should!(
        "D22.modules",
        "kernel/modules_disabled",
        "loading modules",
        "1",
        |v| v == 1,
        "old protocols load on demand of an agent; root of the box loads code"
    ),
    should!(
        "D22.sysrq",
        "kernel/sysrq",
        "magic keys",
        "0",
        |v| v == 0,
        "whoever has a console stops the box or reads its state"
    ),
    must!(
        "D22.suid-dump",
        "fs/suid_dumpable",
        "core dumps of privileged programs",
        "0",
        |v| v == 0,
        "secrets of privileged programs in files"
    ),
    should!(
        "D22.symlinks",
        "fs/protected_symlinks",
        "links in sticky folders",
        "1",
        |v| v == 1,
        "links in /tmp lead programs of the box astray"
    ),
    should!(
        "D22.hardlinks",
        "fs/protected_hardlinks",
        "hard links to files of others",
        "1",
        |v| v == 1,
        "links keep old set-id programs alive"
    ),
    should!(
        "D22.fifos",
        "fs/protected_fifos",
        "pipes of others in sticky folders",
        "2",
        |v| v == 2,
        "programs of the box write into a pipe of an attacker"
    ),
    should!(
        "D22.regular",
        "fs/protected_regular",
        "files of others in sticky folders",
        "2",
        |v| v == 2,
        "programs of the box write into a file of an attacker"
    ),
    should!(
        "D22.tiocsti",
        "dev/tty/legacy_tiocsti",
        "typing into a terminal (TIOCSTI)",
        "0",
        |v| v == 0,
        "a process types commands into the terminal that it was started from"
    ),
    should!(
        "D22.ldisc",
        "dev/tty/ldisc_autoload",
        "line disciplines load on demand",
        "0",
        |v| v == 0,
        "old drivers load on demand of an agent"
    ),
    should!(
        "D22.mmap-min",
        "vm/mmap_min_addr",
        "lowest address of a mapping",
        "65536 or more",
        |v| v >= 65536,
        "null pointers of the kernel point to data of an attacker"
    ),
    should!(
        "D22.panic",
        "kernel/panic_on_oops",
        "what an oops does",
        "1",
        |v| v == 1,
        "an exploit tries again until it works"
    ),
    should!(
        "D22.oops",
        "kernel/oops_limit",
        "how many times the kernel goes on",
        "1",
        |v| v == 1,
        "an exploit tries again until it works; counters overflow"
    ),
    should!(
        "D22.taint",
        "kernel/tainted",
        "what the kernel says of its own state",
        "0",
        |v| v == 0,
        "modules that nobody signed, or an oops that happened (Documentation/admin-guide/tainted-kernels.rst)"
    ),
    switch!(
        "D20.unprivileged",
        "kernel/unprivileged_userns_clone",
        "user namespaces for unprivileged processes (Debian)",
        "0",
        |v| v == 0,
        says::PASS_FAIL,
        Verdict::Fail,
        "user namespaces make 27 of 40 kernel operations reachable instead of 8 (Edera)"
    ),
    switch!(
        "D20.apparmor",
        "kernel/apparmor_restrict_unprivileged_userns",
        "user namespaces for unconfined processes (Ubuntu)",
        "1",
        |v| v == 1,
        says::PASS_FAIL,
        Verdict::Fail,
        "user namespaces make 27 of 40 kernel operations reachable instead of 8 (Edera)"
    ),
];

/// The checks of these groups.
pub(crate) fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check {
            id: "D20.namespaces",
            heading: Heading::LocalSurface,
            vantage: Vantage::GuestObserved,
            what: "user namespaces of unprivileged processes",
            place: "/proc/sys/user/max_user_namespaces; Seccomp of each agent",
            expected: "0; above 0, each agent behind a filter that denies them",
            attack: "43 % of the CVEs that need user namespaces are in netfilter (Edera)",
            fix: "0 where nothing in the box needs them; casemate makes one for each agent and denies agents further ones",
            verdicts: says::PASS_WARN_FAIL,
            look: Look::Machine(user_namespaces),
        },
        Check {
            id: "D22.core",
            heading: Heading::LocalSurface,
            vantage: Vantage::GuestObserved,
            what: "where core dumps go",
            place: CORE_PATTERN,
            expected: "not to a program (`|`)",
            attack: "a helper of root outside of all compartments parses memory of an agent",
            fix: "set kernel.core_pattern to `core`, and limit core dumps to 0",
            verdicts: says::PASS_FAIL,
            look: Look::Machine(core_pattern),
        },
    ];
    checks.extend(SWITCHES);
    checks
}

fn user_namespaces(facts: &Facts<'_>) -> Seen {
    let most = match facts.tree.line(USER_NAMESPACES).map(|line| line.parse::<u64>()) {
        Err(why) => return Seen::unread(USER_NAMESPACES, &why),
        Ok(Err(_)) => return Seen::unknown(format!("{USER_NAMESPACES}: not a number")),
        Ok(Ok(most)) => most,
    };
    if most == 0 {
        return Seen::new(Verdict::Pass, "0");
    }
    let agents = facts.agents.unwrap_or_default();
    let is_filtered = |pid: &u32| status_field(facts.tree, *pid, "Seccomp").as_deref() == Ok("2");
    let all = agents.iter().all(|agent| !agent.pids.is_empty() && agent.pids.iter().all(is_filtered));
    if all && !agents.is_empty() {
        return Seen::new(Verdict::Warn, format!("{most}; each agent is behind a filter"));
    }
    Seen::new(Verdict::Fail, most.to_string())
}

fn core_pattern(facts: &Facts<'_>) -> Seen {
    match facts.tree.line(CORE_PATTERN) {
        // An empty pattern: the kernel calls the file `core` or by the process number.
        Err(Unread::NotText) if facts.tree.text(CORE_PATTERN).as_deref() == Ok("\n") => {
            Seen::new(Verdict::Pass, "empty")
        }
        Err(why) => Seen::unread(CORE_PATTERN, &why),
        Ok(pattern) => {
            Seen::new(if pattern.starts_with('|') { Verdict::Fail } else { Verdict::Pass }, pattern)
        }
    }
}
