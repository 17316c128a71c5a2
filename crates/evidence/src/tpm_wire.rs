//! Reading the TPM's wire format: big-endian integers and sized buffers, each with a largest size.
//!
//! Source: TCG TPM 2.0 Library, Part 2 (Structures), section 4.1 (marshalling) and the tables named beside each use.

use crate::cursor::{Cursor, Truncated};
use crate::tpm::TpmError;

/// A part of a TPM structure that is being read; errors name the part.
pub(crate) struct Wire<'a> {
    at: Cursor<'a>,
    part: &'static str,
}

impl<'a> Wire<'a> {
    pub(crate) const fn new(bytes: &'a [u8], part: &'static str) -> Self {
        Self { at: Cursor::new(bytes), part }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, TpmError> {
        self.array().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, TpmError> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, TpmError> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, TpmError> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], TpmError> {
        self.at.slice(length).map_err(truncated(self.part))
    }

    /// A TPM2B: a 16-bit size of at most `max`, and the bytes that it covers.
    pub(crate) fn sized(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], TpmError> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(TpmError::Size { field, max, found: length });
        }
        self.slice(length)
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), TpmError> {
        match self.at.rest().len() {
            0 => Ok(()),
            found => Err(TpmError::Trailing { part: self.part, found }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], TpmError> {
        self.at.array().map_err(truncated(self.part))
    }
}

const fn truncated(part: &'static str) -> impl Fn(Truncated) -> TpmError {
    move |Truncated { found }| TpmError::Truncated { part, found }
}
