//! DER, written by hand: just the shapes that vendor certificates and CRLs are made of (ITU-T X.690).
//!
//! What it is: an encoder for values this crate chose itself. What it is not: a parser. Nobody but this crate uses it.

/// One tag, length and value. Lengths are definite and minimal, as DER demands.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if let Ok(short @ 0..=0x7f) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        // At most eight length bytes: a usize has no more.
        out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(0x7f));
        out.extend_from_slice(&bytes);
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// A context-specific constructed value: `[number] EXPLICIT`.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// A non-negative INTEGER from big-endian bytes.
pub(crate) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = magnitude.iter().copied().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    tlv(0x02, &content)
}

pub(crate) fn integer_u64(value: u64) -> Vec<u8> {
    integer(&value.to_be_bytes())
}

pub(crate) fn enumerated(value: u8) -> Vec<u8> {
    tlv(0x0a, &[value])
}

pub(crate) fn boolean_true() -> Vec<u8> {
    tlv(0x01, &[0xff])
}

pub(crate) fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

pub(crate) fn octet_string(content: &[u8]) -> Vec<u8> {
    tlv(0x04, content)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bit_string(content: &[u8]) -> Vec<u8> {
    bit_string_unused(0, content)
}

/// A BIT STRING whose last byte has `unused` unused bits.
pub(crate) fn bit_string_unused(unused: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[unused], content].concat())
}

pub(crate) fn utf8_string(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub(crate) fn ia5_string(text: &str) -> Vec<u8> {
    tlv(0x16, text.as_bytes())
}

/// An OBJECT IDENTIFIER from its arcs.
pub(crate) fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut content = Vec::new();
    let (first, rest) = match arcs {
        [a, b, rest @ ..] => (a * 40 + b, rest),
        _ => (0, arcs),
    };
    for arc in core::iter::once(first).chain(rest.iter().copied()) {
        let groups: Vec<u8> = (0..5u32).rev().map(|group| ((arc >> (group * 7)) & 0x7f) as u8).collect();
        let significant: Vec<u8> = groups.into_iter().skip_while(|group| *group == 0).collect();
        match significant.split_last() {
            None => content.push(0),
            Some((last, leading)) => {
                content.extend(leading.iter().map(|group| group | 0x80));
                content.push(*last);
            }
        }
    }
    tlv(0x06, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodes_object_identifiers_like_the_standard() {
        // 1.2.840.113741.1.13.1, as it stands in every PCK certificate.
        assert_eq!(
            oid(&[1, 2, 840, 113_741, 1, 13, 1]),
            [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01]
        );
        assert_eq!(
            oid(&[1, 3, 6, 1, 4, 1, 3704, 1, 1]),
            [0x06, 0x09, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x9c, 0x78, 0x01, 0x01]
        );
    }

    #[test]
    fn encodes_integers_minimally_and_without_sign() {
        assert_eq!(integer_u64(0), [0x02, 0x01, 0x00]);
        assert_eq!(integer_u64(0x54), [0x02, 0x01, 0x54]);
        assert_eq!(integer_u64(0xdb), [0x02, 0x02, 0x00, 0xdb]);
        assert_eq!(integer_u64(0x20002), [0x02, 0x03, 0x02, 0x00, 0x02]);
    }

    #[test]
    fn encodes_long_lengths_with_the_fewest_bytes() {
        assert_eq!(tlv(0x04, &[0; 127])[..2], [0x04, 0x7f]);
        assert_eq!(tlv(0x04, &[0; 128])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(tlv(0x04, &[0; 256])[..4], [0x04, 0x82, 0x01, 0x00]);
    }
}
