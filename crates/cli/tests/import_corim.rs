//! `casemate policy import-corim` as a user runs it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};

use casemate_jose::SigningKey;
use casemate_verifier::{Measurement, Policy};
use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::{MeasuredElement, TagIdChoice};
use corim::types::corim::{CorimId, CorimMetaMap, CorimSignerMap};
use corim::types::environment::EnvironmentMap;
use corim::types::measurement::{Digest, MeasurementMap, MeasurementValuesMap};
use corim::types::signed::{CoseAlgorithm, SignedCorimBuilder};
use corim::types::triples::ReferenceTriple;

fn corim(environment: EnvironmentMap, registers: &[(&str, u8)]) -> Vec<u8> {
    let measured = |(name, byte): &(&str, u8)| {
        let mut mval = MeasurementValuesMap::new();
        mval.digests = Some(vec![Digest::new(7, vec![*byte; 48])]);
        MeasurementMap { mkey: Some(MeasuredElement::Text((*name).into())), mval, authorized_by: None }
    };
    let triple = ReferenceTriple::new(environment, registers.iter().map(measured).collect());
    let comid =
        ComidBuilder::new(TagIdChoice::Text("tag".into())).add_reference_triple(triple).build().unwrap();
    CorimBuilder::new(CorimId::Text("test".into())).add_comid_tag(comid).unwrap().build_bytes().unwrap()
}

fn tdx(registers: &[(&str, u8)]) -> Vec<u8> {
    corim(EnvironmentMap::for_class("Intel", "TDX"), registers)
}

fn policy() -> String {
    let zero = "0".repeat(96);
    format!(
        "version = 1\n[platform]\ntee = [\"tdx\"]\nroots = \"production\"\ncollateral-age-max-days = 30\n\
         [platform.tdx]\ntcb-status = [\"UpToDate\"]\nrequire-sept-ve-disable = true\ntcb-evaluation-min = 18\nmrtd = [\"{zero}\"]\n\
         rtmr0 = [\"{zero}\"]\nrtmr1 = [\"{zero}\"]\nrtmr2 = [\"{zero}\"]\n\
         [composition]\ndigest = \"sha384:{zero}\"\n[agents]\n"
    )
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn import(folder: &Path, args: &[&str]) -> Said {
    let output = Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_casemate"), "policy", "import-corim", "--policy", "policy.toml"])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("policy.toml"), policy()).unwrap();
    place
}

fn written(place: &tempfile::TempDir) -> Policy {
    Policy::parse(&std::fs::read_to_string(place.path().join("policy.toml")).unwrap()).unwrap()
}

#[test]
fn values_replace_the_lists_that_they_name_and_nothing_else() {
    let place = place();
    std::fs::write(place.path().join("a"), tdx(&[("mrtd", 1), ("rtmr1", 2)])).unwrap();
    std::fs::write(place.path().join("b"), tdx(&[("mrtd", 3)])).unwrap();
    let said = import(place.path(), &["a", "b"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(
        said.stdout,
        "mrtd: 2 values in place of 1 value\nrtmr1: 1 value in place of 1 value\nwrote policy.toml\n"
    );
    let mut expected = Policy::parse(&policy()).unwrap().values().clone();
    let tdx = expected.tdx.as_mut().unwrap();
    tdx.mrtd = vec![Measurement([1; 48]), Measurement([3; 48])];
    tdx.rtmr[1] = vec![Measurement([2; 48])];
    assert_eq!(*written(&place).values(), expected);
}

#[test]
fn a_signed_corim_is_taken_from_its_named_signer_alone() {
    let place = place();
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let signer = CorimSignerMap { signer_name: "maker".into(), signer_uri: None };
    let mut builder = SignedCorimBuilder::new(CoseAlgorithm::Es256, tdx(&[("mrtd", 1)]))
        .set_corim_meta(CorimMetaMap { signer, signature_validity: None });
    let signature = key.sign(&builder.to_be_signed(&[]).unwrap()).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes).unwrap();
    write("signed", &builder.build_with_signature(signature.to_vec()).unwrap());
    write("unsigned", &tdx(&[("mrtd", 1)]));
    write("key", &serde_json::to_vec(&key.jwk()).unwrap());
    write("other", &serde_json::to_vec(&other.jwk()).unwrap());
    for (args, says) in [
        (vec!["signed"], "nobody is named whose signature is taken"),
        (vec!["signed", "--signer", "other"], "not signed by a key that is named"),
        (vec!["unsigned", "--signer", "key"], "not signed, and a signer is named"),
        (vec!["signed", "unsigned", "--signer", "key"], "not signed, and a signer is named"),
        (vec!["signed", "--signer", "signed"], "not a public"),
    ] {
        let said = import(place.path(), &args);
        assert!(said.code == Some(2) && said.stderr.contains(says), "{args:?}: {}", said.stderr);
        assert_eq!(std::fs::read_to_string(place.path().join("policy.toml")).unwrap(), policy());
    }
    assert_eq!(import(place.path(), &["signed", "--signer", "other", "--signer", "key"]).code, Some(0));
    assert_eq!(written(&place).values().tdx.as_ref().unwrap().mrtd, [Measurement([1; 48])]);
}

#[test]
fn what_a_policy_cannot_say_is_refused_by_name_unless_accepted() {
    let place = place();
    std::fs::write(place.path().join("a"), tdx(&[("mrtd", 1), ("mrseam", 2)])).unwrap();
    let said = import(place.path(), &["a"]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("mrseam") && said.stderr.contains("--leave-out"), "{}", said.stderr);
    assert_eq!(import(place.path(), &["a", "--leave-out"]).code, Some(0));
}

#[test]
fn values_of_boxes_that_the_policy_does_not_accept_are_unusable() {
    let place = place();
    let snp = corim(EnvironmentMap::for_class("AMD", "SEV-SNP"), &[("measurement", 1)]);
    std::fs::write(place.path().join("snp"), snp).unwrap();
    std::fs::write(place.path().join("junk"), "junk").unwrap();
    for (file, says) in [("snp", "values of SEV-SNP boxes"), ("junk", "not a CoRIM"), ("none", "none: ")] {
        let said = import(place.path(), &[file]);
        assert!(said.code == Some(2) && said.stderr.contains(says), "{file}: {}", said.stderr);
    }
    assert_eq!(std::fs::read_to_string(place.path().join("policy.toml")).unwrap(), policy());
}
