//! Reports made here, byte by byte: what is read from where, and what is refused.

use alloc::vec::Vec;

use super::*;

/// Each signed byte tells its offset, modulo 251; version 3, algorithm 1, VCEK.
fn report() -> [u8; SNP_REPORT_BYTES] {
    let mut report = [0; SNP_REPORT_BYTES];
    for (offset, byte) in report.iter_mut().enumerate().take(SNP_SIGNED_BYTES) {
        *byte = u8::try_from(offset % 251).unwrap();
    }
    report[..4].copy_from_slice(&3_u32.to_le_bytes());
    report[0x34..0x38].copy_from_slice(&1_u32.to_le_bytes());
    report[0x48..0x4c].fill(0);
    report[0x2a0..0x2d0].fill(0x11);
    report[0x2e8..0x318].fill(0x22);
    report[0x2a0] = 0x33;
    report
}

fn error(change: impl FnOnce(&mut [u8])) -> SnpReportError {
    let mut report = report();
    change(&mut report);
    parse_snp_report(&report).unwrap_err()
}

#[test]
fn reads_every_field_from_its_place() {
    let bytes = report();
    let read = parse_snp_report(&bytes).unwrap();
    assert_eq!(read.signed, &bytes[..0x2a0]);
    assert_eq!(read.version, 3);
    assert_eq!(read.guest_svn.to_le_bytes(), bytes[0x04..0x08]);
    assert_eq!(read.policy.0.to_le_bytes(), bytes[0x08..0x10]);
    assert_eq!(read.family_id, &bytes[0x10..0x20]);
    assert_eq!(read.image_id, &bytes[0x20..0x30]);
    assert_eq!(read.vmpl.to_le_bytes(), bytes[0x30..0x34]);
    assert_eq!(read.current_tcb, &bytes[0x38..0x40]);
    assert_eq!(read.platform_info.0.to_le_bytes(), bytes[0x40..0x48]);
    assert_eq!(read.signing_key, SigningKey::Vcek);
    assert_eq!(read.report_data, &bytes[0x50..0x90]);
    assert_eq!(read.measurement, &bytes[0x90..0xc0]);
    assert_eq!(read.host_data, &bytes[0xc0..0xe0]);
    assert_eq!(read.id_key_digest, &bytes[0xe0..0x110]);
    assert_eq!(read.author_key_digest, &bytes[0x110..0x140]);
    assert_eq!(read.report_id, &bytes[0x140..0x160]);
    assert_eq!(read.report_id_ma, &bytes[0x160..0x180]);
    assert_eq!(read.reported_tcb, &bytes[0x180..0x188]);
    let cpuid = read.cpuid.unwrap();
    assert_eq!([cpuid.family, cpuid.model, cpuid.stepping], bytes[0x188..0x18b]);
    assert_eq!(read.chip_id, &bytes[0x1a0..0x1e0]);
    assert_eq!(read.committed_tcb, &bytes[0x1e0..0x1e8]);
    assert_eq!(read.current_version, bytes[0x1e8..0x1eb]);
    assert_eq!(read.committed_version, bytes[0x1ec..0x1ef]);
    assert_eq!(read.launch_tcb, &bytes[0x1f0..0x1f8]);
    assert_eq!(read.mitigations, None);
    assert_eq!(read.signature[..47], [0x11; 47]);
    assert_eq!(read.signature[47], 0x33, "the first byte of a little-endian number is the last of it");
    assert_eq!(read.signature[48..], [0x22; 48]);
}

#[test]
fn reads_what_each_version_has() {
    let with_version = |version: u32| {
        let mut bytes = report();
        bytes[..4].copy_from_slice(&version.to_le_bytes());
        let read = parse_snp_report(&bytes)?;
        Ok((read.cpuid.is_some(), read.mitigations.is_some()))
    };
    for version in [0, 1] {
        assert_eq!(with_version(version), Err(SnpReportError::Version { found: version }));
    }
    assert_eq!(with_version(2), Ok((false, false)));
    assert_eq!(with_version(4), Ok((true, false)));
    assert_eq!(with_version(5), Ok((true, true)));
    assert_eq!(with_version(6), Ok((true, true)));
    assert_eq!(with_version(u32::MAX), Ok((true, true)));
}

#[test]
fn reads_mitigations_at_launch_and_now() {
    let mut bytes = report();
    bytes[..4].copy_from_slice(&5_u32.to_le_bytes());
    let read = parse_snp_report(&bytes).unwrap().mitigations.unwrap();
    assert_eq!(read.launch.to_le_bytes(), bytes[0x1f8..0x200]);
    assert_eq!(read.current.to_le_bytes(), bytes[0x200..0x208]);
}

#[test]
fn tells_the_first_reserved_byte_that_is_set() {
    let reserved = |version: u32| {
        let processor = if version == 2 { 0x188..0x1a0 } else { 0x18b..0x1a0 };
        let tail = if version == 5 { 0x208..0x2a0 } else { 0x1f8..0x2a0 };
        [0x49..0x50, processor, 0x1eb..0x1ec, 0x1ef..0x1f0, tail]
            .into_iter()
            .flatten()
            .collect::<Vec<usize>>()
    };
    for version in 2..=5_u32 {
        let mut clean = report();
        clean[..4].copy_from_slice(&version.to_le_bytes());
        for offset in reserved(version) {
            clean[offset] = 0;
        }
        assert_eq!(parse_snp_report(&clean).unwrap().reserved_set, None, "{version}");
        for offset in 0..SNP_SIGNED_BYTES {
            let mut set = clean;
            // The bytes that decide what is read keep their low bits.
            set[offset] |= 0x80;
            let expected = (offset == 0x48 || reserved(version).contains(&offset)).then_some(offset);
            if let Ok(read) = parse_snp_report(&set)
                && read.version == version
            {
                assert_eq!(read.reserved_set, expected, "version {version} offset {offset:#x}");
            }
        }
        for bit in [5, 6, 7] {
            let mut set = clean;
            set[0x48] |= 1 << bit;
            assert_eq!(parse_snp_report(&set).unwrap().reserved_set, Some(0x48));
        }
    }
    let mut later = report();
    later[..4].copy_from_slice(&6_u32.to_le_bytes());
    assert_eq!(parse_snp_report(&later).unwrap().reserved_set, None);
}

#[test]
fn reads_the_flags_of_key_info() {
    let read = |key_info: u8| {
        let mut bytes = report();
        bytes[0x48] = key_info;
        let read = parse_snp_report(&bytes).unwrap();
        (read.author_key_enabled, read.chip_key_masked, read.signing_key)
    };
    assert_eq!(read(0), (false, false, SigningKey::Vcek));
    assert_eq!(read(1), (true, false, SigningKey::Vcek));
    assert_eq!(read(2), (false, true, SigningKey::Vcek));
    assert_eq!(read(7), (true, true, SigningKey::Vlek));
}

#[test]
fn refuses_every_other_length() {
    let mut long = [0; SNP_REPORT_BYTES + 1];
    long[..SNP_REPORT_BYTES].copy_from_slice(&report());
    for length in (0..SNP_REPORT_BYTES).chain([SNP_REPORT_BYTES + 1]) {
        assert_eq!(parse_snp_report(&long[..length]), Err(SnpReportError::Length { found: length }));
    }
}

#[test]
fn refuses_unsigned_bytes_that_are_not_zero() {
    for offset in 0x2d0..0x2e8 {
        assert_eq!(error(|bytes| bytes[offset] = 1), SnpReportError::SignatureRange { component: "r" });
    }
    for offset in 0x318..0x330 {
        assert_eq!(error(|bytes| bytes[offset] = 1), SnpReportError::SignatureRange { component: "s" });
    }
    for offset in 0x330..SNP_REPORT_BYTES {
        assert_eq!(error(|bytes| bytes[offset] = 1), SnpReportError::SignatureReserved);
    }
}

#[test]
fn refuses_other_algorithms_and_signing_keys() {
    for found in [0, 2] {
        let expected = SnpReportError::SignatureAlgorithm { found };
        assert_eq!(error(|bytes| bytes[0x34..0x38].copy_from_slice(&found.to_le_bytes())), expected);
    }
    let key = |bits: u8| {
        let mut bytes = report();
        bytes[0x48] = bits << 2 | 3;
        parse_snp_report(&bytes).map(|read| read.signing_key)
    };
    assert_eq!(key(0), Ok(SigningKey::Vcek));
    assert_eq!(key(1), Ok(SigningKey::Vlek));
    assert_eq!(key(7), Ok(SigningKey::None));
    for found in 2..7 {
        assert_eq!(key(found), Err(SnpReportError::SigningKey { found: found.into() }));
    }
}
