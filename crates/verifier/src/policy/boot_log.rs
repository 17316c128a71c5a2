//! `[boot-log]`: what a policy expects of the event log of a platform's firmware.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use casemate_evidence::EventType;
use serde::Deserialize;
use toml::Spanned;

use super::PolicyError;
use super::place::{Place, Strings, list};
use crate::boot_log::Register;

/// Lengths of digests in bytes: SHA-256, SHA-384, SHA-512. Two contents can be made that have one SHA-1 digest.
const DIGEST_BYTES: [usize; 3] = [32, 48, 64];

/// Expectations of the event log of firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLogExpectations {
    /// Whether there must be one.
    pub presence: BootLogPresence,
    /// Registers that it must replay to, in every bank that evidence states; at least one.
    pub registers: BTreeSet<Register>,
    /// Events that must be there. In every register named here, each event must be listed, or be harmless: an event's
    /// type is in no digest, so an event that should not be there can pose as one of another type.
    pub expect: Vec<ExpectedEvents>,
    /// Registers named in `expect` that may hold other events all the same. Weakens.
    pub allow_unlisted: BTreeSet<Register>,
    /// Whether the data of an event may be something else than what its digest says. Weakens.
    pub data_mismatch: DataMismatch,
}

/// Whether there must be a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLogPresence {
    /// A statement without one is refused.
    Required,
    /// There may be none: then nothing of this table is asked for.
    Optional,
}

/// Whether the data of an event whose type hashes it as it stands may be something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataMismatch {
    /// It may not.
    Refused,
    /// It may, for firmware that is known to log other data than it measures.
    Allowed,
}

/// Events of one register and type: at least one is there, and each has one of these digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedEvents {
    /// The register.
    pub register: Register,
    /// The type that the log gives them.
    pub event: EventType,
    /// Digests, all of one length, which says the bank: 32, 48 or 64 bytes.
    pub digests: BTreeSet<Vec<u8>>,
}

/// The table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Table {
    required: Spanned<bool>,
    registers: Strings,
    expect: Option<Spanned<Vec<Spanned<Entry>>>>,
    allow_unlisted: Option<Strings>,
    allow_data_mismatch: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    register: Spanned<String>,
    event: Spanned<String>,
    digests: Strings,
}

/// What the table says.
pub(super) fn read(place: &Place<'_>, table: &Table) -> Result<BootLogExpectations, PolicyError> {
    let registers = read_registers(place, &table.registers)?;
    let mut expect: Vec<ExpectedEvents> = Vec::new();
    for entry in table.expect.iter().flat_map(|entries| entries.get_ref()) {
        let read = read_entry(place, entry.get_ref(), &registers)?;
        if expect.iter().any(|other| (other.register, other.event) == (read.register, read.event)) {
            let what = format!("{} of {} is expected twice", read.event, read.register);
            return Err(place.error(&entry.span(), what, "write one entry with all digests"));
        }
        expect.push(read);
    }
    if let Some(entries) = &table.expect
        && !table.required.get_ref()
    {
        let what = "events are expected of a log that need not be there";
        return Err(place.error(&entries.span(), what, "write required = true, or remove expect"));
    }
    let allow_unlisted = match &table.allow_unlisted {
        None => BTreeSet::new(),
        Some(names) => {
            let allowed = read_registers(place, names)?;
            if let Some(register) =
                allowed.iter().find(|of| !expect.iter().any(|entry| entry.register == **of))
            {
                let what = format!("allow-unlisted names {register}, of which nothing is expected");
                return Err(place.error(&names.span(), what, "remove it: every event passes there as it is"));
            }
            allowed
        }
    };
    Ok(BootLogExpectations {
        presence: if *table.required.get_ref() {
            BootLogPresence::Required
        } else {
            BootLogPresence::Optional
        },
        registers,
        expect,
        allow_unlisted,
        data_mismatch: match table.allow_data_mismatch {
            Some(true) => DataMismatch::Allowed,
            _ => DataMismatch::Refused,
        },
    })
}

fn read_registers(place: &Place<'_>, names: &Strings) -> Result<BTreeSet<Register>, PolicyError> {
    let expected = "rtmr0 to rtmr3 or pcr0 to pcr23";
    Ok(place.each(names, expected, Register::from_name)?.into_iter().collect())
}

fn read_entry(
    place: &Place<'_>,
    entry: &Entry,
    registers: &BTreeSet<Register>,
) -> Result<ExpectedEvents, PolicyError> {
    let name = entry.register.get_ref();
    let register = Register::from_name(name).filter(|register| registers.contains(register));
    let register = register.ok_or_else(|| {
        let what = format!("`{name}` is not one of the registers that the log must replay to");
        place.error(&entry.register.span(), what, "name it in registers too")
    })?;
    let event = read_event(entry.event.get_ref()).filter(|event| *event != EventType::NO_ACTION);
    let event = event.ok_or_else(|| {
        let what = format!("`{}` is not a type of event that is measured", entry.event.get_ref());
        place.error(&entry.event.span(), what, "write EV_…, or 0x and 8 digits")
    })?;
    let expected = "64, 96 or 128 lower-case hexadecimal digits";
    let digests = place.each(&entry.digests, expected, read_digest)?;
    let mut lengths = digests.iter().map(Vec::len);
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        let what = "digests of different lengths";
        return Err(place.error(&entry.digests.span(), what, "write those of one bank"));
    }
    Ok(ExpectedEvents { register, event, digests: digests.into_iter().collect() })
}

fn read_event(name: &str) -> Option<EventType> {
    EventType::from_name(name).or_else(|| {
        let digits = name.strip_prefix("0x").filter(|digits| digits.len() == 8)?;
        u32::from_str_radix(digits, 16).ok().map(EventType).filter(|event| event.name().is_none())
    })
}

fn read_digest(text: &str) -> Option<Vec<u8>> {
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    hex::decode(text).ok().filter(|digest| lower && DIGEST_BYTES.contains(&digest.len()))
}

/// The table for these values. Optional keys that say nothing are left out.
pub(super) fn write(out: &mut String, log: &BootLogExpectations) -> std::fmt::Result {
    writeln!(out, "\n# The event log of the platform's firmware.\n[boot-log]")?;
    writeln!(out, "required = {}", log.presence == BootLogPresence::Required)?;
    writeln!(out, "registers = {}", list(&log.registers))?;
    if !log.expect.is_empty() {
        writeln!(out, "expect = [")?;
        for entry in &log.expect {
            let digests = list(entry.digests.iter().map(hex::encode));
            let (register, event) = (entry.register, entry.event);
            writeln!(out, "  {{ register = \"{register}\", event = \"{event}\", digests = {digests} }},")?;
        }
        writeln!(out, "]")?;
    }
    if !log.allow_unlisted.is_empty() {
        writeln!(out, "allow-unlisted = {}", list(&log.allow_unlisted))?;
    }
    if log.data_mismatch == DataMismatch::Allowed {
        writeln!(out, "allow-data-mismatch = true")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;

    /// A policy for platforms alone, with this table. `H96` stands for that many digits, `K96` for others.
    fn parsed(table: &str) -> Result<BootLogExpectations, PolicyError> {
        let text = r#"version = 1
[platform]
tee = ["tdx"]
roots = "production"
collateral-age-max-days = 30
[platform.tdx]
tcb-status = ["UpToDate"]
tcb-evaluation-min = 18
mrtd = ["H96"]
rtmr0 = ["H96"]
rtmr1 = ["H96"]
rtmr2 = ["H96"]
require-sept-ve-disable = true
[boot-log]
"#;
        let filled = format!("{text}{table}")
            .replace("H96", &"a1".repeat(48))
            .replace("K96", &"c3".repeat(48))
            .replace("H64", &"b2".repeat(32));
        let policy = Policy::parse(&filled)?;
        // What is written reads back as the same.
        let again = Policy::parse(&Policy::render(policy.values())).unwrap();
        assert_eq!(again.values(), policy.values());
        Ok(policy.values().boot_log.clone().unwrap())
    }

    fn what(table: &str) -> String {
        parsed(table).expect_err(table).what
    }

    const FULL: &str = r#"required = true
registers = ["rtmr0", "rtmr1", "pcr7"]
expect = [
  { register = "rtmr1", event = "EV_EFI_BOOT_SERVICES_APPLICATION", digests = ["H96", "K96"] },
  { register = "rtmr1", event = "0x80001234", digests = ["H96"] },
  { register = "pcr7", event = "EV_EFI_VARIABLE_AUTHORITY", digests = ["H64"] },
]
allow-unlisted = ["pcr7"]
allow-data-mismatch = true
"#;

    #[test]
    fn reads_every_key() {
        let log = parsed(FULL).unwrap();
        assert_eq!(log.presence, BootLogPresence::Required);
        let names: Vec<String> = log.registers.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["rtmr0", "rtmr1", "pcr7"]);
        assert_eq!(log.expect.len(), 3);
        let first = &log.expect[0];
        assert_eq!(first.event, EventType::EFI_BOOT_SERVICES_APPLICATION);
        assert_eq!(first.digests, BTreeSet::from([vec![0xa1; 48], vec![0xc3; 48]]));
        assert_eq!(log.expect[1].event, EventType(0x8000_1234));
        assert_eq!(log.allow_unlisted.len(), 1);
        assert_eq!(log.data_mismatch, DataMismatch::Allowed);
    }

    #[test]
    fn what_weakens_is_off_where_it_is_not_written() {
        let log = parsed("required = false\nregisters = [\"rtmr0\"]\n").unwrap();
        assert_eq!((log.presence, log.expect.len()), (BootLogPresence::Optional, 0));
        assert_eq!((log.allow_unlisted.len(), log.data_mismatch), (0, DataMismatch::Refused));
        let off = "required = true\nregisters = [\"rtmr0\"]\nallow-data-mismatch = false\n";
        assert_eq!(parsed(off).unwrap().data_mismatch, DataMismatch::Refused);
    }

    #[test]
    fn refuses_a_table_without_what_is_expected() {
        assert_eq!(what("registers = [\"rtmr0\"]\n"), "missing field `required`");
        assert_eq!(what("required = true\n"), "missing field `registers`");
        assert_eq!(what("required = true\nregisters = []\n"), "no value is named, so nothing could pass");
        assert!(
            what("required = true\nregisters = [\"rtmr0\"]\nany = 1\n").starts_with("unknown field `any`")
        );
    }

    #[test]
    fn refuses_each_value_that_cannot_be() {
        let changed = |from: &str, to: &str| {
            assert!(FULL.contains(from), "{from}");
            what(&FULL.replacen(from, to, 1))
        };
        let register = "`rtmr4` is not rtmr0 to rtmr3 or pcr0 to pcr23";
        assert_eq!(changed("\"rtmr0\"", "\"rtmr4\""), register);
        let outside = "`rtmr2` is not one of the registers that the log must replay to";
        assert_eq!(changed("register = \"rtmr1\"", "register = \"rtmr2\""), outside);
        for event in ["EV_NOTHING", "EV_NO_ACTION", "0x00000003", "0x1", "0x80000003", ""] {
            let expected = format!("`{event}` is not a type of event that is measured");
            assert_eq!(changed("EV_EFI_BOOT_SERVICES_APPLICATION", event), expected);
        }
        let digest = "` is not 64, 96 or 128 lower-case hexadecimal digits";
        for digits in ["", "a1", "A1A1", "zz", &"a1".repeat(20), &"A1".repeat(48), &"a1".repeat(65)] {
            assert_eq!(changed("H64", digits), format!("`{digits}{digest}"));
        }
        assert_eq!(changed("\"K96\"", "\"H64\""), "digests of different lengths");
        let twice = "EV_EFI_BOOT_SERVICES_APPLICATION of rtmr1 is expected twice";
        assert_eq!(changed("0x80001234", "EV_EFI_BOOT_SERVICES_APPLICATION"), twice);
        let unlisted = "allow-unlisted names rtmr0, of which nothing is expected";
        assert_eq!(changed("allow-unlisted = [\"pcr7\"]", "allow-unlisted = [\"rtmr0\"]"), unlisted);
        let optional = "events are expected of a log that need not be there";
        assert_eq!(changed("required = true", "required = false"), optional);
    }
}
