//! Reading fixed-size parts off the front of a slice, without copying and without panics.

/// What is left to read. Knows where it is, so that an error can say so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    total: usize,
}

/// The bytes end before the part that must come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated {
    /// Length of what there is.
    pub(crate) found: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes were read.
    pub(crate) const fn offset(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Truncated> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated { found: self.total })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Truncated { found: self.total })?;
        self.rest = rest;
        Ok(taken)
    }

    /// A length field (little-endian u32) and the bytes that it covers.
    pub(crate) fn sized_u32(&mut self) -> Result<&'a [u8], Truncated> {
        let length = usize::try_from(self.u32()?).map_err(|_| Truncated { found: self.total })?;
        self.slice(length)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| *byte)
    }
}
