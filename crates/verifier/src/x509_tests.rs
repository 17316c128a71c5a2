//! Certificates, chains and CRLs of the development PKI, cut, changed and put in the wrong place.

use std::sync::LazyLock;

use casemate_testkit::{CollateralParts, DevPki, Tee};

use super::*;
use crate::crl::{CRL_BYTES_MAX, Crl};

const NOW: UnixTime = UnixTime(1_780_272_000);

static PKI: LazyLock<DevPki> = LazyLock::new(|| DevPki::generate(Tee::Tdx, NOW.0).unwrap());

/// Leaf, issuer and root.
fn chain() -> Vec<Vec<u8>> {
    read_pem_chain(PKI.tdx().unwrap().pck_chain_pem().as_bytes()).unwrap()
}

fn pck_crl() -> Vec<u8> {
    match PKI.collateral() {
        CollateralParts::Tdx(parts) => parts.pck_crl,
        CollateralParts::Snp(_) => panic!("of another kind"),
    }
}

#[test]
fn a_chain_holds_link_by_link_and_in_no_other_order() {
    let chain = chain();
    let [leaf, issuer, root] = [0, 1, 2].map(|index| Certificate::read(&chain[index]).unwrap());
    assert_eq!(leaf.require_issued_by(&issuer), Ok(()));
    assert_eq!(issuer.require_issued_by(&root), Ok(()));
    assert_eq!(root.require_issued_by(&root), Ok(()));
    assert!(matches!(leaf.require_issued_by(&root), Err(X509Error::Issuer { .. })));
    assert_eq!(leaf.require_leaf_role(), Ok(()));
    assert!(matches!(leaf.require_issuer_role(0), Err(X509Error::Usage { .. })));
    assert!(matches!(issuer.require_leaf_role(), Err(X509Error::Usage { .. })));
    assert_eq!(issuer.require_issuer_role(0), Ok(()));
    assert!(matches!(issuer.require_issuer_role(1), Err(X509Error::Usage { .. })));
    assert!(matches!(leaf.require_crl_role(), Err(X509Error::Usage { .. })));
    assert!(matches!(leaf.require_name(&["Another"]), Err(X509Error::CommonName { .. })));
}

#[test]
fn validity_includes_both_its_ends() {
    let chain = chain();
    let leaf = Certificate::read(&chain[0]).unwrap();
    let Window { from, until } = leaf.window;
    for now in [from, until] {
        assert_eq!(leaf.require_valid_at(now), Ok(()));
    }
    for now in [UnixTime(from.0 - 1), UnixTime(until.0 + 1)] {
        assert!(matches!(leaf.require_valid_at(now), Err(X509Error::Validity { .. })));
    }
}

#[test]
fn a_cut_or_longer_certificate_is_no_certificate() {
    for der in chain() {
        for length in 0..der.len() {
            assert!(Certificate::read(&der[..length]).is_err(), "{length}");
        }
        assert!(Certificate::read(&[der.as_slice(), &[0]].concat()).is_err());
    }
    let found = CERTIFICATE_BYTES_MAX + 1;
    assert_eq!(Certificate::read(&vec![0; found]).map(|_| ()), Err(X509Error::TooLong { found }));
}

#[test]
fn no_certificate_with_a_changed_byte_is_issued() {
    let chain = chain();
    let issuer = Certificate::read(&chain[1]).unwrap();
    for offset in 0..chain[0].len() {
        let mut changed = chain[0].clone();
        changed[offset] ^= 1;
        let issued = Certificate::read(&changed).and_then(|leaf| leaf.require_issued_by(&issuer));
        assert!(issued.is_err(), "{offset}");
    }
}

#[test]
fn a_crl_holds_for_its_issuer_and_time_alone() {
    let chain = chain();
    let [leaf, issuer, root] = [0, 1, 2].map(|index| Certificate::read(&chain[index]).unwrap());
    let der = pck_crl();
    let crl = Crl::read(&der).unwrap();
    assert_eq!(crl.require_signed_by(&issuer), Ok(()));
    assert_eq!(crl.require_numbered(), Ok(()));
    assert_eq!(crl.require_not_revoked(&leaf), Ok(()));
    assert!(matches!(crl.require_not_revoked(&issuer), Err(X509Error::Issuer { .. })));
    assert!(matches!(crl.require_signed_by(&root), Err(X509Error::Issuer { .. })));
    let late = UnixTime(crl.window.until.0 + 1);
    assert!(matches!(crl.revoked().unwrap().require_current(late), Err(X509Error::Validity { .. })));
    for length in 0..der.len() {
        assert!(Crl::read(&der[..length]).is_err(), "{length}");
    }
    for offset in 0..der.len() {
        let mut changed = der.clone();
        changed[offset] ^= 1;
        let issued = Crl::read(&changed).and_then(|crl| crl.require_signed_by(&issuer));
        assert!(issued.is_err(), "{offset}");
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    match length {
        [0, 0, 0, short] if short < 0x80 => [&[tag, short], content].concat(),
        [0, 0, 0, long] => [&[tag, 0x81, long], content].concat(),
        [0, 0, high, low] => [&[tag, 0x82, high, low], content].concat(),
        [0, high, middle, low] => [&[tag, 0x83, high, middle, low], content].concat(),
        _ => panic!("too long for a test"),
    }
}

/// The values in `bytes`, one after the other, each with its tag and length.
fn values(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Fields::of(bytes);
    std::iter::from_fn(|| fields.next("values").ok().map(|tlv| tlv.whole.to_vec())).collect()
}

/// The same certificate or CRL with the fields of its signed part changed and all lengths set anew.
fn rebuilt(der: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let signed = Signed::read(der, "test").unwrap();
    let mut fields = values(&values(signed.tbs).concat()[signed.tbs.len() - content_length(signed.tbs)..]);
    change(&mut fields);
    tlv(0x30, &[tlv(0x30, &fields.concat()).as_slice(), signed.algorithm_bytes, &[0x03, 0x01, 0x00]].concat())
}

fn content_length(sequence: &[u8]) -> usize {
    Fields::of(sequence).next("test").unwrap().value.len()
}

/// Places of the fields of a certificate's signed part (RFC 5280 section 4.1).
const VERSION: usize = 0;
const SERIAL: usize = 1;
const ALGORITHM: usize = 2;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const KEY: usize = 6;
const EXTENSIONS: usize = 7;

fn leaf() -> Vec<u8> {
    chain().swap_remove(0)
}

fn certificate_error(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> X509Error {
    Certificate::read(&rebuilt(&leaf(), change)).map(|_| ()).unwrap_err()
}

fn at(part: &'static str) -> X509Error {
    Asn1Error { part }.into()
}

#[test]
fn refuses_each_field_of_a_certificate_that_is_missing_or_there_twice() {
    assert!(Certificate::read(&rebuilt(&leaf(), |_| {})).is_ok());
    // Where one is missing, the next one is taken for it, and the first that cannot be is named.
    let missing = [
        at("certificate version"),
        at("certificate serial number"),
        X509Error::SignatureAlgorithms,
        at("time"),
        at("time"),
        at("certificate public key"),
        at("certificate public key"),
    ];
    for (index, expected) in missing.into_iter().enumerate() {
        assert_eq!(certificate_error(|fields| drop(fields.remove(index))), expected, "{index}");
    }
    let twice = [
        at("certificate serial number"),
        at("certificate"),
        at("time"),
        at("time"),
        at("certificate"),
        at("certificate"),
        at("certificate"),
        at("certificate"),
    ];
    for (index, expected) in twice.into_iter().enumerate() {
        let error = certificate_error(|fields| fields.insert(index, fields[index].clone()));
        assert_eq!(error, expected, "{index}");
    }
}

#[test]
fn refuses_certificates_of_other_versions_algorithms_and_keys() {
    for version in [0, 1, 3, 0x7f] {
        let error = certificate_error(|fields| fields[VERSION] = vec![0xa0, 3, 2, 1, version]);
        assert_eq!(error, at("certificate version"), "{version}");
    }
    let error = certificate_error(|fields| fields[VERSION] = vec![0xa0, 6, 2, 1, 2, 2, 1, 2]);
    assert_eq!(error, at("certificate version"));
    let error = certificate_error(|fields| fields[ALGORITHM] = PSS_SHA384[0].to_vec());
    assert_eq!(error, X509Error::SignatureAlgorithms);
    let mut unknown = leaf();
    let place = unknown.windows(ECDSA_SHA256.len()).rposition(|window| window == ECDSA_SHA256).unwrap();
    unknown[place + ECDSA_SHA256.len() - 1] = 3;
    assert_eq!(Certificate::read(&unknown).map(|_| ()).unwrap_err(), X509Error::SignatureAlgorithm);
    // A compressed point, and one a byte too long.
    for point in [vec![0, 2, 7, 7], [vec![0, 4], vec![7; 65]].concat()] {
        let key = tlv(0x30, &[KEY_P256, &tlv(3, &point)].concat());
        assert_eq!(certificate_error(|fields| fields[KEY] = key), X509Error::PublicKey);
    }
    // A BIT STRING with unused bits.
    let key = tlv(0x30, &[KEY_P256, &tlv(3, &[vec![1, 4], vec![7; 64]].concat())].concat());
    assert_eq!(certificate_error(|fields| fields[KEY] = key), at("public key"));
}

#[test]
fn refuses_times_that_are_not_der() {
    let validity = |times: &[&[u8]]| tlv(0x30, &times.concat());
    let good = tlv(0x17, b"260601000000Z");
    for bad in [
        tlv(0x17, b"2606010000Z"),
        tlv(0x17, b"260601000000+0000"),
        tlv(0x17, b"261301000000Z"),
        tlv(0x17, b"260631000000Z"),
        tlv(0x18, b"20260601000000.5Z"),
        tlv(0x18, b"20260601000000"),
        tlv(0x02, &[1]),
        tlv(0x17, b""),
    ] {
        let error = certificate_error(|fields| fields[VALIDITY] = validity(&[&good, &bad]));
        assert_eq!(error, at("time"), "{bad:?}");
    }
    let error = certificate_error(|fields| fields[VALIDITY] = validity(&[&good]));
    assert_eq!(error, at("time"));
    let error = certificate_error(|fields| fields[VALIDITY] = validity(&[&good, &good, &good]));
    assert_eq!(error, at("certificate validity"));
}

#[test]
fn refuses_lengths_that_are_not_der() {
    let der = leaf();
    // Indefinite; longer than it must be; longer than what there is; of five bytes.
    let content = &der[4..];
    for header in [
        &[0x30, 0x80][..],
        &[0x30, 0x83, 0, der[2], der[3]],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x30, 0x85, 1, 0, 0, 0, 0],
    ] {
        let bytes = [header, content].concat();
        assert_eq!(Certificate::read(&bytes).map(|_| ()).unwrap_err(), at("certificate"), "{header:x?}");
    }
}

#[test]
fn a_certificate_may_have_just_so_many_bytes() {
    let filled = |filler: usize| {
        rebuilt(&leaf(), |fields| {
            let extension = tlv(0x30, &[vec![6, 3, 0x55, 0x1d, 0x63], tlv(4, &vec![0; filler])].concat());
            let whole = values(&fields[EXTENSIONS])[0].clone();
            let inner = Fields::of(&whole).next("test").unwrap().value.to_vec();
            let list = Fields::of(&inner).next("test").unwrap().value.to_vec();
            fields[EXTENSIONS] = tlv(0xa3, &tlv(0x30, &[list, extension].concat()));
        })
    };
    let room = CERTIFICATE_BYTES_MAX - filled(0x1000).len() + 0x1000;
    let largest = filled(room);
    assert_eq!(largest.len(), CERTIFICATE_BYTES_MAX);
    assert!(Certificate::read(&largest).is_ok());
    let found = CERTIFICATE_BYTES_MAX + 1;
    assert_eq!(Certificate::read(&filled(room + 1)).map(|_| ()), Err(X509Error::TooLong { found }));
}

#[test]
fn a_name_nested_deeply_or_with_many_parts_is_read_as_none() {
    let mut nested = tlv(5, &[]);
    while nested.len() < 12_000 {
        nested = tlv(0x30, &nested);
    }
    let der = rebuilt(&leaf(), |fields| fields[SUBJECT] = nested);
    assert_eq!(Certificate::read(&der).unwrap().common_name, "");
    let other = tlv(0x30, &[vec![6, 3, 0x55, 4, 10], tlv(12, b"x")].concat());
    let many = tlv(0x30, &tlv(0x31, &other.repeat(1000)));
    let der = rebuilt(&leaf(), |fields| fields[SUBJECT] = many);
    assert_eq!(Certificate::read(&der).unwrap().common_name, "");
}

#[test]
fn a_serial_number_has_at_most_21_bytes() {
    assert!(Serial::of(&[1; 21]).is_ok());
    assert_eq!(Serial::of(&[1; 22]), Err(X509Error::Serial { found: 22 }));
    let der = rebuilt(&leaf(), |fields| fields[SERIAL] = tlv(2, &[1; 22]));
    let certificate = Certificate::read(&der).unwrap();
    assert!(matches!(IssuerFacts::of(&certificate), Err(X509Error::Serial { found: 22 })));
}

#[test]
fn a_crl_without_an_end_is_refused() {
    assert!(Crl::read(&rebuilt(&pck_crl(), |_| {})).is_ok());
    // The second time is the fifth field.
    let without = rebuilt(&pck_crl(), |fields| drop(fields.remove(4)));
    assert_eq!(Crl::read(&without).map(|_| ()), Err(X509Error::NoNextUpdate));
}

/// The development PKI's CRL with this list of revoked certificates, which it does not have by itself.
fn crl_with(entries: &[u8]) -> Vec<u8> {
    rebuilt(&pck_crl(), |fields| fields.insert(5, tlv(0x30, entries)))
}

fn crl_entry(serial: &[u8], more: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&tlv(2, serial), &tlv(0x17, b"260601000000Z"), more].concat())
}

#[test]
fn refuses_entries_of_a_crl_that_are_not_whole_or_ask_for_more() {
    let read = |entries: &[u8]| Crl::read(&crl_with(entries)).map(|crl| crl.revoked_count());
    let reason = |critical: &[u8]| {
        tlv(0x30, &tlv(0x30, &[&[6, 3, 0x55, 0x1d, 21], critical, &tlv(4, &[10, 1, 1])].concat()))
    };
    assert_eq!(read(&crl_entry(&[1], &[])), Ok(1));
    assert_eq!(read(&[crl_entry(&[1], &reason(&[])), crl_entry(&[2], &[])].concat()), Ok(2));
    let found = ObjectIdentifier::new_unwrap("2.5.29.21");
    assert_eq!(read(&crl_entry(&[1], &reason(&[1, 1, 0xff]))), Err(X509Error::CriticalExtension { found }));
    assert_eq!(read(&crl_entry(&[1], &[5, 0])), Err(at("revoked certificate")));
    assert_eq!(read(&tlv(0x30, &[2, 1, 1])), Err(at("revocation date")));
    assert_eq!(read(&tlv(2, &[1])), Err(at("revoked certificate")));
    let version = |version: u8| rebuilt(&pck_crl(), |fields| fields[0] = vec![2, 1, version]);
    for bad in [0, 2, 0x7f] {
        assert_eq!(Crl::read(&version(bad)).map(|_| ()), Err(at("CRL version")), "{bad}");
    }
    let long = Crl::read(&crl_with(&crl_entry(&[1; 22], &[]))).unwrap().revoked().map(|_| ());
    assert_eq!(long, Err(X509Error::Serial { found: 22 }));
}

#[test]
fn a_crl_may_have_just_so_many_bytes_and_names_every_certificate_in_them() {
    let entry = |number: u32| crl_entry(&[&[0x40], number.to_be_bytes().as_slice()].concat(), &[]);
    let one = entry(0).len();
    let base = crl_with(&entry(0).repeat(10_000)).len() - 10_000 * one;
    let count = u32::try_from((CRL_BYTES_MAX - base) / one).unwrap();
    let entries: Vec<u8> = (0..count).flat_map(entry).collect();
    let der = crl_with(&entries);
    assert!(der.len() <= CRL_BYTES_MAX && der.len() + one > CRL_BYTES_MAX);
    let revoked = Crl::read(&der).unwrap().revoked().unwrap();
    for number in [0, 1, count / 2, count - 1] {
        let serial = Serial::of(&[&[0x40], number.to_be_bytes().as_slice()].concat()).unwrap();
        assert!(matches!(revoked.require_unnamed(&serial), Err(X509Error::Revoked { .. })), "{number}");
    }
    let other = Serial::of(&[&[0x40], count.to_be_bytes().as_slice()].concat()).unwrap();
    assert_eq!(revoked.require_unnamed(&other), Ok(()));
    let found = CRL_BYTES_MAX + 1;
    assert_eq!(Crl::read(&vec![0; found]).map(|_| ()), Err(X509Error::CrlTooLong { found }));
}

#[test]
fn reads_pem_chains_and_nothing_else() {
    let pem = PKI.tdx().unwrap().pck_chain_pem();
    assert_eq!(read_pem_chain(pem.as_bytes()).unwrap().len(), 3);
    assert_eq!(read_pem_chain(format!("{pem}\0").as_bytes()).unwrap().len(), 3);
    let error = |text: &str| read_pem_chain(text.as_bytes()).unwrap_err();
    assert_eq!(error(""), X509Error::Pem { reason: "no certificate" });
    assert_eq!(error("\0"), X509Error::Pem { reason: "no certificate" });
    assert_eq!(error(&format!("x{pem}")), X509Error::Pem { reason: "text that is not a certificate" });
    assert_eq!(error(&format!("{pem}x")), X509Error::Pem { reason: "text that is not a certificate" });
    assert_eq!(error(&pem[..100]), X509Error::Pem { reason: "text that is not a certificate" });
    assert_eq!(error(&format!("{pem}{pem}")), X509Error::Pem { reason: "too many certificates" });
    assert_eq!(error(&pem.replacen("MI", "M*", 1)), X509Error::Pem { reason: "not base64" });
    assert_eq!(read_pem_chain(&[0xff]), Err(X509Error::Pem { reason: "not text" }));
}

#[test]
fn refuses_unknown_critical_and_repeated_extensions() {
    let extension = |oid_end: u8, critical: bool| {
        let mut content = vec![0x06, 0x03, 0x55, 0x1d, oid_end];
        if critical {
            content.extend([0x01, 0x01, 0xff]);
        }
        content.extend([0x04, 0x00]);
        [&[0x30, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
    };
    let read = |extensions: &[Vec<u8>]| {
        let content = extensions.concat();
        let whole = tlv(0x30, &content);
        let tlv = Tlv { tag: context(3), whole: &whole, value: &whole };
        Extensions::read(Some(tlv), &[BASIC_CONSTRAINTS, KEY_USAGE], "extensions").map(|_| ())
    };
    assert_eq!(read(&[extension(0x0f, true), extension(0x63, false)]), Ok(()));
    let found = ObjectIdentifier::new_unwrap("2.5.29.99");
    assert_eq!(read(&[extension(0x63, true)]), Err(X509Error::CriticalExtension { found }));
    let twice = [extension(0x63, false), extension(0x63, false)];
    assert_eq!(read(&twice), Err(X509Error::RepeatedExtension { found }));
    let explicit_default = [[0x30, 0x0a, 6, 3, 0x55, 0x1d, 0x63, 1, 1, 0, 4, 0].to_vec()];
    assert_eq!(read(&explicit_default), Err(at("extensions")));
    let many = |count: u8| (0..count).map(|number| extension(number, false)).collect::<Vec<_>>();
    assert_eq!(read(&many(32)), Ok(()));
    assert_eq!(read(&many(33)), Err(X509Error::TooManyExtensions));
}
