//! Keys made here: every kind signs and is read in every form, and no other kind, hash or attribute passes.

use aws_lc_rs::rsa::KeySize;
use casemate_canon::Sha256;
use casemate_evidence::{TpmHash, parse_tpm_signature};

use super::key::{AttestationKey, KeyError};
use super::synthetic::{ATTRIBUTES, Padding, Signer};

const MESSAGE: &[u8] = b"\xffTCG message";

fn signed(key: &AttestationKey, signature: &[u8]) -> bool {
    key.signed(MESSAGE, &parse_tpm_signature(signature).unwrap())
}

#[test]
fn rsa_keys_sign_with_either_padding_and_each_hash_that_is_strong() {
    for size in [KeySize::Rsa2048, KeySize::Rsa3072] {
        let signer = Signer::rsa(size);
        let key = AttestationKey::read(&signer.area(ATTRIBUTES, None)).unwrap();
        for hash in [TpmHash::Sha256, TpmHash::Sha384, TpmHash::Sha512] {
            for padding in [Padding::Ssa, Padding::Pss] {
                let good = signer.sign(MESSAGE, hash, padding);
                assert!(signed(&key, &good), "{hash:?} {padding:?}");
                let mut other = good.clone();
                other[1] ^= 0x02;
                assert!(!signed(&key, &other), "the other padding");
                for hash in [TpmHash::Sha1, TpmHash::Sm3, TpmHash::Sha3_256] {
                    let mut weak = good.clone();
                    weak[2..4].copy_from_slice(&hash.id().to_be_bytes());
                    assert!(!signed(&key, &weak), "{hash:?}");
                }
                assert!(!key.signed(b"other", &parse_tpm_signature(&good).unwrap()));
            }
        }
    }
}

#[test]
fn curve_keys_sign_with_the_hash_of_their_strength() {
    for (signer, other) in [(Signer::p256(), TpmHash::Sha384), (Signer::p384(), TpmHash::Sha256)] {
        let key = AttestationKey::read(&signer.area(ATTRIBUTES, None)).unwrap();
        let good = signer.sign(MESSAGE, TpmHash::Sha256, Padding::Ssa);
        assert!(signed(&key, &good));
        let mut wrong = good.clone();
        wrong[2..4].copy_from_slice(&other.id().to_be_bytes());
        assert!(!signed(&key, &wrong));
        let last = good.len() - 1;
        let mut wrong = good;
        wrong[last] ^= 1;
        assert!(!signed(&key, &wrong));
    }
    let rsa = Signer::rsa(KeySize::Rsa2048);
    let key = AttestationKey::read(&Signer::p256().area(ATTRIBUTES, None)).unwrap();
    assert!(!signed(&key, &rsa.sign(MESSAGE, TpmHash::Sha256, Padding::Ssa)), "another kind of key");
}

#[test]
fn components_without_leading_zeros_are_the_same_numbers() {
    let signer = Signer::p256();
    let key = AttestationKey::read(&signer.area(ATTRIBUTES, None)).unwrap();
    // One signature in 256 has an r that begins with a zero.
    let short = (0..20_000)
        .map(|_| signer.sign(MESSAGE, TpmHash::Sha256, Padding::Ssa))
        .find(|signature| signature[6] == 0)
        .unwrap();
    let cut = [&short[..4], &[0x00, 0x1f], &short[7..]].concat();
    assert!(signed(&key, &short));
    assert!(signed(&key, &cut));
    let longer = [&short[..4], &[0x00, 0x21, 0x00], &short[6..]].concat();
    assert!(!signed(&key, &longer), "a component longer than the curve");
}

#[test]
fn a_key_that_names_its_scheme_signs_with_no_other() {
    let signer = Signer::rsa(KeySize::Rsa2048);
    let named = Some((0x14, TpmHash::Sha256));
    let key = AttestationKey::read(&signer.area(ATTRIBUTES, named)).unwrap();
    assert!(signed(&key, &signer.sign(MESSAGE, TpmHash::Sha256, Padding::Ssa)));
    assert!(!signed(&key, &signer.sign(MESSAGE, TpmHash::Sha256, Padding::Pss)));
    assert!(!signed(&key, &signer.sign(MESSAGE, TpmHash::Sha384, Padding::Ssa)));
}

#[test]
fn every_form_of_a_key_is_the_same_key() {
    for signer in [Signer::rsa(KeySize::Rsa2048), Signer::p256(), Signer::p384()] {
        let area = signer.area(ATTRIBUTES, None);
        let sized = [&u16::try_from(area.len()).unwrap().to_be_bytes()[..], &area].concat();
        let key = AttestationKey::read(&area).unwrap();
        assert_eq!(AttestationKey::read(&sized).unwrap(), key);
        let digest = key.digest().unwrap();
        let spki = key.spki().unwrap();
        assert_eq!(digest, Sha256::of(&spki));
        assert_eq!(AttestationKey::read(&spki).unwrap().digest(), Some(digest));
        for length in 0..area.len() {
            assert!(AttestationKey::read(&area[..length]).is_err(), "{length}");
        }
        for length in 0..sized.len() {
            assert!(AttestationKey::read(&sized[..length]).is_err(), "{length}");
        }
        for length in 0..spki.len() {
            assert!(AttestationKey::read(&spki[..length]).is_err(), "{length}");
        }
    }
    assert_eq!(AttestationKey::read(b"\xff\xff").unwrap_err(), KeyError::Form);
    assert_eq!(AttestationKey::read(b"").unwrap_err(), KeyError::Form);
}

#[test]
fn refuses_keys_that_would_sign_what_others_made() {
    let signer = Signer::p256();
    // Without "restricted" the TPM signs any digest, also one of a quote that it never made.
    for bit in [1, 4, 5, 16, 18] {
        let found = ATTRIBUTES & !(1 << bit);
        let error = AttestationKey::read(&signer.area(found, None)).unwrap_err();
        assert_eq!(error, KeyError::Attributes { found });
    }
    let found = ATTRIBUTES | 1 << 17;
    let error = AttestationKey::read(&signer.area(found, None)).unwrap_err();
    assert_eq!(error, KeyError::Attributes { found });
}

#[test]
fn refuses_rsa_keys_that_are_short_long_or_odd() {
    let rsa = |bytes: usize, first: u8| {
        let mut modulus = vec![0xc5; bytes];
        modulus[0] = first;
        AttestationKey::of_rsa(&modulus, &[1, 0, 1]).map(|_| ())
    };
    assert_eq!(rsa(256, 0x80), Ok(()));
    assert_eq!(rsa(256, 0x7f), Err(KeyError::RsaBits { found: 2047 }));
    assert_eq!(rsa(128, 0x80), Err(KeyError::RsaBits { found: 1024 }));
    assert_eq!(rsa(512, 0xff), Ok(()));
    assert_eq!(rsa(513, 0x01), Err(KeyError::RsaBits { found: 4097 }));
    assert!(matches!(rsa(257, 0x00), Err(KeyError::RsaBits { .. })));
    for exponent in [&[3][..], &[0, 1, 0, 1], &[1, 0, 3], &[]] {
        assert_eq!(AttestationKey::of_rsa(&[0xc5; 256], exponent), Err(KeyError::RsaExponent));
    }
    assert_eq!(AttestationKey::of_rsa(&[], &[1, 0, 1]), Err(KeyError::Rsa));
}
