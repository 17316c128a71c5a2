//! Hostile input for every parser, and for whole verifications. Development only; nothing here ships.
//!
//! What it is: one function per target that takes any bytes and says what came of them, inputs to begin with, and a
//! small engine that mutates them on a stable compiler. What it is not: guided by coverage; instead of it, an input
//! whose outcome is new is kept. The same functions run under libFuzzer in `fuzz/`. Who trusts it: nobody; what it
//! finds becomes a test beside the code.

pub mod choices;
pub mod mutate;
pub mod random;
pub mod runner;
pub mod seeds;
mod targets;
// The one builder of whole worlds, which the verifier's own tests use.
#[expect(dead_code, reason = "its other users need more of it")]
#[path = "../../verifier/tests/world/mod.rs"]
mod world;

/// A function that takes hostile bytes, and what holds for it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is called.
    pub what: &'static str,
    /// Inputs to begin with: some valid ones at least.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Byte strings that mean something in this format.
    pub words: &'static [&'static [u8]],
    /// Runs one input.
    pub run: fn(&[u8]) -> Result<Outcome, Violation>,
    /// What one input may cost.
    pub bound: Bound,
}

/// What came of an input, as text: an error's, or what was read. New ones are worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome(pub String);

/// A property that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

/// What one input may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Largest input that is made, in bytes.
    pub input_bytes_max: usize,
    /// Most bytes allocated at once, whatever the input is.
    pub allocation_bytes: usize,
    /// Most bytes allocated at once per byte of input, beyond that.
    pub allocation_bytes_per_input_byte: usize,
    /// Most processor time per input, in microseconds, in a build for development.
    pub time_us: u64,
    /// Most processor time per byte of input, beyond that, in nanoseconds.
    pub time_ns_per_input_byte: u64,
}

impl Bound {
    /// Most bytes allocated at once for an input of `length` bytes.
    #[must_use]
    pub const fn allocation(&self, length: usize) -> usize {
        self.allocation_bytes.saturating_add(self.allocation_bytes_per_input_byte.saturating_mul(length))
    }

    /// Most processor time for an input of `length` bytes, in nanoseconds.
    #[must_use]
    pub const fn time_ns(&self, length: usize) -> u64 {
        let length = length as u64;
        self.time_us.saturating_mul(1000).saturating_add(self.time_ns_per_input_byte.saturating_mul(length))
    }
}

/// Every target.
#[must_use]
pub fn targets() -> Vec<Target> {
    targets::all()
}

/// Runs one input of a target, for libFuzzer.
///
/// # Panics
/// Where a property does not hold, or no target has this name: libFuzzer takes a panic for a finding.
pub fn run(name: &str, input: &[u8]) {
    let found = targets().into_iter().find(|target| target.name == name);
    assert!(found.is_some(), "no target `{name}`");
    if let Some(target) = found {
        let result = (target.run)(input);
        assert!(result.is_ok(), "{result:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzer_has_every_target_and_no_other() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let bins = text.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1));
        let names: Vec<&str> = targets().iter().map(|target| target.name).collect();
        assert_eq!(bins.collect::<Vec<_>>(), names);
    }

    #[test]
    fn every_target_reads_something_that_it_begins_with() {
        for target in targets() {
            let outcomes: Vec<_> = (target.seeds)().iter().map(|seed| (target.run)(seed)).collect();
            assert!(outcomes.iter().all(Result::is_ok), "{}: {outcomes:?}", target.name);
            let read = |outcome: &Result<Outcome, Violation>| {
                outcome.as_ref().is_ok_and(|outcome| outcome.0.contains("read"))
            };
            assert!(outcomes.iter().any(read), "{}: {outcomes:?}", target.name);
        }
    }
}
