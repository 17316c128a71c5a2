//! `cost`: system calls and jobs inside a native compartment, against a plain process on the same files.
//!
//! Each run does its job once without telling, as a private root reads pages from disk where a plain process finds them
//! in memory; that first time has a column of its own. Both write to a file system in memory. A third candidate is the plain
//! process with a filter that allows every call: what the kernel takes for having any filter at all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::docker::bounded_output;
use super::project::put_program;
use super::report::{Asked, not_run};
use super::{Outcome, Setup};
use crate::native::Native;
use crate::statistics::quantile;

const BOX: &str = "casemate-bench-cost";
const ASKED: Asked = Asked::AtMost(1.03);
/// Job, repetitions in one run, what one of it is, and how many of the unit are a nanosecond.
const JOBS: [(&str, u32, &str, f64); 7] = [
    ("getpid", 5, "getpid, ns", 1.0),
    ("read", 5, "read of 1 byte, ns", 1.0),
    ("futex", 5, "futex wake, ns", 1.0),
    ("pipe", 3, "pipe there and back, us", 1e3),
    ("python", 5, "start of Python, ms", 1e6),
    ("sqlite", 1, "SQLite, 20,000 rows, ms", 1e6),
    ("compile", 1, "gcc -O2 of 60 functions, ms", 1e6),
];

/// A root file system with Python, SQLite and gcc.
pub(super) struct Tools {
    tree: PathBuf,
    tar: PathBuf,
}

impl Tools {
    /// Unpacks the archive in the work folder, where that is not done.
    pub(super) fn unpacked(setup: &Setup) -> Outcome<Self> {
        let (tar, tree) = (setup.work.join("tools.tar"), setup.work.join("tools"));
        if !tar.is_file() {
            return Err(
                format!("{} is not there; `cargo xtask bench compartments` makes it", tar.display()).into()
            );
        }
        let done = setup.work.join("tools.done");
        if !done.is_file() {
            let _ = std::fs::remove_dir_all(&tree);
            std::fs::create_dir_all(&tree)?;
            let mut unpack = Command::new("tar");
            bounded_output(unpack.arg("-xpf").arg(&tar).arg("-C").arg(&tree), &setup.work.join("tools.log"))?;
            for file in ["hosts", "hostname", "resolv.conf"] {
                std::fs::write(tree.join("etc").join(file), "")?;
            }
            std::fs::write(done, "")?;
        }
        Ok(Self { tree, tar })
    }

    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }

    pub(super) fn tar(&self) -> &Path {
        &self.tar
    }
}

/// Times of one job, in nanoseconds.
#[derive(Default)]
struct Series {
    first: Vec<f64>,
    next: Vec<f64>,
}

pub(super) fn run(setup: &Setup) -> Outcome<()> {
    let tools = Tools::unpacked(setup)?;
    put_program(tools.tree(), &Setup::inside()?)?;
    let dir = tempfile::tempdir()?;
    let native = Native::of(&setup.launcher(), tools.tree(), dir.path(), BOX)?;
    let bare = Bare::mount(tools.tree())?;
    let mut all: Vec<[Series; 3]> = JOBS.iter().map(|_| <[Series; 3]>::default()).collect();
    for round in 0..setup.rounds {
        for ((job, count, ..), series) in JOBS.iter().zip(&mut all) {
            if let Err(error) = one_round(&native, &bare, (job, &count.to_string()), round, series) {
                not_run(job, error);
            }
        }
    }
    table(&all);
    Ok(())
}

fn one_round(
    native: &Native,
    bare: &Bare<'_>,
    (job, count): (&str, &str),
    round: usize,
    [plain, filtered, inside]: &mut [Series; 3],
) -> Outcome<()> {
    const PROGRAM: &str = "/bin/casemate-bench-inside";
    plain.add(&bare.output(&[PROGRAM, "job", job, count])?);
    inside.add(&native.start(&format!("{job}{round}"), &[PROGRAM, "job", job, count])?.output()?);
    filtered.add(&bare.output(&[PROGRAM, "filtered-job", job, count])?);
    Ok(())
}

fn table(all: &[[Series; 3]]) {
    println!(
        "inside a native compartment against a plain process on the same files; filter: the plain process with a filter"
    );
    println!("that allows every call; 1st: the first time, with what is read from disk");
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}  native / plain",
        "", "plain", "filter", "native", "plain 1st", "natv. 1st", "n./filter"
    );
    for ((_, _, what, unit), [plain, filtered, inside]) in JOBS.iter().zip(all) {
        let at = |times: &[f64]| quantile(times, 0.5).unwrap_or(f64::NAN) / unit;
        let (outside, alone, native) = (at(&plain.next), at(&filtered.next), at(&inside.next));
        println!(
            "{what:<28} {outside:>9.1} {alone:>9.1} {native:>9.1} {:>9.1} {:>9.1} {:>9.3}  {}",
            at(&plain.first),
            at(&inside.first),
            native / alone,
            ASKED.judge(native / outside)
        );
    }
}

impl Series {
    /// The first time, and the median of the others.
    fn add(&mut self, output: &str) {
        let times: Vec<f64> = output.lines().filter_map(|line| line.parse().ok()).collect();
        if let Some((first, next)) = times.split_first() {
            self.first.push(*first);
            self.next.extend(quantile(next, 0.5));
        }
    }
}

/// A plain process in a folder, with a file system in memory at `/tmp`. Dropping it unmounts that.
struct Bare<'a> {
    tree: &'a Path,
}

impl<'a> Bare<'a> {
    fn mount(tree: &'a Path) -> Outcome<Self> {
        use rustix::mount::{MountFlags, mount, mount_bind};
        let [tmp, dev] = ["tmp", "dev"].map(|folder| tree.join(folder));
        mount("none", &tmp, "tmpfs", MountFlags::empty(), None)?;
        mount_bind("/dev", &dev)?;
        Ok(Self { tree })
    }

    fn output(&self, command: &[&str]) -> Outcome<String> {
        let mut plain = Command::new("chroot");
        plain.arg("--userspec=1000:1000").arg(self.tree).args(command).env_clear();
        plain.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let output = plain.stdin(Stdio::null()).stderr(Stdio::null()).output()?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!("{command:?}: {}", output.status).into())
        }
    }
}

impl Drop for Bare<'_> {
    fn drop(&mut self) {
        for folder in ["tmp", "dev"] {
            let _ = rustix::mount::unmount(self.tree.join(folder), rustix::mount::UnmountFlags::DETACH);
        }
    }
}
