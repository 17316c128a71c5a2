//! What an attack is: its name, who stops it, and what victim and attacker do.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// An attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name, as in `--only` and `--accept`.
    pub name: &'static str,
    /// What it is, in few words.
    pub title: &'static str,
    /// The controls that stop it, by the names of docs/controls.md. The first is what the verdict names.
    pub stopped_by: &'static [&'static str],
    /// What it goes through.
    pub through: Through,
    /// Whether the short battery has it.
    pub length: Length,
    /// What is done.
    pub kind: Kind,
}

/// What an attack goes through: a composition may let two agents have it in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// The kernel's own objects. No composition lets two agents share them.
    Kernel,
    /// Files of the root: those of one `share` group have them in common.
    Root,
    /// Cores: those of one trust group have them in common.
    Cores,
    /// Where files are written: agents that have volumes have the box's disk in common.
    Disk,
}

/// Which batteries have an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Both.
    Short,
    /// The full one.
    Full,
}

/// What victim and attacker do.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// The attacker reaches what the victim has.
    Reach {
        /// The victim's part: has something, and keeps it.
        offer: fn(&Args) -> Result<Offer, Why>,
        /// The attacker's part: what it got.
        take: fn(&Args) -> Result<String, Why>,
    },
    /// The attacker reaches the kernel; no victim is needed.
    Surface {
        /// Whose it is.
        of: Of,
        /// What it got.
        take: fn(&Args) -> Result<String, Why>,
    },
    /// The victim touches what stands for bits that are 1; the attacker looks at all of them after that.
    OneShot {
        /// Bits in one run.
        bits: usize,
        /// The attacker's part before: as if nobody had touched anything.
        forget: fn(&Args) -> Result<(), Why>,
        /// The victim's part.
        send: fn(&Args, &[bool]) -> Result<(), Why>,
        /// The attacker's part: one sample for each bit.
        receive: fn(&Args, usize) -> Result<Vec<f64>, Why>,
    },
    /// Bits in slots of time.
    Slots {
        /// Time of one bit.
        slot: Duration,
        /// Bits in one run.
        bits: usize,
        /// Makes the victim ready; what it gives acts in one slot.
        sender: fn(&Args) -> Result<Sender, Why>,
        /// Makes the attacker ready; what it gives takes one sample in one slot.
        receiver: fn(&Args) -> Result<Receiver, Why>,
    },
    /// The attacker takes all it can get of something that the victim needs a little of.
    Exhaust {
        /// Makes the victim ready; what it gives needs a little, once.
        need: fn(&Args) -> Result<Need, Why>,
        /// Takes all; holds it as long as what it gives lives.
        take: fn(&Args) -> Result<Offer, Why>,
    },
}

/// Whose what an attacker reaches is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The kernel that answers the attacker's calls: in a sandbox, the sandbox's own.
    Kernel,
    /// The box.
    Box,
}

/// A victim's work in one slot.
pub type Sender = Box<dyn FnMut(bool, Slot) -> Result<(), Why>>;
/// An attacker's work in one slot.
pub type Receiver = Box<dyn FnMut(Slot) -> Result<f64, Why>>;
/// What a victim of exhaustion needs, once.
pub type Need = Box<dyn FnMut() -> Result<(), Why>>;

/// What somebody has, and what the other one is told of it.
pub struct Offer {
    /// What the driver tells the other one; in one line, without tabs.
    pub told: String,
    /// What must stay.
    pub kept: Box<dyn Any>,
}

impl Offer {
    /// Something that needs no word.
    pub fn silent(kept: impl Any) -> Self {
        Self { told: String::new(), kept: Box::new(kept) }
    }
}

/// Why there was nothing to get, or nothing to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why(pub String);

impl<T: std::error::Error> From<T> for Why {
    fn from(error: T) -> Self {
        Self(error.to_string())
    }
}

impl Why {
    /// A reason in words.
    pub fn of(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }
}

/// What both parts of an attack know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    /// The mark of the run: in names and secrets of the victim.
    pub mark: String,
    /// A file of the root that both may have by this name; empty where there is none.
    pub file: String,
    /// A folder on a disk that both may write to by this name; empty where each looks for one of its own.
    pub folder: String,
    /// The root of a small file system in memory that both may write to by this name; empty likewise.
    pub small: String,
    /// Where the victim has a secret of its own.
    pub secret_path: String,
    /// Its content.
    pub secret: String,
    /// A socket of the box that no agent may use.
    pub box_socket: String,
    /// What the other part said.
    pub told: String,
    /// Seed of the bits.
    pub seed: u64,
}

impl Args {
    /// What the victim keeps from others.
    #[must_use]
    pub fn own_secret(&self) -> String {
        format!("secret-of-{}", self.mark)
    }
}

/// A slot of time, by the clock that all of a box have in common.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    begin: Duration,
    length: Duration,
}

impl Slot {
    /// Slot `number` of a row that begins at `begin`.
    #[must_use]
    pub fn of(begin: Duration, length: Duration, number: usize) -> Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        Self { begin: begin.saturating_add(length.saturating_mul(number)), length }
    }

    /// Sleeps until so many of `whole` parts of it are over.
    pub fn until(&self, part: u32, whole: u32) {
        let time = self.begin.saturating_add(self.length.saturating_mul(part) / whole.max(1));
        let left = time.saturating_sub(now());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
    }

    /// Whether so many of `whole` parts of it are over.
    #[must_use]
    pub fn is_past(&self, part: u32, whole: u32) -> bool {
        now() >= self.begin.saturating_add(self.length.saturating_mul(part) / whole.max(1))
    }
}

/// Time since 1970: sandboxes have their own idea of every other clock.
#[must_use]
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Realtime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
