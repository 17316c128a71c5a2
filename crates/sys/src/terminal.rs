//! A terminal for one command: master and slave of a pseudo terminal.
//!
//! What it is: a file system of terminals that is made for this one pair and attached nowhere, so that no other process
//! finds the slave by a name and no number tells how many terminals the box has. Who holds the master is the only one
//! who types. What it is not: a terminal of the user's; that one never enters a compartment.
//! Who trusts it: the warden, which keeps nothing of it, and the command line, which gets the master.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::syscall;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// For who types and reads.
    pub master: OwnedFd,
    /// For the command.
    pub slave: OwnedFd,
}

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A terminal of this size whose slave belongs to the outer ids `uid` and `gid`.
///
/// # Errors
/// The system's error.
pub fn open(uid: u32, gid: u32, size: Size) -> Result<Terminal, Errno> {
    let context = fsopen("devpts", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "uid", uid.to_string())?;
    fsconfig_set_string(context.as_fd(), "gid", gid.to_string())?;
    fsconfig_set_string(context.as_fd(), "mode", "600")?;
    fsconfig_set_string(context.as_fd(), "max", "1")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let folder = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = openat(folder.as_fd(), "ptmx", flags, Mode::empty())?;
    let slave = syscall::open_terminal_peer(master.as_fd())?;
    resize(&master, size)?;
    Ok(Terminal { master, slave })
}

/// Tells the processes behind a terminal that its window has another size.
///
/// # Errors
/// The system's error.
pub fn resize(master: impl AsFd, size: Size) -> Result<(), Errno> {
    tcsetwinsize(master, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_arrives_and_each_terminal_is_the_first_of_its_own() {
        if !rustix::process::geteuid().is_root() {
            println!("not run: terminal: needs root");
            return;
        }
        let size = Size { rows: 11, columns: 33 };
        let (one, two) = (open(1000, 1000, size).unwrap(), open(1001, 1001, size).unwrap());
        for (terminal, uid) in [(&one, 1000), (&two, 1001)] {
            let stat = rustix::fs::fstat(&terminal.slave).unwrap();
            assert_eq!((stat.st_uid, stat.st_mode & 0o777, rustix::fs::minor(stat.st_rdev)), (uid, 0o600, 0));
            let window = rustix::termios::tcgetwinsize(&terminal.slave).unwrap();
            assert_eq!((window.ws_row, window.ws_col), (11, 33));
        }
        rustix::io::write(&one.master, b"typed\n").unwrap();
        let mut line = [0; 16];
        let read = rustix::io::read(&one.slave, &mut line).unwrap();
        assert_eq!(line.get(..read), Some(&b"typed\n"[..]));
    }
}
