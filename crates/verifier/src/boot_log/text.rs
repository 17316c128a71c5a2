//! A few words about an event's data, for people. Nothing here is more than the log says.

use casemate_evidence::boot_event::UefiVariable;
use casemate_evidence::{BootEvent, EventType};
use casemate_protocol::refusal::printable_line;

use super::label::partition_count;

/// Longest text, in characters.
const TEXT_CHARS_MAX: usize = 80;
/// Bytes of data looked at: enough for the characters above in any form, not the megabyte that an event may hold.
const TEXT_BYTES_MAX: usize = 1024;
/// Signature at the begin of an `EV_NO_ACTION` (PFP section 10.4.5).
const SIGNATURE_BYTES: usize = 16;
/// Fields of `UEFI_IMAGE_LOAD_EVENT` before the device path (PFP section 10.2.3).
const IMAGE_LOAD_BYTES: usize = 32;

/// One line about an event.
pub(super) fn short(event: &BootEvent<'_>) -> String {
    let text = match event.event_type {
        EventType::EFI_VARIABLE_DRIVER_CONFIG
        | EventType::EFI_VARIABLE_BOOT
        | EventType::EFI_VARIABLE_BOOT2
        | EventType::EFI_VARIABLE_AUTHORITY
        | EventType::EFI_SPDM_DEVICE_POLICY
        | EventType::EFI_SPDM_DEVICE_AUTHORITY => variable(event.data),
        EventType::EFI_BOOT_SERVICES_APPLICATION | EventType::EFI_BOOT_SERVICES_DRIVER => image(event.data),
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 | EventType::EFI_HANDOFF_TABLES2 => described(event.data),
        EventType::EFI_GPT_EVENT | EventType::EFI_GPT_EVENT2 => {
            partition_count(event.data).map(|count| format!("{count} partitions"))
        }
        EventType::NO_ACTION => {
            event.data.split_first_chunk::<SIGNATURE_BYTES>().and_then(|(id, _)| ascii(id))
        }
        _ => ascii(event.data).or_else(|| utf16(event.data)),
    };
    let text = text.filter(|text| !text.is_empty()).unwrap_or_else(|| bytes(event.data));
    let short: String = text.chars().take(TEXT_CHARS_MAX).collect();
    printable_line(&short)
}

fn bytes(data: &[u8]) -> String {
    match data {
        short @ [_, ..] if short.len() <= 16 => hex::encode(short),
        other => format!("{} bytes", other.len()),
    }
}

fn variable(data: &[u8]) -> Option<String> {
    let variable = UefiVariable::read(data)?;
    let name = utf16(variable.name)?;
    Some(match variable.content {
        content @ [_] => format!("{name} = {}", hex::encode(content)),
        content => format!("{name}, {} bytes", content.len()),
    })
}

/// The file that a device path names: nodes of type, subtype and length (UEFI specification 2.10, section 10.3).
fn image(data: &[u8]) -> Option<String> {
    let mut rest = data.get(IMAGE_LOAD_BYTES..)?;
    while let Some(([kind, subtype, low, high], _)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let node = rest.get(4..length)?;
        if (*kind, *subtype) == (4, 4) {
            return utf16(node);
        }
        rest = rest.get(length..)?;
    }
    None
}

/// A description behind its length in one byte.
fn described(data: &[u8]) -> Option<String> {
    let (length, rest) = data.split_first()?;
    ascii(rest.get(..usize::from(*length))?)
}

/// Printable ASCII, with or without zeros at its end.
fn ascii(data: &[u8]) -> Option<String> {
    let data = data.get(..TEXT_BYTES_MAX).unwrap_or(data);
    let end = data.iter().rposition(|byte| *byte != 0)?;
    let text = str::from_utf8(data.get(..=end)?).ok()?;
    text.chars().all(|c| c.is_ascii_graphic() || c.is_ascii_whitespace()).then(|| text.to_owned())
}

/// UTF-16, little-endian, with or without zeros at its end.
fn utf16(data: &[u8]) -> Option<String> {
    let data = data.get(..TEXT_BYTES_MAX).unwrap_or(data);
    let (units, []) = data.as_chunks::<2>() else { return None };
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    let text = String::from_utf16(&units).ok()?;
    let text = text.trim_end_matches('\0');
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}
