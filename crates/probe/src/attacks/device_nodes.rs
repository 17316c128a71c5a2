//! Opening devices of the machine.
//!
//! Mechanism: memory, kernel log, disks, hypervisor and file systems in user space have nodes in `/dev`. Source: hier(7).
//! Stopped by: `private-root` (a `/dev` of six nodes, mounted `nodev` elsewhere), `no-privileges`.

use crate::attack::{Args, Attack, Kind, Length, Of, Through, Why};

/// The attack.
pub(super) const ATTACK: Attack = Attack {
    name: "device-nodes",
    title: "devices of the machine in /dev",
    stopped_by: &["private-root", "no-privileges"],
    through: Through::Kernel,
    length: Length::Short,
    kind: Kind::Surface { of: Of::Kernel, take },
};

const NODES: [&str; 14] = [
    "/dev/kmsg",
    "/dev/mem",
    "/dev/port",
    "/dev/kvm",
    "/dev/fuse",
    "/dev/loop-control",
    "/dev/loop0",
    "/dev/net/tun",
    "/dev/vda",
    "/dev/sda",
    "/dev/vsock",
    "/dev/snapshot",
    "/dev/ptmx",
    "/dev/console",
];

fn take(_: &Args) -> Result<String, Why> {
    let found: Vec<&str> = NODES.into_iter().filter(|path| std::fs::File::open(path).is_ok()).collect();
    if found.is_empty() { Err(Why::of("none of the nodes opens")) } else { Ok(found.join(" ")) }
}
