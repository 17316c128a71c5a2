//! Walking DER as borrowed tag-length-value triples, so that signed parts stay the bytes that were received.

use der::{Tag, TagNumber};

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
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The fields of the only value in `bytes`, which must be a SEQUENCE.
    pub(crate) fn of_sequence(bytes: &'a [u8], part: &'static str) -> Result<Self, Asn1Error> {
        let mut outer = Self::of(bytes);
        let inner = outer.sequence(part)?;
        outer.end(part)?;
        Ok(inner)
    }

    pub(crate) fn next(&mut self, part: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let error = Asn1Error { part };
        let (header, length) = read_header(self.0).ok_or(error)?;
        let end = header.checked_add(length).ok_or(error)?;
        let (whole, rest) = self.0.split_at_checked(end).ok_or(error)?;
        let value = whole.get(header..).ok_or(error)?;
        let tag = whole.first().and_then(|byte| tag(*byte)).ok_or(error)?;
        self.0 = rest;
        Ok(Tlv { tag, whole, value })
    }

    pub(crate) fn tagged(&mut self, tag: Tag, part: &'static str) -> Result<Tlv<'a>, Asn1Error> {
        let tlv = self.next(part)?;
        if tlv.tag == tag { Ok(tlv) } else { Err(Asn1Error { part }) }
    }

    /// The next value if it has this tag.
    pub(crate) fn optional(
        &mut self,
        expected: Tag,
        part: &'static str,
    ) -> Result<Option<Tlv<'a>>, Asn1Error> {
        let Some(byte) = self.0.first() else { return Ok(None) };
        if tag(*byte).ok_or(Asn1Error { part })? == expected { self.next(part).map(Some) } else { Ok(None) }
    }

    pub(crate) fn sequence(&mut self, part: &'static str) -> Result<Self, Asn1Error> {
        Ok(Self::of(self.tagged(Tag::Sequence, part)?.value))
    }

    /// A non-negative INTEGER that fits.
    pub(crate) fn unsigned(&mut self, part: &'static str) -> Result<u64, Asn1Error> {
        let value = self.tagged(Tag::Integer, part)?.value;
        unsigned(value).ok_or(Asn1Error { part })
    }

    pub(crate) const fn is_finished(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) const fn end(&self, part: &'static str) -> Result<(), Asn1Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Asn1Error { part }) }
    }
}

/// Lengths of header and value. A length is definite and in its shortest form (X.690 sections 8.1.3 and 10.1), of at
/// most three bytes: nothing that is read here is larger than 16 MiB.
fn read_header(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *bytes {
        [_, short @ 0..=0x7f, ..] => return Some((2, usize::from(short))),
        [_, 0x81, one, ..] => (3, usize::from(one)),
        [_, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 0x83, high, middle, low, ..] => {
            (5, usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?)
        }
        _ => return None,
    };
    let smallest = match header {
        3 => 0x80,
        4 => 0x100,
        _ => 0x1_0000,
    };
    (length >= smallest).then_some((header, length))
}

/// The tags that certificates and CRLs have, all of one byte.
const fn tag(byte: u8) -> Option<Tag> {
    Some(match byte {
        0x01 => Tag::Boolean,
        0x02 => Tag::Integer,
        0x03 => Tag::BitString,
        0x04 => Tag::OctetString,
        0x05 => Tag::Null,
        0x06 => Tag::ObjectIdentifier,
        0x0a => Tag::Enumerated,
        0x0c => Tag::Utf8String,
        0x13 => Tag::PrintableString,
        0x14 => Tag::TeletexString,
        0x16 => Tag::Ia5String,
        0x17 => Tag::UtcTime,
        0x18 => Tag::GeneralizedTime,
        0x1e => Tag::BmpString,
        0x30 => Tag::Sequence,
        0x31 => Tag::Set,
        0x80..=0x9e | 0xa0..=0xbe => {
            Tag::ContextSpecific { constructed: byte & 0x20 != 0, number: TagNumber((byte & 0x1f) as u32) }
        }
        _ => return None,
    })
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
    fn takes_lengths_only_in_their_shortest_form() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let [.., high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
            let spellings =
                [vec![low], vec![0x81, low], vec![0x82, middle, low], vec![0x83, high, middle, low]];
            let shortest = match length {
                0..=0x7f => 0,
                0x80..=0xff => 1,
                0x100..=0xffff => 2,
                _ => 3,
            };
            for (index, spelling) in spellings.iter().enumerate().filter(|(index, _)| *index >= shortest) {
                let mut bytes = [&[4], spelling.as_slice()].concat();
                bytes.resize(bytes.len() + length, 7);
                let read = Fields::of(&bytes).next("v").map(|tlv| tlv.value.len());
                let expected = if index == shortest { Ok(length) } else { Err(Asn1Error { part: "v" }) };
                assert_eq!(read, expected, "{length:#x} as {spelling:x?}");
            }
        }
    }

    #[test]
    fn takes_integers_only_in_their_shortest_form() {
        let read = |bytes: &[u8]| Fields::of(bytes).unsigned("n").ok();
        assert_eq!(read(&[2, 1, 0]), Some(0));
        assert_eq!(read(&[2, 2, 0, 0xdb]), Some(0xdb));
        assert_eq!(read(&[2, 2, 1, 0]), Some(256));
        for bad in [
            &[2, 0x81, 1, 5][..],
            &[2, 0x80, 5, 0, 0],
            &[2, 0x84, 0, 0, 0, 1, 5],
            &[0x1f, 1, 5],
            &[2, 0],
            &[2, 2, 0, 1],
            &[2, 1, 0xdb],
            &[2, 2, 0, 0],
            &[4, 1, 1],
            &[2, 2, 1],
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn refuses_integers_of_more_than_eight_bytes() {
        let read = |bytes: &[u8]| Fields::of(bytes).unsigned("n");
        assert_eq!(read(&[&[2, 9, 0][..], &[0xff; 8]].concat()), Ok(u64::MAX));
        assert_eq!(read(&[&[2, 8, 0x7f][..], &[0xff; 7]].concat()), Ok(u64::MAX >> 1));
        assert_eq!(read(&[&[2, 9, 1][..], &[0; 8]].concat()), Err(Asn1Error { part: "n" }));
        assert_eq!(read(&[&[2, 10, 0][..], &[0xff; 9]].concat()), Err(Asn1Error { part: "n" }));
    }

    #[test]
    fn refuses_truncation_trailing_bytes_and_lengths_that_are_not_der() {
        let whole = [0x30, 6, 2, 1, 5, 4, 1, 7];
        let read = |bytes: &[u8]| {
            let mut fields = Fields::of_sequence(bytes, "s")?;
            let number = fields.unsigned("n")?;
            let octets = fields.tagged(Tag::OctetString, "o")?.value.to_vec();
            fields.end("s").map(|()| (number, octets))
        };
        assert_eq!(read(&whole), Ok((5, vec![7])));
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), Err(Asn1Error { part: "s" }), "{length}");
        }
        assert_eq!(read(&[&whole[..], &[0]].concat()), Err(Asn1Error { part: "s" }));
        for header in [
            &[0x30, 0x80][..],
            &[0x30, 0x81, 6],
            &[0x30, 0x82, 0, 6],
            &[0x30, 0x85, 0, 0, 0, 0, 6],
            &[0x31, 6],
        ] {
            assert_eq!(read(&[header, &whole[2..]].concat()), Err(Asn1Error { part: "s" }), "{header:x?}");
        }
        assert_eq!(read(&[0x30, 7, 2, 1, 5, 4, 1, 7, 0]), Err(Asn1Error { part: "s" }));
        assert_eq!(read(&[0x30, 6, 2, 1, 5, 4, 2, 7]), Err(Asn1Error { part: "o" }));
    }

    #[test]
    fn steps_over_what_is_nested_deeply() {
        let mut nested = [&[0x04, 0x82, 1, 0][..], &[0; 256]].concat();
        while nested.len() < 60_000 {
            let [high, low] = u16::try_from(nested.len()).unwrap().to_be_bytes();
            nested = [&[0x30, 0x82, high, low][..], &nested].concat();
        }
        let mut fields = Fields::of_sequence(&nested, "n").unwrap();
        assert_eq!(fields.next("n").map(|tlv| tlv.tag), Ok(Tag::Sequence));
        assert_eq!(fields.end("n"), Ok(()));
    }
}
