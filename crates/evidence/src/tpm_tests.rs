//! Quotes and signatures made here, field by field: what is read from where, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// The parts of a quote, so that a test can break one.
struct Parts {
    magic: u32,
    attest_type: u16,
    signer: Vec<u8>,
    extra_data: Vec<u8>,
    safe: u8,
    selections: Vec<(u16, Vec<u8>)>,
    count: Option<u32>,
    digest: Vec<u8>,
    after: Vec<u8>,
}

fn good() -> Parts {
    Parts {
        magic: TPM_GENERATED,
        attest_type: ATTEST_QUOTE,
        signer: vec![0xaa; 34],
        extra_data: vec![0xbb; 32],
        safe: 1,
        selections: vec![(0x000b, vec![0x83, 0x00, 0x80]), (0x000c, vec![0x01, 0x00, 0x00])],
        count: None,
        digest: vec![0xdd; 32],
        after: vec![],
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn bytes(parts: &Parts) -> Vec<u8> {
    let mut out = parts.magic.to_be_bytes().to_vec();
    out.extend(parts.attest_type.to_be_bytes());
    out.extend(sized(&parts.signer));
    out.extend(sized(&parts.extra_data));
    out.extend(0x0102_0304_0506_0708_u64.to_be_bytes());
    out.extend(7_u32.to_be_bytes());
    out.extend(9_u32.to_be_bytes());
    out.push(parts.safe);
    out.extend(0x2020_0312_0012_0003_u64.to_be_bytes());
    let count = u32::try_from(parts.selections.len()).unwrap();
    out.extend(parts.count.unwrap_or(count).to_be_bytes());
    for (bank, bitmap) in &parts.selections {
        out.extend(bank.to_be_bytes());
        out.push(u8::try_from(bitmap.len()).unwrap());
        out.extend(bitmap);
    }
    out.extend(sized(&parts.digest));
    out.extend(&parts.after);
    out
}

fn error(change: impl FnOnce(&mut Parts)) -> TpmError {
    let mut parts = good();
    change(&mut parts);
    parse_tpm_quote(&bytes(&parts)).unwrap_err()
}

#[test]
fn reads_every_field_from_its_place() {
    let whole = bytes(&good());
    let quote = parse_tpm_quote(&whole).unwrap();
    assert_eq!(quote.signed, whole);
    assert_eq!(quote.qualified_signer, [0xaa; 34]);
    assert_eq!(quote.extra_data, [0xbb; 32]);
    let clock = TpmClock {
        clock_ms: 0x0102_0304_0506_0708,
        reset_count: 7,
        restart_count: 9,
        safe: TpmClockSafe::Yes,
    };
    assert_eq!(quote.clock, clock);
    assert_eq!(quote.firmware_version, 0x2020_0312_0012_0003);
    let [first, second] = quote.selections[..] else { panic!("two selections") };
    assert_eq!((first.bank, second.bank), (TpmHash::Sha256, TpmHash::Sha384));
    assert_eq!(first.indices().collect::<Vec<_>>(), [0, 1, 7, 23]);
    assert_eq!(second.indices().collect::<Vec<_>>(), [0]);
    assert_eq!(quote.pcr_digest, [0xdd; 32]);
    let mut unsafe_clock = good();
    unsafe_clock.safe = 0;
    assert_eq!(parse_tpm_quote(&bytes(&unsafe_clock)).unwrap().clock.safe, TpmClockSafe::No);
}

#[test]
fn refuses_truncation_at_every_offset() {
    let whole = bytes(&good());
    for length in 0..whole.len() {
        let expected = TpmError::Truncated { part: "quote", found: length };
        assert_eq!(parse_tpm_quote(&whole[..length]), Err(expected), "{length}");
    }
}

#[test]
fn refuses_trailing_bytes() {
    let trailing = |after: Vec<u8>| error(|parts| parts.after = after);
    assert_eq!(trailing(vec![0]), TpmError::Trailing { part: "quote", found: 1 });
    assert_eq!(trailing(vec![1, 2, 3]), TpmError::Trailing { part: "quote", found: 3 });
}

#[test]
fn refuses_what_a_tpm_did_not_make_and_other_attestations() {
    assert_eq!(error(|parts| parts.magic ^= 1), TpmError::Magic { found: 0xff54_4346 });
    for found in [0x8017, 0x8019, 0x801a, 0] {
        assert_eq!(error(|parts| parts.attest_type = found), TpmError::AttestType { found });
    }
    for found in [2, 0xff] {
        assert_eq!(error(|parts| parts.safe = found), TpmError::YesNo { found });
    }
}

#[test]
fn takes_fields_at_their_largest_and_none_larger() {
    let mut largest = good();
    largest.signer = vec![1; 66];
    largest.extra_data = vec![2; 66];
    largest.selections = vec![(0x000b, vec![0xff; 4]); 16];
    largest.digest = vec![3; 64];
    let largest = bytes(&largest);
    assert!(parse_tpm_quote(&largest).is_ok());
    assert_eq!(largest.len(), TPM_QUOTE_BYTES_MAX);
    let mut longer = largest;
    longer.push(0);
    let found = longer.len();
    let too_long = TpmError::TooLong { part: "quote", max: TPM_QUOTE_BYTES_MAX, found };
    assert_eq!(parse_tpm_quote(&longer), Err(too_long));
    let over = |field, max| TpmError::Size { field, max, found: max + 1 };
    assert_eq!(error(|parts| parts.signer = vec![1; 67]), over("qualifiedSigner", 66));
    assert_eq!(error(|parts| parts.extra_data = vec![1; 67]), over("extraData", 66));
    assert_eq!(error(|parts| parts.digest = vec![1; 65]), over("pcrDigest", 64));
    assert_eq!(error(|parts| parts.count = Some(17)), TpmError::Selections { found: 17 });
    assert_eq!(error(|parts| parts.count = Some(u32::MAX)), TpmError::Selections { found: u32::MAX });
}

#[test]
fn refuses_selections_that_cannot_be() {
    let with = |bank, bitmap| error(|parts| parts.selections = vec![(bank, bitmap)]);
    assert_eq!(with(0x000b, vec![]), TpmError::SelectBytes { found: 0 });
    assert_eq!(with(0x000b, vec![0; 5]), TpmError::SelectBytes { found: 5 });
    assert_eq!(with(0x0010, vec![1]), TpmError::HashAlgorithm { field: "pcrSelect", found: 0x0010 });
}

fn rsa(algorithm: u16, hash: u16, length: usize) -> Vec<u8> {
    let mut out = algorithm.to_be_bytes().to_vec();
    out.extend(hash.to_be_bytes());
    out.extend(sized(&vec![0x51; length]));
    out
}

fn ecdsa(hash: u16, r: usize, s: usize) -> Vec<u8> {
    let mut out = ALG_ECDSA.to_be_bytes().to_vec();
    out.extend(hash.to_be_bytes());
    out.extend(sized(&vec![0x0a; r]));
    out.extend(sized(&vec![0x0b; s]));
    out
}

#[test]
fn reads_signatures_of_each_kind() {
    let hash = TpmHash::Sha256;
    let signature = &[0x51; 256][..];
    let read = TpmSignature::RsaSsa { hash, signature };
    assert_eq!(parse_tpm_signature(&rsa(0x0014, 0x000b, 256)), Ok(read));
    let read = TpmSignature::RsaPss { hash, signature };
    assert_eq!(parse_tpm_signature(&rsa(0x0016, 0x000b, 256)), Ok(read));
    let read = TpmSignature::Ecdsa { hash, r: &[0x0a; 32], s: &[0x0b; 32] };
    assert_eq!(parse_tpm_signature(&ecdsa(0x000b, 32, 32)), Ok(read));
}

#[test]
fn refuses_signatures_that_are_cut_padded_or_of_another_kind() {
    for whole in [rsa(0x0014, 0x000b, 256), rsa(0x0016, 0x000c, 512), ecdsa(0x000c, 48, 48)] {
        for length in 0..whole.len() {
            let expected = TpmError::Truncated { part: "signature", found: length };
            assert_eq!(parse_tpm_signature(&whole[..length]), Err(expected), "{length}");
        }
        let mut padded = whole;
        padded.push(0);
        let found = parse_tpm_signature(&padded).unwrap_err();
        let too_long =
            TpmError::TooLong { part: "signature", max: TPM_SIGNATURE_BYTES_MAX, found: padded.len() };
        assert!(found == TpmError::Trailing { part: "signature", found: 1 } || found == too_long);
    }
    for found in [0x0010, 0x001a, 0x0005, 0] {
        let error = TpmError::SignatureAlgorithm { found };
        assert_eq!(parse_tpm_signature(&rsa(found, 0x000b, 256)), Err(error));
    }
    let error = TpmError::HashAlgorithm { field: "signature", found: 0x0010 };
    assert_eq!(parse_tpm_signature(&rsa(0x0014, 0x0010, 256)), Err(error));
    let over = TpmError::Size { field: "signature component s", max: 66, found: 67 };
    assert_eq!(parse_tpm_signature(&ecdsa(0x000b, 66, 67)), Err(over));
}

#[test]
fn a_hash_is_found_by_its_number_alone() {
    for hash in TpmHash::ALL {
        assert_eq!(TpmHash::from_id(hash.id()), Some(hash));
    }
    assert_eq!(TpmHash::from_id(0x0010), None);
}
