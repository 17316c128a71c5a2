//! The walk: from a file or folder to items.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::{Copied, DATA_BYTES_MAX, DEPTH_MAX, Item, PATH_BYTES_MAX, SKIPPED_MAX};

/// Opening a file that is none must not wait, nor begin anything.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Writes the file or folder `source` as items, with [`Item::Failed`] or [`Item::End`] as the last one. Symbolic links
/// on the way to it are followed; none below it are.
///
/// # Errors
/// The stream's error.
pub fn send(source: &str, out: &mut impl Write) -> io::Result<Copied> {
    let name = source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let name = if matches!(name, "" | "." | "..") { "files" } else { name };
    let mut walk = Walk { out, sent: Copied::default() };
    let opened = openat(CWD, source, FLAGS, Mode::empty())
        .and_then(|descriptor| Ok((fstat(&descriptor)?, descriptor)));
    let last = match opened {
        Err(errno) => Item::Failed { reason: format!("{source}: {errno}") },
        Ok((stat, descriptor)) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                walk.file(name.to_owned(), stat.st_mode, &descriptor)?;
                Item::End
            }
            FileType::Directory => {
                walk.folder(name.to_owned(), stat.st_mode, &descriptor, 0)?;
                Item::End
            }
            _ => Item::Failed { reason: format!("{source}: neither a file nor a folder") },
        },
    };
    last.write(walk.out)?;
    walk.out.flush()?;
    Ok(walk.sent)
}

struct Walk<'a, W: Write> {
    out: &'a mut W,
    sent: Copied,
}

impl<W: Write> Walk<'_, W> {
    fn file(&mut self, path: String, mode: u32, descriptor: &OwnedFd) -> io::Result<()> {
        self.sent.files = self.sent.files.saturating_add(1);
        Item::File { path: path.clone(), mode: mode & 0o777 }.write(self.out)?;
        loop {
            let mut buffer = vec![0; DATA_BYTES_MAX];
            match rustix::io::retry_on_intr(|| rustix::io::read(descriptor, &mut buffer)) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    buffer.truncate(count);
                    self.sent.bytes = self.sent.bytes.saturating_add(count as u64);
                    Item::Data(buffer).write(self.out)?;
                }
                Err(errno) => return self.skip(path, errno.to_string()),
            }
        }
    }

    fn folder(&mut self, path: String, mode: u32, descriptor: &OwnedFd, depth: usize) -> io::Result<()> {
        self.sent.folders = self.sent.folders.saturating_add(1);
        Item::Folder { path: path.clone(), mode: mode & 0o777 }.write(self.out)?;
        let entries = match Dir::read_from(descriptor) {
            Ok(entries) => entries,
            Err(errno) => return self.skip(path, errno.to_string()),
        };
        for entry in entries {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(text) = name.to_str() else {
                self.skip(format!("{path}/{}", name.to_string_lossy()), "its name is not UTF-8".into())?;
                continue;
            };
            let inner = format!("{path}/{text}");
            if inner.len() > PATH_BYTES_MAX || depth >= DEPTH_MAX {
                self.skip(inner, "its path is too long".into())?;
                continue;
            }
            match open_entry(descriptor, name) {
                Err(reason) => self.skip(inner, reason)?,
                Ok((FileType::Directory, mode, opened)) => {
                    self.folder(inner, mode, &opened, depth.saturating_add(1))?;
                }
                Ok((_, mode, opened)) => self.file(inner, mode, &opened)?,
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: String, reason: String) -> io::Result<()> {
        if self.sent.skipped.len() < SKIPPED_MAX {
            self.sent.skipped.push((path.clone(), reason.clone()));
        }
        Item::Skipped { path, reason }.write(self.out)
    }
}

/// An entry that is a file or a folder, opened. It may be exchanged at any moment: what counts is what was opened.
fn open_entry(folder: &OwnedFd, name: &std::ffi::CStr) -> Result<(FileType, u32, OwnedFd), String> {
    let text = |errno: Errno| errno.to_string();
    let kind = |mode: u32| match FileType::from_raw_mode(mode) {
        kind @ (FileType::RegularFile | FileType::Directory) => Ok(kind),
        FileType::Symlink => Err("a symbolic link".to_owned()),
        _ => Err("neither a file nor a folder".to_owned()),
    };
    kind(statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(text)?.st_mode)?;
    let opened = openat(folder.as_fd(), name, FLAGS | OFlags::NOFOLLOW, Mode::empty()).map_err(text)?;
    let mode = fstat(&opened).map_err(text)?.st_mode;
    Ok((kind(mode)?, mode, opened))
}
