//! What a root costs: disk, memory of one more idle agent, and time until an agent's program has begun.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::layouts::{Image, Layout, Roots, image_of, quiet};
use super::{Outcome, real_layouts};
use crate::statistics::quantile;

/// Runs that count.
const ROUNDS: usize = 5;
/// Idle agents of one run.
const AGENTS: usize = 4;
/// What an idle agent is: a Python that has loaded what most have.
const PROGRAM: &str = "import os,re,collections,functools,traceback,sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()";
/// Time for the memory of ended agents to come back.
const SETTLE: Duration = Duration::from_millis(150);

#[derive(Default)]
struct Series {
    first_ms: Vec<f64>,
    next_ms: Vec<f64>,
    used: Vec<f64>,
    proportional: Vec<f64>,
}

/// Measures with the root file system in `tar`.
pub(super) fn run(dir: &Path, tar: &Path) -> Outcome<()> {
    let dir = dir.join("python");
    fs::create_dir_all(dir.join("tree"))?;
    quiet(Command::new("tar").arg("-xpf").arg(tar).arg("-C").arg(dir.join("tree")))?;
    let image = image_of(&dir)?;
    let layouts: Vec<Layout> = real_layouts().collect();
    let mut all: Vec<Series> = layouts.iter().map(|_| Series::default()).collect();
    for _ in 0..ROUNDS {
        for (layout, series) in layouts.iter().zip(&mut all) {
            round(*layout, &image, series)?;
        }
    }
    println!(
        "What it costs, for an idle Python agent; median of {ROUNDS} interleaved runs. Start: from nothing mounted"
    );
    println!(
        "to the first byte of its output. Memory: what each of agents 2 to {AGENTS} takes of the machine, and the"
    );
    println!("proportional set size of its process.");
    println!(
        "Metadata of this image, of which each agent of ours has a copy in memory: {:.2} MB.",
        disk_mb(&image.metadata)?
    );
    println!(
        "{:<52} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "disk MB", "MB more", "1st ms", "2nd ms", "used MiB", "PSS MiB"
    );
    for (layout, series) in layouts.iter().zip(&all) {
        let (disk, more) = disk(*layout, &image)?;
        let of = |series: &[f64]| quantile(series, 0.5).unwrap_or(f64::NAN);
        println!(
            "{:<52} {disk:>9.1} {more:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
            layout.title(),
            of(&series.first_ms),
            of(&series.next_ms),
            of(&series.used),
            of(&series.proportional)
        );
    }
    Ok(())
}

fn round(layout: Layout, image: &Image, series: &mut Series) -> Outcome<()> {
    forget_all(&image.tree)?;
    for file in [&image.erofs, &image.metadata, &image.data] {
        forget_all(file)?;
    }
    let mut roots = layout.prepare(image, 0)?;
    // A copy is made before anything is timed: its time is disk's.
    if layout == Layout::Copies {
        for _ in 0..AGENTS {
            layout.add(image, &mut roots)?;
        }
        rustix::fs::sync();
        roots.paths.iter().chain([&image.tree]).try_for_each(|root| forget_all(root))?;
    }
    std::thread::sleep(SETTLE);
    let mut agents = Vec::new();
    let mut after_first = 0.0;
    for place in 0..AGENTS {
        let began = Instant::now();
        if roots.paths.len() <= place {
            layout.add(image, &mut roots)?;
        }
        agents.push(Agent::start(&roots, place)?);
        let took = began.elapsed().as_secs_f64() * 1e3;
        match place {
            0 => {
                series.first_ms.push(took);
                after_first = used_mib()?;
            }
            1 => series.next_ms.push(took),
            _ => {}
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let (more, count) = ((AGENTS - 1) as f64, AGENTS as f64);
    series.used.push((used_mib()? - after_first) / more);
    let sum = agents.iter().map(Agent::proportional_mib).sum::<Outcome<f64>>()?;
    series.proportional.push(sum / count);
    Ok(())
}

/// A running agent; dropping it ends it.
struct Agent {
    child: Child,
}

impl Agent {
    fn start(roots: &Roots, place: usize) -> Outcome<Self> {
        let mut command = Command::new("chroot");
        command.arg(roots.paths.get(place).ok_or("no root")?).args([
            "/usr/bin/python3",
            "-I",
            "-S",
            "-c",
            PROGRAM,
        ]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut agent = Self { child: command.spawn()? };
        agent.child.stdout.as_mut().ok_or("no output")?.read_exact(&mut [0; 1])?;
        Ok(agent)
    }

    fn proportional_mib(&self) -> Outcome<f64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        field_mib(&rollup, "Pss:")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.flush();
        }
        let _ = self.child.wait();
    }
}

/// Memory of the machine that is in use, page cache included.
fn used_mib() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    Ok(field_mib(&text, "MemTotal:")? - field_mib(&text, "MemFree:")?)
}

/// A field in kB.
fn field_mib(text: &str, name: &str) -> Outcome<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("a field of /proc is missing")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

/// Megabytes on disk for the first agent, and for each more.
fn disk(layout: Layout, image: &Image) -> Outcome<(f64, f64)> {
    Ok(match layout {
        Layout::SameDirectory | Layout::Overlay => (disk_mb(&image.tree)?, 0.0),
        Layout::Copies => (disk_mb(&image.tree)?, disk_mb(&image.tree)?),
        Layout::OneLoopDevice | Layout::FileBuffered | Layout::OneFileDirect => (disk_mb(&image.erofs)?, 0.0),
        Layout::Private | Layout::Shared => (disk_mb(&image.metadata)? + disk_mb(&image.data)?, 0.0),
    })
}

fn disk_mb(path: &Path) -> Outcome<f64> {
    let metadata = fs::symlink_metadata(path)?;
    #[expect(clippy::cast_precision_loss, reason = "a size")]
    let mut sum = metadata.blocks() as f64 * 512.0 / 1e6;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            sum += disk_mb(&entry?.path())?;
        }
    }
    Ok(sum)
}

/// Takes a file, or all files below a directory, out of the page cache.
fn forget_all(path: &Path) -> Outcome<()> {
    let kind = fs::symlink_metadata(path)?.file_type();
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            forget_all(&entry?.path())?;
        }
    } else if kind.is_file() {
        fadvise(File::open(path)?, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
