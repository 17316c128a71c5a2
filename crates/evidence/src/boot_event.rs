//! Types of the events in a firmware event log, and the layout of the data of some of them.
//!
//! Source: TCG PC Client Platform Firmware Profile, family 2.0, version 1.05 revision 23 ("PFP"), section 10.4.1
//! (event types); types 0x13 and 0x8000000d are of version 1.06.

use core::fmt;

use crate::cursor::Cursor;

/// What an event says it is. No register covers it: whoever hands over a log can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventType(pub u32);

impl EventType {
    /// Not extended; informs only.
    pub const NO_ACTION: Self = Self(0x3);
    /// Ends a phase of boot in one register.
    pub const SEPARATOR: Self = Self(0x4);
    /// A text that names an action.
    pub const ACTION: Self = Self(0x5);
    /// Tagged data of an operating system.
    pub const EVENT_TAG: Self = Self(0x6);
    /// Version of the first measuring code.
    pub const S_CRTM_VERSION: Self = Self(0x8);
    /// Configuration of the platform.
    pub const PLATFORM_CONFIG_FLAGS: Self = Self(0xa);
    /// Initial program loader: boot loaders use it for files, commands and command lines.
    pub const IPL: Self = Self(0xd);
    /// Information about code that does not run on the host's processors.
    pub const NONHOST_INFO: Self = Self(0x11);
    /// A variable that configures Secure Boot.
    pub const EFI_VARIABLE_DRIVER_CONFIG: Self = Self(0x8000_0001);
    /// A variable that configures boot; firmware hashes its content or the whole structure.
    pub const EFI_VARIABLE_BOOT: Self = Self(0x8000_0002);
    /// An application that firmware loaded.
    pub const EFI_BOOT_SERVICES_APPLICATION: Self = Self(0x8000_0003);
    /// A driver that firmware loaded.
    pub const EFI_BOOT_SERVICES_DRIVER: Self = Self(0x8000_0004);
    /// A partition table.
    pub const EFI_GPT_EVENT: Self = Self(0x8000_0006);
    /// A text that names an action of UEFI firmware.
    pub const EFI_ACTION: Self = Self(0x8000_0007);
    /// A piece of firmware, with a description.
    pub const EFI_PLATFORM_FIRMWARE_BLOB2: Self = Self(0x8000_000a);
    /// Tables handed over, with a description.
    pub const EFI_HANDOFF_TABLES2: Self = Self(0x8000_000b);
    /// A variable that configures boot; the whole structure is hashed.
    pub const EFI_VARIABLE_BOOT2: Self = Self(0x8000_000c);
    /// A partition table without what differs between machines.
    pub const EFI_GPT_EVENT2: Self = Self(0x8000_000d);
    /// The entry of a Secure Boot database that let something run.
    pub const EFI_VARIABLE_AUTHORITY: Self = Self(0x8000_00e0);
    /// A variable with the policy for devices.
    pub const EFI_SPDM_DEVICE_POLICY: Self = Self(0x8000_00e3);
    /// The entry of a device database that accepted a device.
    pub const EFI_SPDM_DEVICE_AUTHORITY: Self = Self(0x8000_00e4);

    /// Name of the specification; none where it has none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(event_type, _)| *event_type == self.0).map(|(_, name)| *name)
    }

    /// The type with this name of the specification.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(event_type, _)| Self(*event_type))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

/// PFP section 10.4.1.
const NAMES: [(u32, &str); 37] = [
    (0x0, "EV_PREBOOT_CERT"),
    (0x1, "EV_POST_CODE"),
    (0x2, "EV_UNUSED"),
    (0x3, "EV_NO_ACTION"),
    (0x4, "EV_SEPARATOR"),
    (0x5, "EV_ACTION"),
    (0x6, "EV_EVENT_TAG"),
    (0x7, "EV_S_CRTM_CONTENTS"),
    (0x8, "EV_S_CRTM_VERSION"),
    (0x9, "EV_CPU_MICROCODE"),
    (0xa, "EV_PLATFORM_CONFIG_FLAGS"),
    (0xb, "EV_TABLE_OF_DEVICES"),
    (0xc, "EV_COMPACT_HASH"),
    (0xd, "EV_IPL"),
    (0xe, "EV_IPL_PARTITION_DATA"),
    (0xf, "EV_NONHOST_CODE"),
    (0x10, "EV_NONHOST_CONFIG"),
    (0x11, "EV_NONHOST_INFO"),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS"),
    (0x13, "EV_POST_CODE2"),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT"),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION"),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER"),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER"),
    (0x8000_0006, "EV_EFI_GPT_EVENT"),
    (0x8000_0007, "EV_EFI_ACTION"),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB"),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES"),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2"),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2"),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2"),
    (0x8000_000d, "EV_EFI_GPT_EVENT2"),
    (0x8000_0010, "EV_EFI_HCRTM_EVENT"),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY"),
    (0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY"),
    (0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY"),
];

/// A UEFI variable as events hold it (UEFI_VARIABLE_DATA; PFP section 10.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct UefiVariable<'a> {
    /// Vendor GUID, in the byte order of UEFI.
    pub vendor: &'a [u8; 16],
    /// Name: UTF-16, little-endian, without a zero at its end.
    pub name: &'a [u8],
    /// Content.
    pub content: &'a [u8],
}

impl<'a> UefiVariable<'a> {
    /// Reads it; none where lengths and bytes do not agree exactly.
    #[must_use]
    pub fn read(data: &'a [u8]) -> Option<Self> {
        let mut at = Cursor::new(data);
        let vendor = at.array().ok()?;
        let name_units = usize::try_from(at.u64().ok()?).ok()?;
        let content_bytes = usize::try_from(at.u64().ok()?).ok()?;
        let name = at.slice(name_units.checked_mul(2)?).ok()?;
        let content = at.slice(content_bytes).ok()?;
        at.rest().is_empty().then_some(Self { vendor, name, content })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn every_name_leads_back_to_its_type() {
        for (event_type, name) in NAMES {
            assert_eq!(EventType(event_type).name(), Some(name));
            assert_eq!(EventType::from_name(name), Some(EventType(event_type)));
        }
        assert_eq!(EventType::from_name("EV_NOTHING"), None);
        assert_eq!(EventType(0x8000_00ff).to_string(), "0x800000ff");
        assert_eq!(EventType::SEPARATOR.to_string(), "EV_SEPARATOR");
    }

    #[test]
    fn a_variable_is_read_only_where_its_lengths_agree_exactly() {
        let mut data = Vec::from([7; 16]);
        data.extend(2_u64.to_le_bytes());
        data.extend(3_u64.to_le_bytes());
        data.extend(b"d\0b\0abc");
        let read = UefiVariable::read(&data).unwrap();
        assert_eq!((read.vendor, read.name, read.content), (&[7; 16], &b"d\0b\0"[..], &b"abc"[..]));
        for end in 0..data.len() {
            assert_eq!(UefiVariable::read(&data[..end]), None, "{end}");
        }
        let mut longer = data.clone();
        longer.push(0);
        assert_eq!(UefiVariable::read(&longer), None);
        for at in [16, 24] {
            let mut huge = data.clone();
            huge[at..at + 8].fill(0xff);
            assert_eq!(UefiVariable::read(&huge), None, "{at}");
        }
    }
}
