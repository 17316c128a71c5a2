//! Each form read as it is written, and what is refused.

use super::*;

fn digests() -> Vec<Pcr> {
    (0..24).map(|index| Pcr { bank: TpmHash::Sha256, index, digest: vec![index; 32] }).collect()
}

fn azure_snp() -> Vtpm {
    Vtpm {
        message: vec![0xff, 0x54],
        signature: [&[0x00, 0x14, 0x00, 0x0b, 0x01, 0x00][..], &[0x51; 256]].concat(),
        pcrs: digests(),
        ak: AkEvidence::AzureSnp { hcl_report: vec![0xfb, 0xff], vek: Some(vec![0x30, 0x00]) },
    }
}

fn lower_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn azure_numbers() -> Value {
    json!({
        "quote": {
            "message": [0xff, 0x54],
            "signature": vec![0x51; 256],
            "pcrs": digests().iter().map(|pcr| pcr.digest.clone()).collect::<Vec<_>>(),
        },
        "report": [0xfb, 0xff],
        "vcek": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    })
}

fn azure_text() -> Value {
    json!({
        "version": 1,
        "tpm_quote": {
            "message": "ff54",
            "signature": lower_hex(&[0x51; 256]),
            "pcrs": digests().iter().map(|pcr| lower_hex(&pcr.digest)).collect::<Vec<_>>(),
        },
        "hcl_report": "-_8=",
        "vcek": "MAA=",
    })
}

fn plain() -> Value {
    json!({
        "ak_public": "MAA=",
        "tpm_quote": {
            "message": "/1Q=",
            "signature": "ABQ=",
            "pcrs": digests().iter().map(|pcr| lower_hex(&pcr.digest)).collect::<Vec<_>>(),
        },
    })
}

fn read(value: &Value) -> Result<Vtpm, VtpmJsonError> {
    Vtpm::from_json_bytes(&serde_json::to_vec(value).unwrap())
}

fn changed(mut value: Value, pointer: &str, to: Value) -> Result<Vtpm, VtpmJsonError> {
    *value.pointer_mut(pointer).unwrap() = to;
    read(&value)
}

fn with(mut value: Value, label: &str, member: Value) -> Result<Vtpm, VtpmJsonError> {
    value.as_object_mut().unwrap().insert(label.into(), member);
    read(&value)
}

fn without(mut value: Value, label: &str) -> Result<Vtpm, VtpmJsonError> {
    value.as_object_mut().unwrap().remove(label).unwrap();
    read(&value)
}

#[test]
fn reads_the_forms_of_others() {
    assert_eq!(read(&azure_numbers()), Ok(azure_snp()));
    assert_eq!(read(&azure_text()), Ok(azure_snp()));
    assert_eq!(changed(azure_text(), "/version", json!(2)), Ok(azure_snp()));
    let ak = AkEvidence::Key(vec![0x30, 0x00]);
    let expected = Vtpm { message: vec![0xff, 0x54], signature: vec![0x00, 0x14], pcrs: digests(), ak };
    assert_eq!(read(&plain()), Ok(expected));
    let mut tdx = azure_text();
    tdx.as_object_mut().unwrap().remove("vcek");
    let found = with(tdx, "td_quote", json!("BAA=")).unwrap();
    assert_eq!(found.ak, AkEvidence::AzureTdx { hcl_report: vec![0xfb, 0xff], td_quote: vec![4, 0] });
}

#[test]
fn our_form_round_trips() {
    let hcl_report = vec![1, 2, 3];
    let mut banks = digests();
    banks.push(Pcr { bank: TpmHash::Sha384, index: 31, digest: vec![9; 48] });
    for ak in [
        azure_snp().ak,
        AkEvidence::AzureSnp { hcl_report: hcl_report.clone(), vek: None },
        AkEvidence::AzureTdx { hcl_report, td_quote: vec![4] },
        AkEvidence::Key(vec![0; 3]),
        AkEvidence::Certificates(vec![vec![1], vec![2]]),
    ] {
        let vtpm = Vtpm { pcrs: banks.clone(), ak, ..azure_snp() };
        assert_eq!(read(&vtpm.to_json()), Ok(vtpm));
    }
}

#[test]
fn refuses_repeated_members_in_any_spelling() {
    let whole = serde_json::to_string(&azure_text()).unwrap();
    for (label, name) in [
        ("tpm_quote", "tpm_quote"),
        ("quote", "tpm_quote"),
        ("report", "hcl_report"),
        ("vcek", "vcek"),
        ("version", "version"),
    ] {
        let twice = format!("{{\"{label}\":0,{}", &whole[1..]);
        let error = VtpmJsonError::RepeatedMember { label: name };
        assert_eq!(Vtpm::from_json_bytes(twice.as_bytes()), Err(error));
    }
    for label in ["message", "signature", "pcrs"] {
        let twice = whole.replace("\"tpm_quote\":{", &format!("\"tpm_quote\":{{\"{label}\":0,"));
        let error = VtpmJsonError::RepeatedMember { label };
        assert_eq!(Vtpm::from_json_bytes(twice.as_bytes()), Err(error));
    }
}

#[test]
fn refuses_missing_and_unknown_members() {
    for label in ["tpm_quote", "hcl_report"] {
        assert_eq!(without(azure_text(), label), Err(VtpmJsonError::Missing { label }));
    }
    let quote = &azure_text()["tpm_quote"];
    for label in ["message", "signature", "pcrs"] {
        let mut quote = quote.clone();
        quote.as_object_mut().unwrap().remove(label);
        assert_eq!(changed(azure_text(), "/tpm_quote", quote), Err(VtpmJsonError::Missing { label }));
    }
    let unknown = VtpmJsonError::UnknownMember { label: "extra".into() };
    assert_eq!(with(azure_text(), "extra", json!(0)), Err(unknown.clone()));
    let mut quote = quote.clone();
    quote.as_object_mut().unwrap().insert("extra".into(), json!(0));
    assert_eq!(changed(azure_text(), "/tpm_quote", quote), Err(unknown));
}

#[test]
fn refuses_members_of_different_forms() {
    let mixed = |first, second| Err(VtpmJsonError::Mixed { first, second });
    assert_eq!(with(azure_text(), "td_quote", json!("BAA")), mixed("td_quote", "vcek"));
    assert_eq!(with(plain(), "version", json!(1)), mixed("ak_public", "version"));
    assert_eq!(with(plain(), "hcl_report", json!("BAA=")), mixed("ak_public", "hcl_report"));
    assert_eq!(with(azure_snp().to_json(), "version", json!(1)), mixed("format", "version"));
    let own = azure_snp().to_json();
    assert_eq!(with(own, "ak_certificates", json!(["BAA"])), mixed("ak_certificates", "hcl_report"));
}

#[test]
fn refuses_bytes_in_another_spelling() {
    let wrong = |label, expected| Err(VtpmJsonError::Member { label, expected });
    for version in [json!(0), json!(3), json!("1"), json!(1.0), json!(null)] {
        assert_eq!(changed(azure_text(), "/version", version), wrong("version", "1 or 2"));
    }
    for text in ["ff5", "FF54", "0xff", "ff 5"] {
        let found = changed(azure_text(), "/tpm_quote/message", json!(text));
        assert_eq!(found, wrong("message", "hexadecimal digits"), "{text}");
    }
    assert_eq!(changed(azure_text(), "/hcl_report", json!("-_8")), wrong("hcl_report", "padded base64url"));
    assert_eq!(changed(azure_text(), "/hcl_report", json!("+/8=")), wrong("hcl_report", "padded base64url"));
    assert_eq!(changed(plain(), "/ak_public", json!("MAA")), wrong("ak_public", "base64"));
    for number in [json!([256]), json!([-1]), json!([1.5]), json!("ff"), json!({})] {
        assert_eq!(changed(azure_numbers(), "/report", number), wrong("hcl_report", "an array of bytes"));
    }
    let pem = "one certificate in PEM";
    assert_eq!(changed(azure_numbers(), "/vcek", json!("MAA=")), wrong("vcek", pem));
    let own = azure_snp().to_json();
    assert_eq!(changed(own, "/format", json!("other")), wrong("format", FORMAT));
}

#[test]
fn refuses_registers_that_are_not_all_of_one_bank() {
    let wrong = Err(VtpmJsonError::Member { label: "pcrs", expected: "the values of 24 registers" });
    for count in [0, 23, 25] {
        let pcrs = json!(vec![lower_hex(&[0; 32]); count]);
        assert_eq!(changed(azure_text(), "/tpm_quote/pcrs", pcrs), wrong);
    }
    for length in [31, 33] {
        let short = json!(lower_hex(&vec![0; length]));
        assert_eq!(changed(azure_text(), "/tpm_quote/pcrs/23", short), wrong);
        assert_eq!(changed(azure_numbers(), "/quote/pcrs/0", json!(vec![0; length])), wrong);
    }
    let own = |to: Value| changed(azure_snp().to_json(), "/tpm_quote/pcrs", to);
    let expected = "triples of bank, index and value";
    let wrong = Err(VtpmJsonError::Member { label: "pcrs", expected });
    let value = URL_SAFE_NO_PAD.encode([0; 32]);
    assert!(own(json!([["sha256", 31, value]])).is_ok());
    for bad in [
        json!([["md5", 0, value]]),
        json!([["sha256", 32, value]]),
        json!([["sha1", 0, value]]),
        json!([["sha256", 0, value, 0]]),
        json!([["sha256", 0]]),
        json!(vec![json!(["sha256", 0, value]); PCRS_MAX + 1]),
        json!({}),
    ] {
        assert_eq!(own(bad), wrong);
    }
}

#[test]
fn refuses_chains_that_are_empty_or_too_long() {
    let mut own = azure_snp().to_json();
    own.as_object_mut().unwrap().retain(|label, _| label == "format" || label == "tpm_quote");
    let expected = "an array of 1 to 4 certificates";
    let wrong = Err(VtpmJsonError::Member { label: "ak_certificates", expected });
    for count in [0, 5] {
        assert_eq!(with(own.clone(), "ak_certificates", json!(vec!["MAA"; count])), wrong);
    }
    assert!(with(own, "ak_certificates", json!(vec!["MAA"; 4])).is_ok());
}

#[test]
fn refuses_what_is_no_object_or_too_long() {
    for bad in [&b""[..], b"[]", b"{} {}", b"\xff"] {
        assert_eq!(Vtpm::from_json_bytes(bad), Err(VtpmJsonError::NotAnObject { part: "statement" }));
    }
    let found = VTPM_JSON_BYTES_MAX + 1;
    let long = vec![b' '; found];
    assert_eq!(Vtpm::from_json_bytes(&long), Err(VtpmJsonError::TooLong { found }));
    let deep = format!("{{\"report\":{}", "[".repeat(100_000));
    assert!(Vtpm::from_json_bytes(deep.as_bytes()).is_err());
}

#[test]
fn refuses_truncation_at_every_offset() {
    let whole = serde_json::to_vec(&azure_text()).unwrap();
    for length in 0..whole.len() {
        assert!(Vtpm::from_json_bytes(&whole[..length]).is_err(), "{length}");
    }
}
