use casemate_jose::SigningKey;
use casemate_protocol::jwk::ALG_ES256;
use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::TagIdChoice;
use corim::types::corim::{CorimId, CorimMetaMap, CorimSignerMap};
use corim::types::measurement::{IntegrityRegisters, SvnChoice};
use corim::types::signed::SignedCorimBuilder;

use super::*;

const NOW: UnixTime = UnixTime(1_780_272_000);

fn key(name: &str) -> Option<MeasuredElement> {
    Some(MeasuredElement::Text(name.into()))
}

fn digest(byte: u8) -> Digest {
    Digest::new(SHA_384, vec![byte; 48])
}

fn measured(mkey: Option<MeasuredElement>, digests: Vec<Digest>) -> MeasurementMap {
    let mut mval = MeasurementValuesMap::new();
    mval.digests = Some(digests);
    MeasurementMap { mkey, mval, authorized_by: None }
}

fn tdx() -> EnvironmentMap {
    EnvironmentMap::for_class("Intel", "TDX")
}

fn corim_of(triples: Vec<ReferenceTriple>) -> Vec<u8> {
    let mut comid = ComidBuilder::new(TagIdChoice::Text("tag".into()));
    for triple in triples {
        comid = comid.add_reference_triple(triple);
    }
    CorimBuilder::new(CorimId::Text("test".into()))
        .add_comid_tag(comid.build().unwrap())
        .unwrap()
        .build_bytes()
        .unwrap()
}

fn one(environment: EnvironmentMap, measurements: Vec<MeasurementMap>) -> Vec<u8> {
    corim_of(vec![ReferenceTriple::new(environment, measurements)])
}

fn read(bytes: &[u8]) -> Result<ReferenceValues, CorimError> {
    read_corim(bytes, &CorimSigner::Unsigned, NOW)
}

fn whole() -> Vec<u8> {
    let registers = ["mrtd", "rtmr0", "rtmr1", "rtmr2"]
        .iter()
        .zip(1..)
        .map(|(name, byte)| measured(key(name), vec![digest(byte)]));
    one(tdx(), registers.collect())
}

fn set(bytes: &[u8]) -> BTreeSet<Measurement> {
    bytes.iter().map(|byte| Measurement([*byte; 48])).collect()
}

#[test]
fn reads_every_register_of_a_tdx_box() {
    let values = read(&whole()).unwrap();
    assert_eq!((values.mrtd, values.rtmr), (set(&[1]), [set(&[2]), set(&[3]), set(&[4])]));
    assert_eq!((values.snp_measurement, values.left_out), (set(&[]), Vec::<String>::new()));
}

#[test]
fn reads_integrity_registers_by_number_and_name() {
    let ids = [
        IntegrityRegisterId::Uint(0),
        IntegrityRegisterId::Text("rtmr2".into()),
        IntegrityRegisterId::Uint(3),
    ];
    let mut mval = MeasurementValuesMap::new();
    mval.integrity_registers = Some(IntegrityRegisters(
        ids.into_iter().zip(1..).map(|(id, byte)| (id, vec![digest(byte)])).collect(),
    ));
    let values = read(&one(tdx(), vec![MeasurementMap { mkey: None, mval, authorized_by: None }])).unwrap();
    assert_eq!(values.rtmr, [set(&[1]), set(&[]), set(&[2])]);
    assert_eq!(values.left_out, ["integrity register Uint(3) of Intel TDX"]);
}

#[test]
fn reads_snp_by_names_and_by_the_profiles_class() {
    let by_name =
        one(EnvironmentMap::for_class("AMD", "SEV-SNP"), vec![measured(key("measurement"), vec![digest(1)])]);
    assert_eq!(read(&by_name).unwrap().snp_measurement, set(&[1]));
    for class in SNP_CLASSES {
        let class = ClassMap { class_id: Some(ClassIdChoice::Uuid(class)), ..ClassMap::default() };
        let environment = EnvironmentMap { class: Some(class), instance: None, group: None };
        let bytes = one(environment, vec![measured(Some(MeasuredElement::Uint(0)), vec![digest(2)])]);
        let values = read(&bytes).unwrap();
        assert_eq!((values.snp_measurement, values.left_out), (set(&[2]), Vec::<String>::new()));
    }
}

#[test]
fn values_of_several_triples_stand_together() {
    let triple = |byte| ReferenceTriple::new(tdx(), vec![measured(key("mrtd"), vec![digest(byte)])]);
    assert_eq!(read(&corim_of(vec![triple(1), triple(2), triple(1)])).unwrap().mrtd, set(&[1, 2]));
}

#[test]
fn what_a_policy_cannot_hold_is_named() {
    let mut with_svn = measured(key("mrtd"), vec![digest(1)]);
    with_svn.mval.svn = Some(SvnChoice::ExactValue(3));
    let bytes = corim_of(vec![
        ReferenceTriple::new(tdx(), vec![with_svn, measured(key("mrseam"), vec![digest(2)])]),
        ReferenceTriple::new(
            EnvironmentMap::for_class("Arm", "CCA"),
            vec![measured(key("mrtd"), vec![digest(3)])],
        ),
    ]);
    let values = read(&bytes).unwrap();
    assert_eq!(values.mrtd, set(&[1]));
    assert_eq!(
        values.left_out,
        [
            "values of Intel TDX, mrtd, besides its digest",
            r#"measurement Text("mrseam") of Intel TDX"#,
            "reference values of Arm CCA",
        ]
    );
}

#[test]
fn a_class_that_is_only_like_it_is_another() {
    let class = ClassMap { layer: Some(1), ..ClassMap::new("Intel", "TDX") };
    let environment = EnvironmentMap { class: Some(class), instance: None, group: None };
    assert_eq!(
        read(&one(environment, vec![measured(key("mrtd"), vec![digest(1)])])),
        Err(CorimError::Nothing)
    );
    let snp = EnvironmentMap::for_class("AMD", "SEV-SNP");
    assert_eq!(read(&one(snp, vec![measured(key("mrtd"), vec![digest(1)])])), Err(CorimError::Nothing));
}

#[test]
fn a_register_has_one_digest_of_sha_384() {
    let with = |digests| read(&one(tdx(), vec![measured(key("rtmr1"), digests)]));
    assert_eq!(
        with(vec![Digest::new(1, vec![1; 32])]),
        Err(CorimError::Digests { register: "rtmr1", found: 0 })
    );
    assert_eq!(with(vec![digest(1), digest(2)]), Err(CorimError::Digests { register: "rtmr1", found: 2 }));
    for found in [47, 49, 32, 0] {
        let result = with(vec![Digest::new(SHA_384, vec![1; found])]);
        // The library knows the lengths of registered algorithms as well.
        assert!(
            matches!(result, Err(CorimError::Invalid { .. }))
                || result == Err(CorimError::DigestLength { register: "rtmr1", found }),
            "{result:?}"
        );
    }
    let both = with(vec![Digest::new(1, vec![1; 32]), digest(2)]).unwrap();
    assert_eq!(both.rtmr[1], set(&[2]));
}

fn signed(key: &SigningKey, algorithm: CoseAlgorithm) -> Vec<u8> {
    let signer = CorimSignerMap { signer_name: "maker".into(), signer_uri: None };
    let mut builder = SignedCorimBuilder::new(algorithm, whole())
        .set_corim_meta(CorimMetaMap { signer, signature_validity: None });
    let signature = key.sign(&builder.to_be_signed(&[]).unwrap()).unwrap();
    builder.build_with_signature(signature.to_vec()).unwrap()
}

fn named(key: &SigningKey) -> CorimSigner {
    let point = key.jwk().to_point(ALG_ES256).unwrap();
    CorimSigner::Named(vec![PublicKey { point: Point::P256(point.to_vec()) }])
}

#[test]
fn a_signed_corim_is_taken_from_whom_the_user_named_alone() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    for algorithm in [CoseAlgorithm::Es256, CoseAlgorithm::Esp256] {
        let bytes = signed(&key, algorithm);
        assert_eq!(read_corim(&bytes, &named(&key), NOW).unwrap().mrtd, set(&[1]));
        assert_eq!(read(&bytes), Err(CorimError::SignerNotNamed));
        let error = CorimError::Signature { algorithm: algorithm.name().into() };
        assert_eq!(read_corim(&bytes, &named(&other), NOW), Err(error));
    }
    assert_eq!(read_corim(&whole(), &named(&key), NOW), Err(CorimError::NotSigned));
    // A key of one curve does not make signatures of another algorithm.
    let error = CorimError::Signature { algorithm: CoseAlgorithm::Es384.name().into() };
    assert_eq!(read_corim(&signed(&key, CoseAlgorithm::Es384), &named(&key), NOW), Err(error));
}

#[test]
fn every_changed_byte_of_a_signed_corim_is_noticed() {
    let key = SigningKey::generate().unwrap();
    let bytes = signed(&key, CoseAlgorithm::Es256);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(read_corim(&changed, &named(&key), NOW).is_err(), "{at}");
    }
}

#[test]
fn refuses_truncation_at_every_offset_trailing_bytes_and_one_too_long() {
    let bytes = whole();
    for length in 0..bytes.len() {
        assert!(matches!(read(&bytes[..length]), Err(CorimError::Invalid { .. })), "{length}");
    }
    assert!(matches!(read(&[&bytes[..], &[0]].concat()), Err(CorimError::Invalid { .. })));
    let found = CORIM_BYTES_MAX + 1;
    assert_eq!(read(&vec![0; found]), Err(CorimError::TooLong { found }));
}

#[test]
fn refuses_deep_nesting_and_huge_counts() {
    // Arrays in arrays, and an array that says it has 2^32 - 1 members.
    for bytes in [
        vec![0x81; 100_000],
        vec![0x9a, 0xff, 0xff, 0xff, 0xff],
        vec![0xd9, 0x01, 0xf5, 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert!(matches!(read(&bytes), Err(CorimError::Invalid { .. })));
    }
}

#[test]
fn refuses_one_outside_its_validity() {
    let comid = ComidBuilder::new(TagIdChoice::Text("tag".into()))
        .add_reference_triple(ReferenceTriple::new(tdx(), vec![measured(key("mrtd"), vec![digest(1)])]))
        .build()
        .unwrap();
    let now = i64::try_from(NOW.0).unwrap();
    let valid = |from: i64, until: i64| {
        CorimBuilder::new(CorimId::Text("test".into()))
            .set_validity(Some(from), until)
            .unwrap()
            .add_comid_tag(comid.clone())
            .unwrap()
            .build_bytes()
            .unwrap()
    };
    assert!(read(&valid(now - 1, now + 1)).is_ok());
    assert!(matches!(read(&valid(now - 10, now - 1)), Err(CorimError::Invalid { .. })));
    assert!(matches!(read(&valid(now + 1, now + 10)), Err(CorimError::Invalid { .. })));
}
