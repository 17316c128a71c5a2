//! Replay: the values that registers would have if a log told what was extended into them.
//!
//! Extending: the new value is the hash of the old value followed by the digest (TPM 2.0 library specification, part
//! 1, section 17.2; TDX module ABI specification, TDG.MR.RTMR.EXTEND). EV_NO_ACTION extends nothing (PFP section 10.4.1).

use aws_lc_rs::digest;
use casemate_evidence::{Bank, BootLog, EventType, TpmHash};

use super::register::{Measured, Register, RegisterKind, RegisterValue};

const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";

/// Why a register's value does not follow from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReplayError {
    /// A bank whose hash is not computed here: SM3 and SHA-3 digests are read and shown, not replayed.
    #[error("a bank of {} digests, which cannot be replayed here", .bank.name())]
    NotComputed {
        /// The bank.
        bank: TpmHash,
    },
    /// The log has no digests of this bank.
    #[error("a log without {} digests", .bank.name())]
    NoBank {
        /// The bank.
        bank: TpmHash,
    },
    /// A startup locality of the wrong length.
    #[error("a startup locality of {found} bytes, not 17")]
    LocalityLength {
        /// Its length.
        found: usize,
    },
    /// A startup locality that PFP section 10.4.5.3 does not know.
    #[error("startup locality {found}, not 0, 3 or 4")]
    Locality {
        /// The locality.
        found: u8,
    },
    /// A startup locality after PCR0 was extended.
    #[error("startup locality after the first event of pcr0")]
    LocalityLate,
    /// Two of them.
    #[error("two startup localities")]
    LocalityRepeated,
}

/// The hash of a bank, where it is computed here.
pub(super) const fn algorithm(bank: TpmHash) -> Option<&'static digest::Algorithm> {
    match bank {
        TpmHash::Sha1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        TpmHash::Sha256 => Some(&digest::SHA256),
        TpmHash::Sha384 => Some(&digest::SHA384),
        TpmHash::Sha512 => Some(&digest::SHA512),
        _ => None,
    }
}

/// All registers of one kind and bank after the events of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Replay {
    values: Vec<Vec<u8>>,
    locality: Result<(), ReplayError>,
}

impl Replay {
    /// Replays a log. Time is linear in its events; memory is one digest for each register.
    pub(super) fn of(log: &BootLog<'_>, kind: RegisterKind, bank: TpmHash) -> Result<Self, ReplayError> {
        let algorithm = algorithm(bank).ok_or(ReplayError::NotComputed { bank })?;
        if !log.banks().any(|named| named == Bank::Known(bank)) {
            return Err(ReplayError::NoBank { bank });
        }
        let mut values: Vec<Vec<u8>> =
            (0..kind.count()).map(|number| start(kind, number, bank.digest_bytes())).collect();
        let mut pcr0 = Pcr0::Untouched;
        let mut locality = Ok(());
        for event in log.events() {
            let register = kind.at(event.index);
            let is_pcr0 = kind == RegisterKind::Pcr && event.index == 0;
            if event.event_type == EventType::NO_ACTION {
                if is_pcr0 && let Some(found) = read_locality(event.data) {
                    let set = found.and_then(|found| pcr0.set_locality(found));
                    if let (Ok(set), Some(last)) =
                        (set, values.first_mut().and_then(|value| value.last_mut()))
                    {
                        *last = set;
                    }
                    locality = locality.and(set.map(|_| ()));
                }
                continue;
            }
            // What extends no register at all is refused by a rule of its own.
            let Some(value) = register.and_then(|register| values.get_mut(usize::from(register.number())))
            else {
                continue;
            };
            let digest = event.digests.get(bank).ok_or(ReplayError::NoBank { bank })?;
            if is_pcr0 {
                pcr0 = Pcr0::Extended;
            }
            let mut context = digest::Context::new(algorithm);
            context.update(value);
            context.update(digest);
            context.finish().as_ref().clone_into(value);
        }
        Ok(Self { values, locality })
    }

    /// The value of a register.
    pub(super) fn value(&self, register: Register) -> Result<&[u8], ReplayError> {
        if register.kind() == RegisterKind::Pcr && register.number() == 0 {
            self.locality?;
        }
        Ok(self.values.get(usize::from(register.number())).map_or(&[], Vec::as_slice))
    }
}

/// The value at power-on. PCRs that only a dynamic launch resets hold ones until then (TCG PC Client Platform TPM
/// Profile 1.05, section 4.6, PCR attributes); everything else holds zeros.
fn start(kind: RegisterKind, number: u8, bytes: usize) -> Vec<u8> {
    let fill = match (kind, number) {
        (RegisterKind::Pcr, 17..=22) => 0xff,
        _ => 0x00,
    };
    vec![fill; bytes]
}

/// What happened to PCR0 so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pcr0 {
    Untouched,
    LocalitySet,
    Extended,
}

impl Pcr0 {
    fn set_locality(&mut self, found: u8) -> Result<u8, ReplayError> {
        match self {
            Self::Untouched => {
                *self = Self::LocalitySet;
                Ok(found)
            }
            Self::LocalitySet => Err(ReplayError::LocalityRepeated),
            Self::Extended => Err(ReplayError::LocalityLate),
        }
    }
}

/// The locality that an event states, where it is a startup locality: the last byte of PCR0 at power-on.
fn read_locality(data: &[u8]) -> Option<Result<u8, ReplayError>> {
    Some(match data.strip_prefix(STARTUP_LOCALITY)? {
        [found @ (0 | 3 | 4)] => Ok(*found),
        [found] => Err(ReplayError::Locality { found: *found }),
        _ => Err(ReplayError::LocalityLength { found: data.len() }),
    })
}

/// A register as it is signed, and as the log says it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison<'a> {
    pub(super) register: Option<Register>,
    pub(super) signed: RegisterValue<'a>,
    pub(super) replayed: Result<Vec<u8>, ReplayError>,
}

impl Comparison<'_> {
    pub(super) fn matches(&self) -> bool {
        self.replayed.as_ref().is_ok_and(|replayed| replayed == self.signed.value)
    }
}

/// Compares every signed register with the log; replays once for each bank.
pub(super) fn compare<'a>(log: &BootLog<'_>, measured: Measured<'a>) -> Vec<Comparison<'a>> {
    let mut replays: Vec<(TpmHash, Result<Replay, ReplayError>)> = Vec::new();
    for bank in TpmHash::ALL {
        if measured.values.iter().any(|value| value.bank == bank) {
            replays.push((bank, Replay::of(log, measured.kind, bank)));
        }
    }
    let no_replay = |bank| Err(ReplayError::NotComputed { bank });
    let compare_one = |signed: &RegisterValue<'a>| {
        let register = Register::new(measured.kind, signed.number);
        let replay = replays.iter().find(|(bank, _)| *bank == signed.bank);
        let replayed = match (register, replay) {
            (Some(register), Some((_, Ok(replay)))) => replay.value(register).map(<[u8]>::to_vec),
            (Some(_), Some((_, Err(error)))) => Err(*error),
            _ => no_replay(signed.bank),
        };
        Comparison { register, signed: *signed, replayed }
    };
    measured.values.iter().map(compare_one).collect()
}

/// The bank in which the log is shown to be what was extended into this register: of several, the longest digest.
pub(super) fn bound_bank(comparisons: &[Comparison<'_>], register: Register) -> Option<TpmHash> {
    comparisons
        .iter()
        .filter(|comparison| comparison.register == Some(register) && comparison.matches())
        .map(|comparison| comparison.signed.bank)
        .max_by_key(|bank| bank.digest_bytes())
}
