//! What went wrong in other verifiers, tried here. The numbers are those of docs/verification.md.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot build its world fails")]

use casemate_protocol::cmw::Platform;
use casemate_testkit::{CollateralSpec, DevPki, Tee};
use casemate_verifier::{Policy, UnixTime};
use serde_json::{Value, json};

use crate::world::{NOW, World, collateral_of, pki};

const DAY: u64 = 86_400;

/// A document of the good collateral with its content changed and signed anew.
fn signed_anew(document: &[u8], member: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let whole: Value = serde_json::from_slice(document).unwrap();
    let mut content = whole[member].clone();
    change(&mut content);
    let pki = pki(Tee::Tdx).tdx().unwrap();
    pki.sign_document(member, content.to_string().as_bytes()).unwrap()
}

fn with_tcb_info(change: impl FnOnce(&mut Value)) -> World {
    let mut world = World::new(Tee::Tdx);
    let tdx = world.collateral.tdx.as_mut().unwrap();
    tdx.tcb_info = signed_anew(&tdx.tcb_info, "tcbInfo", change);
    world
}

fn with_qe_identity(change: impl FnOnce(&mut Value)) -> World {
    let mut world = World::new(Tee::Tdx);
    let tdx = world.collateral.tdx.as_mut().unwrap();
    tdx.qe_identity = signed_anew(&tdx.qe_identity, "enclaveIdentity", change);
    world
}

/// Evidence whose quote has parts changed before they are signed.
fn failed_with_quote(world: &World, change: impl FnOnce(&mut casemate_testkit::QuoteParts)) -> Vec<String> {
    let quote = pki(Tee::Tdx).tdx().unwrap().quote_with(&world.td, change).unwrap();
    world.failed_with(|evidence| evidence.platform = Platform::Tdx { quote })
}

#[test]
fn past_bug_01_the_qe_identity_is_verified_and_enforced() {
    // Not signed by Intel's signer, though the content is the same.
    let stranger = DevPki::generate(Tee::Tdx, NOW.0).unwrap();
    let mut world = World::new(Tee::Tdx);
    let theirs = collateral_of(stranger.collateral()).tdx.unwrap();
    let own = world.collateral.tdx.as_mut().unwrap();
    own.qe_identity = theirs.qe_identity;
    assert_eq!(world.failed(), ["tdx.qe-identity"]);
    own_chain_too(&mut world, theirs.qe_identity_chain);
    assert_eq!(world.failed(), ["tdx.qe-identity"]);
    // Signed, and about another enclave.
    for (member, value) in [
        ("mrsigner", json!("11".repeat(32))),
        ("isvprodid", json!(9)),
        ("attributes", json!("FF".repeat(16))),
        ("miscselect", json!("FFFFFFFF")),
    ] {
        let world = with_qe_identity(|identity| identity[member] = value);
        assert_eq!(world.failed(), ["tdx.qe-identity"], "{member}");
    }
    // A quoting enclave that may be debugged, where the mask forgets the bit.
    let world = with_qe_identity(|identity| {
        identity["attributes"] = json!("00".repeat(16));
        identity["attributesMask"] = json!("00".repeat(16));
    });
    assert_eq!(world.failed(), Vec::<String>::new());
    assert_eq!(failed_with_quote(&world, |parts| parts.qe_report[48] |= 2), ["tdx.qe-identity"]);
}

fn own_chain_too(world: &mut World, chain: Vec<u8>) {
    world.collateral.tdx.as_mut().unwrap().qe_identity_chain = chain;
}

#[test]
fn past_bug_02_module_identity_status_and_vendor_are_enforced() {
    let mut world = World::new(Tee::Tdx);
    world.td.mrsignerseam = [1; 48];
    assert_eq!(world.failed(), ["tdx.module"]);
    let spec = CollateralSpec { platform_status: "OutOfDate".into(), ..CollateralSpec::at(NOW.0) };
    let mut world = World::new(Tee::Tdx);
    world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
    assert_eq!(world.failed(), ["tdx.tcb-status", "tdx.advisories"]);
    let world = World::new(Tee::Tdx);
    assert_eq!(failed_with_quote(&world, |parts| parts.header[12] ^= 1), ["tdx.quote"]);
}

#[test]
fn past_bug_03_the_tcb_status_decides_over_grants() {
    for status in ["OutOfDate", "ConfigurationNeeded", "SWHardeningNeeded", "OutOfDateConfigurationNeeded"] {
        let spec = CollateralSpec { platform_status: status.into(), ..CollateralSpec::at(NOW.0) };
        let mut world = World::new(Tee::Tdx);
        world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
        assert!(world.appraise().is_err(), "{status}");
    }
}

#[test]
fn past_bug_06_a_revoked_enclave_ends_nothing_early() {
    let spec = CollateralSpec { qe_status: "Revoked".into(), ..CollateralSpec::at(NOW.0) };
    let mut world = World::new(Tee::Tdx);
    world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
    assert_eq!(world.failed(), ["tdx.tcb-status"]);
    // Its chain and signatures are looked at all the same.
    let broken = world.failed_with(|evidence| {
        if let Platform::Tdx { quote } = &mut evidence.platform {
            quote[48] ^= 1;
        }
    });
    assert_eq!(broken, ["platform.signature"]);
}

#[test]
fn past_bug_07_one_revoked_part_is_enough() {
    let changes: [fn(&mut CollateralSpec); 3] = [
        |spec| spec.platform_status = "Revoked".into(),
        |spec| spec.module_status = "Revoked".into(),
        |spec| spec.qe_status = "Revoked".into(),
    ];
    for change in changes {
        let mut spec = CollateralSpec::at(NOW.0);
        change(&mut spec);
        let mut world = World::new(Tee::Tdx);
        world.collateral = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
        assert_eq!(world.failed().first().map(String::as_str), Some("tdx.tcb-status"));
        // And no policy can say otherwise.
        world.policy.tdx.as_mut().unwrap().tcb_status = vec![casemate_verifier::TcbStatus::Revoked];
        assert!(Policy::parse(&Policy::render(&world.policy)).is_err());
    }
}

#[test]
fn past_bug_08_stale_documents_and_missing_module_identities_are_refused() {
    let mut world = World::new(Tee::Tdx);
    world.now = UnixTime(NOW.0 + 31 * DAY);
    assert_eq!(world.failed().first().map(String::as_str), Some("platform.crl"));
    let world = with_tcb_info(|info| info["nextUpdate"] = json!("2026-05-31T00:00:00Z"));
    assert_eq!(world.failed(), ["tdx.tcb-info"]);
    let world = with_tcb_info(|info| info["issueDate"] = json!("2026-06-02T00:00:00Z"));
    assert_eq!(world.failed(), ["tdx.tcb-info"]);
    let world = with_tcb_info(|info| info["issueDate"] = json!("some day"));
    assert_eq!(world.failed(), ["tdx.tcb-info"]);
    let mut world = World::new(Tee::Tdx);
    world.td.seam_attributes = [0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(world.failed(), ["tdx.module"]);
    let world = with_tcb_info(|info| info["tdxModuleIdentities"] = json!([]));
    assert_eq!(world.failed(), ["tdx.module"]);
}

#[test]
fn past_bug_09_nothing_is_off_by_default() {
    // Endorsements that are missing refuse; no option skips a CRL.
    type Change = fn(&mut World);
    let changes: [(Change, &str); 3] = [
        (|world| world.collateral.tdx = None, "collateral.present"),
        (|world| world.collateral.tdx.as_mut().unwrap().pck_crl.clear(), "platform.crl"),
        (|world| world.collateral.tdx.as_mut().unwrap().root_ca_crl.clear(), "platform.crl"),
    ];
    for (change, rule) in changes {
        let mut world = World::new(Tee::Tdx);
        change(&mut world);
        assert_eq!(world.failed(), [rule]);
    }
    // A debuggable trust domain is refused by the policy that `TdxExpectations::strict` gives.
    let mut world = World::new(Tee::Tdx);
    world.td.td_attributes[0] = 1;
    assert_eq!(world.failed(), ["tdx.td-attributes"]);
}

#[test]
fn past_bug_15_evidence_is_bound_to_nonce_and_keys() {
    for tee in [Tee::Tdx, Tee::Snp] {
        // Good evidence of one box, relayed to whoever asked another question.
        let mut world = World::new(tee);
        world.nonce = "another-nonce-of-a-verifier".parse().unwrap();
        assert_eq!(world.failed(), ["nonce"], "{tee}");
        // A key of the relay's in place of the box's: what the hardware bound is another.
        let (mut world, relay) = (World::new(tee), World::new(tee));
        let evidence = world.evidence();
        world.claims.box_key = relay.claims.box_key.clone();
        let claims = casemate_canon::to_canonical_json(&world.claims).unwrap();
        let mut relayed = evidence;
        relayed.box_claims = claims;
        let failed = crate::world::failed_rules(world.appraise_evidence(&relayed));
        assert_eq!(failed, ["box.report-data", "agent.token"], "{tee}");
    }
}

#[test]
fn past_bug_17_zero_padding_after_a_quote_passes_and_nothing_else_does() {
    let world = World::new(Tee::Tdx);
    let padded = |byte: u8, length: usize| {
        world.failed_with(|evidence| {
            if let Platform::Tdx { quote } = &mut evidence.platform {
                quote.resize(quote.len() + length, byte);
            }
        })
    };
    for length in [1, 70, 307, 3065] {
        assert_eq!(padded(0, length), Vec::<String>::new(), "{length}");
        assert_eq!(padded(b' ', length), ["tdx.quote"], "{length}");
    }
}
