//! Public areas made here, field by field: what is read from where, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

/// Attributes of a key made by `tpm2_createak`.
const ATTRIBUTES: u32 = 0x0005_0072;

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend(bytes);
    out
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn area(key_type: u16, parameters: &[u8], unique: &[u8]) -> Vec<u8> {
    let mut out = words(&[key_type, 0x000b]);
    out.extend(ATTRIBUTES.to_be_bytes());
    out.extend(sized(&[]));
    out.extend(parameters);
    out.extend(unique);
    out
}

fn rsa(scheme: &[u16], bits: u16, exponent: u32, modulus: usize) -> Vec<u8> {
    let mut parameters = words(&[ALG_NULL]);
    parameters.extend(words(scheme));
    parameters.extend(bits.to_be_bytes());
    parameters.extend(exponent.to_be_bytes());
    area(ALG_RSA, &parameters, &sized(&vec![0xc5; modulus]))
}

fn ecc(scheme: &[u16], curve: u16, kdf: u16, x: usize, y: usize) -> Vec<u8> {
    let mut parameters = words(&[ALG_NULL]);
    parameters.extend(words(scheme));
    parameters.extend(words(&[curve, kdf]));
    let mut unique = sized(&vec![0x0a; x]);
    unique.extend(sized(&vec![0x0b; y]));
    area(ALG_ECC, &parameters, &unique)
}

#[test]
fn reads_rsa_keys() {
    let bytes = rsa(&[ALG_RSASSA, 0x000b], 2048, 0, 256);
    let public = parse_tpm_public(&bytes).unwrap();
    assert_eq!(public.area, bytes);
    assert_eq!(public.name_hash, TpmHash::Sha256);
    assert_eq!(public.attributes, TpmAttributes(ATTRIBUTES));
    assert!(public.attributes.is_attestation_key());
    assert_eq!(public.scheme, Some(TpmScheme::RsaSsa(TpmHash::Sha256)));
    assert_eq!(public.key, TpmKey::Rsa { modulus: &[0xc5; 256], exponent: 65_537 });
    let bytes = rsa(&[ALG_RSAPSS, 0x000c], 3072, 3, 384);
    let public = parse_tpm_public(&bytes).unwrap();
    assert_eq!(public.scheme, Some(TpmScheme::RsaPss(TpmHash::Sha384)));
    assert_eq!(public.key, TpmKey::Rsa { modulus: &[0xc5; 384], exponent: 3 });
    assert_eq!(parse_tpm_public(&rsa(&[ALG_NULL], 2048, 0, 256)).unwrap().scheme, None);
}

#[test]
fn reads_keys_on_both_curves() {
    let bytes = ecc(&[ALG_ECDSA, 0x000b], CURVE_P256, ALG_NULL, 32, 32);
    let public = parse_tpm_public(&bytes).unwrap();
    assert_eq!(public.scheme, Some(TpmScheme::Ecdsa(TpmHash::Sha256)));
    assert_eq!(public.key, TpmKey::P256 { x: &[0x0a; 32], y: &[0x0b; 32] });
    let bytes = ecc(&[ALG_NULL], CURVE_P384, ALG_NULL, 48, 48);
    let public = parse_tpm_public(&bytes).unwrap();
    assert_eq!(public.scheme, None);
    assert_eq!(public.key, TpmKey::P384 { x: &[0x0a; 48], y: &[0x0b; 48] });
}

#[test]
fn reads_a_sized_area_of_exactly_its_size() {
    let area = rsa(&[ALG_RSASSA, 0x000b], 2048, 0, 256);
    let whole = sized(&area);
    assert_eq!(parse_tpm2b_public(&whole), parse_tpm_public(&area));
    for length in 0..whole.len() {
        let found = parse_tpm2b_public(&whole[..length]).unwrap_err();
        assert_eq!(found, TpmError::Truncated { part: "sized public area", found: length });
    }
    let mut longer = whole;
    longer.push(0);
    let trailing = TpmError::Trailing { part: "sized public area", found: 1 };
    assert_eq!(parse_tpm2b_public(&longer), Err(trailing));
}

#[test]
fn refuses_truncation_at_every_offset_and_trailing_bytes() {
    for whole in [
        rsa(&[ALG_RSASSA, 0x000b], 2048, 0, 256),
        rsa(&[ALG_NULL], 2048, 0, 256),
        ecc(&[ALG_ECDSA, 0x000b], CURVE_P256, ALG_NULL, 32, 32),
        ecc(&[ALG_NULL], CURVE_P384, ALG_NULL, 48, 48),
    ] {
        for length in 0..whole.len() {
            let expected = TpmError::Truncated { part: "public area", found: length };
            assert_eq!(parse_tpm_public(&whole[..length]), Err(expected), "{length}");
        }
        let mut longer = whole;
        longer.push(0);
        let trailing = TpmError::Trailing { part: "public area", found: 1 };
        assert_eq!(parse_tpm_public(&longer), Err(trailing));
    }
}

#[test]
fn refuses_keys_of_other_kinds() {
    let error = |bytes: Vec<u8>| parse_tpm_public(&bytes).unwrap_err();
    let mut other = rsa(&[ALG_NULL], 2048, 0, 256);
    other[1] = 0x08;
    assert_eq!(error(other), TpmError::KeyType { found: 0x0008 });
    let mut name = rsa(&[ALG_NULL], 2048, 0, 256);
    name[3] = 0x10;
    assert_eq!(error(name), TpmError::HashAlgorithm { field: "nameAlg", found: 0x0010 });
    // A storage key has a symmetric algorithm.
    let mut storage = rsa(&[ALG_NULL], 2048, 0, 256);
    storage[11] = 0x06;
    assert_eq!(error(storage), TpmError::Scheme { field: "symmetric algorithm", found: 0x0006 });
    assert_eq!(
        error(rsa(&[0x0017, 0x000b], 2048, 0, 256)),
        TpmError::Scheme { field: "scheme", found: 0x17 }
    );
    let p256 = |scheme: &[u16], kdf| ecc(scheme, CURVE_P256, kdf, 32, 32);
    assert_eq!(error(p256(&[0x001a, 0x000b], ALG_NULL)), TpmError::Scheme { field: "scheme", found: 0x1a });
    assert_eq!(error(p256(&[ALG_NULL], 0x0020)), TpmError::Scheme { field: "key derivation", found: 0x20 });
    assert_eq!(error(ecc(&[ALG_NULL], 0x0005, ALG_NULL, 66, 66)), TpmError::Curve { found: 5 });
}

#[test]
fn refuses_lengths_that_are_not_those_of_the_key() {
    let error = |bytes: Vec<u8>| parse_tpm_public(&bytes).unwrap_err();
    for found in [255, 257] {
        let expected = TpmError::KeyLength { field: "modulus", expected: 256, found };
        assert_eq!(error(rsa(&[ALG_NULL], 2048, 0, found)), expected);
    }
    for found in [31, 33] {
        let expected = TpmError::KeyLength { field: "coordinate x", expected: 32, found };
        assert_eq!(error(ecc(&[ALG_NULL], CURVE_P256, ALG_NULL, found, 32)), expected);
        let expected = TpmError::KeyLength { field: "coordinate y", expected: 32, found };
        assert_eq!(error(ecc(&[ALG_NULL], CURVE_P256, ALG_NULL, 32, found)), expected);
    }
    let over = TpmError::Size { field: "coordinate x", max: 66, found: 67 };
    assert_eq!(error(ecc(&[ALG_NULL], CURVE_P256, ALG_NULL, 67, 32)), over);
    let over = TpmError::Size { field: "modulus", max: 512, found: 513 };
    assert_eq!(error(rsa(&[ALG_NULL], 4104, 0, 513)), over);
    let found = TPM_PUBLIC_BYTES_MAX + 1;
    let too_long = TpmError::TooLong { part: "public area", max: TPM_PUBLIC_BYTES_MAX, found };
    assert_eq!(error(vec![0; found]), too_long);
}

#[test]
fn an_attestation_key_has_each_of_its_attributes() {
    for bit in [1, 4, 5, 16, 18] {
        assert!(!TpmAttributes(ATTRIBUTES & !(1 << bit)).is_attestation_key(), "without {bit}");
    }
    assert!(!TpmAttributes(ATTRIBUTES | TpmAttributes::DECRYPT).is_attestation_key());
}
