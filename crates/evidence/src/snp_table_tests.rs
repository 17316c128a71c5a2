//! Certificate tables made here: what is read, and what is refused.

use alloc::vec;

use super::*;

/// Entries with content behind the table, in order.
fn table(entries: &[(CertificateKind, &[u8])]) -> Vec<u8> {
    let mut offset = u32::try_from(24 * (entries.len() + 1)).unwrap();
    let (mut head, mut tail) = (Vec::<u8>::new(), Vec::<u8>::new());
    for (kind, content) in entries {
        let length = u32::try_from(content.len()).unwrap();
        head.extend(kind.guid());
        head.extend(offset.to_le_bytes());
        head.extend(length.to_le_bytes());
        tail.extend(*content);
        offset += length;
    }
    head.extend([0; 24]);
    head.extend(tail);
    head
}

#[test]
fn reads_entries_in_order() {
    let other = CertificateKind::Other([7; 16]);
    let entries = [
        (CertificateKind::Vcek, &b"vcek"[..]),
        (CertificateKind::Ask, b"ask"),
        (CertificateKind::Ark, b""),
        (other, b"other"),
    ];
    let bytes = table(&entries);
    let read = parse_certificate_table(&bytes).unwrap();
    let read: Vec<_> = read.iter().map(|entry| (entry.kind, entry.content)).collect();
    assert_eq!(read, entries);
    assert_eq!(parse_certificate_table(&[]), Ok(vec![]));
    assert_eq!(parse_certificate_table(&[0; 24]), Ok(vec![]));
}

#[test]
fn writes_guids_in_the_order_of_the_specification() {
    let guid = CertificateKind::Vcek.guid();
    assert_eq!(guid[..6], [0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64]);
    let all = [
        CertificateKind::Ark,
        CertificateKind::Ask,
        CertificateKind::Vcek,
        CertificateKind::Vlek,
        CertificateKind::Crl,
    ];
    for kind in all {
        assert_eq!(CertificateKind::from_guid(kind.guid()), kind);
    }
}

#[test]
fn refuses_truncation_at_every_offset() {
    let bytes = table(&[(CertificateKind::Vcek, b"vcek"), (CertificateKind::Ask, b"ask")]);
    for length in 1..72 {
        let found = parse_certificate_table(&bytes[..length]);
        let expected = [CertificateTableError::Unterminated, CertificateTableError::Outside { entry: 0 }];
        assert!(expected.contains(&found.unwrap_err()), "{length}");
    }
    let cut = parse_certificate_table(&bytes[..bytes.len() - 1]);
    assert_eq!(cut, Err(CertificateTableError::Outside { entry: 1 }));
}

#[test]
fn refuses_offsets_and_lengths_that_leave_the_table() {
    let with = |offset: u32, length: u32| {
        let mut bytes = table(&[(CertificateKind::Vcek, b"vcek")]);
        bytes[16..20].copy_from_slice(&offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&length.to_le_bytes());
        parse_certificate_table(&bytes).map(|entries| entries.len())
    };
    assert_eq!(with(0, 52), Ok(1));
    let outside = Err(CertificateTableError::Outside { entry: 0 });
    for (offset, length) in [(0, 53), (52, 1), (53, 0), (u32::MAX, 1), (1, u32::MAX)] {
        assert_eq!(with(offset, length), outside, "{offset} {length}");
    }
}

#[test]
fn refuses_repeated_kinds_and_too_much() {
    let twice = table(&[(CertificateKind::Vcek, b"a"), (CertificateKind::Vcek, b"b")]);
    assert_eq!(parse_certificate_table(&twice), Err(CertificateTableError::Repeated { entry: 1 }));
    let many = |count: u8| -> Vec<(CertificateKind, &[u8])> {
        (1..=count).map(|n| (CertificateKind::Other([n; 16]), &b""[..])).collect()
    };
    assert_eq!(parse_certificate_table(&table(&many(32))).unwrap().len(), TABLE_ENTRIES_MAX);
    assert_eq!(parse_certificate_table(&table(&many(33))), Err(CertificateTableError::TooMany));
    let long = vec![0; TABLE_BYTES_MAX + 1];
    let found = long.len();
    assert_eq!(parse_certificate_table(&long), Err(CertificateTableError::TooLong { found }));
}
