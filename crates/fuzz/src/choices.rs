//! Choices out of an input: the same bytes choose the same, and every input chooses something.

/// What is left of an input to choose with. After its end, everything is the first choice.
#[derive(Debug, Clone)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// From the bytes of an input.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// A number below `end`; zero where `end` is zero.
    pub fn below(&mut self, end: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number.checked_rem(end).unwrap_or(0)
    }

    /// One of `items`.
    pub fn pick<'b, T>(&mut self, items: &'b [T]) -> Option<&'b T> {
        items.get(self.below(items.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_with_every_input() {
        let mut choices = Choices::new(&[7, 0, 1, 0xff, 0xff]);
        assert_eq!((choices.byte(), choices.below(10), choices.below(1)), (7, 1, 0));
        assert_eq!((choices.below(10), choices.below(0), choices.byte()), (0, 0, 0));
    }
}
