//! Logs made here, field by field: what is read from where, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// The parts of a header, so that a test can break one.
struct Header {
    index: u32,
    digest: [u8; 20],
    signature: [u8; 16],
    class: u32,
    version: [u8; 4],
    bank_count: u32,
    banks: Vec<(u16, u16)>,
    vendor_length: u8,
    vendor: Vec<u8>,
    after: Vec<u8>,
}

fn good() -> Header {
    Header {
        index: 0,
        digest: [0; 20],
        signature: *SPEC_ID_03,
        class: 0,
        version: [0, 2, 105, 2],
        bank_count: 2,
        banks: vec![(0x4, 20), (0xc, 48)],
        vendor_length: 3,
        vendor: b"abc".to_vec(),
        after: vec![],
    }
}

impl Header {
    fn data(&self) -> Vec<u8> {
        let mut data = self.signature.to_vec();
        data.extend(self.class.to_le_bytes());
        data.extend(self.version);
        data.extend(self.bank_count.to_le_bytes());
        for (algorithm, length) in &self.banks {
            data.extend(algorithm.to_le_bytes());
            data.extend(length.to_le_bytes());
        }
        data.push(self.vendor_length);
        data.extend(&self.vendor);
        data.extend(&self.after);
        data
    }

    fn bytes(&self) -> Vec<u8> {
        old_event(self.index, 3, self.digest, &self.data())
    }
}

/// An event of the SHA-1 layout.
fn old_event(index: u32, event_type: u32, digest: [u8; 20], data: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_le_bytes().to_vec();
    bytes.extend(event_type.to_le_bytes());
    bytes.extend(digest);
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

fn event(index: u32, event_type: u32, digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut bytes = index.to_le_bytes().to_vec();
    bytes.extend(event_type.to_le_bytes());
    bytes.extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
    for (algorithm, digest) in digests {
        bytes.extend(algorithm.to_le_bytes());
        bytes.extend(*digest);
    }
    bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    bytes.extend(data);
    bytes
}

/// A header and two events; the digests of the second stand in the other order.
fn log() -> Vec<u8> {
    let mut bytes = good().bytes();
    bytes.extend(event(7, 0x8000_0001, &[(0x4, &[0x11; 20]), (0xc, &[0x22; 48])], b"first"));
    bytes.extend(event(0xe, 0xd, &[(0xc, &[0x33; 48]), (0x4, &[0x44; 20])], b""));
    bytes
}

#[test]
fn reads_each_field_from_its_place() {
    let bytes = log();
    let log = parse_boot_log(&bytes).unwrap();
    assert_eq!(log.format(), LogFormat::CryptoAgile);
    assert_eq!(log.banks().collect::<Vec<_>>(), [Bank::Known(TpmHash::Sha1), Bank::Known(TpmHash::Sha384)]);
    assert_eq!(log.event_count(), 2);
    let events: Vec<BootEvent<'_>> = log.events().collect();
    let [first, second] = events[..] else { panic!("{events:?}") };
    assert_eq!((first.number, first.index, first.data), (1, 7, &b"first"[..]));
    assert_eq!(first.event_type, EventType::EFI_VARIABLE_DRIVER_CONFIG);
    assert_eq!(first.digests.get(TpmHash::Sha1), Some(&[0x11; 20][..]));
    assert_eq!(first.digests.get(TpmHash::Sha384), Some(&[0x22; 48][..]));
    assert_eq!(first.digests.get(TpmHash::Sha256), None);
    assert_eq!((second.number, second.index, second.data), (2, 14, &b""[..]));
    assert_eq!(second.event_type, EventType::IPL);
    let digests: Vec<_> = second.digests.iter().collect();
    assert_eq!(
        digests,
        [(Bank::Known(TpmHash::Sha384), &[0x33; 48][..]), (Bank::Known(TpmHash::Sha1), &[0x44; 20][..])]
    );
    assert_eq!(log.events().size_hint(), (2, Some(2)));
}

#[test]
fn a_log_cut_anywhere_is_shorter_or_refused_and_never_longer() {
    let whole = log();
    let header = good().bytes().len();
    let first = header + event(7, 1, &[(0x4, &[0; 20]), (0xc, &[0; 48])], b"first").len();
    for end in 0..whole.len() {
        let found = parse_boot_log(&whole[..end]);
        // Up to four bytes of zero at the begin are the index of the header: nothing but padding.
        let expected = match end {
            0..=4 => Err(BootLogError::Empty),
            _ if end < header => Err(BootLogError::Truncated { event: 0, found: end }),
            _ if end == header || end == first => Ok(usize::from(end == first)),
            _ if end < first => Err(BootLogError::Truncated { event: 1, found: end }),
            _ => Err(BootLogError::Truncated { event: 2, found: end }),
        };
        assert_eq!(found.map(|log| log.event_count()), expected, "{end}");
    }
}

#[test]
fn padding_of_one_byte_ends_the_log() {
    for fill in [0x00, 0xff] {
        for length in [1, 3, 11, 12, 13, 65_536] {
            let mut bytes = log();
            bytes.extend(vec![fill; length]);
            let read = parse_boot_log(&bytes).unwrap();
            assert_eq!(read.event_count(), 2, "{fill:#x} {length}");
            assert_eq!(read, parse_boot_log(&log()).unwrap());
        }
    }
}

#[test]
fn other_bytes_after_padding_are_refused() {
    let end = log().len();
    for (fill, other) in [(0x00, 0xff), (0xff, 0x00), (0x00, 1), (0xff, 0xfe)] {
        let mut bytes = log();
        bytes.extend([fill; 100]);
        bytes.push(other);
        assert_eq!(parse_boot_log(&bytes), Err(BootLogError::Padding { offset: end }));
    }
    // Less than the begin of an event, and not of one byte: an event that is cut off.
    let mut bytes = log();
    bytes.extend([0, 0, 0, 0, 3, 0, 0]);
    assert_eq!(parse_boot_log(&bytes), Err(BootLogError::Truncated { event: 3, found: end + 7 }));
}

#[test]
fn nothing_and_padding_alone_are_no_log() {
    for bytes in [&[][..], &[0; 7], &[0xff; 100], &[0; 4096]] {
        assert_eq!(parse_boot_log(bytes), Err(BootLogError::Empty));
    }
}

#[test]
fn a_header_without_events_is_a_log() {
    assert_eq!(parse_boot_log(&good().bytes()).unwrap().event_count(), 0);
}

#[test]
fn refuses_each_wrong_field_of_the_header() {
    let refused = |break_it: &dyn Fn(&mut Header), expected: BootLogError| {
        let mut header = good();
        break_it(&mut header);
        assert_eq!(parse_boot_log(&header.bytes()), Err(expected));
    };
    refused(&|header| header.index = 2, BootLogError::HeaderIndex { found: 2 });
    for byte in 0..20 {
        refused(&|header| header.digest[byte] = 1, BootLogError::HeaderDigest);
    }
    refused(&|header| header.signature[14] = b'4', BootLogError::SpecId);
    refused(&|header| header.signature[15] = b'3', BootLogError::SpecId);
    refused(&|header| header.class = 2, BootLogError::PlatformClass { found: 2 });
    refused(&|header| header.version[0] = 1, BootLogError::SpecVersion { major: 2, minor: 1 });
    refused(&|header| header.version[1] = 1, BootLogError::SpecVersion { major: 1, minor: 0 });
    refused(&|header| header.version[1] = 3, BootLogError::SpecVersion { major: 3, minor: 0 });
    refused(&|header| header.version[3] = 0, BootLogError::UintnSize { found: 0 });
    refused(&|header| header.version[3] = 3, BootLogError::UintnSize { found: 3 });
    refused(&|header| header.bank_count = 0, BootLogError::BankCount { found: 0 });
    refused(&|header| header.bank_count = 9, BootLogError::BankCount { found: 9 });
    refused(&|header| header.bank_count = u32::MAX, BootLogError::BankCount { found: u32::MAX });
    refused(&|header| header.banks[1].0 = 4, BootLogError::BankRepeated { algorithm: 4 });
    refused(&|header| header.after = vec![0; 5], BootLogError::HeaderTrailing { found: 5 });
    refused(&|header| header.vendor_length = 2, BootLogError::HeaderTrailing { found: 1 });
    let data = good().data().len();
    refused(&|header| header.vendor_length = 4, BootLogError::Truncated { event: 0, found: data });
}

#[test]
fn accepts_what_the_header_may_say() {
    for header in [
        Header { index: 1, ..good() },
        Header { class: 1, ..good() },
        Header { version: [0, 2, 0, 1], ..good() },
        Header { version: [0, 2, 255, 2], ..good() },
        Header { vendor_length: 0, vendor: vec![], ..good() },
        Header { vendor_length: 255, vendor: vec![9; 255], ..good() },
    ] {
        assert_eq!(parse_boot_log(&header.bytes()).map(|log| log.event_count()), Ok(0));
    }
}

#[test]
fn each_known_algorithm_has_exactly_its_length() {
    for hash in TpmHash::ALL {
        let (algorithm, expected_bytes) = (hash.id(), hash.digest_bytes());
        let length = u16::try_from(expected_bytes).unwrap();
        for (found, holds) in [(length - 1, false), (length, true), (length + 1, false), (0, false)] {
            let header = Header { bank_count: 1, banks: vec![(algorithm, found)], ..good() };
            let expected = if holds {
                Ok(vec![Bank::Known(hash)])
            } else {
                Err(BootLogError::BankSize { algorithm, expected: expected_bytes, found })
            };
            let bytes = header.bytes();
            assert_eq!(parse_boot_log(&bytes).map(|log| log.banks().collect::<Vec<_>>()), expected);
        }
    }
}

#[test]
fn an_unknown_algorithm_is_read_by_the_length_that_the_header_gives() {
    let other = |digest_bytes| Header { bank_count: 1, banks: vec![(0x77, digest_bytes)], ..good() };
    let mut bytes = other(128).bytes();
    bytes.extend(event(4, 4, &[(0x77, &[5; 128])], b"x"));
    let log = parse_boot_log(&bytes).unwrap();
    let bank = Bank::Other { algorithm: 0x77, digest_bytes: 128 };
    let digests: Vec<_> = log.events().next().unwrap().digests.iter().collect();
    assert_eq!(digests, [(bank, &[5; 128][..])]);
    let refused = |found, expected| BootLogError::BankSize { algorithm: 0x77, expected, found };
    assert_eq!(parse_boot_log(&other(129).bytes()), Err(refused(129, 128)));
    assert_eq!(parse_boot_log(&other(u16::MAX).bytes()), Err(refused(u16::MAX, 128)));
    assert_eq!(parse_boot_log(&other(0).bytes()), Err(refused(0, 1)));
}

#[test]
fn every_bank_at_once_is_read() {
    let banks: Vec<(u16, u16)> = (0x40..0x48).map(|algorithm| (algorithm, 1)).collect();
    let mut bytes = Header { bank_count: 8, banks: banks.clone(), ..good() }.bytes();
    let digests: Vec<(u16, &[u8])> = banks.iter().map(|(algorithm, _)| (*algorithm, &[7_u8][..])).collect();
    bytes.extend(event(1, 1, &digests, b""));
    let log = parse_boot_log(&bytes).unwrap();
    assert_eq!(log.banks().count(), BOOT_LOG_BANKS_MAX);
    assert_eq!(log.events().next().unwrap().digests.iter().count(), BOOT_LOG_BANKS_MAX);
}

#[test]
fn an_event_has_exactly_one_digest_for_each_bank() {
    let refused = |digests: &[(u16, &[u8])], expected: BootLogError| {
        let mut bytes = good().bytes();
        bytes.extend(event(1, 1, digests, b"data"));
        assert_eq!(parse_boot_log(&bytes), Err(expected));
    };
    let count = |found| BootLogError::DigestCount { event: 1, expected: 2, found };
    let (sha1, sha256, sha384) = ((0x4, &[1; 20][..]), (0xb, &[2; 32][..]), (0xc, &[3; 48][..]));
    refused(&[], count(0));
    refused(&[sha1], count(1));
    refused(&[sha1, sha384, sha256], count(3));
    refused(&[sha1, sha256], BootLogError::DigestBank { event: 1, algorithm: 0xb });
    refused(&[sha1, sha1], BootLogError::DigestRepeated { event: 1, algorithm: 4 });
    let mut bytes = good().bytes();
    bytes.extend([1, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(parse_boot_log(&bytes), Err(count(u32::MAX)));
}

#[test]
fn data_longer_than_the_log_is_refused_without_reading_it() {
    let mut bytes = log();
    let at = bytes.len() - 4;
    bytes[at..].fill(0xff);
    assert_eq!(parse_boot_log(&bytes), Err(BootLogError::Truncated { event: 2, found: bytes.len() }));
}

#[test]
fn reads_the_older_layout() {
    for id in [None, Some(SPEC_ID_SHA1[0]), Some(SPEC_ID_SHA1[1])] {
        let mut bytes = id.map_or_else(Vec::new, |id| old_event(0, 3, [0; 20], id));
        bytes.extend(old_event(5, 0x8000_0007, [6; 20], b"Exit"));
        bytes.extend(old_event(4, 4, [8; 20], &[0; 4]));
        bytes.extend([0xff; 64]);
        let log = parse_boot_log(&bytes).unwrap();
        assert_eq!((log.format(), log.event_count()), (LogFormat::Sha1, 2), "{id:?}");
        assert_eq!(log.banks().collect::<Vec<_>>(), [Bank::Known(TpmHash::Sha1)]);
        let events: Vec<BootEvent<'_>> = log.events().collect();
        assert_eq!((events[0].index, events[0].data), (5, &b"Exit"[..]));
        assert_eq!(events[0].digests.get(TpmHash::Sha1), Some(&[6; 20][..]));
        assert_eq!((events[1].number, events[1].index), (2, 4));
        assert_eq!(events[1].digests.get(TpmHash::Sha1), Some(&[8; 20][..]));
    }
}

#[test]
fn a_first_event_of_another_type_is_no_header() {
    let mut bytes = old_event(0, 1, [1; 20], SPEC_ID_03);
    bytes.extend(old_event(0, 1, [2; 20], b""));
    let log = parse_boot_log(&bytes).unwrap();
    assert_eq!((log.format(), log.event_count()), (LogFormat::Sha1, 2));
}

#[test]
fn refuses_one_byte_and_one_event_too_many() {
    let mut bytes = log();
    bytes.resize(BOOT_LOG_BYTES_MAX, 0xff);
    assert_eq!(parse_boot_log(&bytes).unwrap().event_count(), 2);
    bytes.push(0xff);
    assert_eq!(parse_boot_log(&bytes), Err(BootLogError::TooLong { found: BOOT_LOG_BYTES_MAX + 1 }));

    let mut header = good();
    header.bank_count = 1;
    header.banks = vec![(0x4, 20)];
    let mut bytes = header.bytes();
    let one = event(0, 1, &[(0x4, &[1; 20])], b"");
    for _ in 0..BOOT_LOG_EVENTS_MAX {
        bytes.extend(&one);
    }
    let read = parse_boot_log(&bytes).unwrap();
    assert_eq!(read.event_count(), BOOT_LOG_EVENTS_MAX);
    assert_eq!(read.events().count(), BOOT_LOG_EVENTS_MAX);
    bytes.extend(&one);
    assert_eq!(parse_boot_log(&bytes), Err(BootLogError::TooManyEvents));
}

#[test]
fn no_changed_byte_makes_the_events_disagree_with_their_count() {
    let whole = log();
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            if let Ok(log) = parse_boot_log(&bytes) {
                assert_eq!(log.events().count(), log.event_count(), "byte {at} ^ {change:#x}");
                for event in log.events() {
                    assert_eq!(event.digests.iter().count(), log.banks().count());
                }
            }
        }
    }
}

/// Logs that make every shortcut of the parser as long as it gets: were one of them looked at again for each event, this
/// would take minutes.
#[test]
fn logs_that_look_like_padding_at_every_event_are_read_in_one_pass() {
    let mut header = good();
    header.bank_count = 1;
    header.banks = vec![(0x4, 20)];
    // Eight bytes of zeros, then the count; data of zeros up to the next event.
    let space = (BOOT_LOG_BYTES_MAX - header.bytes().len()) / BOOT_LOG_EVENTS_MAX - 38;
    let one = event(0, 0, &[(0x4, &[0; 20])], &vec![0; space]);
    let mut agile = header.bytes();
    // Eleven bytes of zeros before the digest says something.
    let mut digest = [0; 20];
    digest[3] = 1;
    let old = old_event(0, 0, digest, &[]);
    let mut sha1 = Vec::new();
    for _ in 0..BOOT_LOG_EVENTS_MAX {
        agile.extend(&one);
        sha1.extend(&old);
    }
    for mut bytes in [agile, sha1] {
        bytes.resize(BOOT_LOG_BYTES_MAX, 0xff);
        let log = parse_boot_log(&bytes).unwrap();
        assert_eq!(log.event_count(), BOOT_LOG_EVENTS_MAX);
        assert_eq!(log.events().count(), BOOT_LOG_EVENTS_MAX);
    }
}

#[test]
fn a_megabyte_of_the_smallest_events_is_refused_at_the_first_too_many() {
    let one = old_event(1, 1, [1; 20], &[]);
    let bytes = one.repeat((1 << 20) / one.len());
    assert_eq!(parse_boot_log(&bytes), Err(BootLogError::TooManyEvents));
    let most = one.repeat(BOOT_LOG_EVENTS_MAX);
    assert_eq!(parse_boot_log(&most).map(|log| log.event_count()), Ok(BOOT_LOG_EVENTS_MAX));
}
