//! Three ways for a receiver to tell what a sender touches, through nothing but their roots.
//!
//! Bits are pseudo-random. The first third is known to the receiver, which learns from it what "touched" looks like; the
//! rest is told by the middle between both medians. So nothing is assumed of a machine's times.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use casemate_sys::timing::Mapped;
use rustix::fs::{Advice, fadvise};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::Outcome;
use super::layouts::{Layout, PROBE_BYTES, PROBE_NAMES, Roots};
use crate::statistics::quantile;

/// A channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The receiver puts a line of a mapped page out of the caches and times its own next read.
    FlushReload,
    /// The receiver times its first read of each page of a file.
    FirstRead,
    /// The receiver times its first look at each of many directories.
    FirstLook,
}

pub(super) const CHANNELS: [Channel; 3] = [Channel::FlushReload, Channel::FirstRead, Channel::FirstLook];

/// Time of one bit of Flush+Reload.
const SLOT: Duration = Duration::from_millis(2);
const SLOTS: usize = 600;
/// Byte of the file whose line is watched: within a page, away from its ends.
const WATCHED: usize = (5 << 20) + 4096 + 0x440;
/// Pages of the file that carry a bit, and their distance: far enough that no reading ahead goes from one to the next.
const PAGES: usize = 256;
const PAGE_DISTANCE: usize = PROBE_BYTES / PAGES;
/// Share of wrong bits from which on nothing is heard.
const WRONG_MAX: f64 = 0.35;
/// Time until a sender has started.
const START: Duration = Duration::from_millis(60);

/// What a receiver heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) touched: f64,
    pub(super) idle: f64,
    pub(super) wrong: f64,
    rate: f64,
}

impl Channel {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::FlushReload => "Flush+Reload on a mapped page, same core",
            Self::FirstRead => "page cache: first read of a page of a file",
            Self::FirstLook => "page cache: first look at a directory",
        }
    }

    /// Where the receiver must hear the sender, or the run says nothing. Directories of a disk's file system stay
    /// cached, so that the control of names is two mounts that read names through the cache of one file.
    pub(super) const fn control(self) -> Layout {
        match self {
            Self::FirstLook => Layout::OneFileDirect,
            _ => Layout::SameDirectory,
        }
    }

    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::FlushReload => "cy",
            _ => "us",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::FlushReload => "line",
            Self::FirstRead => "page",
            Self::FirstLook => "name",
        }
    }

    const fn bits(self) -> usize {
        match self {
            Self::FlushReload => SLOTS,
            Self::FirstRead => PAGES,
            Self::FirstLook => PROBE_NAMES,
        }
    }
}

impl Heard {
    /// Capacity of a binary symmetric channel: rate times 1 - H(wrong).
    pub(super) fn bits_a_second(&self) -> f64 {
        let wrong = self.wrong.clamp(1e-4, 0.5);
        if wrong > WRONG_MAX {
            return 0.0;
        }
        self.rate * (1.0 + wrong * wrong.log2() + (1.0 - wrong) * (1.0 - wrong).log2())
    }

    pub(super) fn median(runs: &[Self]) -> Self {
        let of = |field: fn(&Self) -> f64| {
            quantile(&runs.iter().map(field).collect::<Vec<_>>(), 0.5).unwrap_or(f64::NAN)
        };
        Self {
            touched: of(|h| h.touched),
            idle: of(|h| h.idle),
            wrong: of(|h| h.wrong),
            rate: of(|h| h.rate),
        }
    }

    fn of(bits: &[bool], samples: &[f64], took: Duration) -> Self {
        let learned = bits.len() / 3;
        let side = |wanted: bool, pairs: &mut dyn Iterator<Item = (&bool, &f64)>| {
            let side: Vec<f64> =
                pairs.filter(|(bit, _)| **bit == wanted).map(|(_, sample)| *sample).collect();
            quantile(&side, 0.5).unwrap_or(f64::NAN)
        };
        let known = || bits.iter().zip(samples).take(learned);
        let (one, zero) = (side(true, &mut known()), side(false, &mut known()));
        let middle = f64::midpoint(one, zero);
        let told = bits.iter().zip(samples).skip(learned);
        let wrong =
            told.clone().filter(|(bit, sample)| **bit != ((**sample < middle) == (one < zero))).count();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (wrong, rate) = (wrong as f64 / told.count() as f64, bits.len() as f64 / took.as_secs_f64());
        let all = || bits.iter().zip(samples);
        Self { touched: side(true, &mut all()), idle: side(false, &mut all()), wrong, rate }
    }
}

/// The bits that a channel carries.
fn bits(count: usize, seed: u64) -> Vec<bool> {
    let mut state = seed | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 32 & 1 == 1
        })
        .collect()
}

/// One run between the roots of two agents.
pub(super) fn measure(channel: Channel, roots: &Roots) -> Outcome<Heard> {
    let [sender, receiver] = roots.paths.as_slice() else { return Err("two roots are needed".into()) };
    let now = now();
    let seed = u64::try_from(now.as_nanos() & u128::from(u32::MAX))?;
    let bits = bits(channel.bits(), seed);
    if channel == Channel::FlushReload {
        return flush_reload(sender, receiver, &bits, seed);
    }
    // Nothing of what carries bits is cached when the sender begins.
    for path in [sender, receiver].into_iter().chain(&roots.behind) {
        forget(path)?;
    }
    let began = self::now();
    let status =
        sender_command(channel, sender, seed, Duration::ZERO).spawn().and_then(|mut child| child.wait())?;
    if !status.success() {
        return Err(format!("sender: {status}").into());
    }
    let file = File::open(receiver.join("page"))?;
    fadvise(&file, 0, None, Advice::Random)?;
    let samples: Vec<f64> = (0..bits.len())
        .map(|place| {
            let begun = self::now();
            touch(channel, receiver, &file, place)?;
            Ok((self::now() - begun).as_secs_f64() * 1e6)
        })
        .collect::<Outcome<_>>()?;
    Ok(Heard::of(&bits, &samples, self::now() - began))
}

fn flush_reload(sender: &Path, receiver: &Path, bits: &[bool], seed: u64) -> Outcome<Heard> {
    pin_to_first_core()?;
    let file = File::open(receiver.join("page"))?;
    let mapped = Mapped::of(file.as_fd(), PROBE_BYTES)?;
    let _ = mapped.touch(WATCHED);
    let begin = now() + START;
    let mut child = sender_command(Channel::FlushReload, sender, seed, begin).spawn()?;
    let mut samples = Vec::with_capacity(bits.len());
    for slot in (0_u32..).take(bits.len()) {
        let slot = begin + SLOT * slot;
        sleep_until(slot);
        let _ = mapped.flush(WATCHED);
        sleep_until(slot + SLOT * 3 / 4);
        #[expect(clippy::cast_precision_loss, reason = "cycles")]
        samples.push(mapped.read_cycles(WATCHED).ok_or("the probe file is short")? as f64);
    }
    let took = now() - begin;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("sender: {status}").into());
    }
    Ok(Heard::of(bits, &samples, took))
}

fn sender_command(channel: Channel, root: &Path, seed: u64, begin: Duration) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("roots-send").arg(channel.name()).arg(root).arg(seed.to_string());
    command.arg(begin.as_nanos().to_string()).stdin(Stdio::null());
    command
}

/// The sender's life: `roots-send CHANNEL ROOT SEED BEGIN`.
pub(crate) fn send(channel: &str, root: &str, seed: &str, begin: &str) -> Outcome<()> {
    let channel = CHANNELS.into_iter().find(|known| known.name() == channel).ok_or("unknown channel")?;
    let root = PathBuf::from(root);
    let bits = bits(channel.bits(), seed.parse()?);
    let file = File::open(root.join("page"))?;
    if channel != Channel::FlushReload {
        fadvise(&file, 0, None, Advice::Random)?;
        for (place, _) in bits.iter().enumerate().filter(|(_, bit)| **bit) {
            touch(channel, &root, &file, place)?;
        }
        return Ok(());
    }
    pin_to_first_core()?;
    let mapped = Mapped::of(file.as_fd(), PROBE_BYTES)?;
    let _ = mapped.touch(WATCHED);
    let begin = Duration::from_nanos(begin.parse()?);
    for (slot, bit) in (0_u32..).zip(&bits) {
        let slot = begin + SLOT * slot;
        // Within the slot, between the receiver's flush and its look.
        for part in 2..=5 {
            sleep_until(slot + SLOT * part / 8);
            if *bit {
                let _ = mapped.touch(WATCHED);
            }
        }
    }
    Ok(())
}

/// Touches what stands for the bit at `place`.
fn touch(channel: Channel, root: &Path, file: &File, place: usize) -> Outcome<()> {
    match channel {
        Channel::FirstLook => {
            // A name that is not there: the whole directory is looked at.
            let looked = fs::symlink_metadata(root.join(format!("names/{place}/absent")));
            if looked.is_ok() { Err("found what is not there".into()) } else { Ok(()) }
        }
        _ => Ok(file.read_exact_at(&mut [0; 64], u64::try_from(place * PAGE_DISTANCE)?)?),
    }
}

/// Takes a root, or the file or device behind it, out of the page cache.
fn forget(path: &Path) -> Outcome<()> {
    let drop_pages =
        |path: &Path| -> Outcome<()> { Ok(fadvise(File::open(path)?, 0, None, Advice::DontNeed)?) };
    if !path.is_dir() {
        return drop_pages(path);
    }
    // Directories of a disk's file system stay cached: what a name leaks is told of the others.
    drop_pages(&path.join("page"))
}

fn pin_to_first_core() -> Outcome<()> {
    let mut set = CpuSet::new();
    set.set(0);
    Ok(sched_setaffinity(None, &set)?)
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn sleep_until(time: Duration) {
    let left = time.saturating_sub(now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}
