//! Quotes of a real TPM implementation, swtpm, verified under keys that an owner names.
//!
//! Each test has a TPM of its own in a folder of its own, reached by a Unix socket; it ends with the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod simulator;

use casemate_canon::Sha256;
use casemate_evidence::TpmHash;
use casemate_protocol::cmw::Platform;
use casemate_protocol::vtpm::{AkEvidence, Pcr, Vtpm};
use casemate_verifier::{
    Binding, Collateral, PlatformAppraisal, Policy, Refused, UnixTime, VerifiedCollateral, appraise_platform,
};
use simulator::Simulator;

const NONCE: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// A register that nothing else extends here.
const REGISTER: u8 = 10;

/// A kind of attestation key: algorithm and scheme for `tpm2_createak`, hash of its signatures.
const KINDS: [(&str, &str, &str); 5] = [
    ("rsa", "rsassa", "sha256"),
    ("rsa", "rsapss", "sha256"),
    ("rsa", "rsassa", "sha384"),
    ("ecc", "ecdsa", "sha256"),
    ("ecc384", "ecdsa", "sha384"),
];

fn decode(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn appraise(statement: &Vtpm, nonce: &str, policy: &str) -> Result<PlatformAppraisal, Refused> {
    let policy = Policy::parse(policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    // Through its JSON form, as a file would come.
    let json = serde_json::to_vec(&statement.to_json()).unwrap();
    let statement = Vtpm::from_json_bytes(&json).unwrap();
    let mut none = VerifiedCollateral::verify(&Collateral { tdx: None, snp: None });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let binding = Binding::ExtraData(decode(nonce));
    appraise_platform(&Platform::Vtpm(statement), None, &binding, &policy, &mut none, UnixTime(now))
}

/// The rules that failed.
fn refused(statement: &Vtpm, nonce: &str, policy: &str) -> Vec<String> {
    let refused = appraise(statement, nonce, policy).unwrap_err();
    refused.rules.into_iter().filter(|rule| !rule.passed).map(|rule| rule.detail.rule).collect()
}

/// A policy that takes a TPM with this register and these pins.
fn policy(register: &[u8], owner: &str) -> String {
    format!(
        "version = 1\n[platform]\ntee = [\"vtpm\"]\nroots = \"production\"\ncollateral-age-max-days = 30\n\
         [platform.vtpm]\nbank = \"sha256\"\n[platform.vtpm.pcr]\n0 = [\"{}\"]\n{REGISTER} = [\"{}\"]\n\
         [platform.vtpm.owner]\n{owner}\n",
        "0".repeat(64),
        encode(register)
    )
}

/// A quote over registers 0 and 10 of the SHA-256 bank, and their values.
fn quote(tpm: &Simulator, scheme: &str, hash: &str, ak: AkEvidence) -> Vtpm {
    let registers = format!("sha256:0,{REGISTER}");
    let scheme = format!("--scheme={scheme}");
    tpm.run(
        "tpm2_quote",
        &["-c", "ak.ctx", "-l", &registers, "-q", NONCE, "-m", "quote", "-s", "sig", "-g", hash, &scheme],
    );
    tpm.run("tpm2_pcrread", &[&registers, "-o", "values"]);
    let values = tpm.read("values");
    assert_eq!(values.len(), 64);
    let pcrs = [0, REGISTER].into_iter().zip(values.chunks(32));
    let pcrs = pcrs.map(|(index, digest)| Pcr { bank: TpmHash::Sha256, index, digest: digest.to_vec() });
    Vtpm { message: tpm.read("quote"), signature: tpm.read("sig"), pcrs: pcrs.collect(), ak }
}

/// Makes an attestation key below a new endorsement key, and gives its `TPM2B_PUBLIC`.
fn attestation_key(tpm: &Simulator, algorithm: &str, scheme: &str, hash: &str) -> Vec<u8> {
    tpm.run("tpm2_createek", &["-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub"]);
    let args = ["-C", "ek.ctx", "-c", "ak.ctx", "-G", algorithm, "-g", hash, "-s", scheme, "-u", "ak.pub"];
    tpm.run("tpm2_createak", &args);
    tpm.read("ak.pub")
}

#[test]
fn a_real_tpm_passes_under_its_named_key_with_what_it_measured() {
    let Some(tpm) = Simulator::start("a_real_tpm_passes_under_its_named_key_with_what_it_measured") else {
        return;
    };
    let mut register = [0; 32];
    for (algorithm, scheme, hash) in KINDS {
        let context = format!("{algorithm} {scheme} {hash}");
        let public = attestation_key(&tpm, algorithm, scheme, hash);
        let event = Sha256::of(context.as_bytes());
        tpm.run("tpm2_pcrextend", &[&format!("{REGISTER}:sha256={}", encode(&event.0))]);
        register = Sha256::of_parts(&[&register, &event.0]).0;
        let statement = quote(&tpm, scheme, hash, AkEvidence::Key(public.clone()));
        let area = format!("areas = [\"{}\"]", Sha256::of(&public[2..]));
        let good = policy(&register, &area);
        let passed =
            appraise(&statement, NONCE, &good).unwrap_or_else(|refused| panic!("{context}: {refused:?}"));
        assert!(passed.claims().iter().any(|claim| claim.name == "vtpm.clock-safe"), "{context}");
        // The same key by its SubjectPublicKeyInfo, as the policy and as the evidence.
        tpm.run("tpm2_readpublic", &["-c", "ak.ctx", "-f", "der", "-o", "ak.der"]);
        let spki = tpm.read("ak.der");
        let keys = policy(&register, &format!("keys = [\"{}\"]", Sha256::of(&spki)));
        assert!(appraise(&statement, NONCE, &keys).is_ok(), "{context}");
        let by_key = Vtpm { ak: AkEvidence::Key(spki), ..statement.clone() };
        assert!(appraise(&by_key, NONCE, &keys).is_ok(), "{context}");
        assert_eq!(refused(&by_key, NONCE, &good), ["vtpm.key-trust"], "{context}: no area to compare");

        assert_eq!(refused(&statement, &NONCE[..62], &good), ["vtpm.extra-data"], "{context}");
        assert_eq!(refused(&statement, NONCE, &policy(&[1; 32], &area)), ["vtpm.pcr"], "{context}");
        let mut other = statement.clone();
        other.pcrs.swap(0, 1);
        assert_eq!(refused(&other, NONCE, &good), ["vtpm.pcr-select"], "{context}");
        let mut other = statement.clone();
        other.message[60] ^= 1;
        assert_eq!(refused(&other, NONCE, &good), ["vtpm.signature"], "{context}");
        // The TPM measures on: the old quote does not speak for the new values, nor the new one for the old.
        tpm.run("tpm2_pcrextend", &[&format!("{REGISTER}:sha256={}", encode(&event.0))]);
        register = Sha256::of_parts(&[&register, &event.0]).0;
        let later = quote(&tpm, scheme, hash, AkEvidence::Key(public));
        assert_eq!(refused(&later, NONCE, &good), ["vtpm.pcr"], "{context}");
        let mixed = Vtpm { pcrs: later.pcrs, ..statement };
        assert_eq!(refused(&mixed, NONCE, &good), ["vtpm.pcr-digest"], "{context}");
    }
}

#[test]
fn a_key_that_may_sign_anything_is_no_attestation_key() {
    let Some(tpm) = Simulator::start("a_key_that_may_sign_anything_is_no_attestation_key") else { return };
    let public = attestation_key(&tpm, "rsa", "rsassa", "sha256");
    let genuine = quote(&tpm, "rsassa", "sha256", AkEvidence::Key(public));
    // A quote that the TPM never made: it says that another value was measured.
    let mut forged = genuine.clone();
    forged.pcrs[1].digest = vec![0xee; 32];
    let values = Sha256::of_parts(&[&forged.pcrs[0].digest, &forged.pcrs[1].digest]);
    let at = forged.message.len() - 32;
    forged.message[at..].copy_from_slice(&values.0);
    tpm.write("forged", &forged.message);
    // The attestation key is restricted: its TPM does not sign this.
    let signed = ["-c", "ak.ctx", "-g", "sha256", "-s", "rsassa", "-f", "tss", "-o", "forged.sig", "forged"];
    tpm.run_refused("tpm2_sign", &signed);
    // Another key in the same TPM does, and says so in its public area.
    tpm.run("tpm2_createprimary", &["-C", "o", "-c", "primary.ctx"]);
    let attributes = "sign|fixedtpm|fixedparent|sensitivedataorigin|userwithauth";
    tpm.run(
        "tpm2_create",
        &["-C", "primary.ctx", "-G", "rsa", "-a", attributes, "-u", "free.pub", "-r", "free.priv"],
    );
    tpm.run("tpm2_load", &["-C", "primary.ctx", "-u", "free.pub", "-r", "free.priv", "-c", "free.ctx"]);
    let signed =
        ["-c", "free.ctx", "-g", "sha256", "-s", "rsassa", "-f", "tss", "-o", "forged.sig", "forged"];
    tpm.run("tpm2_sign", &signed);
    let public = tpm.read("free.pub");
    forged.signature = tpm.read("forged.sig");
    forged.ak = AkEvidence::Key(public.clone());
    let named = policy(&[0xee; 32], &format!("areas = [\"{}\"]", Sha256::of(&public[2..])));
    assert_eq!(refused(&forged, NONCE, &named), ["vtpm.key"]);
}

#[test]
fn a_real_attestation_key_with_a_certificate_of_the_owners_ca_passes() {
    let name = "a_real_attestation_key_with_a_certificate_of_the_owners_ca_passes";
    let Some(tpm) = Simulator::start(name) else { return };
    for (algorithm, scheme, hash) in KINDS {
        attestation_key(&tpm, algorithm, scheme, hash);
        tpm.run("tpm2_readpublic", &["-c", "ak.ctx", "-f", "der", "-o", "ak.der"]);
        tpm.run("tpm2_readpublic", &["-c", "ek.ctx", "-f", "der", "-o", "ek.der"]);
        let authority = Authority::new();
        let sign = [rcgen::KeyUsagePurpose::DigitalSignature];
        let leaf = authority.certificate(&tpm.read("ak.der"), &sign);
        let chain = vec![leaf, authority.root.clone()];
        let statement = quote(&tpm, scheme, hash, AkEvidence::Certificates(chain));
        let register = statement.pcrs[1].digest.clone();
        let good = policy(&register, &format!("roots = [\"{}\"]", authority.key));
        let context = format!("{algorithm} {scheme} {hash}");
        appraise(&statement, NONCE, &good).unwrap_or_else(|refused| panic!("{context}: {refused:?}"));
        // Another authority, and the endorsement key's certificate in place of the attestation key's.
        let other = policy(&register, &format!("roots = [\"{}\"]", Authority::new().key));
        assert_eq!(refused(&statement, NONCE, &other), ["platform.roots"], "{context}");
        let encrypt = [rcgen::KeyUsagePurpose::KeyEncipherment];
        let endorsement = vec![authority.certificate(&tpm.read("ek.der"), &encrypt), authority.root.clone()];
        let wrong = Vtpm { ak: AkEvidence::Certificates(endorsement), ..statement };
        assert_eq!(refused(&wrong, NONCE, &good), ["vtpm.chain"], "{context}");
    }
}

/// An authority of the owner's.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    root: Vec<u8>,
    /// SHA-256 over its SubjectPublicKeyInfo.
    key: Sha256,
}

impl Authority {
    fn new() -> Self {
        use rcgen::PublicKeyData as _;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Owner's TPMs");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).unwrap().der().to_vec();
        let digest = Sha256::of(&key.subject_public_key_info());
        Self { issuer: rcgen::Issuer::new(params, key), root, key: digest }
    }

    /// A leaf for the key of a SubjectPublicKeyInfo.
    fn certificate(&self, spki: &[u8], usages: &[rcgen::KeyUsagePurpose]) -> Vec<u8> {
        let key = LeafKey::of(spki);
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "TPM");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = usages.to_vec();
        // tcg-kp-AIKCertificate.
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
        params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
    }
}

/// A key whose private part is in a TPM.
struct LeafKey {
    bits: Vec<u8>,
    algorithm: &'static rcgen::SignatureAlgorithm,
}

impl LeafKey {
    /// By the length of its SubjectPublicKeyInfo: RSA with 2048 bits, P-256 or P-384.
    fn of(spki: &[u8]) -> Self {
        let (head, algorithm): (_, &'static rcgen::SignatureAlgorithm) = match spki.len() {
            294 => (24, &rcgen::PKCS_RSA_SHA256),
            91 => (26, &rcgen::PKCS_ECDSA_P256_SHA256),
            120 => (23, &rcgen::PKCS_ECDSA_P384_SHA384),
            other => panic!("a key of {other} bytes"),
        };
        Self { bits: spki[head..].to_vec(), algorithm }
    }
}

impl rcgen::PublicKeyData for LeafKey {
    fn der_bytes(&self) -> &[u8] {
        &self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}
