//! What a compartment sees in `/proc`: its own processes, and of the network what is its own.
//!
//! With `subset=pid` the files that the kernel keeps for all are gone, but `/proc/self/net` stays, and among its files
//! are counts of the whole box: `sockstat` and `protocols` count the sockets and the memory of all network namespaces,
//! `softnet_stat` the packets of each core. The kernel keeps mode bits of these files for each network namespace, and
//! they hold in every mount of `/proc`: the launcher takes the bits away of all files but those named here.
//! Who trusts it: launcher, and the warden for the status of the control `proc`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, chmodat, open};
use rustix::io::Errno;

use crate::hardening::Seen;

/// Options of the mount.
pub(crate) const OPTIONS: &core::ffi::CStr = c"hidepid=invisible,subset=pid";

/// Files of `/proc/self/net` that stay readable: they list what is in the own network namespace and nothing else.
const READABLE: [&str; 8] = ["dev", "if_inet6", "route", "tcp", "tcp6", "udp", "udp6", "unix"];

/// Takes the mode bits of all other files of the network namespace that process `pid` is in.
pub(crate) fn narrow(pid: i32) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = open(format!("/proc/{pid}/net"), flags, Mode::empty())?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let kept =
            [c".", c".."].contains(&name) || READABLE.iter().any(|known| known.as_bytes() == name.to_bytes());
        if !kept {
            chmodat(&folder, name, Mode::empty(), AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether process `pid` sees no more than that.
#[must_use]
pub fn seen(pid: i32) -> Seen {
    let Ok(mounts) = fs::read_to_string(format!("/proc/{pid}/mountinfo")) else { return Seen::Unknown };
    let Ok(narrow) = is_narrow(&Path::new("/proc").join(pid.to_string()).join("net")) else {
        return Seen::Unknown;
    };
    if has_own_processes_only(&mounts) && narrow { Seen::InForce } else { Seen::Not }
}

fn is_narrow(net: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(net)? {
        let entry = entry?;
        let hidden = entry.metadata()?.permissions().mode() & 0o777 == 0;
        if !hidden && !READABLE.iter().any(|name| entry.file_name() == *name) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether each mount of type `proc` hides other processes and everything that is not a process, and there is one.
fn has_own_processes_only(mountinfo: &str) -> bool {
    let mut procs = mountinfo.lines().filter_map(|line| {
        let (_, super_block) = line.split_once(" - ")?;
        let mut words = super_block.split(' ');
        (words.next()? == "proc").then(|| words.nth(1).unwrap_or_default())
    });
    let narrow = |options: &str| {
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        has("hidepid=invisible") && has("subset=pid")
    };
    let mut any = false;
    procs.all(|options| {
        any = true;
        narrow(options)
    }) && any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mount_of_proc_must_be_narrow() {
        let good = "31 30 0:50 / /proc rw,nosuid - proc proc rw,hidepid=invisible,subset=pid\n";
        assert!(has_own_processes_only(good));
        assert!(!has_own_processes_only(""));
        assert!(!has_own_processes_only(&good.replace(",subset=pid", "")));
        assert!(!has_own_processes_only(&good.replace("hidepid=invisible,", "")));
        assert!(!has_own_processes_only(&format!("{good}32 30 0:51 / /tmp/x rw - proc proc rw\n")));
    }

    #[test]
    fn a_plain_process_sees_more() {
        assert_eq!(seen(std::process::id().cast_signed()), Seen::Not);
    }
}
