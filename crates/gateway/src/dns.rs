//! DNS messages (RFC 1035): one query in, one answer out.
//!
//! What it is: the strict minimum that stub resolvers use: one question, class IN, with or without EDNS
//! (RFC 6891). Declared names have one A record and nothing else; every other name does not exist.
//! What it is not: a resolver. It asks nobody, follows no pointer and keeps no state.
//! Who trusts it: nobody needs to: a wrong answer can only name an alias on the asker's own loopback.
//!
//! An undeclared name gets NXDOMAIN rather than REFUSED: a client fails at once with "name not known", where
//! REFUSED makes stub resolvers try other servers and retry.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Longest query that is read, in bytes; a question with EDNS options is far shorter.
pub(crate) const QUERY_BYTES_MAX: usize = 1232;

/// Longest name in bytes, with length bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
const HEADER_BYTES: usize = 12;
/// How long an answer may be kept: rules change while agents run.
const TTL_S: u32 = 5;
/// What we say we take over UDP (DNS flag day 2020).
const UDP_BYTES: u16 = 1232;

/// Flags of the header (RFC 1035, section 4.1.1).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;

/// Types and class (RFC 1035, section 3.2; RFC 6891, section 6.1.1).
const TYPE_A: u16 = 1;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Response codes (RFC 1035, section 4.1.1; RFC 6891, section 9).
const NO_ERROR: u16 = 0;
const FORMAT_ERROR: u16 = 1;
const NAME_ERROR: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;
const REFUSED: u16 = 5;
const BAD_VERSION: u16 = 16;

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Nothing: it is no query.
    Silence,
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes: the name in the query is not declared.
    Deny {
        /// The answer.
        bytes: Vec<u8>,
        /// The name: printable, at most 253 characters.
        name: String,
    },
}

/// Answers one query from `names` (lower case, without a final dot).
pub(crate) fn answer(query: &[u8], names: &BTreeMap<String, Ipv4Addr>) -> Reply {
    let mut cursor = Cursor { rest: query };
    let Some(header) = Header::parse(&mut cursor) else { return Reply::Silence };
    if header.flags & RESPONSE != 0 {
        return Reply::Silence;
    }
    if header.flags & OPCODE != 0 {
        return Reply::Send(header.without_question(NOT_IMPLEMENTED));
    }
    let Some(question) = Question::parse(&header, &mut cursor) else {
        return Reply::Send(header.without_question(FORMAT_ERROR));
    };
    if question.edns.is_some_and(|version| version != 0) {
        return Reply::Send(question.reply(&header, BAD_VERSION, None));
    }
    if question.class != CLASS_IN {
        return Reply::Send(question.reply(&header, REFUSED, None));
    }
    match question.key().and_then(|name| names.get(&name)) {
        Some(alias) => {
            let alias = Some(*alias).filter(|_| question.kind == TYPE_A);
            Reply::Send(question.reply(&header, NO_ERROR, alias))
        }
        None => Reply::Deny { bytes: question.reply(&header, NAME_ERROR, None), name: question.printable() },
    }
}

struct Header {
    id: u16,
    flags: u16,
    counts: [u16; 4],
}

impl Header {
    fn parse(cursor: &mut Cursor<'_>) -> Option<Self> {
        let (id, flags) = (cursor.u16()?, cursor.u16()?);
        let counts = [cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?];
        Some(Self { id, flags, counts })
    }

    fn write(&self, code: u16, counts: [u16; 4]) -> Vec<u8> {
        let kept = self.flags & (OPCODE | RECURSION_DESIRED);
        let flags = RESPONSE | kept | AUTHORITATIVE | RECURSION_AVAILABLE | (code & 0x000f);
        let words = [self.id, flags].into_iter().chain(counts);
        words.flat_map(u16::to_be_bytes).collect()
    }

    fn without_question(&self, code: u16) -> Vec<u8> {
        self.write(code, [0; 4])
    }
}

struct Question<'a> {
    labels: Vec<&'a [u8]>,
    /// The question as it came, to be repeated in the answer.
    wire: &'a [u8],
    kind: u16,
    class: u16,
    /// The EDNS version, where the query has an OPT record.
    edns: Option<u8>,
}

impl<'a> Question<'a> {
    /// None where the message is anything but one question with at most one OPT record.
    fn parse(header: &Header, cursor: &mut Cursor<'a>) -> Option<Self> {
        let [1, 0, 0, additional @ (0 | 1)] = header.counts else { return None };
        let whole = cursor.rest;
        let labels = labels(cursor)?;
        let (kind, class) = (cursor.u16()?, cursor.u16()?);
        let wire = whole.get(..whole.len().checked_sub(cursor.rest.len())?)?;
        let edns = if additional == 1 { Some(opt_version(cursor)?) } else { None };
        cursor.rest.is_empty().then_some(Self { labels, wire, kind, class, edns })
    }

    /// The name as it is declared; none where no declared name can look like this.
    fn key(&self) -> Option<String> {
        let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let text = self.labels.iter().map(|label| {
            let label = label.iter().all(plain).then_some(*label)?;
            Some(String::from_utf8_lossy(label).to_ascii_lowercase())
        });
        Some(text.collect::<Option<Vec<_>>>()?.join("."))
    }

    fn printable(&self) -> String {
        let shown = |b: &u8| if b.is_ascii_graphic() && *b != b'.' { char::from(*b) } else { '?' };
        let labels: Vec<String> = self.labels.iter().map(|l| l.iter().map(shown).collect()).collect();
        if labels.is_empty() { String::from(".") } else { labels.join(".") }
    }

    fn reply(&self, header: &Header, code: u16, alias: Option<Ipv4Addr>) -> Vec<u8> {
        let counts = [1, u16::from(alias.is_some()), 0, u16::from(self.edns.is_some())];
        let mut out = header.write(code, counts);
        out.extend_from_slice(self.wire);
        if let Some(alias) = alias {
            // The name is a pointer to the question, which follows the header.
            out.extend_from_slice(&[0xc0, HEADER_BYTES as u8]);
            out.extend([TYPE_A, CLASS_IN].into_iter().flat_map(u16::to_be_bytes));
            out.extend_from_slice(&TTL_S.to_be_bytes());
            out.extend_from_slice(&4_u16.to_be_bytes());
            out.extend_from_slice(&alias.octets());
        }
        if self.edns.is_some() {
            out.push(0);
            out.extend([TYPE_OPT, UDP_BYTES].into_iter().flat_map(u16::to_be_bytes));
            // Upper bits of the response code, version 0, no flags, no options.
            out.extend_from_slice(&[(code >> 4) as u8, 0, 0, 0, 0, 0]);
        }
        out
    }
}

/// The labels of a name. A compression pointer has nothing to point to in a question and is refused.
fn labels<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<&'a [u8]>> {
    let mut labels = Vec::new();
    let mut bytes = 1_usize;
    loop {
        let length = usize::from(cursor.u8()?);
        match length {
            0 => return Some(labels),
            1..=63 => {
                bytes += length + 1;
                if bytes > NAME_BYTES_MAX {
                    return None;
                }
                labels.push(cursor.take(length)?);
            }
            _ => return None,
        }
    }
}

/// The version in an OPT record; none where the record is another one or is cut.
fn opt_version(cursor: &mut Cursor<'_>) -> Option<u8> {
    let (root, kind) = (cursor.u8()?, cursor.u16()?);
    if root != 0 || kind != TYPE_OPT {
        return None;
    }
    let (_udp_bytes, _code, version, _flags) = (cursor.u16()?, cursor.u8()?, cursor.u8()?, cursor.u16()?);
    let options_bytes = usize::from(cursor.u16()?);
    cursor.take(options_bytes)?;
    Some(version)
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.rest.split_at_checked(count)?;
        self.rest = tail;
        Some(head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().map(u16::from_be_bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIAS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 2);

    fn names() -> BTreeMap<String, Ipv4Addr> {
        BTreeMap::from([(String::from("researcher"), ALIAS), (String::from("api.example.com"), ALIAS)])
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut out = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend([kind, CLASS_IN].into_iter().flat_map(u16::to_be_bytes));
        out
    }

    fn with_opt(mut query: Vec<u8>, version: u8, options: &[u8]) -> Vec<u8> {
        query[11] = 1;
        query.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, version, 0x80, 0]);
        query.extend_from_slice(&(options.len() as u16).to_be_bytes());
        query.extend_from_slice(options);
        query
    }

    fn sent(reply: Reply) -> Vec<u8> {
        match reply {
            Reply::Send(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    fn code(bytes: &[u8]) -> u16 {
        u16::from(bytes[3] & 0x0f)
    }

    #[test]
    fn answers_a_declared_name_with_its_alias() {
        let query = question("researcher", TYPE_A);
        let mut expected = vec![0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        expected.extend_from_slice(&query[12..]);
        expected.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 64, 0, 2]);
        assert_eq!(answer(&query, &names()), Reply::Send(expected));
    }

    #[test]
    fn ignores_the_case_of_a_name_and_repeats_it_as_asked() {
        let query = question("API.Example.COM", TYPE_A);
        let bytes = sent(answer(&query, &names()));
        assert_eq!((code(&bytes), &bytes[12..query.len()]), (NO_ERROR, &query[12..]));
        assert!(bytes.ends_with(&[127, 64, 0, 2]));
    }

    #[test]
    fn answers_other_types_of_a_declared_name_with_nothing() {
        for kind in [28, 65, 64, 15, 16, 255] {
            let bytes = sent(answer(&question("researcher", kind), &names()));
            assert_eq!((code(&bytes), &bytes[4..12]), (NO_ERROR, &[0, 1, 0, 0, 0, 0, 0, 0][..]), "{kind}");
        }
    }

    #[test]
    fn denies_an_undeclared_name_and_names_it() {
        for (asked, named) in
            [("evil.example", "evil.example"), ("Sub.Researcher", "Sub.Researcher"), ("", ".")]
        {
            let Reply::Deny { bytes, name } = answer(&question(asked, TYPE_A), &names()) else { panic!() };
            assert_eq!((code(&bytes), name.as_str()), (NAME_ERROR, named));
        }
    }

    #[test]
    fn shows_odd_bytes_of_a_denied_name_as_question_marks_and_never_matches_them() {
        let mut query = question("aXbXc", TYPE_A);
        query[14] = b'.';
        query[16] = 0;
        let names = BTreeMap::from([(String::from("a.b\0c"), ALIAS), (String::from("a.b"), ALIAS)]);
        let Reply::Deny { name, .. } = answer(&query, &names) else { panic!() };
        assert_eq!(name, "a?b?c");
        let mut query = question("api.exampleXcom", TYPE_A);
        query[12 + 4 + 1 + 7] = b'.';
        let Reply::Deny { name, .. } = answer(&query, &self::names()) else { panic!() };
        assert_eq!(name, "api.example?com");
    }

    #[test]
    fn tolerates_edns_and_answers_with_it() {
        let query = with_opt(question("researcher", TYPE_A), 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        let bytes = sent(answer(&query, &names()));
        assert_eq!((code(&bytes), bytes[11]), (NO_ERROR, 1));
        assert!(bytes.ends_with(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn refuses_another_edns_version() {
        let bytes = sent(answer(&with_opt(question("researcher", TYPE_A), 1, &[]), &names()));
        assert_eq!(code(&bytes), BAD_VERSION & 0x0f);
        assert!(bytes.ends_with(&[0, 0, 41, 0x04, 0xd0, 1, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn answers_truncation_at_every_offset_with_a_format_error_or_silence() {
        let whole = with_opt(question("api.example.com", TYPE_A), 0, &[0, 12, 0, 2, 0, 0]);
        for end in 0..whole.len() {
            let reply = answer(&whole[..end], &names());
            if end < HEADER_BYTES {
                assert_eq!(reply, Reply::Silence, "{end}");
            } else {
                assert_eq!(code(&sent(reply)), FORMAT_ERROR, "{end}");
            }
        }
    }

    #[test]
    fn answers_any_single_changed_byte_without_panic_and_never_past_the_udp_size() {
        let whole = with_opt(question("api.example.com", TYPE_A), 0, &[0, 12, 0, 2, 0, 0]);
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut query = whole.clone();
                query[at] = value;
                if let Reply::Send(bytes) | Reply::Deny { bytes, .. } = answer(&query, &names()) {
                    assert!(bytes.len() <= usize::from(UDP_BYTES));
                    assert_eq!((bytes[0], bytes[1], bytes[2] & 0x80), (query[0], query[1], 0x80));
                }
            }
        }
    }

    #[test]
    fn is_silent_to_responses() {
        let mut query = question("researcher", TYPE_A);
        query[2] |= 0x80;
        assert_eq!(answer(&query, &names()), Reply::Silence);
    }

    #[test]
    fn does_not_implement_other_opcodes() {
        for opcode in 1..16_u8 {
            let mut query = question("researcher", TYPE_A);
            query[2] = opcode << 3;
            assert_eq!(code(&sent(answer(&query, &names()))), NOT_IMPLEMENTED);
        }
    }

    #[test]
    fn refuses_other_classes() {
        let mut query = question("researcher", TYPE_A);
        let last = query.len() - 1;
        query[last] = 3;
        assert_eq!(code(&sent(answer(&query, &names()))), REFUSED);
    }

    #[test]
    fn refuses_compression_pointers_and_reserved_label_kinds() {
        for length in [0xc0_u8, 0x80, 0x40] {
            let mut query = question("researcher", TYPE_A);
            query[12] = length | 0x0c;
            assert_eq!(code(&sent(answer(&query, &names()))), FORMAT_ERROR, "{length:#x}");
        }
    }

    #[test]
    fn refuses_other_counts_trailing_bytes_and_other_additional_records() {
        for (at, value) in [(5, 0), (5, 2), (7, 1), (9, 1), (11, 2), (10, 1)] {
            let mut query = with_opt(question("researcher", TYPE_A), 0, &[]);
            query[at] = value;
            assert_eq!(code(&sent(answer(&query, &names()))), FORMAT_ERROR, "{at}={value}");
        }
        let mut trailing = question("researcher", TYPE_A);
        trailing.push(0);
        assert_eq!(code(&sent(answer(&trailing, &names()))), FORMAT_ERROR);
        let mut record = with_opt(question("researcher", TYPE_A), 0, &[]);
        let kind = record.len() - 9;
        record[kind] = 1;
        assert_eq!(code(&sent(answer(&record, &names()))), FORMAT_ERROR);
    }

    #[test]
    fn takes_a_name_of_255_bytes_and_refuses_256() {
        let label = |bytes: usize| "a".repeat(bytes);
        let fits = [label(63), label(63), label(63), label(61)].join(".");
        let Reply::Deny { name, .. } = answer(&question(&fits, TYPE_A), &names()) else { panic!() };
        assert_eq!((name.len(), name), (253, fits));
        let long = [label(63), label(63), label(63), label(62)].join(".");
        assert_eq!(code(&sent(answer(&question(&long, TYPE_A), &names()))), FORMAT_ERROR);
    }
}
