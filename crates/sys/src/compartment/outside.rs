//! What the launcher does before the compartment exists.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use super::{Failure, Named, Step, unless_weaker};
use crate::descriptors::send_packet;
use crate::root::{self, ImageFiles};
use crate::spec::{Answer, ID_RANGE, Spec};
use crate::syscall::{self, Forked};

/// Joins the control group, so that all that follows is charged to it.
pub(super) fn join_cgroup(spec: &Spec, not_applied: &mut Vec<String>) -> Step<()> {
    let join = || {
        spec.cgroup_join
            .iter()
            .try_for_each(|file| fs::write(file, "0").named("cgroup-limits", || format!("join {file}")))
    };
    unless_weaker(spec, not_applied, join())
}

/// A user namespace with the agent's id range, created by the agent's own outer uid.
pub(super) fn user_namespace(spec: &Spec) -> Step<OwnedFd> {
    const CONTROL: &str = "user-namespace";
    let pipe =
        || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).named(CONTROL, || "make a pipe".into());
    let (made_read, made_write) = pipe()?;
    let (done_read, done_write) = pipe()?;
    let holder = match syscall::fork_single_threaded().named(CONTROL, || "fork".into())? {
        Forked::Child => {
            drop(made_read);
            drop(done_write);
            let outcome = hold_user_namespace(spec.uid_base);
            let errno = outcome.err().map_or(0, rustix::io::Errno::raw_os_error);
            let _ = rustix::io::write(&made_write, &errno.to_ne_bytes());
            let _ = rustix::io::read(&done_read, &mut [0; 1]);
            syscall::exit_now(0)
        }
        Forked::Parent(pid) => pid,
    };
    drop(made_write);
    drop(done_read);
    let outcome = map_ids(spec, holder, &made_read);
    drop(done_write);
    let _ = syscall::wait_child(holder);
    outcome
}

fn hold_user_namespace(uid: u32) -> Result<(), rustix::io::Errno> {
    let (gid, uid) = (rustix::fs::Gid::from_raw(uid), rustix::fs::Uid::from_raw(uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    syscall::unshare_user_namespace()
}

fn map_ids(spec: &Spec, holder: i32, made: &OwnedFd) -> Step<OwnedFd> {
    const CONTROL: &str = "user-namespace";
    let mut errno = [0; 4];
    let read = rustix::io::read(made, &mut errno).named(CONTROL, || "wait for the namespace".into())?;
    let errno = if read == 4 { i32::from_ne_bytes(errno) } else { libc::ECHILD };
    if errno != 0 {
        return Err(rustix::io::Errno::from_raw_os_error(errno))
            .named(CONTROL, || format!("create a user namespace as uid {}", spec.uid_base));
    }
    let map = format!("0 {} {ID_RANGE}", spec.uid_base);
    for file in ["gid_map", "uid_map"] {
        let path = format!("/proc/{holder}/{file}");
        fs::write(&path, &map).named(CONTROL, || format!("write `{map}` to {file}"))?;
    }
    open(format!("/proc/{holder}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .named(CONTROL, || "open the namespace".into())
}

/// The root as a mount that is attached nowhere, ids mapped: read-only, and a file system instance of this agent alone,
/// unless the warden hands over one that is shared.
pub(super) fn open_root(
    spec: &Spec,
    object: &OwnedFd,
    metadata: Option<&OwnedFd>,
    user_namespace: &OwnedFd,
) -> Step<OwnedFd> {
    const CONTROL: &str = "private-root";
    let mount = match metadata {
        Some(metadata) => {
            let image = ImageFiles { metadata: metadata.as_fd(), data: object.as_fd() };
            root::private(image, spec.root_number)
        }
        None => root::another(object.as_fd()),
    };
    let mount =
        mount.map_err(|error| Failure { control: CONTROL, step: error.to_string(), errno: error.errno() })?;
    syscall::idmap_mount(mount.as_fd(), 0, user_namespace.as_fd())
        .named(CONTROL, || "map ids of the root image".into())?;
    Ok(mount)
}

/// The volumes as mounts that are attached nowhere, in the order of the specification.
pub(super) fn open_volumes(spec: &Spec, user_namespace: &OwnedFd) -> Step<Vec<OwnedFd>> {
    let open_one = |volume: &crate::spec::Volume| {
        let step = || format!("mount volume {}", volume.source);
        let tree = open_tree(
            CWD,
            volume.source.as_str(),
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        )
        .named("private-root", step)?;
        let mut attributes = u64::from(MountAttrFlags::MOUNT_ATTR_NODEV.bits())
            | u64::from(MountAttrFlags::MOUNT_ATTR_NOSUID.bits());
        if volume.read_only != 0 {
            attributes |= u64::from(MountAttrFlags::MOUNT_ATTR_RDONLY.bits());
        }
        syscall::idmap_mount(tree.as_fd(), attributes, user_namespace.as_fd()).named("private-root", step)?;
        Ok(tree)
    };
    spec.volumes.iter().map(open_one).collect()
}

/// Which process one is after the clone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The launcher, which is done.
    Launcher,
    /// The first process of the compartment.
    FirstProcess,
}

/// Clones the first process, as a child of the warden, into namespaces of its own. In the launcher: hands its pidfd
/// to the warden.
pub(super) fn clone_first_process(control: &OwnedFd) -> Step<Role> {
    const CLONE_NEWTIME: u64 = 0x80;
    let flags = [
        libc::CLONE_PARENT,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ]
    .into_iter()
    .fold(CLONE_NEWTIME, |all, flag| all | u64::from(flag.cast_unsigned()));
    // Both write to the same socket: the first process says nothing before the launcher has told who it is.
    let (told_read, told_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .named("namespaces", || "make a pipe".into())?;
    let (forked, pidfd) = syscall::clone3_single_threaded(flags)
        .named("namespaces", || "create pid, mount, net, ipc, uts, cgroup and time namespaces".into())?;
    match (forked, pidfd) {
        (Forked::Parent(pid), Some(pidfd)) => {
            send_packet(control, &Answer::Spawned { pid }.encode(), &[pidfd.as_fd()])
                .named("", || "hand over the first process".into())?;
            rustix::io::retry_on_intr(|| rustix::io::write(&told_write, &[1]))
                .named("", || "let the first process begin".into())?;
            Ok(Role::Launcher)
        }
        _ => {
            drop(told_write);
            let told = rustix::io::retry_on_intr(|| rustix::io::read(&told_read, &mut [0; 1]))
                .named("", || "wait for the launcher".into())?;
            if told != 1 {
                return Err(rustix::io::Errno::PIPE).named("", || "wait for the launcher".into());
            }
            Ok(Role::FirstProcess)
        }
    }
}

/// A text as a C string.
pub(super) fn c_string(text: &str) -> Step<CString> {
    CString::new(text)
        .map_err(|_| rustix::io::Errno::INVAL)
        .named("", || format!("text with a zero byte: {}", text.escape_default()))
}
