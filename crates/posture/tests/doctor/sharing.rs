//! The sharing ledger on trees of files.

use casemate_posture::Tree;
use casemate_posture::sharing::{FileKind, Ledger, Pair, ledger};

use crate::tree::{Entry, Files, Kind, agents, good, write};

const PRESENT: u64 = 1 << 63;
const ZERO_PAGE: u64 = 1 << 24;

fn words(words: &[u64]) -> Entry {
    Entry::Bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

/// Two agents with two pages of a library and one of the kernel's each; `frames` are those of page 1, 2 and 3.
fn machine(frames: [[u64; 3]; 2], inodes: [u32; 2]) -> Files {
    let mut files = good(Kind::Tdx);
    for ((pid, frames), inode) in [11, 12].into_iter().zip(frames).zip(inodes) {
        let maps = format!(
            "1000-3000 r-xp 00000000 00:28 {inode} /lib/libc.so.6\n3000-4000 r-xp 00000000 00:00 0 [vdso]\n\
             9000-a000 ---p 00000000 00:00 0\n"
        );
        files.insert(format!("/proc/{pid}/maps"), Entry::Text(maps));
        let mut entries = vec![0];
        entries.extend(frames.map(|frame| if frame == 0 { 0 } else { PRESENT | frame }));
        files.insert(format!("/proc/{pid}/pagemap"), words(&entries));
        let fd = Entry::Link(format!("socket:[{pid}]"));
        files.insert(format!("/proc/{pid}/fd/3"), fd);
    }
    files.insert("/proc/kpageflags".into(), words(&[0, 0, 0, 0, 0, 0, 0, 0, ZERO_PAGE]));
    files
}

fn look(files: &Files) -> Ledger {
    let folder = write(files);
    ledger(&Tree::open(folder.path()).unwrap(), &agents(), [("a".to_owned(), 9)].into())
}

fn pair(files: &Files) -> Pair {
    let mut ledger = look(files);
    assert_eq!((ledger.pairs.len(), ledger.kernel.as_deref()), (1, Some("7.1.3-casemate")));
    ledger.pairs.remove(0)
}

#[test]
fn agents_that_share_nothing_are_apart_and_the_price_is_told() {
    let pair = pair(&machine([[1, 2, 7], [3, 4, 7]], [5, 6]));
    assert!(pair.is_apart(), "{pair:#?}");
    let frames = pair.frames.unwrap();
    assert_eq!((frames.bytes, frames.apart_bytes), (0, 2 * 4096));
    // The kernel's own page is in both, and is told.
    assert_eq!(frames.of_the_box, [("[vdso]".to_owned(), 1)].into());
    assert_eq!(pair.control_group.as_deref(), Some("/box"));
    assert_eq!(pair.kernel, ["erofs", "proc"]);
}

#[test]
fn a_common_file_and_its_frames_are_named() {
    let pair = pair(&machine([[1, 2, 7], [1, 4, 7]], [5, 5]));
    assert!(!pair.is_apart());
    assert_eq!((pair.files.len(), pair.files[0].kind), (1, FileKind::Library));
    assert_eq!((pair.files[0].name.as_str(), pair.files[0].device.as_str()), ("/lib/libc.so.6", "0:40"));
    let frames = pair.frames.unwrap();
    assert_eq!(frames.frames, [("/lib/libc.so.6".to_owned(), 1)].into());
    assert_eq!((frames.bytes, frames.apart_bytes), (4096, 4096));
}

#[test]
fn frames_are_the_truth_where_file_numbers_differ() {
    let pair = pair(&machine([[1, 2, 7], [1, 2, 7]], [5, 6]));
    assert!(pair.files.is_empty() && !pair.is_apart());
    assert_eq!(pair.frames.unwrap().bytes, 2 * 4096);
}

#[test]
fn the_page_of_zeros_is_nobodys() {
    let pair = pair(&machine([[1, 8, 7], [3, 8, 7]], [5, 6]));
    assert!(pair.is_apart(), "{pair:#?}");
}

#[test]
fn what_cannot_be_counted_is_said_and_nobody_is_apart() {
    // Without CAP_SYS_ADMIN all frames read as zero.
    let mut hidden = machine([[1, 2, 7], [3, 4, 7]], [5, 6]);
    hidden.insert("/proc/11/pagemap".into(), words(&[0, PRESENT, PRESENT, PRESENT]));
    let hidden = pair(&hidden);
    assert_eq!(hidden.not_run[0].name, "page frames");
    assert_eq!(hidden.not_run[0].reason, "not readable by this user");
    assert!(hidden.frames.is_none() && !hidden.is_apart());
    for path in
        ["/proc/kpageflags", "/proc/12/pagemap", "/proc/12/maps", "/proc/12/mountinfo", "/proc/12/status"]
    {
        let mut files = machine([[1, 2, 7], [3, 4, 7]], [5, 6]);
        files.remove(path);
        let pair = pair(&files);
        assert!(!pair.not_run.is_empty() && !pair.is_apart(), "{path}: {pair:#?}");
    }
    assert!(look(&Files::new()).pairs.iter().all(|pair| !pair.is_apart()));
}

#[test]
fn an_open_socket_a_namespace_and_a_user_in_common_are_told() {
    let mut files = machine([[1, 2, 7], [3, 4, 7]], [5, 6]);
    files.insert("/proc/12/fd/3".into(), Entry::Link("socket:[11]".into()));
    files.insert("/proc/12/ns/net".into(), Entry::Link("net:[4026531838]".into()));
    files.insert("/proc/12/status".into(), Entry::Text("Uid:\t1000000\t5\t5\t5\n".into()));
    let pair = pair(&files);
    assert_eq!(pair.open, ["socket:[11]"]);
    assert_eq!(pair.namespaces, ["net:[4026531838]"]);
    assert_eq!(pair.users, ["1000000"]);
    assert!(!pair.is_apart());
}
