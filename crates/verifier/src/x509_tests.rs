//! Certificates, chains and CRLs of the development PKI, cut, changed and put in the wrong place.

use std::sync::LazyLock;

use casemate_testkit::{CollateralParts, DevPki, Tee};

use super::*;
use crate::crl::Crl;

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

#[test]
fn a_crl_without_an_end_is_refused() {
    // The same SEQUENCE with the second time, 15 bytes of UTCTime, taken out and all lengths set anew.
    let der = pck_crl();
    let signed = Signed::read(&der, "CRL").unwrap();
    let mut fields = Fields::of_sequence(signed.tbs, "CRL").unwrap();
    let parts: Vec<&[u8]> = std::iter::from_fn(|| fields.next("CRL").ok().map(|tlv| tlv.whole)).collect();
    let without: Vec<u8> = [&parts[..4], &parts[5..]].concat().concat();
    let sequence = |content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        match length {
            [0, short] if short < 0x80 => [&[0x30, short], content].concat(),
            [0, long] => [&[0x30, 0x81, long], content].concat(),
            [high, low] => [&[0x30, 0x82, high, low], content].concat(),
        }
    };
    let algorithm = signed.algorithm_bytes;
    let rebuilt =
        |content: &[u8]| sequence(&[sequence(content).as_slice(), algorithm, &[0x03, 0x01, 0x00]].concat());
    assert!(Crl::read(&rebuilt(&parts.concat())).is_ok());
    assert_eq!(Crl::read(&rebuilt(&without)).map(|_| ()), Err(X509Error::NoNextUpdate));
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
        let whole = [&[0x30, u8::try_from(content.len()).unwrap()], content.as_slice()].concat();
        let tlv = Tlv { tag: context(3), whole: &whole, value: &whole };
        Extensions::read(Some(tlv), &[BASIC_CONSTRAINTS, KEY_USAGE], "extensions").map(|_| ())
    };
    assert_eq!(read(&[extension(0x0f, true), extension(0x63, false)]), Ok(()));
    let found = ObjectIdentifier::new_unwrap("2.5.29.99");
    assert_eq!(read(&[extension(0x63, true)]), Err(X509Error::CriticalExtension { found }));
    let twice = [extension(0x63, false), extension(0x63, false)];
    assert_eq!(read(&twice), Err(X509Error::RepeatedExtension { found }));
}
