//! Certificates of attestation keys, verified up to Google's roots or a root that the owner names.
//!
//! An attestation key's certificate says that its issuer saw the key in a TPM. No CRL is read for these chains.

use casemate_canon::Sha256;
use der::asn1::ObjectIdentifier;
use der::{Tag, TagNumber};

use super::key::AttestationKey;
use crate::asn1::{Asn1Error, Fields};
use crate::ledger::{Failed, Ledger, Voucher};
use crate::policy::{GoogleExpectations, KeyUsage, OwnerExpectations};
use crate::roots::{Roots, VendorRoot, production_root_named};
use crate::time::UnixTime;
use crate::x509::{Certificate, X509Error};

const RULE: &str = "vtpm.chain";
const EXPECTED: &str = "a chain of 2 to 4 certificates, the attestation key's first and the root's last";
/// Longest project, zone or instance name in bytes that is read.
const NAME_BYTES_MAX: usize = 256;

/// Google's instance identity in the certificate of a vTPM's key: zone, project number, project, instance number,
/// instance name, security properties (go-tpm-tools, `server/instance_info.go`).
const INSTANCE_IDENTITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.1.21");

/// tcg-kp-AIKCertificate (TCG OID Registry).
const AK_CERTIFICATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");

/// A machine at Google, as its key's certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance<'a> {
    zone: &'a str,
    project: &'a str,
    name: &'a str,
}

/// Verifies a chain up to Google's roots, or development roots, and that the policy names the project.
pub(crate) fn require_google(
    ledger: &mut Ledger,
    chain: &[Vec<u8>],
    expected: &GoogleExpectations,
    roots: &Roots,
    now: UnixTime,
) -> Result<AttestationKey, Failed> {
    let chain = read(ledger, chain)?;
    let root = last(ledger, &chain)?;
    let key = root.key_digest();
    let vendors = [VendorRoot::GoogleEkAk, VendorRoot::GoogleTpmV1];
    let accepted = vendors.into_iter().any(|vendor| roots.accept(vendor, &key));
    let described = vendors.map(|vendor| roots.describe(vendor)).join(" or ");
    require_root(ledger, root, accepted, described)?;
    let leaf = require_chain(ledger, &chain, now)?;
    let instance = ledger.accept("google.project", "the machine in the certificate", instance(leaf))?;
    let named = expected.projects.iter().any(|project| project == instance.project);
    ledger.require("google.project", named, expected.projects.join(" or "), instance.project)?;
    for (name, value) in [("zone", instance.zone), ("project", instance.project), ("instance", instance.name)]
    {
        // Google's host runs the vTPM, and Google says so: not the hardware.
        ledger.claim("platform", &format!("google.{name}"), value, Voucher::HostClaimed);
    }
    key_of(ledger, leaf)
}

/// Verifies a chain up to a root that the owner names.
pub(crate) fn require_owner_chain(
    ledger: &mut Ledger,
    chain: &[Vec<u8>],
    expected: &OwnerExpectations,
    now: UnixTime,
) -> Result<AttestationKey, Failed> {
    let chain = read(ledger, chain)?;
    let root = last(ledger, &chain)?;
    let accepted = expected.roots.contains(&root.key_digest());
    require_root(ledger, root, accepted, describe(&expected.roots))?;
    let leaf = require_chain(ledger, &chain, now)?;
    require_usage(ledger, leaf, expected.usage)?;
    key_of(ledger, leaf)
}

fn read<'a>(ledger: &mut Ledger, chain: &'a [Vec<u8>]) -> Result<Vec<Certificate<'a>>, Failed> {
    if !(2..=4).contains(&chain.len()) {
        return Err(ledger.fail(RULE, EXPECTED, format_args!("{} certificates", chain.len())));
    }
    let certificates: Result<Vec<_>, _> = chain.iter().map(|der| Certificate::read_tpm(der)).collect();
    ledger.accept(RULE, EXPECTED, certificates)
}

fn last<'c, 'a>(ledger: &mut Ledger, chain: &'c [Certificate<'a>]) -> Result<&'c Certificate<'a>, Failed> {
    chain.last().ok_or_else(|| ledger.fail(RULE, EXPECTED, "none"))
}

fn require_root(
    ledger: &mut Ledger,
    root: &Certificate<'_>,
    accepted: bool,
    expected: String,
) -> Result<(), Failed> {
    let key = root.key_digest();
    let kind = match production_root_named(&key) {
        Some(_) => "production root",
        None => "root (no vendor's)",
    };
    let found = format!("{kind} `{}` with key {key}", root.common_name);
    ledger.require("platform.roots", accepted, expected, found)
}

/// Every link by name and signature, every date, and that only the leaf signs data.
fn require_chain<'c, 'a>(
    ledger: &mut Ledger,
    chain: &'c [Certificate<'a>],
    now: UnixTime,
) -> Result<&'c Certificate<'a>, Failed> {
    let verified = || -> Result<&'c Certificate<'a>, X509Error> {
        let wrong = || X509Error::ChainLength { expected: 2, found: chain.len() };
        let (leaf, issuers) = chain.split_first().ok_or_else(wrong)?;
        leaf.require_signing_leaf()?;
        leaf.require_valid_at(now)?;
        let mut below = leaf;
        for (depth, issuer) in (0_u8..).zip(issuers) {
            below.require_issued_by(issuer)?;
            issuer.require_issuer_role(depth)?;
            issuer.require_valid_at(now)?;
            below = issuer;
        }
        below.require_issued_by(below)?;
        Ok(leaf)
    };
    let leaf = ledger.accept(RULE, EXPECTED, verified())?;
    let names: Vec<&str> = chain.iter().map(|certificate| certificate.common_name.as_str()).collect();
    ledger.require(RULE, true, EXPECTED, names.join(" <- "))?;
    Ok(leaf)
}

/// That the certificate is for an attestation key. An owner's authority may issue others, whose keys are in no TPM.
fn require_usage(ledger: &mut Ledger, leaf: &Certificate<'_>, usage: KeyUsage) -> Result<(), Failed> {
    const RULE: &str = "vtpm.key-usage";
    let expected = match usage {
        KeyUsage::AttestationKey => "a certificate for an attestation key, 2.23.133.8.3",
        KeyUsage::Any => "a certificate for any use: the policy allows it",
    };
    let certified = ledger.accept(RULE, expected, leaf.is_for(&AK_CERTIFICATE))?;
    let found =
        if certified { "a certificate for an attestation key" } else { "a certificate for another use" };
    ledger.require(RULE, certified || usage == KeyUsage::Any, expected, found)
}

fn key_of(ledger: &mut Ledger, leaf: &Certificate<'_>) -> Result<AttestationKey, Failed> {
    ledger.accept("vtpm.key", "an RSA, P-256 or P-384 attestation key", AttestationKey::of_key(leaf.key))
}

fn describe(roots: &[Sha256]) -> String {
    let keys: Vec<String> = roots.iter().map(ToString::to_string).collect();
    if keys.is_empty() { "no root: the policy names none".to_owned() } else { keys.join(" or ") }
}

/// Reads the instance identity; only its first five fields, all of which are there.
fn instance<'a>(leaf: &Certificate<'a>) -> Result<Instance<'a>, X509Error> {
    const PART: &str = "instance identity";
    let missing = X509Error::MissingExtension { missing: PART };
    let mut fields = Fields::of_sequence(leaf.extensions.get(&INSTANCE_IDENTITY).ok_or(missing)?, PART)?;
    let zone = text(&mut fields)?;
    fields.unsigned(PART)?;
    let project = text(&mut fields)?;
    fields.unsigned(PART)?;
    let name = text(&mut fields)?;
    let properties = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
    fields.optional(properties, PART)?;
    fields.end(PART)?;
    Ok(Instance { zone, project, name })
}

fn text<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Asn1Error> {
    const PART: &str = "instance identity";
    let tlv = fields.tagged(Tag::Utf8String, PART)?;
    let text = std::str::from_utf8(tlv.value).map_err(|_| Asn1Error { part: PART })?;
    if text.len() > NAME_BYTES_MAX { Err(Asn1Error { part: PART }) } else { Ok(text) }
}
