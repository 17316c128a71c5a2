//! What one signature check costs: the floor below every verification.
//!
//! Each check takes another of [`KEYS`] keys: one key again and again is faster than any real use, because the processor
//! learns the branches of its computation.

use std::hint::black_box;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    self as aws, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, ParsedPublicKey, RsaKeyPair,
};

use crate::measure::Candidate;

use super::Outcome;

/// How many keys of a curve take turns.
const KEYS: usize = 64;
/// RSA keys are slow to make.
const RSA_KEYS: usize = 4;
/// Signed bytes of a version 4 quote.
const QUOTE_SIGNED_BYTES: usize = 632;
/// Signed bytes of an SNP report.
const REPORT_SIGNED_BYTES: usize = 672;

/// Names of the candidates, by algorithm: the fastest of each is the floor.
pub(super) const P256: [&str; 2] = ["P-256, aws-lc-rs", "P-256, ring"];
pub(super) const P384: [&str; 2] = ["P-384, aws-lc-rs", "P-384, ring"];
pub(super) const RSA: [&str; 2] = ["RSA-4096-PSS, aws-lc-rs", "RSA-4096-PSS, ring"];

struct Signed {
    key: Vec<u8>,
    parsed: ParsedPublicKey,
    signature: Vec<u8>,
}

/// Signatures to check.
pub(super) struct Signatures {
    quote: Vec<u8>,
    report: Vec<u8>,
    p256: Vec<Signed>,
    p384: Vec<Signed>,
    rsa: Vec<Signed>,
}

impl Signatures {
    pub(super) fn make() -> Outcome<Self> {
        let (quote, report) = (vec![0x51; QUOTE_SIGNED_BYTES], vec![0x52; REPORT_SIGNED_BYTES]);
        let p256 = ec(&aws::ECDSA_P256_SHA256_FIXED_SIGNING, &aws::ECDSA_P256_SHA256_FIXED, &quote)?;
        let p384 = ec(&aws::ECDSA_P384_SHA384_FIXED_SIGNING, &aws::ECDSA_P384_SHA384_FIXED, &report)?;
        let rsa = (0..RSA_KEYS).map(|_| rsa(&report)).collect::<Outcome<_>>()?;
        Ok(Self { quote, report, p256, p384, rsa })
    }

    /// Both libraries on each algorithm.
    pub(super) fn candidates(&self) -> Vec<Candidate<'_>> {
        use ring::signature as ring;
        let [p256_aws, p256_ring] = P256;
        let [p384_aws, p384_ring] = P384;
        let [rsa_aws, rsa_ring] = RSA;
        vec![
            parsed(p256_aws, &self.p256, &self.quote),
            unparsed(p256_ring, &self.p256, &self.quote, &ring::ECDSA_P256_SHA256_FIXED),
            parsed(p384_aws, &self.p384, &self.report),
            unparsed(p384_ring, &self.p384, &self.report, &ring::ECDSA_P384_SHA384_FIXED),
            parsed(rsa_aws, &self.rsa, &self.report),
            unparsed(rsa_ring, &self.rsa, &self.report, &ring::RSA_PSS_2048_8192_SHA384),
        ]
    }
}

fn parsed<'a>(name: &'static str, pool: &'a [Signed], message: &'a [u8]) -> Candidate<'a> {
    let mut turn = pool.iter().cycle();
    Candidate::new(name, move || {
        let Some(signed) = turn.next() else { return };
        let _checked = black_box(signed.parsed.verify_sig(message, &signed.signature));
    })
}

fn unparsed<'a>(
    name: &'static str,
    pool: &'a [Signed],
    message: &'a [u8],
    algorithm: &'static dyn ring::signature::VerificationAlgorithm,
) -> Candidate<'a> {
    let mut turn = pool.iter().cycle();
    Candidate::new(name, move || {
        let Some(signed) = turn.next() else { return };
        let key = ring::signature::UnparsedPublicKey::new(algorithm, &signed.key);
        let _checked = black_box(key.verify(message, &signed.signature));
    })
}

fn ec(
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static aws::EcdsaVerificationAlgorithm,
    message: &[u8],
) -> Outcome<Vec<Signed>> {
    let one = || {
        let pair = EcdsaKeyPair::generate(signing)?;
        let key = pair.public_key().as_ref().to_vec();
        let parsed = ParsedPublicKey::new(verifying, &key)?;
        let signature = pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec();
        parsed.verify_sig(message, &signature)?;
        Ok(Signed { key, parsed, signature })
    };
    (0..KEYS).map(|_| one()).collect()
}

fn rsa(message: &[u8]) -> Outcome<Signed> {
    let pair = RsaKeyPair::generate(KeySize::Rsa4096)?;
    let key = pair.public_key().as_ref().to_vec();
    let parsed = ParsedPublicKey::new(&aws::RSA_PSS_2048_8192_SHA384, &key)?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&aws::RSA_PSS_SHA384, &SystemRandom::new(), message, &mut signature)?;
    parsed.verify_sig(message, &signature)?;
    Ok(Signed { key, parsed, signature })
}
