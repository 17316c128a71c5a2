//! Bounded length-prefixed fields, for messages between programs of one box.
//!
//! What it is: an encoder and a decoder for sequences of integers and byte strings, where each byte
//! string carries a little-endian `u32` length and the reader names the largest length it takes.
//! What it is not: a serialisation framework. It has no dependency and no reflection, so that the
//! launcher, which holds privilege, can read its instructions with it.
//! Who trusts it: the launcher (from the warden), the warden (from the courier and the launcher).
#![no_std]
extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

/// What can be wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The message ends before the field does.
    Truncated,
    /// A byte string is longer than the reader allows.
    TooLong {
        /// The length that was announced, in bytes.
        found: usize,
        /// The length that the reader allows, in bytes.
        max: usize,
    },
    /// A text field is not UTF-8.
    NotUtf8,
    /// Bytes are left after the last field.
    Trailing {
        /// How many bytes are left.
        left: usize,
    },
    /// A tag has a value that the reader does not know.
    UnknownTag {
        /// The value that was found.
        found: u64,
    },
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("message ends inside a field"),
            Self::TooLong { found, max } => write!(f, "field of {found} bytes, at most {max} allowed"),
            Self::NotUtf8 => f.write_str("text field is not UTF-8"),
            Self::Trailing { left } => write!(f, "{left} bytes after the last field"),
            Self::UnknownTag { found } => write!(f, "unknown tag {found}"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Builds a message.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.out.push(value);
        self
    }

    /// Appends a little-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.out.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a little-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.out.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a byte string. One over 4 GiB is cut to nothing readable: its reader refuses it.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.out.extend_from_slice(value);
        self
    }

    /// Appends a text.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.bytes(value.as_bytes())
    }

    /// The finished message.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Takes a message apart.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `message`.
    #[must_use]
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(FrameError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        self.take(N)?.try_into().map_err(|_| FrameError::Truncated)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`FrameError::Truncated`].
    pub fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian `u32`.
    ///
    /// # Errors
    /// [`FrameError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian `u64`.
    ///
    /// # Errors
    /// [`FrameError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes a byte string of at most `max` bytes.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] or [`FrameError::TooLong`].
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], FrameError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if found > max {
            return Err(FrameError::TooLong { found, max });
        }
        self.take(found)
    }

    /// Takes a text of at most `max` bytes.
    ///
    /// # Errors
    /// As [`Reader::bytes`], and [`FrameError::NotUtf8`].
    pub fn text(&mut self, max: usize) -> Result<String, FrameError> {
        core::str::from_utf8(self.bytes(max)?).map(String::from).map_err(|_| FrameError::NotUtf8)
    }

    /// Takes a count of at most `max` items.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] or [`FrameError::TooLong`].
    pub fn count(&mut self, max: usize) -> Result<usize, FrameError> {
        let found = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if found > max { Err(FrameError::TooLong { found, max }) } else { Ok(found) }
    }

    /// Ends the message.
    ///
    /// # Errors
    /// [`FrameError::Trailing`] where bytes are left.
    pub fn end(self) -> Result<(), FrameError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(FrameError::Trailing { left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut w = Writer::new();
        w.u8(7).u32(70_000).u64(1 << 40).bytes(b"abc").text("d\u{e9}");
        w.finish()
    }

    fn read(message: &[u8]) -> Result<(u8, u32, u64, Vec<u8>, String), FrameError> {
        let mut r = Reader::new(message);
        let fields = (r.u8()?, r.u32()?, r.u64()?, r.bytes(3)?.to_vec(), r.text(3)?);
        r.end()?;
        Ok(fields)
    }

    #[test]
    fn round_trips_every_kind_of_field() {
        assert_eq!(read(&sample()), Ok((7, 70_000, 1 << 40, b"abc".to_vec(), String::from("d\u{e9}"))));
    }

    #[test]
    fn refuses_truncation_at_every_offset() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), Err(FrameError::Truncated), "cut at {end}");
        }
    }

    #[test]
    fn refuses_trailing_bytes() {
        let mut whole = sample();
        whole.push(0);
        assert_eq!(read(&whole), Err(FrameError::Trailing { left: 1 }));
    }

    #[test]
    fn refuses_a_length_over_the_bound_without_reading_it() {
        let mut w = Writer::new();
        w.u32(u32::MAX);
        let message = w.finish();
        assert_eq!(
            Reader::new(&message).bytes(16),
            Err(FrameError::TooLong { found: u32::MAX as usize, max: 16 })
        );
        assert_eq!(
            Reader::new(&message).count(2),
            Err(FrameError::TooLong { found: u32::MAX as usize, max: 2 })
        );
    }

    #[test]
    fn refuses_text_that_is_not_utf8() {
        let mut w = Writer::new();
        w.bytes(&[0xff, 0xfe]);
        let message = w.finish();
        assert_eq!(Reader::new(&message).text(8), Err(FrameError::NotUtf8));
    }

    #[test]
    fn takes_lengths_and_counts_of_just_the_bound_and_none_above_it() {
        for max in [0, 1, 255, 256, 70_000] {
            let mut w = Writer::new();
            w.bytes(&alloc::vec![7; max]);
            let message = w.finish();
            assert_eq!(Reader::new(&message).bytes(max).map(<[u8]>::len), Ok(max));
            if let Some(less) = max.checked_sub(1) {
                assert_eq!(
                    Reader::new(&message).bytes(less),
                    Err(FrameError::TooLong { found: max, max: less })
                );
            }
            let count = u32::try_from(max).unwrap().to_le_bytes();
            assert_eq!(Reader::new(&count).count(max), Ok(max));
            assert_eq!(
                Reader::new(&(u32::try_from(max).unwrap() + 1).to_le_bytes()).count(max),
                Err(FrameError::TooLong { found: max + 1, max })
            );
        }
    }

    #[test]
    fn a_length_beyond_the_message_is_a_truncation_even_where_it_is_allowed() {
        let message = u32::MAX.to_le_bytes();
        assert_eq!(Reader::new(&message).bytes(u32::MAX as usize), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&message).text(u32::MAX as usize), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&[3, 0, 0, 0, 1, 2]).bytes(3), Err(FrameError::Truncated));
    }
}
