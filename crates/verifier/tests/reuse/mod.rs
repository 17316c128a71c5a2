//! Reuse of what was verified: the same verdict as from nothing, at every time and for every byte.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot build its world fails")]

use casemate_protocol::cmw::Platform;
use casemate_testkit::{CollateralSpec, DevPki, Revoked, TdBody, Tee};
use casemate_verifier::{
    Binding, Collateral, Policy, PolicyValues, Roots, UnixTime, VerifiedCollateral, appraise_platform,
};

use crate::world::{NOW, World, collateral_of, pki};

const DAY: u64 = 86_400;

fn policy() -> Policy {
    let values = PolicyValues { composition: None, ..World::new(Tee::Tdx).policy };
    Policy::parse(&Policy::render(&values)).unwrap()
}

fn quote() -> Vec<u8> {
    pki(Tee::Tdx).tdx_quote(&TdBody { report_data: [7; 64], ..TdBody::new() }).unwrap()
}

fn collateral() -> Collateral {
    collateral_of(pki(Tee::Tdx).collateral())
}

/// The first rule that fails, if any.
fn failed(quote: &[u8], policy: &Policy, handle: &mut VerifiedCollateral, now: UnixTime) -> Option<String> {
    let statement = Platform::Tdx { quote: quote.to_vec() };
    let binding = Binding::ReportData([7; 64]);
    appraise_platform(&statement, None, &binding, policy, handle, now)
        .err()
        .map(|refused| refused.first().rule)
}

#[test]
fn a_remembered_platform_has_the_same_rules_and_claims_as_an_unknown_one() {
    let (policy, quote) = (policy(), quote());
    let mut handle = VerifiedCollateral::verify(&collateral());
    let statement = Platform::Tdx { quote };
    let binding = Binding::ReportData([7; 64]);
    let mut once = || appraise_platform(&statement, None, &binding, &policy, &mut handle, NOW).unwrap();
    let (first, second) = (once(), once());
    assert_eq!(first.rules(), second.rules());
    assert_eq!(first.claims(), second.claims());
}

#[test]
fn dates_are_looked_at_each_time() {
    let (policy, quote) = (policy(), quote());
    let mut handle = VerifiedCollateral::verify(&collateral());
    for _ in 0..2 {
        assert_eq!(failed(&quote, &policy, &mut handle, NOW), None);
        let late = UnixTime(NOW.0 + 31 * DAY);
        assert_eq!(failed(&quote, &policy, &mut handle, late).as_deref(), Some("platform.crl"));
        let early = UnixTime(NOW.0 - DAY);
        assert_eq!(failed(&quote, &policy, &mut handle, early).as_deref(), Some("platform.chain"));
        let never = UnixTime(NOW.0 + 20 * 365 * DAY);
        assert_eq!(failed(&quote, &policy, &mut handle, never).as_deref(), Some("platform.chain"));
    }
}

#[test]
fn roots_are_looked_at_each_time() {
    let quote = quote();
    let mut handle = VerifiedCollateral::verify(&collateral());
    assert_eq!(failed(&quote, &policy(), &mut handle, NOW), None);
    let mut values = policy().values().clone();
    values.roots = Roots::Production;
    let production = Policy::parse(&Policy::render(&values)).unwrap();
    assert_eq!(failed(&quote, &production, &mut handle, NOW).as_deref(), Some("platform.roots"));
    assert_eq!(failed(&quote, &policy(), &mut handle, NOW), None);
}

#[test]
fn newer_endorsements_forget_what_was_remembered_and_revoke_it() {
    let (policy, quote) = (policy(), quote());
    let mut handle = VerifiedCollateral::verify(&collateral());
    assert_eq!(failed(&quote, &policy, &mut handle, NOW), None);
    for (revoked, rule) in [
        (Revoked::Leaf, "platform.crl"),
        (Revoked::Intermediate, "platform.crl"),
        (Revoked::CollateralSigner, "tdx.tcb-info"),
    ] {
        let spec = CollateralSpec { revoked, ..CollateralSpec::at(NOW.0) };
        let newer = collateral_of(pki(Tee::Tdx).collateral_with(&spec).unwrap());
        handle = VerifiedCollateral::verify(&newer);
        assert_eq!(failed(&quote, &policy, &mut handle, NOW).as_deref(), Some(rule), "{revoked:?}");
    }
}

#[test]
fn after_a_good_quote_no_byte_of_it_can_change() {
    let (policy, quote) = (policy(), quote());
    let mut handle = VerifiedCollateral::verify(&collateral());
    for offset in 0..quote.len() {
        assert_eq!(failed(&quote, &policy, &mut handle, NOW), None);
        for bit in [0x01, 0x80] {
            let mut changed = quote.clone();
            changed[offset] ^= bit;
            assert_ne!(failed(&changed, &policy, &mut handle, NOW), None, "byte {offset}, bit {bit:#x}");
        }
    }
}

#[test]
fn a_remembered_platform_vouches_for_no_other() {
    let other = DevPki::generate(Tee::Tdx, NOW.0).unwrap();
    let theirs = other.tdx_quote(&TdBody { report_data: [7; 64], ..TdBody::new() }).unwrap();
    let mut values = policy().values().clone();
    values.roots = Roots::Development(vec![pki(Tee::Tdx).root_spki_sha256(), other.root_spki_sha256()]);
    let both = Policy::parse(&Policy::render(&values)).unwrap();
    let mut handle = VerifiedCollateral::verify(&collateral());
    assert_eq!(failed(&quote(), &both, &mut handle, NOW), None);
    // Its root is accepted, and these endorsements are not its own.
    assert_eq!(failed(&theirs, &both, &mut handle, NOW).as_deref(), Some("platform.crl"));
    let mut its_own = VerifiedCollateral::verify(&collateral_of(other.collateral()));
    assert_eq!(failed(&theirs, &both, &mut its_own, NOW), None);
}

#[test]
fn a_clone_remembers_the_same_and_shares_nothing() {
    let (policy, quote) = (policy(), quote());
    let mut handle = VerifiedCollateral::verify(&collateral());
    assert_eq!(failed(&quote, &policy, &mut handle, NOW), None);
    let verdicts: Vec<Option<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (mut own, policy, quote) = (handle.clone(), &policy, &quote);
                scope.spawn(move || failed(quote, policy, &mut own, NOW))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(verdicts, [None, None, None, None]);
}

/// The quote with this text added to its PCK chain, which nobody signed.
fn padded(quote: &[u8], text: &[u8]) -> Vec<u8> {
    let mut quote = quote.to_vec();
    let start = quote.windows(10).position(|window| window == b"-----BEGIN").unwrap();
    for at in [632, 632 + 4 + 128 + 2, start - 4] {
        let added = u32::try_from(text.len()).unwrap();
        let length = u32::from_le_bytes(quote[at..at + 4].try_into().unwrap()) + added;
        quote[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    quote.extend_from_slice(text);
    quote
}

#[test]
fn a_chain_that_came_with_the_endorsements_reads_no_looser_than_another() {
    let (policy, quote) = (policy(), quote());
    // The same endorsements, with a blank line between the certificates of the CRL's chain: no quote ends with that text.
    let mut other = collateral();
    let tdx = other.tdx.as_mut().unwrap();
    let chain = String::from_utf8(tdx.pck_crl_chain.clone()).unwrap();
    let changed = chain.replacen("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----\n\n", 1);
    assert_ne!(chain, changed);
    tdx.pck_crl_chain = changed.into_bytes();
    for text in ["", "\0", "\0\0", "\n", "\n\0", "\0\n", "\0\n\0", "\x0c", " \t\r\n", "x"] {
        let padded = padded(&quote, text.as_bytes());
        let known = failed(&padded, &policy, &mut VerifiedCollateral::verify(&collateral()), NOW);
        let unknown = failed(&padded, &policy, &mut VerifiedCollateral::verify(&other), NOW);
        assert_eq!(known, unknown, "{text:?}");
    }
}
