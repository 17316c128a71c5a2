//! Walking DER as borrowed tag-length-value triples, so that signed parts stay the bytes that were received.

use der::{Header, Reader as _, SliceReader, Tag};

/// The bytes are not DER, or not of the shape that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not DER of the expected shape at {part}")]
pub(crate) struct Asn1Error {
    /// The field that was to be read.
    pub(crate) part: &'static str,
}

/// One value with its tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: Tag,
    /// Tag, length and value.
    pub(crate) whole: &'a [u8],
    /// The value alone.
    pub(crate) value: &'a [u8],
}

/// The values of one level, in order.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a>(SliceReader<'a>);

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8], part: &'static str) -> Result<Self, Asn1Error> {
        SliceReader::new(bytes).map(Self).map_err(|_| Asn1Error { part })
    }

    /// The fields of the only value in `bytes`, which must be a SEQUENCE.
    pub(crate) fn of_sequence(bytes: &'a [u8], part: &'static str) -> Result<Self, Asn1Error> {
        let mut outer = Self::of(bytes, part)?;
        let inner = outer.sequence(part)?;
        outer.end(part)?;
        Ok(inner)
    }

    pub(crate) fn next(&mut self, part: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let error = |_| Asn1Error { part };
        let header = Header::peek(&self.0).map_err(error)?;
        let whole = self.0.tlv_bytes().map_err(error)?;
        let length = usize::try_from(header.length()).map_err(|_| Asn1Error { part })?;
        let start = whole.len().checked_sub(length).ok_or(Asn1Error { part })?;
        let value = whole.get(start..).ok_or(Asn1Error { part })?;
        Ok(Tlv { tag: header.tag(), whole, value })
    }

    pub(crate) fn tagged(&mut self, tag: Tag, part: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let tlv = self.next(part)?;
        if tlv.tag == tag { Ok(tlv) } else { Err(Asn1Error { part }) }
    }

    /// The next value if it has this tag.
    pub(crate) fn optional(&mut self, tag: Tag, part: &'static str) -> Result<Option<Tlv<'a>>, Asn1Error> {
        if self.0.is_finished() || Header::peek(&self.0).map_err(|_| Asn1Error { part })?.tag() != tag {
            return Ok(None);
        }
        self.next(part).map(Some)
    }

    pub(crate) fn sequence(&mut self, part: &'static str) -> Result<Self, Asn1Error> {
        Self::of(self.tagged(Tag::Sequence, part)?.value, part)
    }

    /// A non-negative INTEGER that fits.
    pub(crate) fn unsigned(&mut self, part: &'static str) -> Result<u64, Asn1Error> {
        let value = self.tagged(Tag::Integer, part)?.value;
        unsigned(value).ok_or(Asn1Error { part })
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    pub(crate) fn end(&self, part: &'static str) -> Result<(), Asn1Error> {
        if self.0.is_finished() { Ok(()) } else { Err(Asn1Error { part }) }
    }
}

/// The value of a non-negative INTEGER in its shortest form.
fn unsigned(value: &[u8]) -> Option<u64> {
    let digits = match value {
        [0] => value,
        [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => rest,
        [first, ..] if *first != 0 && *first < 0x80 => value,
        _ => return None,
    };
    if digits.len() > 8 {
        return None;
    }
    Some(digits.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// The bytes of a BIT STRING without unused bits.
pub(crate) fn bit_string<'a>(tlv: &Tlv<'a>, part: &'static str) -> Result<&'a [u8], Asn1Error> {
    match (tlv.tag, tlv.value) {
        (Tag::BitString, [0, bytes @ ..]) => Ok(bytes),
        _ => Err(Asn1Error { part }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_integers_only_in_their_shortest_form() {
        let read = |bytes: &[u8]| Fields::of(bytes, "n").unwrap().unsigned("n").ok();
        assert_eq!(read(&[2, 1, 0]), Some(0));
        assert_eq!(read(&[2, 2, 0, 0xdb]), Some(0xdb));
        assert_eq!(read(&[2, 2, 1, 0]), Some(256));
        for bad in [&[2, 0][..], &[2, 2, 0, 1], &[2, 1, 0xdb], &[2, 2, 0, 0], &[4, 1, 1], &[2, 2, 1]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
