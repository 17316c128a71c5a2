//! A root folder and what is read below it: text, lists, modes and link targets, each of bounded size.
//!
//! Paths are absolute, as on the machine that is looked at, and are resolved by the kernel inside the root (openat2(2),
//! `RESOLVE_IN_ROOT`, no magic links): a link in a tree that somebody else made leads nowhere outside of it. Nothing here
//! waits: files open without blocking, and what is not a regular file is not read, the kernel's log excepted.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::kernel_text;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;

/// Most bytes of a text file.
pub const TEXT_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of the kernel's log.
pub const LOG_BYTES_MAX: usize = 8 << 20;
/// Longest record of the kernel's log (`PRINTK_MESSAGE_MAX` of Linux is 2048).
const LOG_RECORD_BYTES_MAX: usize = 8192;
/// Most entries of a folder.
pub const ENTRIES_MAX: usize = 1 << 16;
/// The kernel's log.
const LOG: &str = "/dev/kmsg";

/// Why something was not read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unread {
    /// There is no such path.
    Absent,
    /// It is not for this user.
    Denied,
    /// More bytes or entries than are read.
    TooLarge,
    /// Not text, or text that is cut off.
    NotText,
    /// Something else: the name of the error.
    Failed(String),
}

impl Unread {
    /// In words, for a report.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Absent => "absent".into(),
            Self::Denied => "not readable by this user".into(),
            Self::TooLarge => "too large to read".into(),
            Self::NotText => "not text, or cut off".into(),
            Self::Failed(what) => format!("not readable: {what}"),
        }
    }
}

impl From<Errno> for Unread {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV => Self::Absent,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Owner and mode bits of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// User id of the owner.
    pub uid: u32,
    /// Mode bits without the type.
    pub mode: u32,
}

/// A root folder.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    is_live: bool,
}

impl Tree {
    /// Opens the folder `root`.
    ///
    /// # Errors
    /// [`Unread`] where it is no folder that can be opened.
    pub fn open(root: &Path) -> Result<Self, Unread> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root, flags, Mode::empty())?;
        Ok(Self { root: folder, is_live: root == Path::new("/") })
    }

    /// Whether this is the running machine, and not a copy of one.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.is_live
    }

    /// The content of a text file that ends with a line end, as files of `/proc` and `/sys` do.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn text(&self, path: &str) -> Result<String, Unread> {
        let text = self.loose_text(path)?;
        if text.is_empty() || text.ends_with('\n') { Ok(text) } else { Err(Unread::NotText) }
    }

    /// The content of a text file, however it ends.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn loose_text(&self, path: &str) -> Result<String, Unread> {
        let text = String::from_utf8(self.bytes(path)?).map_err(|_| Unread::NotText)?;
        let is_text = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        if text.chars().all(is_text) { Ok(text) } else { Err(Unread::NotText) }
    }

    /// The one line of a file.
    ///
    /// # Errors
    /// [`Unread`]; [`Unread::NotText`] where it has none or several.
    pub fn line(&self, path: &str) -> Result<String, Unread> {
        let text = self.text(path)?;
        match text.strip_suffix('\n') {
            Some(line) if !line.is_empty() && !line.contains('\n') => Ok(line.trim().to_owned()),
            _ => Err(Unread::NotText),
        }
    }

    /// The content of a regular file.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>, Unread> {
        let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Unread::Failed("not a regular file".into()));
        }
        let mut bytes = Vec::new();
        File::from(file)
            .take(TEXT_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Errno::from_io_error(&error).map_or(Unread::NotText, Unread::from))?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|len| len <= TEXT_BYTES_MAX);
        if fits { Ok(bytes) } else { Err(Unread::TooLarge) }
    }

    /// A regular file, opened for reading at places: for files of `/proc` that are tables too large to read whole.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn file(&self, path: &str) -> Result<File, Unread> {
        let file = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(Unread::Failed("not a regular file".into()));
        }
        Ok(File::from(file))
    }

    /// The names in a folder, sorted.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn list(&self, path: &str) -> Result<Vec<String>, Unread> {
        let folder = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if names.len() == ENTRIES_MAX {
                return Err(Unread::TooLarge);
            }
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the folder `folder` can be listed and has `name`. What cannot be listed is an error, never an absence.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn has(&self, folder: &str, name: &str) -> Result<bool, Unread> {
        Ok(self.list(folder)?.iter().any(|entry| entry == name))
    }

    /// Owner and mode of a path.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn access(&self, path: &str) -> Result<Access, Unread> {
        let stat = fstat(self.open_at(path, OFlags::PATH)?)?;
        Ok(Access { uid: stat.st_uid, mode: stat.st_mode & 0o7777 })
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn link(&self, path: &str) -> Result<String, Unread> {
        let link = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let target = readlinkat(&link, "", Vec::new())?;
        target.into_string().map_err(|_| Unread::NotText)
    }

    /// The messages in the kernel's log, oldest first (Documentation/ABI/testing/dev-kmsg).
    ///
    /// # Errors
    /// [`Unread`]; [`Unread::NotText`] where a line is no record.
    pub fn kernel_log(&self) -> Result<Vec<String>, Unread> {
        let file = self.open_at(LOG, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let mut bytes = Vec::new();
        let mut record = [0; LOG_RECORD_BYTES_MAX];
        loop {
            match rustix::io::read(&file, &mut record) {
                Ok(0) | Err(Errno::AGAIN) => break,
                // A record that was overwritten while it was read (EPIPE): the next one follows.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(count) => bytes.extend_from_slice(record.get(..count).unwrap_or_default()),
            }
            if bytes.len() > LOG_BYTES_MAX {
                return Err(Unread::TooLarge);
            }
        }
        kernel_text::messages(&String::from_utf8_lossy(&bytes)).ok_or(Unread::NotText)
    }

    fn open_at(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Unread> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn no_link_leads_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x\n").unwrap();
        let inside = tempfile::tempdir().unwrap();
        symlink(outside.path(), inside.path().join("folder")).unwrap();
        symlink("../../../../../../etc/passwd", inside.path().join("up")).unwrap();
        symlink("/proc/self/root", inside.path().join("magic")).unwrap();
        let tree = Tree::open(inside.path()).unwrap();
        assert_eq!(tree.text("/folder/secret"), Err(Unread::Absent));
        assert_eq!(tree.text("/../secret"), Err(Unread::Absent));
        assert_eq!(tree.text("/up"), Err(Unread::Absent));
        assert_eq!(tree.list("/magic"), Err(Unread::Absent));
        // The link itself is data.
        assert_eq!(tree.link("/magic").as_deref(), Ok("/proc/self/root"));
        assert!(!tree.is_live());
    }

    #[test]
    fn reads_only_whole_text_of_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let write = |bytes: &[u8]| fs::write(folder.path().join("f"), bytes).unwrap();
        write(b"a b\n");
        assert_eq!(tree.line("/f").as_deref(), Ok("a b"));
        for bytes in [&b"cut"[..], b"\xff\n", b"a\0b\n", b"\x1b[2J\n"] {
            write(bytes);
            assert_eq!(tree.text("/f"), Err(Unread::NotText), "{bytes:?}");
        }
        write(b"a\nb\n");
        assert_eq!(tree.line("/f"), Err(Unread::NotText));
        write(&vec![b'\n'; usize::try_from(TEXT_BYTES_MAX).unwrap() + 1]);
        assert_eq!(tree.text("/f"), Err(Unread::TooLarge));
        assert_eq!(tree.text("/none"), Err(Unread::Absent));
        assert!(matches!(tree.text("/"), Err(Unread::Failed(_))));
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        assert!(matches!(tree.text("/fifo"), Err(Unread::Failed(_))));
    }

    #[test]
    fn takes_the_log_of_the_kernel_apart() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("dev")).unwrap();
        let tree = Tree::open(folder.path()).unwrap();
        let write = |text: &str| fs::write(folder.path().join("dev/kmsg"), text).unwrap();
        write("6,1,100,-;Linux version 6\n SUBSYSTEM=x\n5,2,101,-,caller=T1;two; parts\n");
        assert_eq!(tree.kernel_log().unwrap(), ["Linux version 6", "two; parts"]);
        for broken in ["garbage\n", "6,1,100,-;cut", "x,1,1,-;a\n"] {
            write(broken);
            assert_eq!(tree.kernel_log(), Err(Unread::NotText), "{broken}");
        }
    }
}
