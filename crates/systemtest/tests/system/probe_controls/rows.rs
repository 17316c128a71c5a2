//! What is taken away, what is tried then, and what leaks.

use casemate_protocol::agent_token::Control;

/// What is taken away from the attacker.
pub(super) struct Without {
    /// As the table has it.
    pub(super) name: &'static str,
    /// Namespaces that are the victim's.
    pub(super) kinds: &'static str,
    /// Calls of the launcher that do nothing.
    pub(super) calls: &'static str,
    /// Control groups that are the victim's, by what they control.
    pub(super) groups: &'static [&'static str],
    /// Inner user of the attacker.
    pub(super) user: u32,
    /// Controls that are not in force then.
    pub(super) away: &'static [Control],
    /// Attacks that this control is said to stop.
    pub(super) tried: &'static [&'static str],
    /// Those of them that nothing else stops.
    pub(super) leaks: &'static [&'static str],
}

/// An inner user other than the agent's: it can end no process of the probe that the box has built beside it.
const OTHER_USER: u32 = 1001;
/// The agent's.
const AGENT_USER: u32 = 1000;

const NOTHING: Without = Without {
    name: "nothing",
    kinds: "-",
    calls: "-",
    groups: &[],
    user: OTHER_USER,
    away: &[],
    tried: &[],
    leaks: &[],
};

/// What goes through the process namespace, and what goes through files.
const PROCESSES: &[&str] =
    &["see-process", "read-environment", "read-memory", "trace", "signal", "steal-descriptor"];
const FILES: &[&str] = &[
    "path-socket",
    "shared-memory-file",
    "temporary-file",
    "file-lock",
    "watch-file",
    "peer-secret",
    "peer-evidence",
    "missing-names",
    "free-space",
    "exhaust-disk",
];
/// What the filter of system calls is said to stop.
const CALLS: &[&str] = &[
    "user-namespace",
    "io-uring",
    "userfaultfd",
    "bpf",
    "perf",
    "kernel-log",
    "fanotify",
    "clone-mount",
    "enter-namespace",
    "open-by-handle",
    "mincore",
    "key-calls",
    "keyring",
    "socket-families",
    "trace",
    "read-memory",
    "steal-descriptor",
];

/// What somebody with capabilities might do.
const PRIVILEGED: &[&str] = &[
    "see-process",
    "read-environment",
    "read-memory",
    "trace",
    "steal-descriptor",
    "peer-secret",
    "box-socket",
    "sealing-keys",
    "device-nodes",
    "bpf",
    "perf",
    "kernel-log",
    "clone-mount",
    "enter-namespace",
    "open-by-handle",
];

/// Numbers of calls (linux, syscall_64.tbl): capset 126, prctl 157, keyctl 250, prlimit64 302, seccomp 317, landlock_restrict_self 446.
pub(super) fn rows() -> Vec<Without> {
    vec![
        Without { name: "nothing", tried: QUICK, ..NOTHING },
        Without {
            name: "pid namespace",
            kinds: "pid",
            away: &[Control::Namespaces],
            tried: PROCESSES,
            ..NOTHING
        },
        Without {
            name: "network namespace",
            kinds: "net",
            away: &[Control::Namespaces],
            tried: &["abstract-socket", "loopback-tcp", "foreign-tcp", "list-sockets", "peer-evidence"],
            leaks: &["loopback-tcp", "foreign-tcp", "list-sockets"],
            ..NOTHING
        },
        Without {
            name: "IPC namespace",
            kinds: "ipc",
            away: &[Control::Namespaces],
            tried: &["system-v-memory", "message-queue"],
            leaks: &["system-v-memory"],
            ..NOTHING
        },
        Without {
            name: "mount namespace",
            kinds: "mnt",
            away: &[Control::Namespaces, Control::PrivateRoot],
            tried: FILES,
            leaks: &[
                "shared-memory-file",
                "temporary-file",
                "file-lock",
                "watch-file",
                "missing-names",
                "free-space",
                "exhaust-disk",
            ],
            ..NOTHING
        },
        Without {
            name: "user namespace, same ids",
            kinds: "user",
            user: AGENT_USER,
            away: &[Control::UserNamespace],
            tried: &[
                "see-process",
                "read-environment",
                "signal",
                "trace",
                "keyring",
                "path-socket",
                "temporary-file",
                "shared-memory-file",
                "peer-secret",
                "exhaust-inotify",
                "exhaust-pipes",
                "exhaust-processes",
            ],
            leaks: &["exhaust-inotify", "exhaust-pipes"],
            ..NOTHING
        },
        Without {
            name: "time, UTS and cgroup namespace",
            kinds: "time,uts,cgroup",
            away: &[Control::Namespaces],
            tried: QUICK,
            ..NOTHING
        },
        Without {
            name: "system call filter",
            calls: "317:0:1,317:1:0",
            away: &[Control::Seccomp],
            tried: CALLS,
            leaks: &[
                "user-namespace",
                "io-uring",
                "userfaultfd",
                "fanotify",
                "mincore",
                "key-calls",
                "socket-families",
            ],
            ..NOTHING
        },
        Without {
            name: "Landlock",
            calls: "446",
            away: &[Control::Landlock],
            tried: &["signal", "abstract-socket", "device-nodes"],
            ..NOTHING
        },
        Without {
            name: "session keyring",
            calls: "250",
            away: &[Control::Keyring],
            tried: &["keyring", "list-keys", "key-calls"],
            ..NOTHING
        },
        Without {
            name: "limit of core dumps",
            calls: "302:1:4:3:0",
            away: &[Control::NoPrivileges],
            tried: &["core-dumps"],
            leaks: &["core-dumps"],
            ..NOTHING
        },
        Without {
            name: "empty capability sets, as inner root",
            calls: "126,157:0:24",
            user: 0,
            away: &[Control::NoPrivileges],
            tried: PRIVILEGED,
            ..NOTHING
        },
        Without {
            name: "limits of the control group",
            groups: &["memory", "pids"],
            away: &[Control::CgroupLimits],
            tried: &["exhaust-processes", "exhaust-memory", "exhaust-sockets"],
            leaks: &["exhaust-processes", "exhaust-sockets", "exhaust-memory"],
            ..NOTHING
        },
        Without {
            name: "cores",
            groups: &["cpuset"],
            away: &[Control::Cores],
            tried: &["cpu-contention"],
            leaks: &["cpu-contention"],
            ..NOTHING
        },
        Without {
            name: "cores, share of CPU time",
            groups: &["cpuset", "cpu"],
            away: &[Control::Cores, Control::CgroupCpu],
            tried: &["exhaust-cpu"],
            leaks: &["exhaust-cpu"],
            ..NOTHING
        },
        Without {
            name: "pid and user namespace",
            kinds: "pid,user",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace],
            tried: PROCESSES,
            ..NOTHING
        },
        Without {
            name: "pid and user namespace, Landlock",
            kinds: "pid,user",
            calls: "446",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::Landlock],
            tried: PROCESSES,
            leaks: &["see-process", "read-environment", "signal"],
            ..NOTHING
        },
        Without {
            name: "pid and user namespace, Landlock, system call filter",
            kinds: "pid,user",
            calls: "446,317:0:1,317:1:0",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::Landlock, Control::Seccomp],
            tried: &["read-memory", "trace", "steal-descriptor"],
            leaks: &["read-memory", "trace", "steal-descriptor"],
            ..NOTHING
        },
        Without {
            name: "mount and user namespace",
            kinds: "mnt,user",
            user: AGENT_USER,
            away: &[Control::Namespaces, Control::UserNamespace, Control::PrivateRoot],
            tried: &["path-socket", "peer-secret", "peer-evidence"],
            leaks: &["path-socket", "peer-secret", "peer-evidence"],
            ..NOTHING
        },
        Without {
            name: "network namespace, Landlock",
            kinds: "net",
            calls: "446",
            away: &[Control::Namespaces, Control::Landlock],
            tried: &["abstract-socket"],
            leaks: &["abstract-socket"],
            ..NOTHING
        },
    ]
}

/// Quick attacks that have an effect between plain processes.
pub(super) const QUICK: &[&str] = &[
    "see-process",
    "read-environment",
    "read-memory",
    "trace",
    "signal",
    "steal-descriptor",
    "abstract-socket",
    "path-socket",
    "loopback-tcp",
    "foreign-tcp",
    "list-sockets",
    "shared-memory-file",
    "temporary-file",
    "system-v-memory",
    "message-queue",
    "keyring",
    "list-keys",
    "file-lock",
    "watch-file",
    "peer-secret",
    "peer-evidence",
    "sealing-keys",
    "box-socket",
    "core-dumps",
    "global-files",
    "exhaust-inotify",
];
