//! Whole statements against whole policies: what passes, and the rules that refuse the rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use aws_lc_rs::rsa::KeySize;
use casemate_canon::Sha256;
use casemate_evidence::{TpmHash, parse_tdx_quote};
use casemate_protocol::cmw::Platform;
use casemate_protocol::vtpm::{AkEvidence, Vtpm};
use casemate_testkit::{CollateralParts, DevPki, SnpBody, TdBody, Tee};

use super::synthetic::{ATTRIBUTES, Signer, hcl_report, statement, variable_data};
use crate::appraise::{Binding, appraise_platform};
use crate::collateral::{Collateral, SnpCollateral, TdxCollateral};
use crate::ledger::{Claim, Voucher};
use crate::policy::{KeyUsage, Policy, PolicyError};
use crate::tdx::vector_tests::collateral as tdx_collateral;
use crate::time::UnixTime;
use crate::verified_collateral::VerifiedCollateral;
use casemate_testkit::vectors;

const NOW: UnixTime = UnixTime(1_780_272_000);
const NONCE: &[u8] = b"thirty-two bytes of a challenge.";

static TDX: LazyLock<DevPki> = LazyLock::new(|| DevPki::generate(Tee::Tdx, NOW.0).unwrap());
static SNP: LazyLock<DevPki> = LazyLock::new(|| DevPki::generate(Tee::Snp, NOW.0).unwrap());
static KEY: LazyLock<Signer> = LazyLock::new(|| Signer::rsa(KeySize::Rsa2048));

fn verified(pki: Option<&DevPki>) -> VerifiedCollateral {
    let (tdx, snp) = match pki.map(DevPki::collateral) {
        Some(CollateralParts::Tdx(parts)) => (
            Some(TdxCollateral {
                root_ca_crl: parts.root_ca_crl,
                pck_crl: parts.pck_crl,
                pck_crl_chain: parts.pck_crl_chain,
                tcb_info: parts.tcb_info,
                tcb_info_chain: parts.tcb_info_chain,
                qe_identity: parts.qe_identity,
                qe_identity_chain: parts.qe_identity_chain,
            }),
            None,
        ),
        Some(CollateralParts::Snp(parts)) => {
            (None, Some(SnpCollateral { ark: parts.ark, ask: parts.ask, crl: parts.crl, vek: None }))
        }
        None => (None, None),
    };
    VerifiedCollateral::verify(&Collateral { tdx, snp })
}

/// The claims, or the rules that failed, each once.
fn outcome(
    statement: &Vtpm,
    extra_data: &[u8],
    policy: &str,
    collateral: &mut VerifiedCollateral,
    now: UnixTime,
) -> Result<Vec<Claim>, Vec<String>> {
    let policy = Policy::parse(policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    let binding = Binding::ExtraData(extra_data.to_vec());
    let platform = Platform::Vtpm(statement.clone());
    match appraise_platform(&platform, None, &binding, &policy, collateral, now) {
        Ok(appraisal) => Ok(appraisal.claims()),
        Err(refused) => {
            let mut names: Vec<String> = Vec::new();
            for rule in refused.rules.into_iter().filter(|rule| !rule.passed) {
                if !names.contains(&rule.detail.rule) {
                    names.push(rule.detail.rule);
                }
            }
            Err(names)
        }
    }
}

fn refused(rules: &[&str]) -> Result<Vec<Claim>, Vec<String>> {
    Err(rules.iter().map(|rule| (*rule).to_owned()).collect())
}

fn claim<'a>(claims: &'a [Claim], name: &str) -> (&'a str, Voucher) {
    let claim = claims.iter().find(|claim| claim.name == name).unwrap_or_else(|| panic!("{name}"));
    (&claim.value, claim.voucher)
}

fn head(roots: &str) -> String {
    format!(
        "version = 1\n[platform]\ntee = [\"vtpm\"]\n{roots}\ncollateral-age-max-days = 30\n\
         [platform.vtpm]\nbank = \"sha256\"\n"
    )
}

const PRODUCTION: &str = "roots = \"production\"";

fn development(pki: &DevPki) -> String {
    format!("roots = \"development\"\ndevelopment-roots = [\"{}\"]", pki.root_spki_sha256())
}

/// The registers of [`statement`].
fn registers() -> String {
    let value = |index: u8| hex::encode([index; 32]);
    format!("[platform.vtpm.pcr]\n0 = [\"{}\"]\n4 = [\"{}\", \"{}\"]\n", value(0), value(9), value(4))
}

fn zeros(count: usize) -> String {
    "0".repeat(count)
}

fn tdx_table() -> String {
    let zero = zeros(96);
    format!(
        "[platform.vtpm.azure-tdx]\ntcb-status = [\"UpToDate\"]\ntcb-evaluation-min = 1\n\
         require-sept-ve-disable = true\nmrtd = [\"{zero}\"]\nrtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\n\
         rtmr2 = [\"{zero}\"]\n"
    )
}

fn owner_policy(owner: &str) -> String {
    format!("{}{}[platform.vtpm.owner]\n{owner}\n", head(PRODUCTION), registers())
}

#[test]
fn a_tpm_that_the_owner_names_passes_in_each_way_of_naming_it() {
    for signer in [Signer::rsa(KeySize::Rsa2048), Signer::p256(), Signer::p384()] {
        let area = signer.area(ATTRIBUTES, None);
        let key = super::key::AttestationKey::read(&area).unwrap();
        let whole = statement(&signer, NONCE, AkEvidence::Key(area.clone()));
        let mut none = verified(None);
        let mut outcome = |owner: String| outcome(&whole, NONCE, &owner_policy(&owner), &mut none, NOW);
        let spki = key.digest().unwrap();
        let claims = outcome(format!("keys = [\"{spki}\"]")).unwrap();
        assert_eq!(claim(&claims, "simulated"), ("false", Voucher::Hardware));
        assert_eq!(claim(&claims, "vtpm.key"), (&*spki.to_string(), Voucher::Hardware));
        assert_eq!(claim(&claims, "vtpm.pcr.sha256.7").0, hex::encode([7; 32]));
        assert!(outcome(format!("areas = [\"{}\"]", Sha256::of(&area))).is_ok());
        let other = Sha256::of(b"other");
        for owner in [format!("keys = [\"{other}\"]"), format!("areas = [\"{spki}\"]")] {
            assert_eq!(outcome(owner), refused(&["vtpm.key-trust"]));
        }
        assert_eq!(outcome(format!("roots = [\"{spki}\"]")), refused(&["vtpm.key-trust"]));
    }
}

/// The public key of a P-256 signer, for a certificate.
struct LeafKey(Vec<u8>);

impl rcgen::PublicKeyData for LeafKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[test]
fn under_an_owners_root_only_certificates_of_attestation_keys_count() {
    use rcgen::{ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose, PublicKeyData as _};
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(rcgen::DnType::CommonName, "a company");
    let root = params.self_signed(&authority).unwrap().der().to_vec();
    let strict = owner_policy(&format!("roots = [\"{}\"]", Sha256::of(&authority.subject_public_key_info())));
    let issuer = rcgen::Issuer::new(params, authority);
    let signer = Signer::p256();
    let key = LeafKey([&[4][..], &signer.numbers()].concat());
    let result = |purposes: &[Purpose], policy: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a leaf");
        params.is_ca = rcgen::IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes.to_vec();
        let leaf = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        let whole = statement(&signer, NONCE, AkEvidence::Certificates(vec![leaf, root.clone()]));
        outcome(&whole, NONCE, policy, &mut verified(None), NOW).map(|_| ())
    };
    let refused = || refused(&["vtpm.key-usage"]).map(|_| ());
    let attestation = || Purpose::Other(vec![2, 23, 133, 8, 3]);
    let endorsement = Purpose::Other(vec![2, 23, 133, 8, 1]);
    let any = strict.clone() + "allow-any-key-usage = true\n";
    let not_any = strict.clone() + "allow-any-key-usage = false\n";
    for good in [vec![attestation()], vec![Purpose::ClientAuth, attestation()]] {
        assert_eq!(result(&good, &strict), Ok(()));
        assert_eq!(result(&good, &any), Ok(()));
    }
    let longer = Purpose::Other(vec![2, 23, 133, 8, 3, 1]);
    for bad in [
        vec![],
        vec![Purpose::ClientAuth, Purpose::ServerAuth],
        vec![Purpose::Any],
        vec![endorsement, longer],
    ] {
        assert_eq!(result(&bad, &strict), refused(), "{bad:?}");
        assert_eq!(result(&bad, &not_any), refused(), "{bad:?}");
        assert_eq!(result(&bad, &any), Ok(()), "{bad:?}");
    }
}

#[test]
fn each_expectation_refuses_by_its_rule() {
    let signer = &*KEY;
    let area = signer.area(ATTRIBUTES, None);
    let pin = format!("areas = [\"{}\"]", Sha256::of(&area));
    let whole = statement(signer, NONCE, AkEvidence::Key(area.clone()));
    let policy = owner_policy(&pin);
    let mut none = verified(None);
    assert!(outcome(&whole, NONCE, &policy, &mut none, NOW).is_ok());
    for other in [&NONCE[..31], b"", &[NONCE, b"\0"].concat()] {
        assert_eq!(outcome(&whole, other, &policy, &mut none, NOW), refused(&["vtpm.extra-data"]));
    }
    let changed = policy.replace(&hex::encode([0; 32]), &hex::encode([1; 32]));
    assert_eq!(outcome(&whole, NONCE, &changed, &mut none, NOW), refused(&["vtpm.pcr"]));
    // A register that was not quoted, and one of a bank that was not.
    let more = policy.replace("0 = [", &format!("1 = [\"{}\"]\n0 = [", zeros(64)));
    assert_eq!(outcome(&whole, NONCE, &more, &mut none, NOW), refused(&["vtpm.pcr"]));
    let bank = owner_policy(&pin)
        .replace("sha256\"\n", "sha384\"\n")
        .replace(&registers(), &format!("[platform.vtpm.pcr]\n0 = [\"{}\"]\n", zeros(96)));
    assert_eq!(outcome(&whole, NONCE, &bank, &mut none, NOW), refused(&["vtpm.pcr"]));
    // Kinds that the policy has no table for, and statements that it does not name at all.
    let hcl = AkEvidence::AzureSnp { hcl_report: vec![], vek: None };
    let td = AkEvidence::AzureTdx { hcl_report: vec![], td_quote: vec![] };
    for ak in [hcl, td] {
        let other = Vtpm { ak, ..whole.clone() };
        assert_eq!(outcome(&other, NONCE, &policy, &mut none, NOW), refused(&["platform.tee"]));
    }
    let google = format!("{}{}[platform.vtpm.google]\nprojects = [\"p\"]\n", head(PRODUCTION), registers());
    assert_eq!(outcome(&whole, NONCE, &google, &mut none, NOW), refused(&["platform.tee"]));
    let certified = Vtpm { ak: AkEvidence::Certificates(vec![vec![]; 2]), ..whole.clone() };
    for policy in [&google, &policy] {
        assert_eq!(outcome(&certified, NONCE, policy, &mut none, NOW), refused(&["vtpm.chain"]));
    }
    let tdx = format!(
        "version = 1\n[platform]\ntee = [\"tdx\"]\n{PRODUCTION}\ncollateral-age-max-days = 30\n{}",
        tdx_table().replace("vtpm.azure-tdx", "tdx")
    );
    assert_eq!(outcome(&whole, NONCE, &tdx, &mut none, NOW), refused(&["platform.tee"]));
}

#[test]
fn a_tpm_quote_is_never_taken_for_report_data_nor_the_other_way_round() {
    let area = KEY.area(ATTRIBUTES, None);
    let policy = owner_policy(&format!("areas = [\"{}\"]", Sha256::of(&area)));
    let policy = Policy::parse(&policy).unwrap();
    let mut extra_data = [0; 64];
    extra_data[..32].copy_from_slice(NONCE);
    let tpm = Platform::Vtpm(statement(&KEY, &extra_data, AkEvidence::Key(area)));
    let mut none = verified(None);
    let as_report = Binding::ReportData(extra_data);
    let refused = appraise_platform(&tpm, None, &as_report, &policy, &mut none, NOW).unwrap_err();
    assert_eq!(refused.first().rule, "vtpm.extra-data");
    let as_extra = Binding::ExtraData(extra_data.to_vec());
    assert!(appraise_platform(&tpm, None, &as_extra, &policy, &mut none, NOW).is_ok());
    let quote = TDX.tdx_quote(&TdBody { report_data: extra_data, ..TdBody::new() }).unwrap();
    let quote = Platform::Tdx { quote };
    let refused = appraise_platform(&quote, None, &as_extra, &policy, &mut none, NOW).unwrap_err();
    assert!(refused.rules.iter().any(|rule| !rule.passed && rule.detail.rule == "platform.report-data"));
}

/// A machine at Azure with SEV-SNP, and the policy that takes it.
fn azure_snp(variable: &[u8]) -> (Vtpm, String) {
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(&Sha256::of(variable).0);
    let report = SNP.snp_report(&SnpBody { report_data, ..SnpBody::new() }).unwrap();
    let CollateralParts::Snp(parts) = SNP.collateral() else { panic!("SNP") };
    let ak = AkEvidence::AzureSnp { hcl_report: hcl_report(2, &report, variable), vek: Some(parts.vek) };
    let policy = format!(
        "{}{}[platform.vtpm.azure-snp]\nmeasurement = [\"{}\"]\nvmpl = 0\nallow-smt = true\n\
         crl-age-max-days = 30\n[platform.vtpm.azure-snp.products.Genoa]\n\
         tcb-min = {{ bootloader = 0, tee = 0, snp = 0, microcode = 0 }}\n",
        head(&development(&SNP)),
        registers(),
        zeros(96)
    );
    (statement(&KEY, NONCE, ak), policy)
}

#[test]
fn an_azure_machine_with_snp_passes_and_the_paravisor_vouches_for_its_registers() {
    let (whole, policy) = azure_snp(&variable_data(&[KEY.jwk("HCLAkPub"), KEY.jwk("HCLEkPub")]));
    let mut collateral = verified(Some(&SNP));
    let claims = outcome(&whole, NONCE, &policy, &mut collateral, NOW).unwrap();
    // Under a development root everything is simulated.
    assert_eq!(claim(&claims, "simulated"), ("true", Voucher::Simulated));
    assert_eq!(claim(&claims, "azure.secure-boot"), ("true", Voucher::Simulated));
    // The guest wrote these, whatever speaks for the rest.
    assert_eq!(claim(&claims, "azure.user-data"), ("00", Voucher::HostClaimed));
    assert_eq!(claim(&claims, "vtpm.pcr.sha256.0").0, zeros(64));
    assert_eq!(outcome(&whole, b"other", &policy, &mut collateral, NOW), refused(&["vtpm.extra-data"]));
    let other = policy.replace("vmpl = 0", "vmpl = 1");
    assert_eq!(outcome(&whole, NONCE, &other, &mut collateral, NOW), refused(&["snp.vmpl"]));
    let production = policy.replace(&development(&SNP), PRODUCTION);
    assert_eq!(outcome(&whole, NONCE, &production, &mut collateral, NOW), refused(&["platform.roots"]));
    let mut none = verified(None);
    assert_eq!(outcome(&whole, NONCE, &policy, &mut none, NOW), refused(&["collateral.present"]));
}

#[test]
fn the_attestation_key_must_be_the_one_that_the_report_binds() {
    let mut collateral = verified(Some(&SNP));
    let (whole, policy) = azure_snp(&variable_data(&[KEY.jwk("HCLAkPub")]));
    let mut outcome = |statement: &Vtpm| outcome(statement, NONCE, &policy, &mut collateral, NOW);
    assert!(outcome(&whole).is_ok());
    // A quote by another key, with a good report beside it.
    let other = Signer::rsa(KeySize::Rsa2048);
    let forged = statement(&other, NONCE, whole.ak.clone());
    assert_eq!(outcome(&forged), refused(&["vtpm.signature"]));
    // Its key put in place of the machine's own, under the same report.
    let AkEvidence::AzureSnp { hcl_report: report, vek } = &whole.ak else { panic!("SNP") };
    let swapped = hcl_report(2, &report[32..32 + 1184], &variable_data(&[other.jwk("HCLAkPub")]));
    let ak = AkEvidence::AzureSnp { hcl_report: swapped, vek: vek.clone() };
    assert_eq!(outcome(&Vtpm { ak, ..forged }), refused(&["azure.report-data"]));
    // Runtime claims with no such key, two, or one of another kind: bound, and of no use.
    for keys in [
        vec![],
        vec![KEY.jwk("HCLEkPub")],
        vec![KEY.jwk("HCLAkPub"), other.jwk("HCLAkPub")],
        vec![KEY.jwk("HCLAkPub").replace("\"RSA\"", "\"EC\"")],
        vec![KEY.jwk("HCLAkPub").replace("AQAB", "Aw")],
        vec![KEY.jwk("HCLAkPub").replace("\"n\":\"", "\"n\":\"=")],
    ] {
        let (statement, _) = azure_snp(&variable_data(&keys));
        assert_eq!(outcome(&statement), refused(&["vtpm.key"]), "{keys:?}");
    }
    for json in [&b"{}"[..], b"[]", b"{\"keys\":[],\"keys\":[]}", b"\xff"] {
        let (statement, _) = azure_snp(json);
        assert_eq!(outcome(&statement), refused(&["azure.runtime-data"]));
    }
    // Report data with something in the half that must be zero.
    let variable = variable_data(&[KEY.jwk("HCLAkPub")]);
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(&Sha256::of(&variable).0);
    report_data[63] = 1;
    let report = SNP.snp_report(&SnpBody { report_data, ..SnpBody::new() }).unwrap();
    let ak = AkEvidence::AzureSnp { hcl_report: hcl_report(2, &report, &variable), vek: vek.clone() };
    assert_eq!(outcome(&Vtpm { ak, ..whole.clone() }), refused(&["azure.report-data"]));
    // A report whose signature does not hold binds nothing.
    let AkEvidence::AzureSnp { hcl_report: mut report, vek } = whole.ak.clone() else { panic!("SNP") };
    report[32 + 0x90] ^= 1;
    let ak = AkEvidence::AzureSnp { hcl_report: report, vek };
    assert_eq!(outcome(&Vtpm { ak, ..whole }), refused(&["platform.signature"]));
}

#[test]
fn the_report_of_one_kind_is_not_taken_for_the_other() {
    let (whole, policy) = azure_snp(&variable_data(&[KEY.jwk("HCLAkPub")]));
    let policy = format!("{policy}{}", tdx_table());
    let AkEvidence::AzureSnp { hcl_report: snp, .. } = &whole.ak else { panic!("SNP") };
    let mut tdreport = vec![0; 1024];
    tdreport[0] = 0x81;
    let tdx = hcl_report(4, &tdreport, b"{\"keys\":[]}");
    let mut collateral = verified(Some(&SNP));
    for ak in [
        AkEvidence::AzureTdx { hcl_report: snp.clone(), td_quote: vec![] },
        AkEvidence::AzureSnp { hcl_report: tdx, vek: None },
    ] {
        let found = outcome(&Vtpm { ak, ..whole.clone() }, NONCE, &policy, &mut collateral, NOW);
        assert_eq!(found, refused(&["azure.hcl-report"]));
    }
}

const AZURE_TDX: &str = "trustee/deps/verifier/test_data/az-tdx-vtpm/evidence-v1.json";
const S5: &str = "_assembled/S5-automata-00806f-2025-10.json";

/// A real machine at Azure with TDX, and the policy that takes it: with what such machines need.
fn real_azure_tdx(folder: &Path) -> (Vtpm, String) {
    let statement = Vtpm::from_json_bytes(&vectors::read(folder, AZURE_TDX)).unwrap();
    let AkEvidence::AzureTdx { td_quote, .. } = &statement.ak else { panic!("TDX") };
    let body = parse_tdx_quote(td_quote).unwrap().body;
    let pcr = |index: usize| hex::encode(&statement.pcrs[index].digest);
    let policy = format!(
        "{}[platform.vtpm.pcr]\n0 = [\"{}\"]\n4 = [\"{}\"]\n7 = [\"{}\"]\n{}",
        head(PRODUCTION),
        pcr(0),
        pcr(4),
        pcr(7),
        tdx_table()
            .replace("\"UpToDate\"", "\"OutOfDate\"")
            .replace("disable = true", "disable = false")
            .replacen(&zeros(96), &hex::encode(body.mr_td), 1)
    );
    let mut advisories =
        "allow-advisories = [\"INTEL-SA-00960\", \"INTEL-SA-00982\", \"INTEL-SA-00986\"]\n".to_owned();
    if *body.mr_config_id != [0; 48] {
        advisories.push_str(&format!("mrconfigid = [\"{}\"]\n", hex::encode(body.mr_config_id)));
    }
    (statement, format!("{policy}{advisories}"))
}

#[test]
fn a_real_azure_machine_with_tdx_passes_a_policy_that_says_what_it_is() {
    let Some(folder) = vectors::folder("a_real_azure_machine_with_tdx_passes_a_policy_that_says_what_it_is")
    else {
        return;
    };
    let (whole, policy) = real_azure_tdx(&folder);
    let tdx = Some(tdx_collateral(&folder, S5));
    let mut collateral = VerifiedCollateral::verify(&Collateral { tdx, snp: None });
    let now = UnixTime::from_rfc3339("2025-10-25T00:00:00Z").unwrap();
    let mut outcome =
        |statement: &Vtpm, policy: &str| outcome(statement, b"challenge", policy, &mut collateral, now);
    let claims = outcome(&whole, &policy).unwrap();
    assert_eq!(claim(&claims, "simulated"), ("false", Voucher::Hardware));
    assert_eq!(claim(&claims, "vtpm.pcr.sha256.7").1, Voucher::MeasuredRuntime);
    assert_eq!(claim(&claims, "azure.secure-boot"), ("true", Voucher::MeasuredRuntime));
    // Every one of the explicit permissions is needed.
    let strict = policy.replace("disable = false", "disable = true");
    assert_eq!(outcome(&whole, &strict), refused(&["tdx.sept-ve-disable"]));
    let strict = policy.replace("\"OutOfDate\"", "\"UpToDate\"");
    assert_eq!(outcome(&whole, &strict), refused(&["tdx.tcb-status"]));
    // A change of anything in it is refused.
    let changed = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>)| {
        let mut statement = whole.clone();
        let AkEvidence::AzureTdx { hcl_report, td_quote } = &mut statement.ak else { panic!("TDX") };
        change(hcl_report, td_quote);
        statement
    };
    let quote = changed(&|_, quote| quote[48 + 136] ^= 1);
    assert_eq!(outcome(&quote, &policy), refused(&["platform.signature"]));
    let tdreport = changed(&|hcl, _| hcl[32 + 128] ^= 1);
    assert_eq!(outcome(&tdreport, &policy), refused(&["azure.tdreport"]));
    let mut pcr = whole.clone();
    pcr.pcrs[4].digest[0] ^= 1;
    assert_eq!(outcome(&pcr, &policy), refused(&["vtpm.pcr-digest"]));
}

#[test]
fn every_byte_of_a_real_azure_statement_counts_but_those_that_no_quote_holds() {
    let name = "every_byte_of_a_real_azure_statement_counts_but_those_that_no_quote_holds";
    let Some(folder) = vectors::folder(name) else { return };
    let (whole, policy) = real_azure_tdx(&folder);
    let tdx = Some(tdx_collateral(&folder, S5));
    let mut collateral = VerifiedCollateral::verify(&Collateral { tdx, snp: None });
    let now = UnixTime::from_rfc3339("2025-10-25T00:00:00Z").unwrap();
    let mut passes =
        |statement: &Vtpm| outcome(statement, b"challenge", &policy, &mut collateral, now).is_ok();
    let AkEvidence::AzureTdx { hcl_report, td_quote } = &whole.ak else { panic!("TDX") };
    for offset in 0..whole.message.len() {
        let mut changed = whole.clone();
        changed.message[offset] ^= 1;
        assert!(!passes(&changed), "message {offset}");
    }
    for offset in 0..whole.signature.len() {
        let mut changed = whole.clone();
        changed.signature[offset] ^= 1;
        assert!(!passes(&changed), "signature {offset}");
    }
    for (index, pcr) in whole.pcrs.iter().enumerate() {
        for offset in (0..pcr.digest.len()).step_by(5) {
            let mut changed = whole.clone();
            changed.pcrs[index].digest[offset] ^= 1;
            assert!(!passes(&changed), "register {index} {offset}");
        }
    }
    // Of a TDREPORT: what only its own machine can check, and what a quote of version 4 does not hold.
    let of_tdreport = |offset: &usize| {
        let tdreport = offset.wrapping_sub(32);
        [1..128, 192..264, 384..512, 912..1024].iter().any(|range| range.contains(&tdreport))
    };
    for offset in 0..hcl_report.len() {
        let mut hcl_report = hcl_report.clone();
        hcl_report[offset] ^= 1;
        let ak = AkEvidence::AzureTdx { hcl_report, td_quote: td_quote.clone() };
        let passed = passes(&Vtpm { ak, ..whole.clone() });
        assert_eq!(passed, of_tdreport(&offset), "HCL report {offset}");
    }
    for offset in (0..td_quote.len()).step_by(23) {
        let mut td_quote = td_quote.clone();
        td_quote[offset] ^= 1;
        let ak = AkEvidence::AzureTdx { hcl_report: hcl_report.clone(), td_quote };
        // The header's reserved field and user data are signed; nothing in a quote is free.
        assert!(!passes(&Vtpm { ak, ..whole.clone() }), "quote {offset}");
    }
}

#[test]
fn real_azure_machines_with_snp_lack_nothing_but_a_crl_of_amd() {
    let Some(folder) = vectors::folder("real_azure_machines_with_snp_lack_nothing_but_a_crl_of_amd") else {
        return;
    };
    let azure = "trustee/deps/verifier/test_data/az-snp-vtpm";
    let amd = "attestation-rs/crates/attestation/certs/amd";
    for (file, product) in [
        ("evidence-v0.json", "Milan"),
        ("evidence-v1.json", "Milan"),
        ("evidence-v2.json", "Milan"),
        ("evidence-genoa.json", "Genoa"),
    ] {
        let whole = Vtpm::from_json_bytes(&vectors::read(&folder, &format!("{azure}/{file}"))).unwrap();
        let AkEvidence::AzureSnp { hcl_report, .. } = &whole.ak else { panic!("SNP") };
        let report = casemate_evidence::parse_snp_report(&hcl_report[32..32 + 1184]).unwrap();
        let of = |name: &str| vectors::read(&folder, &format!("{amd}/{}/{name}.der", product.to_lowercase()));
        let snp = Some(SnpCollateral { ark: of("ark"), ask: of("ask"), crl: vec![], vek: None });
        let mut collateral = VerifiedCollateral::verify(&Collateral { tdx: None, snp });
        let (_, policy) = azure_snp(b"{}");
        let policy = policy
            .replace(&development(&SNP), PRODUCTION)
            .replace("[\"Genoa\"]", &format!("[\"{product}\"]"))
            .replace(
                &format!("measurement = [\"{}\"]", zeros(96)),
                &format!("measurement = [\"{}\"]", hex::encode(report.measurement)),
            );
        let now = UnixTime::from_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let bound = casemate_evidence::parse_tpm_quote(&whole.message).unwrap().extra_data.to_vec();
        let found = outcome(&whole, &bound, &policy, &mut collateral, now);
        assert_eq!(found, refused(&["platform.crl"]), "{file}");
    }
}

#[test]
fn real_google_and_plain_statements_pass_and_claim_no_hardware_they_have_not() {
    let name = "real_google_and_plain_statements_pass_and_claim_no_hardware_they_have_not";
    let Some(folder) = vectors::folder(name) else { return };
    let file = "trustee/deps/verifier/test_data/tpm_evidence.json";
    let plain = Vtpm::from_json_bytes(&vectors::read(&folder, file)).unwrap();
    let AkEvidence::Key(key) = &plain.ak else { panic!("a key") };
    let policy = format!(
        "{}[platform.vtpm.pcr]\n0 = [\"{}\"]\n17 = [\"{}\"]\n[platform.vtpm.owner]\nkeys = [\"{}\"]\n",
        head(PRODUCTION),
        zeros(64),
        "f".repeat(64),
        Sha256::of(key)
    );
    let bound = casemate_evidence::parse_tpm_quote(&plain.message).unwrap().extra_data.to_vec();
    let mut none = verified(None);
    let claims = outcome(&plain, &bound, &policy, &mut none, NOW).unwrap();
    assert_eq!(claim(&claims, "vtpm.clock-safe").1, Voucher::Hardware);
    let (chain, google) = super::vector_tests::google_statement(&folder);
    let pcr = google.pcrs.iter().find(|pcr| pcr.index == 7).unwrap();
    let policy = format!(
        "{}[platform.vtpm.pcr]\n7 = [\"{}\"]\n[platform.vtpm.google]\nprojects = [\"google.com:wuale-gcp-testing\"]\n",
        head(PRODUCTION),
        hex::encode(&pcr.digest)
    );
    assert_eq!(pcr.bank, TpmHash::Sha256);
    let google = Vtpm { ak: AkEvidence::Certificates(chain), ..google };
    let claims = outcome(&google, &[0x90, 0x09], &policy, &mut none, NOW).unwrap();
    assert!(claims.iter().all(|claim| claim.voucher == Voucher::HostClaimed));
    let other = policy.replace("wuale-gcp-testing", "another");
    assert_eq!(outcome(&google, &[0x90, 0x09], &other, &mut none, NOW), refused(&["google.project"]));
}

fn error(from: &str, to: &str) -> PolicyError {
    let good = every_table();
    assert!(good.contains(from), "{from}");
    Policy::parse(&good.replacen(from, to, 1)).expect_err(to)
}

fn every_table() -> String {
    let (_, policy) = azure_snp(b"{}");
    let digest = Sha256::of(b"key");
    format!(
        "{policy}{}[platform.vtpm.google]\nprojects = [\"a\", \"b\"]\n[platform.vtpm.owner]\n\
         keys = [\"{digest}\"]\nareas = [\"{digest}\"]\nroots = [\"{digest}\"]\nallow-any-key-usage = true\n",
        tdx_table()
    )
}

#[test]
fn a_policy_is_read_as_it_is_written_and_written_as_it_is_read() {
    let policy = Policy::parse(&every_table()).unwrap();
    let vtpm = policy.values().vtpm.as_ref().unwrap();
    let expected = BTreeMap::from([(0, vec![vec![0; 32]]), (4, vec![vec![9; 32], vec![4; 32]])]);
    assert_eq!(vtpm.pcrs, expected);
    assert_eq!(vtpm.kinds().len(), 4);
    let usage = |text: &str| Policy::parse(text).unwrap().values().vtpm.clone().unwrap().owner.unwrap().usage;
    let any = "allow-any-key-usage = true";
    assert_eq!(usage(&every_table()), KeyUsage::Any);
    assert_eq!(usage(&every_table().replace(any, "")), KeyUsage::AttestationKey);
    assert_eq!(usage(&every_table().replace(any, "allow-any-key-usage = false")), KeyUsage::AttestationKey);
    let rendered = Policy::render(policy.values());
    assert_eq!(Policy::parse(&rendered).unwrap().values(), policy.values(), "{rendered}");
}

#[test]
fn a_policy_that_expects_nothing_or_something_unknown_is_refused() {
    let what = |from: &str, to: &str| error(from, to).what;
    assert!(what("\"sha256\"", "\"sha1\"").contains("`sha1` is not known, or too weak"));
    assert!(what("\n0 = [", "\n32 = [").contains("`32` is not a register"));
    assert!(what("\n0 = [", "\n00 = [").contains("`00` is not a register"));
    assert!(what("\n0 = [", "\npcr0 = [").contains("`pcr0` is not a register"));
    assert!(what("\"09", "\"9").contains("is not 64 lower-case hexadecimal digits"));
    assert!(what("[\"a\", \"b\"]", "[]").contains("no value is named"));
    assert!(what("[\"a\", \"b\"]", "[\"\"]").contains("is not the name of a project"));
    assert!(what("keys = [\"sha256:", "keys = [\"").contains("is not a digest"));
    assert!(what("[platform.vtpm.google]", "extra = 1\n[platform.vtpm.google]").contains("unknown field"));
    let registers = registers();
    let registers = registers.split_once('\n').unwrap().1;
    assert!(what(registers, "").contains("no register is named"));
    let bare = |tables: &str| {
        let policy = format!("{}{}{tables}", head(PRODUCTION), self::registers());
        Policy::parse(&policy).unwrap_err().what
    };
    assert!(bare("").contains("no kind of TPM is accepted"));
    assert!(bare("[platform.vtpm.owner]\n").contains("no key is named"));
    assert!(bare("[platform.vtpm.other]\n").contains("unknown field"));
    assert!(what("tee = [\"vtpm\"]", "tee = [\"vtpm\", \"snp\"]").contains("[platform.snp] is missing"));
    assert!(what("tee = [\"vtpm\"]", "tee = [\"tpm\"]").contains("`tpm` is not known"));
}
