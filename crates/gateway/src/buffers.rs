//! Buffers for bytes on their way: lent to a direction while bytes flow, and given back before it waits for more.
//!
//! What it is: a bound on memory. The more directions are held up by a side that does not read, the smaller the buffers
//! that are lent. What it is not: a place where bytes meet: who borrows a buffer writes only what it read itself.

use std::cell::{Cell, RefCell};

/// Sizes by how many are lent: the first few take all that a socket holds at once, for speed (docs/performance.md); past that,
/// memory counts.
const SIZES: [(usize, usize); 4] = [(8, 1 << 20), (32, 256 << 10), (512, 64 << 10), (usize::MAX, 16 << 10)];
/// Most buffers that wait to be lent again.
const KEPT_MAX: usize = 4;

/// The buffers of one gateway.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    lent: Cell<usize>,
    kept: RefCell<Vec<Vec<u8>>>,
}

/// A buffer, given back when dropped.
#[derive(Debug)]
pub(crate) struct Lent<'a> {
    bytes: Vec<u8>,
    of: &'a Buffers,
}

impl Buffers {
    /// Lends a buffer.
    pub(crate) fn lend(&self) -> Lent<'_> {
        let lent = self.lent.get();
        let size = SIZES.iter().find(|(most, _)| lent < *most).map_or(16 << 10, |(_, size)| *size);
        self.lent.set(lent.saturating_add(1));
        let mut kept = self.kept.borrow_mut();
        let bytes = match kept.pop() {
            Some(bytes) if bytes.len() == size => bytes,
            _ => vec![0; size],
        };
        Lent { bytes, of: self }
    }
}

impl Lent<'_> {
    /// Its first `count` bytes; all where there are fewer.
    pub(crate) fn first(&mut self, count: usize) -> &mut [u8] {
        let end = count.min(self.bytes.len());
        self.bytes.get_mut(..end).unwrap_or_default()
    }

    /// Its size.
    pub(crate) const fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.of.lent.set(self.of.lent.get().saturating_sub(1));
        let mut kept = self.of.kept.borrow_mut();
        let large = SIZES.first().is_some_and(|(_, size)| self.bytes.len() == *size);
        if large && kept.len() < KEPT_MAX {
            kept.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_smaller_buffers_when_many_are_out() {
        let buffers = Buffers::default();
        let mut lent: Vec<_> = (0..600).map(|_| buffers.lend()).collect();
        let sizes: Vec<usize> = [0, 7, 8, 31, 32, 511, 512, 599].map(|at| lent[at].size()).into();
        let kib: Vec<usize> = sizes.iter().map(|size| size >> 10).collect();
        assert_eq!(kib, [1024, 1024, 256, 256, 64, 64, 16, 16]);
        lent.clear();
        assert_eq!((buffers.lent.get(), buffers.kept.borrow().len()), (0, KEPT_MAX));
        assert_eq!(buffers.lend().size(), 1 << 20);
    }
}
