//! What `runsc` is told: its options, and the container (OCI runtime specification 1.0.2, config.md) that an agent is.

use casemate_sys::compartment::sandbox::ROOT;
use casemate_sys::spec::{Rlimit, Spec};
use serde_json::{Value, json};

/// Options in front of each command. What is not named has its default in the program that the lock names.
pub(super) fn options() -> Vec<String> {
    [
        "--platform=systrap",
        // Sockets of the network namespace that the sandbox is in. It holds loopback alone.
        "--network=host",
        // The agent may connect to the agent socket, and to other sockets of its volumes; it makes none outside.
        "--host-uds=open",
        // The sandbox's kernel opens no file: its file server does, and hands over descriptors.
        "--directfs=false",
        // The root is read-only; no layer over it that would live in memory.
        "--overlay2=none",
        // The launcher joined the control group already.
        "--ignore-cgroups",
        "--panic-log=/log/panic",
    ]
    .map(str::to_owned)
    .into()
}

/// `config.json`. Where the agent's streams are a terminal, the sandbox must be told.
pub(super) fn whole(spec: &Spec, terminal: bool) -> Value {
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] }),
        json!({
            "destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "nodev", "noexec", "mode=1777", format!("size={}", spec.shm_bytes)],
        }),
    ];
    // Each is mounted in the tree already. A mount of the container's own makes it writable: the root is not.
    let volumes = spec.volumes.iter().map(|volume| (&volume.target, volume.read_only != 0));
    let writable = spec.tmpfs.iter().map(|tmpfs| (&tmpfs.target, false));
    mounts.extend(writable.chain(volumes).map(|(target, read_only)| {
        let access = if read_only { "ro" } else { "rw" };
        json!({
            "destination": target, "type": "bind", "source": format!("{ROOT}{target}"),
            "options": ["rbind", "nosuid", "nodev", access],
        })
    }));
    json!({
        "ociVersion": "1.0.2",
        "process": process(spec, &spec.command, terminal),
        "root": { "path": ROOT, "readonly": true },
        "hostname": spec.hostname,
        "mounts": mounts,
        "linux": { "namespaces": [{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" }, { "type": "uts" }] },
    })
}

/// The member `process`, for this command. Where its streams are a terminal, the sandbox must be told.
pub(super) fn process(spec: &Spec, command: &[String], terminal: bool) -> Value {
    let none: [&str; 0] = [];
    json!({
        "terminal": terminal,
        "user": { "uid": spec.uid, "gid": spec.gid, "additionalGids": spec.groups },
        "args": command,
        "env": spec.environment,
        "cwd": spec.working_dir,
        "capabilities": {
            "bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none,
        },
        "rlimits": spec.rlimits.iter().filter_map(rlimit).collect::<Vec<_>>(),
        "noNewPrivileges": true,
    })
}

/// A process limit under the name that the specification gives it.
fn rlimit(limit: &Rlimit) -> Option<Value> {
    let name = match limit.resource {
        0 => "RLIMIT_CPU",
        1 => "RLIMIT_FSIZE",
        2 => "RLIMIT_DATA",
        3 => "RLIMIT_STACK",
        6 => "RLIMIT_NPROC",
        7 => "RLIMIT_NOFILE",
        8 => "RLIMIT_MEMLOCK",
        11 => "RLIMIT_SIGPENDING",
        12 => "RLIMIT_MSGQUEUE",
        _ => return None,
    };
    Some(json!({ "type": name, "soft": limit.soft, "hard": limit.hard }))
}
