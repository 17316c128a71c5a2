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

/// A process in a user namespace of its own that waits for the namespace to be mapped.
pub(super) struct Holder {
    pid: i32,
    made: OwnedFd,
    /// Closed when the namespace is held by a descriptor: the process then ends.
    _done: OwnedFd,
}

impl Holder {
    /// Starts it; the namespace is created by the agent's own outer uid.
    pub(super) fn start(spec: &Spec) -> Step<Self> {
        const CONTROL: &str = "user-namespace";
        let pipe = || {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).named(CONTROL, || "make a pipe".into())
        };
        let (made_read, made_write) = pipe()?;
        let (done_read, done_write) = pipe()?;
        match syscall::fork_single_threaded().named(CONTROL, || "fork".into())? {
            Forked::Child => {
                drop(made_read);
                drop(done_write);
                let outcome = hold_user_namespace(spec.uid_base);
                let errno = outcome.err().map_or(0, rustix::io::Errno::raw_os_error);
                let _ = rustix::io::write(&made_write, &errno.to_ne_bytes());
                let _ = rustix::io::read(&done_read, &mut [0; 1]);
                syscall::exit_now(0)
            }
            Forked::Parent(pid) => Ok(Self { pid, made: made_read, _done: done_write }),
        }
    }

    /// Maps the agent's id range into the namespace, and gives it. The process ends; who started it has to take it.
    pub(super) fn map(self, spec: &Spec) -> Step<(OwnedFd, i32)> {
        Ok((map_ids(spec, self.pid, &self.made)?, self.pid))
    }
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

/// The root as a mount that is attached nowhere: read-only, and a file system instance of this agent alone,
/// unless the warden hands over one that is shared.
pub(super) fn open_root(spec: &Spec, object: &OwnedFd, metadata: Option<&OwnedFd>) -> Step<OwnedFd> {
    let mount = match metadata {
        Some(metadata) => {
            let image = ImageFiles { metadata: metadata.as_fd(), data: object.as_fd() };
            root::private(image, spec.root_number)
        }
        None => root::another(object.as_fd()),
    };
    mount.map_err(|error| Failure { control: "private-root", step: error.to_string(), errno: error.errno() })
}

/// Makes the ids of the root inner ids of the namespace.
pub(super) fn map_root(root: &OwnedFd, user_namespace: &OwnedFd) -> Step<()> {
    syscall::idmap_mount(root.as_fd(), 0, user_namespace.as_fd())
        .named("private-root", || "map ids of the root image".into())
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
pub(super) enum Role {
    /// The launcher: the process id of the first process, and how to let it go on.
    Launcher {
        /// In the box.
        first: i32,
        /// To be said when the launcher has done its part.
        go: Go,
    },
    /// The first process of the compartment.
    FirstProcess(Word),
}

/// What the launcher says to the first process when it has done its part: all that the first process reports comes after
/// the launcher's own report, on the same socket.
pub(super) struct Go(OwnedFd);

/// Where the first process hears it.
pub(super) struct Word(OwnedFd);

/// Nothing is missing.
const COMPLETE: u8 = 1;
/// The control `proc` is not applied, as the specification allows.
const PROC_NOT_APPLIED: u8 = 2;

impl Go {
    pub(super) fn say(self, proc_not_applied: bool) -> Step<()> {
        let word = if proc_not_applied { PROC_NOT_APPLIED } else { COMPLETE };
        rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &[word]))
            .map(drop)
            .named("", || "let the first process begin".into())
    }
}

impl Word {
    /// Waits for it. Fails where the launcher ended without it, which has then said why.
    pub(super) fn wait(self, not_applied: &mut Vec<String>) -> Step<()> {
        let mut word = [0; 1];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut word))
            .named("", || "wait for the launcher".into())?;
        match word {
            [COMPLETE] => {}
            [PROC_NOT_APPLIED] => not_applied.push("proc".to_owned()),
            _ => return Err(rustix::io::Errno::PIPE).named("", || "wait for the launcher".into()),
        }
        Ok(())
    }
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
    let (word, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .named("namespaces", || "make a pipe".into())?;
    let (forked, pidfd) = syscall::clone3_single_threaded(flags)
        .named("namespaces", || "create pid, mount, net, ipc, uts, cgroup and time namespaces".into())?;
    match (forked, pidfd) {
        (Forked::Parent(first), Some(pidfd)) => {
            drop(word);
            send_packet(control, &Answer::Spawned { pid: first }.encode(), &[pidfd.as_fd()])
                .named("", || "hand over the first process".into())?;
            Ok(Role::Launcher { first, go: Go(go) })
        }
        _ => {
            drop(go);
            Ok(Role::FirstProcess(Word(word)))
        }
    }
}

/// A text as a C string.
pub(super) fn c_string(text: &str) -> Step<CString> {
    CString::new(text)
        .map_err(|_| rustix::io::Errno::INVAL)
        .named("", || format!("text with a zero byte: {}", text.escape_default()))
}
