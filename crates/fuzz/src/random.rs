//! Numbers that look random and are the same for the same seed.

/// Xorshift with 64 bits of state (Marsaglia, "Xorshift RNGs", 2003), multiplied at the end.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; zero would stay zero, so it stands for another one.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // The first numbers of small seeds are alike: spread them.
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(if state == 0 { 1 } else { state })
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; zero where `end` is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        usize::try_from(self.bits().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }

    /// One of `items`.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_same_for_the_same_seed_and_another_for_another() {
        let first = |seed| {
            let mut random = Random::new(seed);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        assert_ne!(first(0), [0, 0, 0]);
        assert_eq!(Random::new(u64::MAX).below(0), 0);
    }
}
