//! What the roots of two compartments have in common: physical pages, as `/proc/PID/pagemap` shows them. Needs root and
//! `mkfs.erofs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use casemate_sys::observe::{Root, observe};
use casemate_sys::root::{self, RootError};
use casemate_sys::spawn::{LaunchError, Launched, start};
use casemate_sys::spec::{Spec, Tmpfs};

const UID_BASE: u32 = 0x4000_0000;

/// A root file system with a static shell, as an EROFS file.
fn image(dir: &Path) -> PathBuf {
    let tree = dir.join("tree");
    for sub in ["bin", "proc", "dev", "tmp", "run", "etc"] {
        fs::create_dir_all(tree.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    for file in ["hosts", "hostname", "resolv.conf"] {
        fs::write(tree.join("etc").join(file), "").unwrap();
    }
    let image = dir.join("root.erofs");
    run(Command::new("mkfs.erofs").args(["-Enoinline_data"]).args([&image, &tree]));
    fs::create_dir(dir.join("staging")).unwrap();
    image
}

fn run(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A compartment that sleeps in the root that `object` is.
fn launch(
    dir: &Path,
    place: u32,
    object: BorrowedFd<'_>,
    shared_root: u8,
) -> Result<(Standing, u32), LaunchError> {
    let uid_base = UID_BASE + place * casemate_sys::spec::ID_RANGE;
    let spec = Spec {
        uid_base,
        uid: 1000,
        gid: 1000,
        shared_root,
        staging: dir.join("staging").display().to_string(),
        hostname: "inside".into(),
        tmpfs: vec![Tmpfs { target: "/tmp".into(), size_bytes: 1 << 20, mode: 0o1777 }],
        command: ["/bin/busybox", "sleep", "60"].map(Into::into).into(),
        working_dir: "/".into(),
        seccomp: casemate_sys::seccomp::compile(casemate_composition::rules::SECCOMP_RULES).unwrap(),
        landlock: ["read-execute /", "all /tmp", "scope signal"].map(Into::into).into(),
        ..Spec::default()
    };
    let null = || OwnedFd::from(File::options().write(true).open("/dev/null").unwrap());
    let launcher = Path::new(env!("CARGO_BIN_EXE_casemate-launcher"));
    let Launched { first, gate, .. } = start(launcher, &spec, object, null(), null())?.collect()?;
    gate.release()?.executed()?;
    Ok((Standing { first }, uid_base))
}

struct Standing {
    first: casemate_sys::spawn::FirstProcess,
}

impl Standing {
    fn root(&self, uid_base: u32) -> Root {
        observe(self.first.pid(), uid_base).root.expect("an erofs root")
    }

    /// Numbers of the physical pages of the program's text that are in use, once it has come some way.
    fn pages(&self) -> BTreeSet<u64> {
        for _ in 0..1000 {
            let pages = self.pages_now();
            assert!(!pages.contains(&0), "page numbers are hidden: {pages:?}");
            if pages.len() > 8 {
                return pages;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        unreachable!("the program does not run");
    }

    fn pages_now(&self) -> BTreeSet<u64> {
        let pid = self.first.pid();
        let agent = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let agent = agent.trim();
        let maps = fs::read_to_string(format!("/proc/{agent}/maps")).unwrap();
        let Some(line) = maps.lines().find(|line| line.contains("r-xp") && line.ends_with("/bin/busybox"))
        else {
            return BTreeSet::new();
        };
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |hex| u64::from_str_radix(hex, 16).unwrap() / 4096;
        let map = File::open(format!("/proc/{agent}/pagemap")).unwrap();
        let mut pages = BTreeSet::new();
        for page in number(from)..number(to) {
            let mut entry = [0; 8];
            map.read_exact_at(&mut entry, page * 8).unwrap();
            let entry = u64::from_le_bytes(entry);
            // Bit 63: present. Bits 0 to 54: the page's number (Documentation/admin-guide/mm/pagemap.rst).
            if entry >> 63 == 1 {
                pages.insert(entry & ((1 << 55) - 1));
            }
        }
        pages
    }
}

#[test]
fn two_agents_of_one_image_share_no_page_and_no_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let image = File::open(image(dir.path())).unwrap();
    let (a, a_base) = launch(dir.path(), 0, image.as_fd(), 0).unwrap();
    let (b, b_base) = launch(dir.path(), 1, image.as_fd(), 0).unwrap();
    assert!(a.root(a_base).past_the_cache && b.root(b_base).past_the_cache);
    assert_ne!(a.root(a_base).device, b.root(b_base).device);
    assert_eq!(a.pages().intersection(&b.pages()).count(), 0);
}

#[test]
fn agents_of_a_shared_root_have_one_file_system_and_its_pages() {
    let dir = tempfile::tempdir().unwrap();
    let image = File::open(image(dir.path())).unwrap();
    let shared = root::shared(image.as_fd()).unwrap();
    let (a, a_base) = launch(dir.path(), 0, shared.as_fd(), 1).unwrap();
    let (b, b_base) = launch(dir.path(), 1, shared.as_fd(), 1).unwrap();
    // A third agent of the same image that does not share.
    let (c, c_base) = launch(dir.path(), 2, image.as_fd(), 0).unwrap();
    assert!(!a.root(a_base).past_the_cache);
    assert_eq!(a.root(a_base), b.root(b_base));
    assert_ne!(a.root(a_base).device, c.root(c_base).device);
    let (a, b, c) = (a.pages(), b.pages(), c.pages());
    // The positive control of the test above: here the same pages are seen.
    assert!(a.intersection(&b).count() > 3, "{a:?} {b:?}");
    assert_eq!(a.intersection(&c).count(), 0);
    assert_eq!(b.intersection(&c).count(), 0);
}

#[test]
fn a_disk_without_direct_reads_is_refused_under_the_controls_name() {
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let image = File::open(image(memory.path())).unwrap();
    let refused = launch(memory.path(), 0, image.as_fd(), 0).err();
    let Some(LaunchError::Step { control, step, .. }) = refused else {
        unreachable!("{refused:?}");
    };
    assert_eq!(control, "private-root");
    assert!(!step.is_empty());
}

#[test]
fn a_file_system_that_reads_through_its_cache_in_spite_of_directio_is_refused() {
    // ext4 with `data=journal` opens for direct reads and has none. A loop device of ours carries it, in a mount
    // namespace that ends with this program's thread.
    let dir = tempfile::tempdir().unwrap();
    let file = image(dir.path());
    let disk = dir.path().join("disk");
    File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk));
    let at = dir.path().join("at");
    fs::create_dir(&at).unwrap();
    run(Command::new("mount").args(["-o", "loop,data=journal"]).args([&disk, &at]));
    fs::copy(&file, at.join("root.erofs")).unwrap();
    let outcome = root::private(File::open(at.join("root.erofs")).unwrap().as_fd());
    run(Command::new("umount").arg(&at));
    assert_eq!(outcome.err(), Some(RootError::NoDirectReads { errno: None }));
}
