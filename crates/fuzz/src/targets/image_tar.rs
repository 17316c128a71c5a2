//! Layers of images, made of a short list of operations: hostile names, links, whiteouts, sizes and extended headers.
//!
//! Unpacked into a folder that lies beside another one, which no layer may reach.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use casemate_canon::Sha256;
use casemate_images::Limits;
use casemate_images::hostile::{StoredLayer, unpack};

use super::{outcome, require};
use crate::choices::Choices;
use crate::{Bound, Outcome, Target, Violation};

/// Readers and decoders hold buffers of 256 KiB and a window.
const BOUND: Bound = Bound {
    input_bytes_max: 1 << 10,
    allocation_bytes: 8 << 20,
    allocation_bytes_per_input_byte: 512,
    time_us: 100_000,
    time_ns_per_input_byte: 100_000,
};
const LIMITS: Limits = Limits {
    layers_max: 3,
    layer_bytes_max: 512 << 10,
    expansion_ratio_max: 20,
    expansion_free_bytes: 64 << 10,
    window_bytes_max: 1 << 20,
    entries_max: 48,
    names_bytes_max: 4 << 10,
    file_bytes_max: 8 << 10,
    unpacked_bytes_max: 16 << 10,
    path_bytes_max: 300,
    path_components_max: 12,
    extension_bytes_max: 2 << 10,
    ..Limits::STANDARD
};
/// Entries that a build adds: what a compartment mounts on, and its parents.
const MOUNT_POINTS: u64 = 10;
/// Where folders cost least: on disk it is a twentieth as many inputs a second.
const IN_MEMORY: &str = "/dev/shm";
/// Operations of one input.
const OPERATIONS_MAX: usize = 80;
const MEDIA_TYPES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
];
/// From the root of a tree, three steps up lead to the folder that holds both; `@` stands for it.
const NAMES: [&str; 32] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "./a",
    "a/",
    "./",
    "",
    ".",
    "..",
    "../x",
    "a/../../x",
    "../../../outside/sentinel",
    "../../../outside",
    "@/outside/sentinel",
    "@/outside",
    "/a",
    "//a",
    "a//b",
    "a/./b",
    "etc",
    "etc/passwd",
    "etc/group",
    "etc/hosts",
    "proc",
    "/proc/self/root",
    "\u{e9}\n",
    "a\\b",
    ".wh.a",
    ".wh..wh..opq",
    ".wh.",
    ".wh...",
];
const LETTERS: &[u8] = b"0000000012345671gxLKVSx";
const SIZES: [usize; 8] = [0, 1, 511, 512, 513, 4000, 8192, 8193];
const NUMBERS: [&str; 9] =
    ["0", "1", "8", "65535", "65536", "-1", "18446744073709551615", "18446744073709551616", "1.5"];
const KEYS: [&str; 10] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "GNU.sparse.major",
    "SCHILY.xattr.user.a",
    "comment",
    "",
];
const ACCOUNTS: [&str; 8] = [
    "app:x:1000:1000::/:/bin/sh\n",
    "app:x:1:\n",
    "staff:x:50:app\n",
    "root:x:70000:0:::\n",
    "+::::::\n",
    "1000:x:5:5:::\n",
    ":::\n",
    "\u{0}\n",
];
const USERS: [&str; 8] = ["", "app", "app:staff", "1000", "65536", "root:0", "a:b:c", "\n"];

pub(super) fn all() -> Vec<Target> {
    vec![Target {
        name: "image-tar",
        what: "casemate_images: unpacking layers made of operations, plain, gzip or zstd by the first byte",
        seeds,
        words: &[
            &[1, 0, 14],
            &[4, 0, 12, 0, 14],
            &[3, 0, 0, 0, 12],
            &[8, 0, 2],
            &[5, 0, 0],
            &[6, 0, 0, 0, 1],
            &[7],
            &[9],
        ],
        run,
        bound: BOUND,
    }]
}

fn seeds() -> Vec<Vec<u8>> {
    let directory = [0, 0, 0, 0];
    let file = [1, 0, 2, 0, 0, 4];
    let symlink = [2, 0, 1, 0, 0, 13];
    let through = [1, 0, 1, 0, 0, 1];
    let hard = [3, 0, 27, 0, 0, 2];
    let passwd = [5, 0, 0, 1, 0, 0, 0, 2];
    let record = [6, 0, 0, 0, 0, 1];
    let whiteout = [1, 0, 28, 0, 0, 0];
    let whole =
        [&directory[..], &file, &hard, &symlink, &passwd, &record, &through, &[7], &through, &whiteout]
            .concat();
    let simple = [&directory[..], &file, &symlink].concat();
    let mut seeds: Vec<Vec<u8>> = (0..3).map(|kind| [&[kind, 0][..], &whole].concat()).collect();
    seeds.extend((0..3).map(|kind| [&[kind, 0][..], &simple].concat()));
    seeds
}

fn run(input: &[u8]) -> Result<Outcome, Violation> {
    let failed = |error: io::Error| Violation(format!("the machine does not let us: {error}"));
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("casemate-fuzz-");
    let dir = builder.tempdir_in(IN_MEMORY).or_else(|_| builder.tempdir()).map_err(failed)?;
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    let sentinel = outside.join("sentinel");
    let made = fs::create_dir(&inside).and_then(|()| fs::create_dir(&outside));
    made.and_then(|()| fs::write(&sentinel, b"untouched")).map_err(failed)?;
    let before = state(&outside).and_then(|folder| Ok((folder, state(&sentinel)?))).map_err(failed)?;

    let layers = layers(input, dir.path());
    let result = unpack(&layers, &inside, &LIMITS, |root, user| {
        let mut found = Found::default();
        let walked = found.walk(root).map_err(failed);
        let users: Vec<bool> = USERS.iter().map(|name| user(name).is_ok()).collect();
        let ids = USERS.iter().filter_map(|name| user(name).ok()).all(|user| user.uid.max(user.gid) < 65_536);
        walked
            .and_then(|()| require(ids, "a user has an id that no compartment maps"))
            .map(|()| (found, users))
    });

    let after = state(&outside).and_then(|folder| Ok((folder, state(&sentinel)?))).map_err(failed)?;
    require(before == after, "something outside was changed")?;
    require(fs::read(&sentinel).is_ok_and(|bytes| bytes == b"untouched"), "a file outside was written")?;
    require(names(&outside).map_err(failed)? == ["sentinel"], "something was made outside")?;
    require(names(dir.path()).map_err(failed)? == ["inside", "outside"], "something was made beside")?;
    require(names(&inside).map_err(failed)?.is_empty(), "something was left behind")?;
    let result = result.map(|seen| {
        let (found, users) = seen?;
        found.within_limits()?;
        Ok(format!("tree of {} users {users:?}", "x".repeat(usize::try_from(found.entries).unwrap_or(0))))
    });
    match result {
        Ok(Err(violation)) => Err(violation),
        Ok(Ok(text)) => Ok(outcome::<_, io::Error>(Ok(text), |text| text)),
        Err(error) => Ok(Outcome(error.to_string())),
    }
}

/// Device, inode, mode, owner, links, length and times: all that a stranger could change.
type State = (u64, u64, u32, u32, u32, u64, u64, i64, i64);

fn state(path: &Path) -> io::Result<State> {
    let found = fs::symlink_metadata(path)?;
    let times = (found.mtime(), found.mtime_nsec());
    Ok((
        found.dev(),
        found.ino(),
        found.mode(),
        found.uid(),
        found.gid(),
        found.nlink(),
        found.len(),
        times.0,
        times.1,
    ))
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = entries.collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// What is in a tree.
#[derive(Default)]
struct Found {
    entries: u64,
    bytes: u64,
    others: u64,
    id_max: u32,
    inodes: BTreeSet<u64>,
}

impl Found {
    fn walk(&mut self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let found = fs::symlink_metadata(&path)?;
            self.entries += 1;
            self.id_max = self.id_max.max(found.uid()).max(found.gid());
            if found.is_dir() {
                self.walk(&path)?;
            } else if found.is_file() {
                self.bytes += if self.inodes.insert(found.ino()) { found.len() } else { 0 };
            } else {
                self.others += u64::from(!found.is_symlink());
            }
        }
        Ok(())
    }

    fn within_limits(&self) -> Result<(), Violation> {
        require(self.entries <= LIMITS.entries_max + MOUNT_POINTS, "the tree has more entries than allowed")?;
        require(self.bytes <= LIMITS.unpacked_bytes_max, "the tree has more bytes than allowed")?;
        require(u64::from(self.id_max) <= LIMITS.id_max, "a file has an owner that no compartment maps")?;
        require(self.others == 0, "the tree has a file that is neither a file, a directory nor a link")
    }
}

/// The layers that an input means: how they are stored, how many bytes are changed, then operations.
fn layers(input: &[u8], holder: &Path) -> Vec<StoredLayer> {
    let mut choices = Choices::new(input);
    let (first, changed) = (choices.byte(), choices.byte());
    let media_type = MEDIA_TYPES.get(usize::from(first) % 3).copied().unwrap_or_default();
    let changes: Vec<_> = (0..changed % 4).map(|_| (choices.below(1 << 16), choices.byte())).collect();
    // The bit says whether the tar is changed or what it is stored as.
    let stored_is_changed = first & 0x80 != 0;
    let change = |bytes: &mut [u8]| {
        for (at, mask) in &changes {
            let at = at.checked_rem(bytes.len()).unwrap_or(0);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
        }
    };
    let store = |mut tar: Vec<u8>| {
        if !stored_is_changed {
            change(&mut tar);
        }
        let diff_id = Sha256::of(&tar);
        let mut bytes = match usize::from(first) % 3 {
            0 => tar,
            1 => gzip(&tar),
            _ => ruzstd::encoding::compress_to_vec(&tar[..], ruzstd::encoding::CompressionLevel::Fastest),
        };
        if stored_is_changed {
            change(&mut bytes);
        }
        let diff_id = if usize::from(first) % 3 == 0 { Sha256::of(&bytes) } else { diff_id };
        StoredLayer { bytes, media_type, diff_id }
    };
    tars(&mut choices, input.len(), holder).into_iter().map(store).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn tars(choices: &mut Choices<'_>, length: usize, holder: &Path) -> Vec<Vec<u8>> {
    let name = |choices: &mut Choices<'_>| {
        let name = choices.pick(&NAMES).copied().unwrap_or_default();
        name.replace('@', &holder.to_string_lossy())
    };
    let mut done = Vec::new();
    let mut tar = Vec::new();
    let mut ended = true;
    // The shortest operation is one byte.
    for _ in 0..length.saturating_sub(2).min(OPERATIONS_MAX) {
        match choices.byte() % 10 {
            kind @ 0..=3 => {
                let path = name(choices);
                let tweak = choices.byte();
                let link = if kind > 1 { name(choices) } else { String::new() };
                let size = if kind == 1 { choices.pick(&SIZES).copied().unwrap_or(0) } else { 0 };
                let letter = [b'5', b'0', b'2', b'1'].get(usize::from(kind)).copied().unwrap_or(b'0');
                entry(&mut tar, letter, path.as_bytes(), &link, &vec![tweak; size], tweak);
            }
            4 => {
                let letter = choices.pick(LETTERS).copied().unwrap_or(b'0');
                let (path, link) = (name(choices), name(choices));
                entry(&mut tar, letter, path.as_bytes(), &link, b"", choices.byte());
            }
            5 => {
                let path = *choices.pick(&["etc/passwd", "etc/group"]).unwrap_or(&"etc/passwd");
                let lines = choices.byte() % 4 + 1;
                let text: String = (0..lines).filter_map(|_| choices.pick(&ACCOUNTS)).copied().collect();
                entry(&mut tar, b'0', path.as_bytes(), "", text.as_bytes(), 0);
            }
            6 => {
                let key = choices.pick(&KEYS).copied().unwrap_or_default();
                let value = match choices.byte() % 2 {
                    0 => name(choices),
                    _ => choices.pick(&NUMBERS).copied().unwrap_or_default().to_owned(),
                };
                entry(&mut tar, b'x', b"pax", "", record(key, &value).as_bytes(), 0);
            }
            7 if done.len() + 1 < LIMITS.layers_max => {
                tar.extend_from_slice(&[0; 1024]);
                done.push(std::mem::take(&mut tar));
            }
            8 => {
                let long = name(choices).repeat(usize::from(choices.byte() % 64) + 1);
                let letter = *choices.pick(b"LK").unwrap_or(&b'L');
                entry(&mut tar, letter, b"././@LongLink", "", long.as_bytes(), 0);
            }
            9 => ended = false,
            _ => {}
        }
    }
    if ended {
        tar.extend_from_slice(&[0; 1024]);
    }
    done.push(tar);
    done
}

/// A pax record with its own length in front.
fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let length = (1..=3)
        .map(|digits| rest.len() + digits)
        .find(|length| length.to_string().len() + rest.len() == *length);
    format!("{}{rest}", length.unwrap_or(0))
}

/// An entry in ustar form with a checksum that fits. `tweak` makes a number in it another one.
fn entry(tar: &mut Vec<u8>, letter: u8, path: &[u8], link: &str, content: &[u8], tweak: u8) {
    let mut header = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        header.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = *byte);
    };
    put(0, path.get(..path.len().min(100)).unwrap_or_default());
    put(100, b"0006755\0");
    put(108, b"0001750\0");
    put(116, b"0000144\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14000000000\0");
    put(148, b"        ");
    put(156, &[letter]);
    put(157, link.as_bytes().get(..link.len().min(100)).unwrap_or_default());
    put(257, b"ustar\x0000");
    match tweak {
        0xf8 => put(108, b"0200000\0"),
        0xf9 => put(116, &[0x80, 0, 0, 0, 0, 1, 0, 0]),
        0xfa => put(124, b"77777777777\0"),
        0xfb => put(124, &[0xff; 12]),
        0xfc => put(136, &[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        0xfd => put(345, b"../../.."),
        0xfe => put(100, b"x"),
        0xff => put(257, b"ustar  \0"),
        _ => {}
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()).for_each(|(to, byte)| *to = byte);
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
