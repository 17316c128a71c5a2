//! System calls that no library wraps safely, each in one function, and the names of x86-64 system calls.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// Number of a system call (Linux x86-64, arch/x86/entry/syscalls/syscall_64.tbl).
pub(crate) fn number(name: &str) -> Option<u32> {
    NAMES.iter().find(|(known, _)| *known == name).and_then(|(_, number)| u32::try_from(*number).ok())
}

/// Every system call that has a name here.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

const NAMES: &[(&str, i64)] = &[
    ("accept", libc::SYS_accept),
    ("accept4", libc::SYS_accept4),
    ("access", libc::SYS_access),
    ("acct", libc::SYS_acct),
    ("add_key", libc::SYS_add_key),
    ("adjtimex", libc::SYS_adjtimex),
    ("alarm", libc::SYS_alarm),
    ("arch_prctl", libc::SYS_arch_prctl),
    ("bind", libc::SYS_bind),
    ("bpf", libc::SYS_bpf),
    ("brk", libc::SYS_brk),
    ("capget", libc::SYS_capget),
    ("capset", libc::SYS_capset),
    ("chdir", libc::SYS_chdir),
    ("chmod", libc::SYS_chmod),
    ("chown", libc::SYS_chown),
    ("chroot", libc::SYS_chroot),
    ("clock_adjtime", libc::SYS_clock_adjtime),
    ("clock_getres", libc::SYS_clock_getres),
    ("clock_gettime", libc::SYS_clock_gettime),
    ("clock_nanosleep", libc::SYS_clock_nanosleep),
    ("clock_settime", libc::SYS_clock_settime),
    ("clone", libc::SYS_clone),
    ("clone3", libc::SYS_clone3),
    ("close", libc::SYS_close),
    ("close_range", libc::SYS_close_range),
    ("connect", libc::SYS_connect),
    ("copy_file_range", libc::SYS_copy_file_range),
    ("creat", libc::SYS_creat),
    ("delete_module", libc::SYS_delete_module),
    ("dup", libc::SYS_dup),
    ("dup2", libc::SYS_dup2),
    ("dup3", libc::SYS_dup3),
    ("epoll_create", libc::SYS_epoll_create),
    ("epoll_create1", libc::SYS_epoll_create1),
    ("epoll_ctl", libc::SYS_epoll_ctl),
    ("epoll_pwait", libc::SYS_epoll_pwait),
    ("epoll_pwait2", libc::SYS_epoll_pwait2),
    ("epoll_wait", libc::SYS_epoll_wait),
    ("eventfd", libc::SYS_eventfd),
    ("eventfd2", libc::SYS_eventfd2),
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("exit", libc::SYS_exit),
    ("exit_group", libc::SYS_exit_group),
    ("faccessat", libc::SYS_faccessat),
    ("faccessat2", libc::SYS_faccessat2),
    ("fadvise64", libc::SYS_fadvise64),
    ("fallocate", libc::SYS_fallocate),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("fanotify_mark", libc::SYS_fanotify_mark),
    ("fchdir", libc::SYS_fchdir),
    ("fchmod", libc::SYS_fchmod),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchmodat2", libc::SYS_fchmodat2),
    ("fchown", libc::SYS_fchown),
    ("fchownat", libc::SYS_fchownat),
    ("fcntl", libc::SYS_fcntl),
    ("fdatasync", libc::SYS_fdatasync),
    ("fgetxattr", libc::SYS_fgetxattr),
    ("finit_module", libc::SYS_finit_module),
    ("flistxattr", libc::SYS_flistxattr),
    ("flock", libc::SYS_flock),
    ("fork", libc::SYS_fork),
    ("fremovexattr", libc::SYS_fremovexattr),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsetxattr", libc::SYS_fsetxattr),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("fstat", libc::SYS_fstat),
    ("fstatfs", libc::SYS_fstatfs),
    ("fsync", libc::SYS_fsync),
    ("ftruncate", libc::SYS_ftruncate),
    ("futex", libc::SYS_futex),
    ("futex_waitv", libc::SYS_futex_waitv),
    ("futimesat", libc::SYS_futimesat),
    ("get_mempolicy", libc::SYS_get_mempolicy),
    ("get_robust_list", libc::SYS_get_robust_list),
    ("getcpu", libc::SYS_getcpu),
    ("getcwd", libc::SYS_getcwd),
    ("getdents", libc::SYS_getdents),
    ("getdents64", libc::SYS_getdents64),
    ("getegid", libc::SYS_getegid),
    ("geteuid", libc::SYS_geteuid),
    ("getgid", libc::SYS_getgid),
    ("getgroups", libc::SYS_getgroups),
    ("getitimer", libc::SYS_getitimer),
    ("getpeername", libc::SYS_getpeername),
    ("getpgid", libc::SYS_getpgid),
    ("getpgrp", libc::SYS_getpgrp),
    ("getpid", libc::SYS_getpid),
    ("getppid", libc::SYS_getppid),
    ("getpriority", libc::SYS_getpriority),
    ("getrandom", libc::SYS_getrandom),
    ("getresgid", libc::SYS_getresgid),
    ("getresuid", libc::SYS_getresuid),
    ("getrlimit", libc::SYS_getrlimit),
    ("getrusage", libc::SYS_getrusage),
    ("getsid", libc::SYS_getsid),
    ("getsockname", libc::SYS_getsockname),
    ("getsockopt", libc::SYS_getsockopt),
    ("gettid", libc::SYS_gettid),
    ("gettimeofday", libc::SYS_gettimeofday),
    ("getuid", libc::SYS_getuid),
    ("getxattr", libc::SYS_getxattr),
    ("init_module", libc::SYS_init_module),
    ("inotify_add_watch", libc::SYS_inotify_add_watch),
    ("inotify_init", libc::SYS_inotify_init),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("inotify_rm_watch", libc::SYS_inotify_rm_watch),
    ("io_cancel", libc::SYS_io_cancel),
    ("io_destroy", libc::SYS_io_destroy),
    ("io_getevents", libc::SYS_io_getevents),
    ("io_setup", libc::SYS_io_setup),
    ("io_submit", libc::SYS_io_submit),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("ioctl", libc::SYS_ioctl),
    ("ioperm", libc::SYS_ioperm),
    ("iopl", libc::SYS_iopl),
    ("ioprio_get", libc::SYS_ioprio_get),
    ("ioprio_set", libc::SYS_ioprio_set),
    ("kcmp", libc::SYS_kcmp),
    ("kexec_load", libc::SYS_kexec_load),
    ("keyctl", libc::SYS_keyctl),
    ("kill", libc::SYS_kill),
    ("landlock_add_rule", libc::SYS_landlock_add_rule),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
    ("lchown", libc::SYS_lchown),
    ("lgetxattr", libc::SYS_lgetxattr),
    ("link", libc::SYS_link),
    ("linkat", libc::SYS_linkat),
    ("listen", libc::SYS_listen),
    ("listxattr", libc::SYS_listxattr),
    ("llistxattr", libc::SYS_llistxattr),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("lremovexattr", libc::SYS_lremovexattr),
    ("lseek", libc::SYS_lseek),
    ("lsetxattr", libc::SYS_lsetxattr),
    ("lstat", libc::SYS_lstat),
    ("madvise", libc::SYS_madvise),
    ("mbind", libc::SYS_mbind),
    ("membarrier", libc::SYS_membarrier),
    ("memfd_create", libc::SYS_memfd_create),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("migrate_pages", libc::SYS_migrate_pages),
    ("mincore", libc::SYS_mincore),
    ("mkdir", libc::SYS_mkdir),
    ("mkdirat", libc::SYS_mkdirat),
    ("mknod", libc::SYS_mknod),
    ("mknodat", libc::SYS_mknodat),
    ("mlock", libc::SYS_mlock),
    ("mlock2", libc::SYS_mlock2),
    ("mlockall", libc::SYS_mlockall),
    ("mmap", libc::SYS_mmap),
    ("modify_ldt", libc::SYS_modify_ldt),
    ("mount", libc::SYS_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("move_pages", libc::SYS_move_pages),
    ("mprotect", libc::SYS_mprotect),
    ("mq_getsetattr", libc::SYS_mq_getsetattr),
    ("mq_notify", libc::SYS_mq_notify),
    ("mq_open", libc::SYS_mq_open),
    ("mq_timedreceive", libc::SYS_mq_timedreceive),
    ("mq_timedsend", libc::SYS_mq_timedsend),
    ("mq_unlink", libc::SYS_mq_unlink),
    ("mremap", libc::SYS_mremap),
    ("mseal", libc::SYS_mseal),
    ("msgctl", libc::SYS_msgctl),
    ("msgget", libc::SYS_msgget),
    ("msgrcv", libc::SYS_msgrcv),
    ("msgsnd", libc::SYS_msgsnd),
    ("msync", libc::SYS_msync),
    ("munlock", libc::SYS_munlock),
    ("munlockall", libc::SYS_munlockall),
    ("munmap", libc::SYS_munmap),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("nanosleep", libc::SYS_nanosleep),
    ("newfstatat", libc::SYS_newfstatat),
    ("nfsservctl", libc::SYS_nfsservctl),
    ("open", libc::SYS_open),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("pause", libc::SYS_pause),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("personality", libc::SYS_personality),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("pipe", libc::SYS_pipe),
    ("pipe2", libc::SYS_pipe2),
    ("pivot_root", libc::SYS_pivot_root),
    ("pkey_alloc", libc::SYS_pkey_alloc),
    ("pkey_free", libc::SYS_pkey_free),
    ("pkey_mprotect", libc::SYS_pkey_mprotect),
    ("poll", libc::SYS_poll),
    ("ppoll", libc::SYS_ppoll),
    ("prctl", libc::SYS_prctl),
    ("pread64", libc::SYS_pread64),
    ("preadv", libc::SYS_preadv),
    ("preadv2", libc::SYS_preadv2),
    ("prlimit64", libc::SYS_prlimit64),
    ("process_madvise", libc::SYS_process_madvise),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pselect6", libc::SYS_pselect6),
    ("ptrace", libc::SYS_ptrace),
    ("pwrite64", libc::SYS_pwrite64),
    ("pwritev", libc::SYS_pwritev),
    ("pwritev2", libc::SYS_pwritev2),
    ("quotactl", libc::SYS_quotactl),
    ("read", libc::SYS_read),
    ("readahead", libc::SYS_readahead),
    ("readlink", libc::SYS_readlink),
    ("readlinkat", libc::SYS_readlinkat),
    ("readv", libc::SYS_readv),
    ("reboot", libc::SYS_reboot),
    ("recvfrom", libc::SYS_recvfrom),
    ("recvmmsg", libc::SYS_recvmmsg),
    ("recvmsg", libc::SYS_recvmsg),
    ("remap_file_pages", libc::SYS_remap_file_pages),
    ("removexattr", libc::SYS_removexattr),
    ("rename", libc::SYS_rename),
    ("renameat", libc::SYS_renameat),
    ("renameat2", libc::SYS_renameat2),
    ("request_key", libc::SYS_request_key),
    ("restart_syscall", libc::SYS_restart_syscall),
    ("rmdir", libc::SYS_rmdir),
    ("rseq", libc::SYS_rseq),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigpending", libc::SYS_rt_sigpending),
    ("rt_sigprocmask", libc::SYS_rt_sigprocmask),
    ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo),
    ("rt_sigreturn", libc::SYS_rt_sigreturn),
    ("rt_sigsuspend", libc::SYS_rt_sigsuspend),
    ("rt_sigtimedwait", libc::SYS_rt_sigtimedwait),
    ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo),
    ("sched_get_priority_max", libc::SYS_sched_get_priority_max),
    ("sched_get_priority_min", libc::SYS_sched_get_priority_min),
    ("sched_getaffinity", libc::SYS_sched_getaffinity),
    ("sched_getattr", libc::SYS_sched_getattr),
    ("sched_getparam", libc::SYS_sched_getparam),
    ("sched_getscheduler", libc::SYS_sched_getscheduler),
    ("sched_rr_get_interval", libc::SYS_sched_rr_get_interval),
    ("sched_setaffinity", libc::SYS_sched_setaffinity),
    ("sched_setattr", libc::SYS_sched_setattr),
    ("sched_setparam", libc::SYS_sched_setparam),
    ("sched_setscheduler", libc::SYS_sched_setscheduler),
    ("sched_yield", libc::SYS_sched_yield),
    ("seccomp", libc::SYS_seccomp),
    ("select", libc::SYS_select),
    ("semctl", libc::SYS_semctl),
    ("semget", libc::SYS_semget),
    ("semop", libc::SYS_semop),
    ("semtimedop", libc::SYS_semtimedop),
    ("sendfile", libc::SYS_sendfile),
    ("sendmmsg", libc::SYS_sendmmsg),
    ("sendmsg", libc::SYS_sendmsg),
    ("sendto", libc::SYS_sendto),
    ("set_mempolicy", libc::SYS_set_mempolicy),
    ("set_mempolicy_home_node", libc::SYS_set_mempolicy_home_node),
    ("set_robust_list", libc::SYS_set_robust_list),
    ("set_tid_address", libc::SYS_set_tid_address),
    ("setdomainname", libc::SYS_setdomainname),
    ("setfsgid", libc::SYS_setfsgid),
    ("setfsuid", libc::SYS_setfsuid),
    ("setgid", libc::SYS_setgid),
    ("setgroups", libc::SYS_setgroups),
    ("sethostname", libc::SYS_sethostname),
    ("setitimer", libc::SYS_setitimer),
    ("setns", libc::SYS_setns),
    ("setpgid", libc::SYS_setpgid),
    ("setpriority", libc::SYS_setpriority),
    ("setregid", libc::SYS_setregid),
    ("setresgid", libc::SYS_setresgid),
    ("setresuid", libc::SYS_setresuid),
    ("setreuid", libc::SYS_setreuid),
    ("setrlimit", libc::SYS_setrlimit),
    ("setsid", libc::SYS_setsid),
    ("setsockopt", libc::SYS_setsockopt),
    ("settimeofday", libc::SYS_settimeofday),
    ("setuid", libc::SYS_setuid),
    ("setxattr", libc::SYS_setxattr),
    ("shmat", libc::SYS_shmat),
    ("shmctl", libc::SYS_shmctl),
    ("shmdt", libc::SYS_shmdt),
    ("shmget", libc::SYS_shmget),
    ("shutdown", libc::SYS_shutdown),
    ("sigaltstack", libc::SYS_sigaltstack),
    ("signalfd", libc::SYS_signalfd),
    ("signalfd4", libc::SYS_signalfd4),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("splice", libc::SYS_splice),
    ("stat", libc::SYS_stat),
    ("statfs", libc::SYS_statfs),
    ("statx", libc::SYS_statx),
    ("swapoff", libc::SYS_swapoff),
    ("swapon", libc::SYS_swapon),
    ("symlink", libc::SYS_symlink),
    ("symlinkat", libc::SYS_symlinkat),
    ("sync_file_range", libc::SYS_sync_file_range),
    ("syncfs", libc::SYS_syncfs),
    ("sysinfo", libc::SYS_sysinfo),
    ("syslog", libc::SYS_syslog),
    ("tee", libc::SYS_tee),
    ("tgkill", libc::SYS_tgkill),
    ("time", libc::SYS_time),
    ("timer_create", libc::SYS_timer_create),
    ("timer_delete", libc::SYS_timer_delete),
    ("timer_getoverrun", libc::SYS_timer_getoverrun),
    ("timer_gettime", libc::SYS_timer_gettime),
    ("timer_settime", libc::SYS_timer_settime),
    ("timerfd_create", libc::SYS_timerfd_create),
    ("timerfd_gettime", libc::SYS_timerfd_gettime),
    ("timerfd_settime", libc::SYS_timerfd_settime),
    ("times", libc::SYS_times),
    ("tkill", libc::SYS_tkill),
    ("truncate", libc::SYS_truncate),
    ("umask", libc::SYS_umask),
    ("umount2", libc::SYS_umount2),
    ("uname", libc::SYS_uname),
    ("unlink", libc::SYS_unlink),
    ("unlinkat", libc::SYS_unlinkat),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("utime", libc::SYS_utime),
    ("utimensat", libc::SYS_utimensat),
    ("utimes", libc::SYS_utimes),
    ("vfork", libc::SYS_vfork),
    ("vhangup", libc::SYS_vhangup),
    ("vmsplice", libc::SYS_vmsplice),
    ("wait4", libc::SYS_wait4),
    ("waitid", libc::SYS_waitid),
    ("write", libc::SYS_write),
    ("writev", libc::SYS_writev),
    ("cachestat", 451),
    ("io_pgetevents", 333),
];

/// Which process one is after a fork.
pub(crate) enum Forked {
    /// The new one.
    Child,
    /// The old one, with the new one's process id.
    Parent(i32),
}

fn result(value: i64) -> Result<i64, Errno> {
    if value < 0 { Err(last_error()) } else { Ok(value) }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// `fork`, for the launcher, which has one thread.
pub(crate) fn fork_single_threaded() -> Result<Forked, Errno> {
    // SAFETY: fork is sound where no other thread holds a lock that the child would need; the launcher, the only
    // caller, never starts a thread.
    match result(i64::from(unsafe { libc::fork() }))? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(i32::try_from(pid).map_err(|_| Errno::RANGE)?)),
    }
}

/// `clone3` with these flags, and a pidfd of the child in the parent. For the launcher, which has one thread.
pub(crate) fn clone3_single_threaded(flags: u64) -> Result<(Forked, Option<OwnedFd>), Errno> {
    let mut pidfd: i32 = -1;
    // SAFETY: an all-zero clone_args is valid: no stack, so the child continues on a copy of this one.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | u64::from(libc::CLONE_PIDFD.cast_unsigned());
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    // SAFETY: `arguments` and `pidfd` outlive the call and its size is given. Memory is copied, not shared (no
    // CLONE_VM), and as with fork there is no other thread.
    let value = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut arguments), size_of::<libc::clone_args>())
    };
    match result(value)? {
        0 => Ok((Forked::Child, None)),
        pid => {
            // SAFETY: the kernel stored a fresh descriptor, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((Forked::Parent(i32::try_from(pid).map_err(|_| Errno::RANGE)?), Some(pidfd)))
        }
    }
}

/// `unshare(CLONE_NEWUSER)`.
pub(crate) fn unshare_user_namespace() -> Result<(), Errno> {
    // SAFETY: takes no pointer; affects only this process's credentials.
    result(i64::from(unsafe { libc::unshare(libc::CLONE_NEWUSER) })).map(drop)
}

/// `unshare(CLONE_NEWNET)`.
pub(crate) fn unshare_network_namespace() -> Result<(), Errno> {
    // SAFETY: takes no pointer; affects only this process.
    result(i64::from(unsafe { libc::unshare(libc::CLONE_NEWNET) })).map(drop)
}

/// `unshare(CLONE_NEWNS)`.
pub(crate) fn unshare_mount_namespace() -> Result<(), Errno> {
    // SAFETY: takes no pointer; the caller has one thread, so that none is left behind in the old namespace.
    result(i64::from(unsafe { libc::unshare(libc::CLONE_NEWNS) })).map(drop)
}

/// Closes all descriptors but one.
pub(crate) fn close_all_but(kept: i32) -> Result<(), Errno> {
    let kept = u32::try_from(kept).map_err(|_| Errno::BADF)?;
    if let Some(last) = kept.checked_sub(1) {
        // SAFETY: the first process of a compartment calls this when it uses no other descriptor any more.
        result(unsafe { libc::syscall(libc::SYS_close_range, 0, last, 0) })?;
    }
    // SAFETY: as above.
    result(unsafe { libc::syscall(libc::SYS_close_range, kept.saturating_add(1), u32::MAX, 0) }).map(drop)
}

/// Closes all descriptors from `first` on.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: the launcher calls this before it owns any descriptor in that range.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// `mount_setattr` on a mount that is not attached yet: its ids on disk become inner ids of `user_namespace`.
pub(crate) fn idmap_mount(
    mount: BorrowedFd<'_>,
    attributes: u64,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: attributes | libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(user_namespace.as_raw_fd()).map_err(|_| Errno::BADF)?,
    };
    // SAFETY: `attr` outlives the call and its size is given; the path is empty and terminated.
    result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(&attr),
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Brings the loopback device of the current network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    result(i64::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request))
    }))
    .map(drop)
}

/// SO_PASSRIGHTS (linux/asm-generic/socket.h, Linux 6.16).
const SO_PASSRIGHTS: i32 = 83;

/// Whether this Unix socket takes descriptors that a peer sends.
pub(crate) fn takes_descriptors(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut value: i32 = 1;
    let mut length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option is one int; value and length outlive the call, and the length is that of the value.
    result(i64::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            std::ptr::from_mut(&mut value).cast(),
            std::ptr::from_mut(&mut length),
        )
    }))
    .map(|_| value != 0)
}

/// Refuses descriptors that a peer would send over this Unix socket.
pub(crate) fn refuse_descriptors(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let off: i32 = 0;
    // SAFETY: the option takes one int, which outlives the call.
    result(i64::from(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            std::ptr::from_ref(&off).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    }))
    .map(drop)
}

/// Outer user id of whoever connected this Unix socket's other end, or listened there.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option writes at most `size` bytes, which is the size of `peer`; both outlive the call.
    result(i64::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            std::ptr::from_mut(&mut size),
        )
    }))
    .map(|_| peer.uid)
}

/// `struct loop_info64` (include/uapi/linux/loop.h).
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` (include/uapi/linux/loop.h).
#[repr(C)]
pub(crate) struct LoopConfig {
    fd: u32,
    block_bytes: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const EMPTY_LOOP_INFO: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

impl LoopConfig {
    /// The whole file, past its cache where that is possible; the device frees itself.
    pub(crate) const fn new(fd: i32, block_bytes: u32) -> Self {
        const LO_FLAGS_AUTOCLEAR: u32 = 4;
        const LO_FLAGS_DIRECT_IO: u32 = 16;
        let info = LoopInfo { flags: LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, ..EMPTY_LOOP_INFO };
        Self { fd: fd.cast_unsigned(), block_bytes, info, reserved: [0; 8] }
    }
}

/// Number of a free loop device (LOOP_CTL_GET_FREE).
pub(crate) fn loop_free(control: &OwnedFd) -> Result<i64, Errno> {
    const LOOP_CTL_GET_FREE: u64 = 0x4c82;
    // SAFETY: the request takes no argument.
    result(i64::from(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }))
}

/// Attaches the file of `config` to `device` (LOOP_CONFIGURE).
pub(crate) fn loop_configure(device: &OwnedFd, config: &LoopConfig) -> Result<(), Errno> {
    const LOOP_CONFIGURE: u64 = 0x4c0a;
    // SAFETY: the request reads one loop_config, whose layout this is and which outlives the call.
    result(i64::from(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, std::ptr::from_ref(config)) }))
        .map(drop)
}

/// Device and inode number of the file that is attached to `device` (LOOP_GET_STATUS64); `ENXIO` where none is.
pub(crate) fn loop_status(device: &OwnedFd) -> Result<(u64, u64), Errno> {
    const LOOP_GET_STATUS64: u64 = 0x4c05;
    let mut info = EMPTY_LOOP_INFO;
    // SAFETY: the request writes one loop_info64, whose layout this is and which outlives the call.
    result(i64::from(unsafe {
        libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, std::ptr::from_mut(&mut info))
    }))?;
    Ok((info.device, info.inode))
}

/// Marks all descriptors from `first` on as closed on exec.
pub(crate) fn close_on_exec_from(first: i32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes no pointer; descriptors stay open in this process.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Joins a fresh anonymous session keyring and gives its number.
pub(crate) fn join_session_keyring() -> Result<i64, Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: i64 = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is read.
    result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0_i64) })
}

/// Whether the session keyring of this process has this number.
pub(crate) fn has_session_keyring(serial: i64) -> bool {
    const KEYCTL_GET_KEYRING_ID: i64 = 0;
    const KEY_SPEC_SESSION_KEYRING: i64 = -3;
    // SAFETY: takes numbers; no memory is read, and 0 asks for no creation.
    unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0_i64) == serial
    }
}

/// `prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)` (linux/prctl.h).
pub(crate) fn refuse_executable_gain() -> Result<(), Errno> {
    const PR_SET_MDWE: i32 = 65;
    const REFUSE_EXEC_GAIN: u64 = 1;
    // SAFETY: takes numbers. No memory of this process is writable and executable.
    result(i64::from(unsafe { libc::prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0_u64, 0_u64, 0_u64) })).map(drop)
}

/// Whether this process can have a page that is writable and executable. It is given back at once.
pub(crate) fn maps_writable_and_executable() -> bool {
    const BYTES: usize = 4096;
    let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
    let page = unsafe {
        libc::mmap(std::ptr::null_mut(), BYTES, access, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    };
    if page == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: just mapped with this size, and nothing refers to it.
    unsafe { libc::munmap(page, BYTES) };
    true
}

/// Which threads a system call filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// The calling one.
    This,
    /// All of the process.
    All,
}

/// Puts a system call filter on threads.
pub(crate) fn seccomp_set_filter(instructions: &[libc::sock_filter], threads: Threads) -> Result<(), Errno> {
    const SECCOMP_SET_MODE_FILTER: i64 = 1;
    const SECCOMP_FILTER_FLAG_TSYNC: i64 = 1;
    let flags = if threads == Threads::All { SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `program` and the instructions it points to, both of which outlive the call.
    let answer = result(unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program))
    })?;
    // The number of a thread that could not take the filter; then no thread has it.
    if answer == 0 { Ok(()) } else { Err(Errno::SRCH) }
}

/// `execve`. Returns only on failure.
pub(crate) fn execve(program: &CString, arguments: &[CString], environment: &[CString]) -> Errno {
    let mut argv: Vec<_> = arguments.iter().map(|text| text.as_ptr()).collect();
    argv.push(std::ptr::null());
    let mut envp: Vec<_> = environment.iter().map(|text| text.as_ptr()).collect();
    envp.push(std::ptr::null());
    // SAFETY: all strings are terminated and outlive the call, both lists end with a null pointer.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_error()
}

/// Blocks these signals for this thread and the programs it executes, or unblocks all.
pub(crate) fn set_signal_mask(blocked: &[i32]) -> Result<(), Errno> {
    let set = signal_set(blocked);
    // SAFETY: `set` is initialised and outlives the call.
    result(i64::from(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) }))
        .map(drop)
}

/// Waits for one of these signals, which must be blocked.
pub(crate) fn wait_signal(signals: &[i32]) -> Result<i32, Errno> {
    wait_signal_of(signals).map(|(signal, _)| signal)
}

/// Who sent a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The kernel: a terminal, a child that ended.
    Kernel,
    /// A process.
    Process,
}

/// Likewise, and who sent it.
pub(crate) fn wait_signal_of(signals: &[i32]) -> Result<(i32, Sender), Errno> {
    let set = signal_set(signals);
    // SAFETY: all-zero is valid for this structure of numbers.
    let mut information: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` and `information` are initialised and outlive the call.
    match unsafe { libc::sigwaitinfo(&raw const set, &raw mut information) } {
        // sigaction(2): codes of what processes send are 0 or less.
        signal if signal > 0 && information.si_code > 0 => Ok((signal, Sender::Kernel)),
        signal if signal > 0 => Ok((signal, Sender::Process)),
        _ => Err(last_error()),
    }
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set that it is given; sigaddset takes any number and fails on bad ones.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Restores the default action of every signal that a program may have been left to ignore.
pub(crate) fn default_signal_actions() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be changed are refused by the kernel.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Reaps any ended child: its process id and wait status; none when no child has ended.
pub(crate) fn reap_any() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for one child and gives its wait status.
pub(crate) fn wait_child(pid: i32) -> Result<i32, Errno> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    result(i64::from(unsafe { libc::waitpid(pid, &raw mut status, 0) })).map(|_| status)
}

/// Ends this process at once, without running anything of ours.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// Sends a signal to a process that is a child of this one.
pub(crate) fn kill_child(pid: i32, signal: i32) {
    // SAFETY: takes no pointer. The child is not reaped yet, so its number has not passed to another process.
    unsafe { libc::kill(pid, signal) };
}

/// Sends a signal to the process group that a child of this process leads, or to the child where it leads none yet.
pub(crate) fn kill_group(pid: i32, signal: i32) {
    // SAFETY: takes no pointer. The child is not reaped yet, so its number names no other process or group.
    if pid > 1 && unsafe { libc::kill(pid.saturating_neg(), signal) } == 0 {
        return;
    }
    kill_child(pid, signal);
}

/// Unlocks the other end of the terminal whose master this is, and opens it: not as this process's own terminal.
pub(crate) fn open_terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let unlocked: i32 = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    result(i64::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlocked))
    }))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and no pointer.
    let peer = result(i64::from(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }))?;
    let peer = i32::try_from(peer).map_err(|_| Errno::RANGE)?;
    // SAFETY: the kernel returned a fresh descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(peer) })
}

/// Takes ownership of a descriptor that was inherited under a fixed number.
pub(crate) fn inherited(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no pointer; fails for a number that is not open.
    result(i64::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: it is open (just seen), and by the start protocol nobody else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
