//! Quotes made here, field by field: what is read from where, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// The parts of a quote, so that a test can break one.
struct Parts {
    version: u16,
    key_type: u16,
    tee_type: u32,
    vendor: [u8; 16],
    body: Vec<u8>,
    outer_type: u16,
    auth_data: Vec<u8>,
    auth_length: u16,
    inner_type: u16,
    chain: Vec<u8>,
    after_chain: Vec<u8>,
    after_certification: Vec<u8>,
    after_quote: Vec<u8>,
}

fn good() -> Parts {
    Parts {
        version: 4,
        key_type: 2,
        tee_type: 0x81,
        vendor: QE_VENDOR_INTEL,
        body: body(TD_REPORT_10_BYTES),
        outer_type: 6,
        auth_data: vec![0xad; 32],
        auth_length: 32,
        inner_type: 5,
        chain: b"PEM".to_vec(),
        after_chain: vec![],
        after_certification: vec![],
        after_quote: vec![],
    }
}

/// Version 5, with this body type and this many bytes of body.
fn good_v5(body_type: u16, length: usize) -> Parts {
    let mut framed = body_type.to_le_bytes().to_vec();
    framed.extend(u32::try_from(length).unwrap().to_le_bytes());
    framed.extend(body(length));
    Parts { version: 5, body: framed, ..good() }
}

/// Each byte tells its offset, modulo 251.
fn body(length: usize) -> Vec<u8> {
    (0..length).map(|offset| u8::try_from(offset % 251).unwrap()).collect()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(bytes.len()).unwrap().to_le_bytes().to_vec();
    out.extend(bytes);
    out
}

fn bytes(parts: &Parts) -> Vec<u8> {
    let mut inner = vec![0x9e; QE_REPORT_BYTES];
    inner.extend([0x51; 64]);
    inner.extend(parts.auth_length.to_le_bytes());
    inner.extend(&parts.auth_data);
    inner.extend(parts.inner_type.to_le_bytes());
    inner.extend(sized(&parts.chain));
    inner.extend(&parts.after_chain);
    let mut data = vec![0x5a; 64];
    data.extend([0xa7; 64]);
    data.extend(parts.outer_type.to_le_bytes());
    data.extend(sized(&inner));
    data.extend(&parts.after_certification);
    let mut quote = parts.version.to_le_bytes().to_vec();
    quote.extend(parts.key_type.to_le_bytes());
    quote.extend(parts.tee_type.to_le_bytes());
    quote.extend([0; 4]);
    quote.extend(parts.vendor);
    quote.extend([0x0d; 20]);
    quote.extend(&parts.body);
    quote.extend(sized(&data));
    quote.extend(&parts.after_quote);
    quote
}

fn error(change: impl FnOnce(&mut Parts)) -> TdxQuoteError {
    let mut parts = good();
    change(&mut parts);
    parse_tdx_quote(&bytes(&parts)).unwrap_err()
}

#[test]
fn reads_every_field_from_its_place() {
    let quote_bytes = bytes(&good());
    let quote = parse_tdx_quote(&quote_bytes).unwrap();
    assert_eq!(quote.version, 4);
    assert_eq!(quote.signed, &quote_bytes[..48 + 584]);
    assert_eq!(quote.trimmed, quote_bytes);
    assert_eq!(quote.user_data, &[0x0d; 20]);
    let expected = body(584);
    assert_eq!(quote.body.tee_tcb_svn, &expected[..16]);
    assert_eq!(quote.body.mr_seam, &expected[16..64]);
    assert_eq!(quote.body.mr_signer_seam, &expected[64..112]);
    assert_eq!(quote.body.seam_attributes, &expected[112..120]);
    assert_eq!(quote.body.td_attributes, &expected[120..128]);
    assert_eq!(quote.body.xfam, &expected[128..136]);
    assert_eq!(quote.body.mr_td, &expected[136..184]);
    assert_eq!(quote.body.mr_config_id, &expected[184..232]);
    assert_eq!(quote.body.mr_owner, &expected[232..280]);
    assert_eq!(quote.body.mr_owner_config, &expected[280..328]);
    for (index, register) in quote.body.rtmr.iter().enumerate() {
        assert_eq!(*register, &expected[328 + 48 * index..376 + 48 * index]);
    }
    assert_eq!(quote.body.report_data, &expected[520..]);
    assert_eq!(quote.body.version_15, None);
    assert_eq!(quote.signature, &[0x5a; 64]);
    assert_eq!(quote.attestation_key, &[0xa7; 64]);
    assert_eq!(quote.qe_report.signed, [0x9e; 384]);
    assert_eq!(quote.qe_report_signature, &[0x51; 64]);
    assert_eq!(quote.qe_auth_data, [0xad; 32]);
    assert_eq!(quote.pck_chain, b"PEM");
}

#[test]
fn reads_both_bodies_of_version_5() {
    let old = bytes(&good_v5(2, 584));
    let quote = parse_tdx_quote(&old).unwrap();
    assert_eq!(quote.signed, &old[..48 + 6 + 584]);
    assert_eq!(quote.body.version_15, None);
    let new = bytes(&good_v5(3, 648));
    let quote = parse_tdx_quote(&new).unwrap();
    assert_eq!(quote.signed, &new[..48 + 6 + 648]);
    let later = quote.body.version_15.unwrap();
    assert_eq!(later.tee_tcb_svn2, &body(648)[584..600]);
    assert_eq!(later.mr_service_td, &body(648)[600..]);
    assert_eq!(later.extended, None);
}

#[test]
fn reads_the_extended_body_of_version_5() {
    let whole = bytes(&good_v5(4, 885));
    let quote = parse_tdx_quote(&whole).unwrap();
    assert_eq!(quote.signed, &whole[..48 + 6 + 885]);
    let content = body(885);
    let extended = quote.body.version_15.unwrap().extended.unwrap();
    assert_eq!(extended.vm_id, content[648]);
    assert_eq!(extended.td_id, &content[649..681]);
    assert_eq!(extended.device_info, &content[681..729]);
    assert_eq!(extended.initial_service_td, &content[729..777]);
    assert_eq!(extended.initial_service_td_attributes, &content[777..785]);
    assert_eq!(extended.initial_cpu_svn, &content[785..801]);
    assert_eq!(extended.initial_tee_tcb_svn, &content[801..817]);
    assert_eq!(extended.initial_fmspc, &content[817..829]);
    assert_eq!(extended.current_service_td, &content[829..877]);
    assert_eq!(extended.current_service_td_attributes, &content[877..]);
}

#[test]
fn refuses_bodies_of_other_types_and_sizes() {
    let parse = |parts: &Parts| parse_tdx_quote(&bytes(parts)).unwrap_err();
    assert_eq!(parse(&good_v5(1, 584)), TdxQuoteError::BodyType { found: 1 });
    assert_eq!(parse(&good_v5(5, 885)), TdxQuoteError::BodyType { found: 5 });
    assert_eq!(parse(&good_v5(2, 648)), TdxQuoteError::BodySize { expected: 584, found: 648 });
    assert_eq!(parse(&good_v5(3, 647)), TdxQuoteError::BodySize { expected: 648, found: 647 });
    for size in [648, 884, 886] {
        let found = u32::try_from(size).unwrap();
        assert_eq!(parse(&good_v5(4, size)), TdxQuoteError::BodySize { expected: 885, found });
    }
}

#[test]
fn refuses_truncation_at_every_offset() {
    for parts in [good(), good_v5(3, 648), good_v5(4, 885)] {
        let whole = bytes(&parts);
        for length in 0..whole.len() {
            let found = parse_tdx_quote(&whole[..length]);
            assert!(matches!(found, Err(TdxQuoteError::Truncated { .. })), "{length}: {found:?}");
        }
    }
}

#[test]
fn refuses_headers_of_other_kinds() {
    for found in [0, 1, 3, 6, u16::MAX] {
        assert_eq!(error(|parts| parts.version = found), TdxQuoteError::Version { found });
    }
    for found in [0, 1, 3, u16::MAX] {
        assert_eq!(error(|parts| parts.key_type = found), TdxQuoteError::AttestationKeyType { found });
    }
    assert_eq!(error(|parts| parts.tee_type = 0), TdxQuoteError::TeeType { found: 0 });
    assert_eq!(error(|parts| parts.vendor[15] ^= 1), TdxQuoteError::QeVendor);
}

#[test]
fn accepts_zero_padding_only_and_leaves_it_out() {
    let whole = bytes(&good());
    for length in [1, 70, 307, 3065] {
        let padded = bytes(&Parts { after_quote: vec![0; length], ..good() });
        assert_eq!(parse_tdx_quote(&padded).unwrap().trimmed, whole);
    }
    let trailing = |after: Vec<u8>| error(|parts| parts.after_quote = after);
    assert_eq!(trailing(vec![1]), TdxQuoteError::Trailing { part: "quote", found: 1 });
    assert_eq!(trailing(vec![0, 0, 1]), TdxQuoteError::Trailing { part: "quote", found: 3 });
}

#[test]
fn refuses_lengths_that_do_not_agree() {
    assert_eq!(
        error(|parts| parts.after_chain = vec![0]),
        TdxQuoteError::Trailing { part: "QE certification data", found: 1 }
    );
    assert_eq!(
        error(|parts| parts.after_certification = vec![0]),
        TdxQuoteError::Trailing { part: "quote signature data", found: 1 }
    );
    // One byte more or less of authentication data shifts the type that follows.
    for auth_length in [31, 33] {
        let found = error(|parts| parts.auth_length = auth_length);
        assert!(matches!(found, TdxQuoteError::CertificationType { expected: 5, .. }), "{found:?}");
    }
    let found = error(|parts| parts.auth_length = u16::MAX);
    assert!(matches!(found, TdxQuoteError::Truncated { part: "QE authentication data", .. }), "{found:?}");
}

#[test]
fn refuses_certification_data_of_other_types() {
    for found in [1, 5, 7] {
        let expected = TdxQuoteError::CertificationType { expected: 6, found };
        assert_eq!(error(|parts| parts.outer_type = found), expected);
    }
    for found in [1, 3, 6] {
        let expected = TdxQuoteError::CertificationType { expected: 5, found };
        assert_eq!(error(|parts| parts.inner_type = found), expected);
    }
}

#[test]
fn takes_a_quote_of_the_largest_size_and_none_larger() {
    let whole = bytes(&good());
    let padded = |length: usize| bytes(&Parts { after_quote: vec![0; length - whole.len()], ..good() });
    assert!(parse_tdx_quote(&padded(QUOTE_BYTES_MAX)).is_ok());
    let too_long = QUOTE_BYTES_MAX + 1;
    assert_eq!(parse_tdx_quote(&padded(too_long)), Err(TdxQuoteError::TooLong { found: too_long }));
}
