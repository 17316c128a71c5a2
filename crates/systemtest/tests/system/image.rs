//! The image of the tests: one small program with the libraries that it is linked to, as a tar archive; and an image
//! store made of it once for all tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::project::{COMMAND_BOUND, casemate, run_bounded};

/// Its name in Compose files.
pub(crate) const IMAGE: &str = "localhost/systemtest:1";
/// The agent's program.
const AGENT: &str = env!("CARGO_BIN_EXE_systemtest-agent");
/// Directories that the compartment mounts on.
const DIRECTORIES: [(&str, u32); 6] =
    [("data", 0o755), ("tmp", 0o1777), ("proc", 0o555), ("dev", 0o755), ("run", 0o755), ("etc", 0o755)];

struct Shared {
    dir: tempfile::TempDir,
    tar: PathBuf,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

/// The archive.
pub(crate) fn tar() -> &'static Path {
    &shared().tar
}

/// Puts the image into a root directory: by hard links, as importing takes longer. What is linked must not be written.
pub(crate) fn link_into(home: &Path) {
    let from = shared().dir.path().join("home/images");
    std::fs::create_dir_all(home).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-al").arg(from).arg(home.join("images"));
    run_bounded(&mut copy, home, COMMAND_BOUND, None).assert_ok();
}

/// Puts the image into a root directory with files of its own.
pub(crate) fn import_into(home: &Path, tar: &Path) {
    std::fs::create_dir_all(home).unwrap();
    let mut import = casemate(&["image", "import", IMAGE, "--entrypoint", "/agent", "--tar"]);
    import.arg(tar).env("CASEMATE_HOME", home);
    run_bounded(&mut import, home, COMMAND_BOUND, None).assert_ok();
}

fn shared() -> &'static Shared {
    SHARED.get_or_init(|| {
        let target = Path::new(AGENT).parent().and_then(Path::parent).unwrap();
        // Beside the programs: a static is not dropped, so that the folder must not pile up in /tmp.
        let dir = target.join("systemtest");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        let dir = tempfile::TempDir::new_in(dir).unwrap();
        let tar = dir.path().join("rootfs.tar");
        write_tar(&tar);
        import_into(&dir.path().join("home"), &tar);
        Shared { dir, tar }
    })
}

fn write_tar(path: &Path) {
    let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
    let mut made = BTreeSet::new();
    for (name, mode) in DIRECTORIES {
        put_directory(&mut tar, &mut made, Path::new(name), mode);
    }
    put_file(&mut tar, "agent", &std::fs::read(AGENT).unwrap());
    put_file(&mut tar, "etc/nsswitch.conf", b"hosts: files dns\n");
    for library in libraries() {
        let inside = library.strip_prefix("/").unwrap().to_owned();
        let mut parents: Vec<&Path> = inside.ancestors().skip(1).filter(|p| *p != Path::new("")).collect();
        parents.reverse();
        for parent in parents {
            put_directory(&mut tar, &mut made, parent, 0o755);
        }
        put_file(&mut tar, inside.to_str().unwrap(), &std::fs::read(&library).unwrap());
    }
    tar.finish().unwrap();
}

/// The loader and the libraries, as `ldd` shows them: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(AGENT).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let found: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    assert!(found.len() >= 2, "{text}");
    found
}

fn put_directory(
    tar: &mut tar::Builder<std::fs::File>,
    made: &mut BTreeSet<PathBuf>,
    path: &Path,
    mode: u32,
) {
    if made.insert(path.to_owned()) {
        put(tar, tar::EntryType::Directory, path.to_str().unwrap(), mode, &[]);
    }
}

fn put_file(tar: &mut tar::Builder<std::fs::File>, path: &str, content: &[u8]) {
    put(tar, tar::EntryType::Regular, path, 0o755, content);
}

fn put(tar: &mut tar::Builder<std::fs::File>, kind: tar::EntryType, path: &str, mode: u32, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).unwrap();
}
