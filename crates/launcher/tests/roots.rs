//! What the roots of two compartments have in common: physical pages, as `/proc/PID/pagemap` shows them. Needs root and
//! `mkfs.erofs`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use casemate_sys::observe::{Root, observe};
use casemate_sys::root::{self, ImageFiles, RootError, RootObject};
use casemate_sys::spawn::{LaunchError, Launched, Streams, prepare};
use casemate_sys::spec::{Spec, Tmpfs};

const UID_BASE: u32 = 0x4000_0000;
/// The number of the copy of the metadata that the agent at place 0 gets.
const NUMBER_BASE: u64 = 0xfedc_ba98_7654_3210;

/// The files of an image, open.
struct Image {
    metadata: File,
    data: File,
}

impl Image {
    fn in_directory(dir: &Path) -> Self {
        let open = |name| File::open(dir.join(name)).unwrap();
        Self { metadata: open("root.metadata"), data: open("root.data") }
    }

    fn files(&self) -> ImageFiles<'_> {
        ImageFiles { metadata: self.metadata.as_fd(), data: self.data.as_fd() }
    }

    fn object(&self) -> RootObject<'_> {
        RootObject::Image(self.files())
    }
}

/// A root file system with a static shell.
fn image(dir: &Path) -> Image {
    let tree = dir.join("tree");
    for sub in ["bin", "proc", "dev", "tmp", "run", "etc"] {
        fs::create_dir_all(tree.join(sub)).unwrap();
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).expect("busybox-static is installed");
    for file in ["hosts", "hostname", "resolv.conf"] {
        fs::write(tree.join("etc").join(file), "").unwrap();
    }
    run(Command::new("mkfs.erofs").args(["-Enosbcrc", "--chunksize=65536", "--blobdev"]).args([
        dir.join("root.data"),
        dir.join("root.metadata"),
        tree,
    ]));
    fs::create_dir(dir.join("staging")).unwrap();
    Image::in_directory(dir)
}

fn run(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// A compartment that sleeps in the root that `object` is.
fn launch(dir: &Path, place: u32, object: RootObject<'_>) -> Result<(Standing, u32), LaunchError> {
    let uid_base = UID_BASE + place * casemate_sys::spec::ID_RANGE;
    let spec = Spec {
        uid_base,
        uid: 1000,
        gid: 1000,
        root_number: NUMBER_BASE + u64::from(place),
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
    let Launched { first, gate, .. } = {
        let streams = Streams::Output { stdout: null(), stderr: null() };
        prepare(launcher)?.start(&spec, object, None, &streams)?.collect()?
    };
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
    let image = image(dir.path());
    let (a, a_base) = launch(dir.path(), 0, image.object()).unwrap();
    let (b, b_base) = launch(dir.path(), 1, image.object()).unwrap();
    assert!(a.root(a_base).past_the_cache && b.root(b_base).past_the_cache);
    assert_ne!(a.root(a_base).device, b.root(b_base).device);
    // The kernel says from which copy of the metadata it mounted each.
    assert_eq!(a.root(a_base).number, NUMBER_BASE);
    assert_eq!(b.root(b_base).number, NUMBER_BASE + 1);
    assert_eq!(a.pages().intersection(&b.pages()).count(), 0);
}

#[test]
fn agents_of_a_shared_root_have_one_file_system_and_its_pages() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let shared = root::shared(image.files(), 77).unwrap();
    let (a, a_base) = launch(dir.path(), 0, RootObject::Shared(shared.as_fd())).unwrap();
    let (b, b_base) = launch(dir.path(), 1, RootObject::Shared(shared.as_fd())).unwrap();
    // A third agent of the same image that does not share.
    let (c, c_base) = launch(dir.path(), 2, image.object()).unwrap();
    assert!(!a.root(a_base).past_the_cache);
    assert_eq!(a.root(a_base), b.root(b_base));
    assert_eq!((a.root(a_base).number, c.root(c_base).number), (77, NUMBER_BASE + 2));
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
    let image = image(memory.path());
    let refused = launch(memory.path(), 0, image.object()).err();
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
    drop(image(dir.path()));
    let disk = dir.path().join("disk");
    File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    run(Command::new("mkfs.ext4").arg("-q").arg(&disk));
    let at = dir.path().join("at");
    fs::create_dir(&at).unwrap();
    run(Command::new("mount").args(["-o", "loop,data=journal"]).args([&disk, &at]));
    for file in ["root.metadata", "root.data"] {
        fs::copy(dir.path().join(file), at.join(file)).unwrap();
    }
    let outcome = root::private(Image::in_directory(&at).files(), 1);
    run(Command::new("umount").arg(&at));
    assert_eq!(outcome.err(), Some(RootError::NoDirectReads { errno: None }));
}

#[test]
fn the_metadata_of_one_root_is_not_that_of_another_nor_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let image = image(dir.path());
    let one = root::private(image.files(), 1).unwrap();
    // The file is written to: the first root says what it said, a second says what the file says now.
    let names = fs::read(dir.path().join("root.metadata")).unwrap();
    let at = names.windows(8).position(|window| window == b"hostname").unwrap();
    let writable = File::options().write(true).open(dir.path().join("root.metadata")).unwrap();
    writable.write_all_at(b"Hostname", u64::try_from(at).unwrap()).unwrap();
    let two = root::private(image.files(), 2).unwrap();
    let names = |root: &OwnedFd| {
        let names = fs::read_dir(format!("/proc/self/fd/{}/etc", root.as_raw_fd())).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&one), ["hostname", "hosts", "resolv.conf"].map(String::from).into());
    assert_eq!(names(&two), ["Hostname", "hosts", "resolv.conf"].map(String::from).into());
    assert_eq!(rustix::fs::fstatvfs(&one).unwrap().f_fsid, 1);
    assert_eq!(rustix::fs::fstatvfs(&two).unwrap().f_fsid, 2);
}

#[test]
fn an_image_whose_parts_do_not_belong_together_or_of_one_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = image(dir.path());
    let one_file = dir.path().join("root.erofs");
    run(Command::new("mkfs.erofs").args([&one_file, &dir.path().join("tree")]));
    let one_file = File::open(one_file).unwrap();
    let mixed = ImageFiles { metadata: one_file.as_fd(), data: whole.data.as_fd() };
    assert!(matches!(root::private(mixed, 1), Err(RootError::Step { .. })));
    let mixed = ImageFiles { metadata: whole.data.as_fd(), data: whole.data.as_fd() };
    assert!(matches!(root::private(mixed, 1), Err(RootError::Step { .. })));
    let empty = tempfile::tempfile().unwrap();
    let mixed = ImageFiles { metadata: empty.as_fd(), data: whole.data.as_fd() };
    assert_eq!(
        root::private(mixed, 1).err(),
        Some(RootError::Metadata { found: "ends within its superblock" })
    );
}
