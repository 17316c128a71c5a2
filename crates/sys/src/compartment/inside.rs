//! What the first process arranges inside the fresh namespaces while it still has root.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, makedev, mknodat, open, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, move_mount, unmount,
};
use rustix::net::{SocketType, bind, listen, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::outside::Word;
use super::{Named, Step, unless_weaker};
use crate::descriptors::{PACKET_DESCRIPTORS_MAX, send_packet};
use crate::spec::{Answer, Config, Spec};
use crate::{syscall, unix_edge};

/// Where the agent socket is. Same value as `protocol::agent_api::AGENT_SOCKET_PATH`, compared by a test of the warden.
pub const AGENT_SOCKET: &str = "/run/casemate/agent.sock";
/// Address and port of the resolver inside.
const RESOLVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 53), 53);
/// Size of `/run` and the secrets.
const RUN_OPTIONS: &core::ffi::CStr = c"size=16m,nr_inodes=4096,mode=755";
const SECRETS_OPTIONS: &core::ffi::CStr = c"size=4m,nr_inodes=256,mode=755,noswap";
const SECRETS_OPTIONS_OLD: &core::ffi::CStr = c"size=4m,nr_inodes=256,mode=755";

/// What a step is about that needs a file or folder of the image: the Compose file's matter, and no control's.
pub const MOUNT_TARGET: &str = "mount-target";

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Enters the compartment's network namespace.
pub(super) fn enter_network(namespace: &OwnedFd) -> Step<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .named("namespaces", || "enter the network namespace".into())
}

/// Attaches the root, leaves everything else behind, and mounts what belongs inside.
pub(super) fn mounts(spec: &Spec, root: OwnedFd, volumes: Vec<OwnedFd>) -> Step<()> {
    const CONTROL: &str = "private-root";
    // Written while the box's /proc is in sight; the value is that of the current network namespace.
    fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .named("namespaces", || "let the agent listen on low ports".into())?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .named("namespaces", || "make mounts private".into())?;
    attach(&root, &spec.staging).named(CONTROL, || format!("attach the root at {}", spec.staging))?;
    rustix::process::chdir(spec.staging.as_str()).named(CONTROL, || "enter the root".into())?;
    rustix::process::pivot_root(".", ".").named(CONTROL, || "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).named(CONTROL, || "leave the old root".into())?;
    rustix::process::chdir("/").named(CONTROL, || "enter the new root".into())?;

    let system = |source: &str, target: &str, options: &core::ffi::CStr, flags: MountFlags| {
        mount(source, target, source, flags, options)
            .named(CONTROL, || format!("mount {source} at {target} (does the image have it?)"))
    };
    system("proc", "/proc", crate::proc_view::OPTIONS, PLAIN | MountFlags::NOEXEC)?;
    system("tmpfs", "/run", RUN_OPTIONS, PLAIN | MountFlags::NOEXEC)?;
    device_directory(spec.shm_bytes)?;
    for directory in ["/run/secrets", "/run/casemate"] {
        fs::create_dir(directory).named(CONTROL, || format!("create {directory}"))?;
    }
    // Kernels before 6.4 have no `noswap` and say so with EINVAL.
    mount("tmpfs", "/run/secrets", "tmpfs", PLAIN | MountFlags::NOEXEC, SECRETS_OPTIONS)
        .or_else(|errno| match errno {
            rustix::io::Errno::INVAL => {
                mount("tmpfs", "/run/secrets", "tmpfs", PLAIN | MountFlags::NOEXEC, SECRETS_OPTIONS_OLD)
            }
            other => Err(other),
        })
        .named(CONTROL, || "mount memory for secrets".into())?;
    let targets = spec.tmpfs.iter().map(|t| &t.target).chain(spec.volumes.iter().map(|v| &v.target));
    for target in targets {
        require_plain(target, OFlags::DIRECTORY)?;
    }
    for tmpfs in &spec.tmpfs {
        let options = format!("size={},mode={:o}", tmpfs.size_bytes, tmpfs.mode);
        let options = super::outside::c_string(&options)?;
        system("tmpfs", &tmpfs.target, &options, PLAIN)?;
        let (uid, gid) = outer_ids(spec);
        if tmpfs.mode & 0o022 == 0 {
            rustix::fs::chown(tmpfs.target.as_str(), Some(uid), Some(gid))
                .named(CONTROL, || format!("give {} to the agent", tmpfs.target))?;
        }
    }
    for (volume, tree) in spec.volumes.iter().zip(volumes) {
        // Again: it may lie inside a volume that was mounted since.
        require_plain(&volume.target, OFlags::DIRECTORY)?;
        attach(&tree, &volume.target).named(CONTROL, || format!("mount the volume at {}", volume.target))?;
    }
    for (number, config) in spec.configs.iter().enumerate() {
        config_file(spec, number, config)?;
    }
    for (name, content) in [
        ("hosts", spec.hosts.as_str()),
        ("hostname", &format!("{}\n", spec.hostname)),
        ("resolv.conf", "nameserver 127.0.0.53\noptions timeout:2 attempts:2\n"),
    ] {
        let source = format!("/run/casemate/{name}");
        let target = format!("/etc/{name}");
        fs::write(&source, content).named(CONTROL, || format!("write {source}"))?;
        mount_bind(source.as_str(), target.as_str())
            .named(CONTROL, || format!("mount {target} (does the image have it?)"))?;
        mount_remount(
            target.as_str(),
            MountFlags::BIND | MountFlags::RDONLY | PLAIN | MountFlags::NOEXEC,
            c"",
        )
        .named(CONTROL, || format!("make {target} read-only"))?;
    }
    Ok(())
}

/// Writes a configuration file to memory and mounts it read-only where it belongs.
fn config_file(spec: &Spec, number: usize, config: &Config) -> Step<()> {
    const CONTROL: &str = "private-root";
    let source = format!("/run/casemate/config-{number}");
    let target = config.target.as_str();
    let owner = rustix::fs::Uid::from_raw(spec.uid_base.saturating_add(config.uid));
    let group = rustix::fs::Gid::from_raw(spec.uid_base.saturating_add(config.gid));
    fs::write(&source, &config.content).named(CONTROL, || format!("write {source}"))?;
    rustix::fs::chown(source.as_str(), Some(owner), Some(group))
        .and_then(|()| rustix::fs::chmod(source.as_str(), Mode::from_raw_mode(config.mode & 0o777)))
        .named(CONTROL, || format!("set owner and mode of {source}"))?;
    place_for(target)?;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY | PLAIN;
    if config.mode & 0o111 == 0 {
        flags |= MountFlags::NOEXEC;
    }
    mount_bind(source.as_str(), target)
        .and_then(|()| mount_remount(target, flags, c""))
        .named(CONTROL, || format!("mount the config at {target}"))
}

/// Makes sure that a file can be mounted at `target`: it is there, or lies in memory of the compartment, where it and
/// the folders above it are created. No step goes through a symbolic link.
fn place_for(target: &str) -> Step<()> {
    let missing = |path: &str| {
        openat2(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS).err()
            == Some(rustix::io::Errno::NOENT)
    };
    let step =
        || format!("create {target} (the image must have this file, or it must lie below /run or a tmpfs)");
    let ends = target.char_indices().filter(|(at, c)| *c == '/' && *at > 0).map(|(at, _)| at);
    for folder in ends.filter_map(|end| target.get(..end)) {
        if missing(folder) {
            rustix::fs::mkdir(folder, Mode::from_raw_mode(0o755)).named(MOUNT_TARGET, step)?;
        }
        require_plain(folder, OFlags::DIRECTORY)?;
    }
    if missing(target) {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        open(target, flags, Mode::from_raw_mode(0o444)).map(drop).named(MOUNT_TARGET, step)?;
    }
    require_plain(target, OFlags::empty())
}

/// A mount target that goes through a symbolic link of the image could lie over anything, the secrets among it.
/// `kind` is what it must be: a folder, or anything.
fn require_plain(target: &str, kind: OFlags) -> Step<()> {
    openat2(CWD, target, kind | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::NO_SYMLINKS)
        .map(drop)
        .named(MOUNT_TARGET, || format!("look at mount target {target}"))
}

fn attach(mount: &OwnedFd, target: &str) -> Result<(), rustix::io::Errno> {
    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// `/dev`: nodes of this agent alone (a node that two agents share carries file locks between them).
fn device_directory(shm_bytes: u64) -> Step<()> {
    const CONTROL: &str = "private-root";
    let shm = super::outside::c_string(&format!("size={shm_bytes},nr_inodes=4096,mode=1777"))?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", "/dev", "tmpfs", flags, c"size=64k,nr_inodes=64,mode=755")
        .named(CONTROL, || "mount /dev".into())?;
    // `tty` stands for the terminal that a process has, and no agent has one but commands of `exec` with theirs.
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        let path = format!("/dev/{name}");
        let device = makedev(major, minor);
        mknodat(CWD, path.as_str(), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)
            .and_then(|()| rustix::fs::chmod(path.as_str(), Mode::from_raw_mode(0o666)))
            .named(CONTROL, || format!("create {path}"))?;
    }
    for (name, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")]
    {
        std::os::unix::fs::symlink(target, format!("/dev/{name}"))
            .named(CONTROL, || format!("create /dev/{name}"))?;
    }
    fs::create_dir("/dev/shm")
        .map_err(|e| rustix::io::Errno::from_raw_os_error(e.raw_os_error().unwrap_or(libc::EIO)))
        .and_then(|()| mount("tmpfs", "/dev/shm", "tmpfs", PLAIN | MountFlags::NOEXEC, &*shm))
        .and_then(|()| mount_remount("/dev", flags | MountFlags::RDONLY, c"size=64k,nr_inodes=64,mode=755"))
        .named(CONTROL, || "finish /dev".into())
}

/// Makes a descriptor one of the three standard ones.
type Redirect = fn(OwnedFd) -> Result<(), rustix::io::Errno>;

/// Puts the compartment's own `/dev/null` in place of the box's, which came as descriptor 0: a node that agents share
/// carries file locks and events between them.
pub(super) fn own_null(streams: &[Redirect]) -> Step<()> {
    for stream in streams {
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .and_then(stream)
            .named("private-root", || "open the compartment's /dev/null".into())?;
    }
    Ok(())
}

/// Loopback up, host name set, sockets created and handed to the warden, once the launcher has given its `word`.
pub(super) fn network(
    spec: &Spec,
    control: &OwnedFd,
    word: &mut Word,
    not_applied: &mut Vec<String>,
) -> Step<()> {
    const CONTROL: &str = "namespaces";
    syscall::loopback_up().named(CONTROL, || "bring loopback up".into())?;
    rustix::system::sethostname(spec.hostname.as_bytes()).named(CONTROL, || "set the host name".into())?;
    let agent_socket =
        UnixListener::bind(AGENT_SOCKET).named(CONTROL, || format!("create {AGENT_SOCKET}"))?;
    fs::set_permissions(AGENT_SOCKET, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .named(CONTROL, || format!("open {AGENT_SOCKET} to the agent"))?;
    let no_descriptors = syscall::refuse_descriptors(agent_socket.as_fd())
        .named("agent-socket", || "refuse descriptors on the agent socket (Linux 6.16)".into());
    unless_weaker(spec, not_applied, no_descriptors)?;
    let secrets = open("/run/secrets", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .named(CONTROL, || "open /run/secrets".into())?;
    word.wait(not_applied)?;
    send_packet(control, &Answer::Inside.encode(), &[agent_socket.as_fd(), secrets.as_fd()])
        .named("", || "hand over the agent socket".into())?;

    let mut sockets = Vec::new();
    for (address, port) in &spec.listeners {
        let address = SocketAddrV4::new(Ipv4Addr::from(*address), *port);
        sockets.push(listener(address).named(CONTROL, || format!("listen on {address}"))?);
    }
    unix_listeners(spec, not_applied, &mut sockets)?;
    if spec.resolver != 0 {
        let udp = tcp_or_udp(SocketType::DGRAM).and_then(|s| bind(&s, &RESOLVER).map(|()| s));
        sockets.push(udp.named(CONTROL, || format!("bind {RESOLVER}"))?);
        sockets.push(listener(RESOLVER).named(CONTROL, || format!("listen on {RESOLVER}"))?);
    }
    for _ in 0..spec.pool {
        sockets.push(tcp_or_udp(SocketType::STREAM).named(CONTROL, || "create a socket".into())?);
    }
    for packet in sockets.chunks(PACKET_DESCRIPTORS_MAX) {
        let borrowed: Vec<BorrowedFd<'_>> = packet.iter().map(AsFd::as_fd).collect();
        send_packet(control, &Answer::Sockets.encode(), &borrowed)
            .named("", || "hand over sockets".into())?;
    }
    Ok(())
}

/// Those that stand for the sockets of others that the agent may call.
fn unix_listeners(spec: &Spec, not_applied: &mut Vec<String>, sockets: &mut Vec<OwnedFd>) -> Step<()> {
    for path in &spec.socket_paths {
        let listener = unix_edge::listener(path).named("namespaces", || format!("listen at {path}"))?;
        let no_descriptors = syscall::refuse_descriptors(listener.as_fd())
            .named("agent-socket", || format!("refuse descriptors at {path} (Linux 6.16)"));
        unless_weaker(spec, not_applied, no_descriptors)?;
        sockets.push(listener);
    }
    Ok(())
}

fn tcp_or_udp(kind: SocketType) -> Result<OwnedFd, rustix::io::Errno> {
    crate::netns::bounded_socket(kind)
}

fn listener(address: SocketAddrV4) -> Result<OwnedFd, rustix::io::Errno> {
    let socket = tcp_or_udp(SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, crate::netns::BACKLOG)?;
    Ok(socket)
}

/// The agent's ids as the box sees them.
fn outer_ids(spec: &Spec) -> (rustix::fs::Uid, rustix::fs::Gid) {
    (
        rustix::fs::Uid::from_raw(spec.uid_base.saturating_add(spec.uid)),
        rustix::fs::Gid::from_raw(spec.uid_base.saturating_add(spec.gid)),
    )
}
