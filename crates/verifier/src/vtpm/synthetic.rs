//! TPM statements made here, with keys made here: what no real vector has.

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_evidence::TpmHash;
use casemate_protocol::vtpm::{AkEvidence, Pcr, Vtpm};

use crate::asn1::Fields;

/// Attributes of a key made by `tpm2_createak`.
pub(super) const ATTRIBUTES: u32 = 0x0005_0072;

/// A key that signs as a TPM's does.
pub(super) enum Signer {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair, TpmHash),
}

/// How an RSA key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Ssa,
    Pss,
}

impl Signer {
    pub(super) fn rsa(size: KeySize) -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(size).unwrap()))
    }

    pub(super) fn p256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, TpmHash::Sha256)
    }

    pub(super) fn p384() -> Self {
        Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, TpmHash::Sha384)
    }

    fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, hash: TpmHash) -> Self {
        Self::Ecdsa(EcdsaKeyPair::generate(algorithm).unwrap(), hash)
    }

    /// Modulus, or both coordinates.
    pub(super) fn numbers(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => {
                let mut fields = Fields::of_sequence(key.public_key().as_ref(), "key").unwrap();
                let modulus = fields.tagged(der::Tag::Integer, "modulus").unwrap().value;
                modulus.strip_prefix(&[0]).unwrap_or(modulus).to_vec()
            }
            Self::Ecdsa(key, _) => key.public_key().as_ref()[1..].to_vec(),
        }
    }

    /// `TPMT_PUBLIC` with these attributes and this scheme; no scheme is left open.
    pub(super) fn area(&self, attributes: u32, scheme: Option<(u16, TpmHash)>) -> Vec<u8> {
        let numbers = self.numbers();
        let word = |value: u16| value.to_be_bytes().to_vec();
        let sized = |bytes: &[u8]| [word(u16::try_from(bytes.len()).unwrap()), bytes.to_vec()].concat();
        let scheme = scheme.map_or_else(|| word(0x10), |(id, hash)| [word(id), word(hash.id())].concat());
        let head =
            |kind: u16| [word(kind), word(0x0b), attributes.to_be_bytes().to_vec(), word(0), word(0x10)];
        match self {
            Self::Rsa(_) => {
                let bits = u16::try_from(numbers.len() * 8).unwrap();
                [head(0x01).concat(), scheme, word(bits), vec![0; 4], sized(&numbers)].concat()
            }
            Self::Ecdsa(_, hash) => {
                let (x, y) = numbers.split_at(numbers.len() / 2);
                let curve = if *hash == TpmHash::Sha256 { 3 } else { 4 };
                [head(0x23).concat(), scheme, word(curve), word(0x10), sized(x), sized(y)].concat()
            }
        }
    }

    /// `TPMT_SIGNATURE` over a message.
    pub(super) fn sign(&self, message: &[u8], hash: TpmHash, padding: Padding) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        match self {
            Self::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match (padding, hash) {
                    (Padding::Ssa, TpmHash::Sha256) => &RSA_PKCS1_SHA256,
                    (Padding::Ssa, TpmHash::Sha384) => &RSA_PKCS1_SHA384,
                    (Padding::Ssa, _) => &RSA_PKCS1_SHA512,
                    (Padding::Pss, TpmHash::Sha256) => &RSA_PSS_SHA256,
                    (Padding::Pss, TpmHash::Sha384) => &RSA_PSS_SHA384,
                    (Padding::Pss, _) => &RSA_PSS_SHA512,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
                let id: u16 = if padding == Padding::Ssa { 0x14 } else { 0x16 };
                [&id.to_be_bytes()[..], &hash.id().to_be_bytes(), &sized(&signature)].concat()
            }
            Self::Ecdsa(key, own) => {
                let signature = key.sign(&SystemRandom::new(), message).unwrap();
                let (r, s) = signature.as_ref().split_at(own.digest_bytes());
                [&[0x00, 0x18][..], &own.id().to_be_bytes(), &sized(r), &sized(s)].concat()
            }
        }
    }

    /// The JWK that a paravisor writes of an RSA key.
    pub(super) fn jwk(&self, name: &str) -> String {
        let n = URL_SAFE_NO_PAD.encode(self.numbers());
        format!(r#"{{"kid":"{name}","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}"#)
    }
}

/// Values of these registers of a bank.
pub(super) fn pcrs(bank: TpmHash, indices: &[u8]) -> Vec<Pcr> {
    indices
        .iter()
        .map(|index| Pcr { bank, index: *index, digest: vec![*index; bank.digest_bytes()] })
        .collect()
}

/// `TPMS_ATTEST` over these registers, as a TPM makes it with this hash.
pub(super) fn attest(extra_data: &[u8], pcrs: &[Pcr], hash: TpmHash) -> Vec<u8> {
    let mut banks: Vec<(TpmHash, u32)> = Vec::new();
    for pcr in pcrs {
        match banks.last_mut() {
            Some((bank, registers)) if *bank == pcr.bank => *registers |= 1 << pcr.index,
            _ => banks.push((pcr.bank, 1 << pcr.index)),
        }
    }
    let values: Vec<u8> = pcrs.iter().flat_map(|pcr| pcr.digest.clone()).collect();
    let algorithm = match hash {
        TpmHash::Sha256 => &SHA256,
        TpmHash::Sha384 => &SHA384,
        _ => &SHA512,
    };
    let values = digest(algorithm, &values);
    let sized = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    let mut out = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
    out.extend(sized(&[0x0b; 34]));
    out.extend(sized(extra_data));
    out.extend([0; 16]);
    out.push(1);
    out.extend([0; 8]);
    out.extend(u32::try_from(banks.len()).unwrap().to_be_bytes());
    for (bank, registers) in banks {
        out.extend(bank.id().to_be_bytes());
        out.push(3);
        out.extend(&registers.to_le_bytes()[..3]);
    }
    out.extend(sized(values.as_ref()));
    out
}

/// A statement about registers 0, 4 and 7 of the SHA-256 bank, signed with RSASSA or ECDSA.
pub(super) fn statement(signer: &Signer, extra_data: &[u8], ak: AkEvidence) -> Vtpm {
    let hash = match signer {
        Signer::Rsa(_) => TpmHash::Sha256,
        Signer::Ecdsa(_, hash) => *hash,
    };
    let pcrs = pcrs(TpmHash::Sha256, &[0, 4, 7]);
    let message = attest(extra_data, &pcrs, hash);
    let signature = signer.sign(&message, hash, Padding::Ssa);
    Vtpm { message, signature, pcrs, ak }
}

/// Variable data of an HCL report, with these keys.
pub(super) fn variable_data(keys: &[String]) -> Vec<u8> {
    format!(r#"{{"keys":[{}],"vm-configuration":{{"secure-boot":true}},"user-data":"00"}}"#, keys.join(","))
        .into_bytes()
}

/// An HCL report around a hardware report of 1184 bytes; type 2 is SNP, 4 is TDX.
pub(super) fn hcl_report(report_type: u32, hardware: &[u8], variable: &[u8]) -> Vec<u8> {
    let size = |parts: usize| u32::try_from(parts + variable.len()).unwrap().to_le_bytes();
    let mut out = b"HCLA".to_vec();
    out.extend(2_u32.to_le_bytes());
    out.extend(size(32 + 1184 + 20));
    out.extend(2_u32.to_le_bytes());
    out.extend([0; 16]);
    out.extend(hardware);
    out.resize(32 + 1184, 0);
    out.extend(size(20));
    for field in [1, report_type, 1] {
        out.extend(u32::to_le_bytes(field));
    }
    out.extend(size(0));
    out.extend(variable);
    out.resize(2600, 0);
    out
}
