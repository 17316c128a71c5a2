//! Covert channels: the bits that one carries, and what a receiver made of them.
//!
//! Bits are pseudo-random. The first third is known to the judge, who learns from it what "touched" looks like; the rest is
//! told by the middle between both medians. So nothing is assumed of a machine's times.

use std::time::Duration;

/// Share of wrong bits from which on nothing is heard.
pub const WRONG_MAX: f64 = 0.35;
/// How many standard deviations of chance a share of wrong bits must be below one half.
const SIGMAS: f64 = 5.0;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heard {
    /// Median sample where the victim acted.
    pub touched: f64,
    /// Median sample where it did not.
    pub idle: f64,
    /// Share of bits told wrongly.
    pub wrong: f64,
    /// Bits sent in a second.
    pub rate: f64,
    /// Bits that were told.
    pub told: usize,
}

impl Heard {
    /// From the bits that were sent and a sample for each. None where there are too few of a kind to learn from.
    #[must_use]
    pub fn of(bits: &[bool], samples: &[f64], took: Duration) -> Option<Self> {
        if bits.len() != samples.len() || bits.len() < 30 || took.is_zero() {
            return None;
        }
        let learned = bits.len() / 3;
        let pairs = || bits.iter().copied().zip(samples.iter().copied());
        let one = median(pairs().take(learned).filter(|(bit, _)| *bit))?;
        let zero = median(pairs().take(learned).filter(|(bit, _)| !*bit))?;
        let middle = f64::midpoint(one, zero);
        let told = |sample: f64| if one < zero { sample < middle } else { sample > middle };
        let wrong = pairs().skip(learned).filter(|(bit, sample)| told(*sample) != *bit).count();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (wrong, rate) =
            (wrong as f64 / (bits.len() - learned) as f64, bits.len() as f64 / took.as_secs_f64());
        Some(Self {
            touched: median(pairs().filter(|(bit, _)| *bit))?,
            idle: median(pairs().filter(|(bit, _)| !*bit))?,
            wrong,
            rate,
            told: bits.len() - learned,
        })
    }

    /// Capacity of a binary symmetric channel: rate times 1 - H(wrong); 0 where nothing is heard.
    #[must_use]
    pub fn bits_a_second(&self) -> f64 {
        let wrong = self.wrong.clamp(1e-4, 0.5);
        if !self.is_signal() {
            return 0.0;
        }
        self.rate * (1.0 + wrong * wrong.log2() + (1.0 - wrong) * (1.0 - wrong).log2())
    }

    /// Whether something is: not that many bits come out right by chance.
    #[must_use]
    pub fn is_signal(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let chance = 0.5 - SIGMAS * 0.5 / (self.told.max(1) as f64).sqrt();
        self.wrong <= WRONG_MAX.min(chance)
    }
}

fn median(pairs: impl Iterator<Item = (bool, f64)>) -> Option<f64> {
    let mut samples: Vec<f64> = pairs.map(|(_, sample)| sample).collect();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

/// The bits that a seed stands for.
#[must_use]
pub fn bits(count: usize, seed: u64) -> Vec<bool> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(sample: impl Fn(usize, bool) -> f64) -> Heard {
        let bits = bits(300, 9);
        let samples: Vec<f64> = bits.iter().enumerate().map(|(at, bit)| sample(at, *bit)).collect();
        Heard::of(&bits, &samples, Duration::from_secs(3)).unwrap()
    }

    #[test]
    fn a_clear_channel_carries_its_rate_whichever_way_it_points() {
        for (one, zero) in [(1.0, 2.0), (2.0, 1.0)] {
            let heard = heard(|_, bit| if bit { one } else { zero });
            assert_eq!((heard.touched, heard.idle, heard.wrong), (one, zero, 0.0));
            assert!(heard.bits_a_second() > 99.0 && heard.is_signal());
        }
    }

    #[test]
    fn noise_and_silence_carry_nothing() {
        let noise = bits(300, 4711);
        let noisy = heard(|at, _| if noise[at] { 1.0 } else { 2.0 });
        let silent = heard(|_, _| 1.0);
        for heard in [noisy, silent] {
            assert!(!heard.is_signal() && heard.bits_a_second() == 0.0, "{heard:?}");
        }
        assert_eq!(Heard::of(&[true; 30], &[1.0; 30], Duration::from_secs(1)), None);
        assert_eq!(Heard::of(&bits(30, 1), &[1.0; 29], Duration::from_secs(1)), None);
    }

    #[test]
    fn few_bits_that_come_out_right_are_chance() {
        let heard = |wrong, told| Heard { touched: 1.0, idle: 2.0, wrong, rate: 100.0, told };
        assert!(heard(0.3, 400).is_signal() && !heard(0.36, 10_000).is_signal());
        assert!(!heard(0.3, 80).is_signal() && heard(0.2, 80).is_signal());
    }

    #[test]
    fn errors_take_their_share() {
        let heard = heard(|at, bit| if bit ^ (at % 10 == 9) { 1.0 } else { 2.0 });
        assert!((heard.wrong - 0.1).abs() < 0.01, "{heard:?}");
        assert!((50.0..56.0).contains(&heard.bits_a_second()), "{heard:?}");
    }
}
