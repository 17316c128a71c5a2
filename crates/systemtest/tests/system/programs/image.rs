//! An image of real programs: those of this machine, with the libraries that they are linked to.
//!
//! What it is: files copied below `target/`, imported once, kept until a program changes. What it is not: a
//! distribution. Where a program is absent on this machine, it is absent in the image, and its test says so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use crate::project::{casemate, run_bounded};

/// Its name in Compose files.
pub(crate) const IMAGE: &str = "localhost/programs:1";
/// Time for one step.
const STEP_BOUND: Duration = Duration::from_secs(180);
/// Changes whenever the steps below do.
const RECIPE: &str = "programs 2";
/// What is looked for: name inside and outside.
const PROGRAMS: [&str; 5] =
    ["/usr/bin/python3.11", "/usr/bin/node", "/usr/bin/sqlite3", "/usr/bin/curl", "/bin/busybox"];
/// The threaded server.
const SERVER: &str = env!("CARGO_BIN_EXE_systemtest-server");
/// Names by which busybox is found.
const APPLETS: [&str; 11] = ["sh", "env", "cat", "ls", "mkdir", "rm", "sed", "grep", "sleep", "true", "wc"];
/// Parts of Python that no test reads.
const LEFT_OUT: [&str; 5] = ["test", "idlelib", "lib2to3", "tkinter", "turtledemo"];
const WHEELS: &str = "/usr/share/python-wheels";
const FILES: [(&str, &str); 3] = [
    ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nagent:x:1000:1000:agent:/tmp:/bin/sh\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/group", "root:x:0:\nagent:x:1000:\n"),
];
const FOLDERS: [&str; 6] = ["proc", "dev", "run", "etc", "data", "tmp"];

static HOME: OnceLock<PathBuf> = OnceLock::new();

/// Whether the image has this program.
pub(crate) fn has(program: &str) -> bool {
    tree().join(program.trim_start_matches('/')).exists()
}

/// Puts the image into a root directory, by hard links. What is linked must not be written.
pub(crate) fn link_into(home: &Path) {
    fs::create_dir_all(home).unwrap();
    let mut copy = Command::new("cp");
    copy.arg("-al").arg(store().join("images")).arg(home.join("images"));
    run_bounded(&mut copy, home, STEP_BOUND, None).assert_ok();
}

fn folder() -> PathBuf {
    Path::new(SERVER).parent().and_then(Path::parent).unwrap().join("systemtest-programs")
}

fn tree() -> PathBuf {
    store();
    folder().join("tree")
}

fn store() -> &'static Path {
    HOME.get_or_init(|| {
        let (folder, key) = (folder(), key());
        let home = folder.join("home");
        if fs::read_to_string(folder.join("key")).is_ok_and(|found| found == key) {
            return home;
        }
        let _ = fs::remove_dir_all(&folder);
        let tree = folder.join("tree");
        fs::create_dir_all(&tree).unwrap();
        fill(&tree);
        let tar = folder.join("rootfs.tar");
        let mut pack = Command::new("tar");
        pack.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--format=gnu"]);
        pack.arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".");
        run_bounded(&mut pack, &folder, STEP_BOUND, None).assert_ok();
        let mut import = casemate(&["image", "import", IMAGE, "--entrypoint", "/bin/env", "--tar"]);
        import.arg(&tar).env("CASEMATE_HOME", &home);
        run_bounded(&mut import, &folder, STEP_BOUND, None).assert_ok();
        fs::remove_file(tar).unwrap();
        fs::write(folder.join("key"), key).unwrap();
        home
    })
}

/// The programs and their sizes and times: equal keys are equal images.
fn key() -> String {
    let mut key = format!("{RECIPE}\n");
    for program in PROGRAMS.into_iter().chain([SERVER, &git().unwrap_or_default()]) {
        if let Ok(metadata) = fs::metadata(program) {
            let time = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
            key.push_str(&format!("{program} {} {time:?}\n", metadata.len()));
        }
    }
    key
}

fn git() -> Option<String> {
    ["/usr/bin/git", "/usr/local/bin/git"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .map(str::to_owned)
}

fn fill(tree: &Path) {
    for name in FOLDERS.into_iter().chain(["bin", "usr/bin"]) {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    for (path, content) in FILES {
        fs::write(tree.join(path), content).unwrap();
    }
    let mut linked: Vec<PathBuf> = Vec::new();
    for program in PROGRAMS.into_iter().filter(|program| Path::new(program).exists()) {
        copy(Path::new(program), &tree.join(program.trim_start_matches('/')));
        linked.push(program.into());
    }
    copy(Path::new(SERVER), &tree.join("bin/server"));
    linked.push(SERVER.into());
    if let Some(git) = git() {
        copy(Path::new(&git), &tree.join("usr/bin/git"));
        for name in ["git-upload-pack", "git-receive-pack"] {
            std::os::unix::fs::symlink("git", tree.join("usr/bin").join(name)).unwrap();
        }
        linked.push(git.into());
    }
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).unwrap();
    }
    linked.extend(python(tree));
    let libraries: BTreeSet<PathBuf> = linked.iter().flat_map(|program| libraries(program)).collect();
    for library in libraries {
        copy(&library, &tree.join(library.strip_prefix("/").unwrap()));
    }
}

/// The standard library and pip's wheels; gives the files that are linked to libraries.
fn python(tree: &Path) -> Vec<PathBuf> {
    let library = Path::new("/usr/lib/python3.11");
    if !Path::new(PROGRAMS[0]).exists() {
        return Vec::new();
    }
    std::os::unix::fs::symlink("python3.11", tree.join("usr/bin/python3")).unwrap();
    for (from, to) in [(library, "usr/lib"), (Path::new(WHEELS), "usr/share")] {
        fs::create_dir_all(tree.join(to)).unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-rL").arg(from).arg(tree.join(to));
        // A link that leads nowhere (the site's own file) is no loss.
        let _ = run_bounded(&mut copy, &folder(), STEP_BOUND, None);
    }
    for part in LEFT_OUT {
        let _ = fs::remove_dir_all(tree.join("usr/lib/python3.11").join(part));
    }
    let extensions = fs::read_dir(library.join("lib-dynload")).unwrap();
    extensions.flatten().map(|entry| entry.path()).collect()
}

/// The loader and the libraries, as `ldd` shows them: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(|path| PathBuf::from(path.trim_end_matches(':'))).filter(|path| path.exists()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}
