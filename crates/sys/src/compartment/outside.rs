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

/// A process in a network namespace and in a user namespace of the compartment's, which it makes while the launcher works
/// on. It waits for its end.
pub(super) struct Holder {
    pid: i32,
    made: OwnedFd,
    /// Closed, in all processes, when the holder shall end.
    done: OwnedFd,
}

impl Holder {
    /// Starts it. The network namespace belongs to the box; the user namespace is created by the agent's own outer uid.
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
                let told = match hold(spec.uid_base) {
                    Ok(()) => (MADE, 0),
                    Err((kind, errno)) => (kind, errno.raw_os_error()),
                };
                let mut answer = vec![told.0];
                answer.extend(told.1.to_ne_bytes());
                let _ = rustix::io::write(&made_write, &answer);
                let _ = rustix::io::read(&done_read, &mut [0; 1]);
                syscall::exit_now(0)
            }
            Forked::Parent(pid) => Ok(Self { pid, made: made_read, done: done_write }),
        }
    }

    /// Its process id: it is in the compartment's network namespace once [`Holder::namespaces`] returned.
    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Maps the agent's id range into the user namespace, and gives both.
    pub(super) fn namespaces(&self, spec: &Spec) -> Step<Namespaces> {
        let mut answer = [0; 5];
        let read = rustix::io::read(&self.made, &mut answer)
            .named("user-namespace", || "wait for the namespaces".into())?;
        let [kind, errno @ ..] = answer;
        let failed = |errno: i32| Err(rustix::io::Errno::from_raw_os_error(errno));
        match (read, kind) {
            (5, MADE) => {}
            (5, NO_NETWORK) => {
                return failed(i32::from_ne_bytes(errno))
                    .named("namespaces", || "create a network namespace".into());
            }
            (5, _) => {
                return failed(i32::from_ne_bytes(errno))
                    .named("user-namespace", || format!("create a user namespace as uid {}", spec.uid_base));
            }
            _ => return failed(libc::ECHILD).named("user-namespace", || "wait for the namespaces".into()),
        }
        map_ids(spec, self.pid)?;
        let open_one = |kind: &str, control: &'static str| {
            open(format!("/proc/{}/ns/{kind}", self.pid), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .named(control, || format!("open the namespace {kind}"))
        };
        Ok(Namespaces { user: open_one("user", "user-namespace")?, network: open_one("net", "namespaces")? })
    }

    /// Ends it and takes it.
    pub(super) fn end(self) {
        drop(self.done);
        let _ = syscall::wait_child(self.pid);
    }
}

/// What a holder holds.
pub(super) struct Namespaces {
    /// With the agent's id range.
    pub(super) user: OwnedFd,
    /// Of the box, with loopback alone.
    pub(super) network: OwnedFd,
}

/// What a holder tells: both are made, or which is not.
const MADE: u8 = 0;
const NO_NETWORK: u8 = 1;
const NO_USER: u8 = 2;

fn hold(uid: u32) -> Result<(), (u8, rustix::io::Errno)> {
    syscall::unshare_network_namespace().map_err(|errno| (NO_NETWORK, errno))?;
    hold_user_namespace(uid).map_err(|errno| (NO_USER, errno))
}

fn hold_user_namespace(uid: u32) -> Result<(), rustix::io::Errno> {
    let (gid, uid) = (rustix::fs::Gid::from_raw(uid), rustix::fs::Uid::from_raw(uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    syscall::unshare_user_namespace()
}

fn map_ids(spec: &Spec, holder: i32) -> Step<()> {
    let map = format!("0 {} {ID_RANGE}", spec.uid_base);
    ["gid_map", "uid_map"].iter().try_for_each(|file| {
        fs::write(format!("/proc/{holder}/{file}"), &map)
            .named("user-namespace", || format!("write `{map}` to {file}"))
    })
}

/// The root as a mount that is attached nowhere: read-only, and a file system instance of this agent alone,
/// unless the warden hands over one that is shared. With it, what is left of its making, to be dropped at leisure.
pub(super) fn open_root(
    spec: &Spec,
    object: &OwnedFd,
    metadata: Option<&OwnedFd>,
) -> Step<(OwnedFd, Option<OwnedFd>)> {
    let opened = match metadata {
        Some(metadata) => root::memory().and_then(|memory| {
            let image = ImageFiles { metadata: metadata.as_fd(), data: object.as_fd() };
            root::private_in(&memory, image, spec.root_number).map(|mount| (mount, Some(memory)))
        }),
        None => root::another(object.as_fd()).map(|mount| (mount, None)),
    };
    opened.map_err(|error| Failure { control: "private-root", step: error.to_string(), errno: error.errno() })
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
    /// The launcher, and how it lets the first process go on.
    Launcher(Go),
    /// The first process of the compartment.
    FirstProcess(Word),
}

/// What the launcher says to the first process when it has done its part: all that the first process reports comes after
/// the launcher's own report, on the same socket.
pub(super) struct Go(OwnedFd);

/// Where the first process hears it, once.
pub(super) struct Word(Option<OwnedFd>);

/// Nothing is missing.
const COMPLETE: u8 = 1;
/// The control `proc` is not applied, as the specification allows.
const PROC_NOT_APPLIED: u8 = 2;

impl Go {
    pub(super) fn say(self, proc_not_applied: bool) -> Step<()> {
        let word = if proc_not_applied { PROC_NOT_APPLIED } else { COMPLETE };
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.0, &[word])) {
            // The first process has failed, and says why itself.
            Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
            Err(errno) => Err(errno).named("", || "let the first process begin".into()),
        }
    }
}

impl Word {
    /// Waits for it, unless it was heard. Ends this process where the launcher ended without it.
    pub(super) fn wait(&mut self, not_applied: &mut Vec<String>) -> Step<()> {
        let Some(word) = self.0.take() else { return Ok(()) };
        let mut heard = [0; 1];
        rustix::io::retry_on_intr(|| rustix::io::read(&word, &mut heard))
            .named("", || "wait for the launcher".into())?;
        match heard {
            [COMPLETE] => {}
            [PROC_NOT_APPLIED] => not_applied.push("proc".to_owned()),
            // The launcher has failed, and says why itself.
            _ => syscall::exit_now(1),
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
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ]
    .into_iter()
    .fold(CLONE_NEWTIME, |all, flag| all | u64::from(flag.cast_unsigned()));
    let (word, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .named("namespaces", || "make a pipe".into())?;
    let (forked, pidfd) = syscall::clone3_single_threaded(flags)
        .named("namespaces", || "create pid, mount, ipc, uts, cgroup and time namespaces".into())?;
    match (forked, pidfd) {
        (Forked::Parent(first), Some(pidfd)) => {
            send_packet(control, &Answer::Spawned { pid: first }.encode(), &[pidfd.as_fd()])
                .named("", || "hand over the first process".into())?;
            Ok(Role::Launcher(Go(go)))
        }
        _ => {
            drop(go);
            Ok(Role::FirstProcess(Word(Some(word))))
        }
    }
}

/// A text as a C string.
pub(super) fn c_string(text: &str) -> Step<CString> {
    CString::new(text)
        .map_err(|_| rustix::io::Errno::INVAL)
        .named("", || format!("text with a zero byte: {}", text.escape_default()))
}
