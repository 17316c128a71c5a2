//! Replay of logs made here: what extends, from where, and what cannot be replayed.

use aws_lc_rs::digest::{SHA256, digest};
use casemate_evidence::{EventType, TpmHash, parse_boot_log};

use super::builder::LogBuilder;
use super::register::{Register, RegisterKind};
use super::replay::{Replay, ReplayError};

const BANKS: [TpmHash; 4] = [TpmHash::Sha1, TpmHash::Sha256, TpmHash::Sha384, TpmHash::Sha512];

fn pcr(number: u8) -> Register {
    Register::new(RegisterKind::Pcr, number).unwrap()
}

fn rtmr(number: u8) -> Register {
    Register::new(RegisterKind::Rtmr, number).unwrap()
}

fn value(log: &LogBuilder, bank: TpmHash, register: Register) -> Result<Vec<u8>, ReplayError> {
    let log = parse_boot_log(&log.bytes).unwrap();
    let replay = Replay::of(&log, register.kind(), bank)?;
    replay.value(register).map(<[u8]>::to_vec)
}

fn locality(log: LogBuilder, locality: &[u8]) -> LogBuilder {
    let data = [b"StartupLocality\0", locality].concat();
    log.event(0, EventType::NO_ACTION, &data)
}

#[test]
fn each_bank_is_extended_with_its_own_hash() {
    let log = LogBuilder::new(RegisterKind::Pcr, &BANKS)
        .event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, b"one")
        .event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, b"two")
        .event(7, EventType::SEPARATOR, &[0; 4]);
    let first = digest(&SHA256, &[&[0; 32][..], digest(&SHA256, b"one").as_ref()].concat());
    let second = digest(&SHA256, &[first.as_ref(), digest(&SHA256, &[0; 4]).as_ref()].concat());
    assert_eq!(value(&log, TpmHash::Sha256, pcr(7)).as_deref(), Ok(second.as_ref()));
    for bank in BANKS {
        let found = value(&log, bank, pcr(7)).unwrap();
        assert_eq!(found.len(), bank.digest_bytes());
        assert_eq!(value(&log, bank, pcr(5)), Ok(vec![0; bank.digest_bytes()]));
    }
}

#[test]
fn registers_of_a_dynamic_launch_begin_with_ones_and_all_others_with_zeros() {
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha256]);
    for number in 0..24 {
        let fill = if (17..=22).contains(&number) { 0xff } else { 0 };
        assert_eq!(value(&log, TpmHash::Sha256, pcr(number)), Ok(vec![fill; 32]), "{number}");
    }
    for number in 0..4 {
        assert_eq!(value(&LogBuilder::ccel(), TpmHash::Sha384, rtmr(number)), Ok(vec![0; 48]));
    }
}

#[test]
fn rtmr_n_is_at_index_n_plus_1() {
    for number in 0..4 {
        let log = LogBuilder::ccel().event(u32::from(number) + 1, EventType::IPL, b"x");
        for other in 0..4 {
            let untouched = value(&log, TpmHash::Sha384, rtmr(other)).unwrap() == [0; 48];
            assert_eq!(untouched, number != other);
        }
    }
}

#[test]
fn no_action_extends_nothing_whatever_its_digest() {
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha256]).measure(
        3,
        EventType::NO_ACTION,
        b"something",
        b"SP800-155 Event3",
    );
    assert_eq!(value(&log, TpmHash::Sha256, pcr(3)), Ok(vec![0; 32]));
}

#[test]
fn the_startup_locality_is_the_last_byte_that_pcr0_begins_with() {
    let empty = || LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha1, TpmHash::Sha256]);
    for number in [0, 3, 4] {
        let log = locality(empty(), &[number]);
        for bank in [TpmHash::Sha1, TpmHash::Sha256] {
            let mut begin = vec![0; bank.digest_bytes()];
            *begin.last_mut().unwrap() = number;
            assert_eq!(value(&log, bank, pcr(0)), Ok(begin));
        }
    }
    let log = locality(empty(), &[3]).event(0, EventType::S_CRTM_VERSION, b"1");
    let begin = [&[0; 31][..], &[3]].concat();
    let expected = digest(&SHA256, &[&begin, digest(&SHA256, b"1").as_ref()].concat());
    assert_eq!(value(&log, TpmHash::Sha256, pcr(0)).as_deref(), Ok(expected.as_ref()));
}

#[test]
fn a_startup_locality_that_cannot_be_spoils_pcr0_alone() {
    let empty = || LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha256]);
    let late = locality(empty().event(0, EventType::S_CRTM_VERSION, b"1"), &[3]);
    let cases = [
        (locality(empty(), &[1]), ReplayError::Locality { found: 1 }),
        (locality(empty(), &[0xff]), ReplayError::Locality { found: 0xff }),
        (locality(empty(), &[]), ReplayError::LocalityLength { found: 16 }),
        (locality(empty(), &[3, 0]), ReplayError::LocalityLength { found: 18 }),
        (locality(locality(empty(), &[3]), &[3]), ReplayError::LocalityRepeated),
        (late, ReplayError::LocalityLate),
    ];
    for (log, expected) in cases {
        assert_eq!(value(&log, TpmHash::Sha256, pcr(0)), Err(expected));
        assert_eq!(value(&log, TpmHash::Sha256, pcr(1)), Ok(vec![0; 32]));
    }
}

#[test]
fn a_startup_locality_elsewhere_changes_nothing() {
    let data = b"StartupLocality\0\x03";
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sha256]).event(1, EventType::NO_ACTION, data);
    assert_eq!(value(&log, TpmHash::Sha256, pcr(0)), Ok(vec![0; 32]));
    assert_eq!(value(&log, TpmHash::Sha256, pcr(1)), Ok(vec![0; 32]));
    let log = LogBuilder::ccel().event(1, EventType::NO_ACTION, data).event(0, EventType::NO_ACTION, data);
    assert_eq!(value(&log, TpmHash::Sha384, rtmr(0)), Ok(vec![0; 48]));
}

#[test]
fn banks_that_are_not_computed_or_not_there_are_said_so() {
    let log = LogBuilder::new(RegisterKind::Pcr, &[TpmHash::Sm3, TpmHash::Sha256]);
    let not_computed = |bank| Err(ReplayError::NotComputed { bank });
    assert_eq!(value(&log, TpmHash::Sm3, pcr(0)), not_computed(TpmHash::Sm3));
    assert_eq!(value(&log, TpmHash::Sha3_256, pcr(0)), not_computed(TpmHash::Sha3_256));
    assert_eq!(value(&log, TpmHash::Sha512, pcr(0)), Err(ReplayError::NoBank { bank: TpmHash::Sha512 }));
}
