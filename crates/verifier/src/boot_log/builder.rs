//! Logs made in a test, and the registers that a machine with this log has.

use aws_lc_rs::digest::digest;
use casemate_evidence::{EventType, TpmHash};

use super::label::crc32;
use super::register::{Measured, RegisterKind, RegisterValue};
use super::replay::algorithm;

/// A log being written, and what was extended so far.
#[derive(Clone)]
pub(crate) struct LogBuilder {
    pub(crate) bytes: Vec<u8>,
    kind: RegisterKind,
    banks: Vec<TpmHash>,
    registers: Vec<(u8, TpmHash, Vec<u8>)>,
}

impl LogBuilder {
    pub(crate) fn ccel() -> Self {
        Self::new(RegisterKind::Rtmr, &[TpmHash::Sha384])
    }

    pub(crate) fn new(kind: RegisterKind, banks: &[TpmHash]) -> Self {
        let mut data = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
        data.extend(u32::try_from(banks.len()).unwrap().to_le_bytes());
        for bank in banks {
            data.extend(bank.id().to_le_bytes());
            data.extend(u16::try_from(bank.digest_bytes()).unwrap().to_le_bytes());
        }
        data.push(0);
        let mut bytes = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        bytes.extend([0; 20]);
        bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend(data);
        let numbers = 0..kind.count();
        let registers = numbers
            .flat_map(|number| banks.iter().map(move |bank| (number, *bank)))
            .map(|(number, bank)| {
                let dynamic = kind == RegisterKind::Pcr && (17..23).contains(&number);
                (number, bank, vec![if dynamic { 0xff } else { 0 }; bank.digest_bytes()])
            })
            .collect();
        Self { bytes, kind, banks: banks.to_vec(), registers }
    }

    /// An event whose digest is the hash of `measured`.
    pub(crate) fn measure(mut self, index: u32, event: EventType, measured: &[u8], data: &[u8]) -> Self {
        let digests: Vec<(TpmHash, Vec<u8>)> = self
            .banks
            .iter()
            .map(|bank| {
                let hash = algorithm(*bank).map(|of| digest(of, measured).as_ref().to_vec());
                (*bank, hash.unwrap_or_else(|| vec![0xee; bank.digest_bytes()]))
            })
            .collect();
        self.write(index, event, &digests, data);
        if event != EventType::NO_ACTION {
            self.extend(index, &digests);
        }
        self
    }

    /// An event whose digest is the hash of its data.
    pub(crate) fn event(self, index: u32, event: EventType, data: &[u8]) -> Self {
        self.measure(index, event, data, data)
    }

    /// What somebody writes into the log without extending anything.
    pub(crate) fn claim(mut self, index: u32, event: EventType, digest_of: &[u8], data: &[u8]) -> Self {
        let mut other = self.clone().measure(index, event, digest_of, data);
        std::mem::swap(&mut self.bytes, &mut other.bytes);
        self
    }

    /// What somebody extends without writing it into the log.
    pub(crate) fn extend_unlogged(mut self, index: u32, measured: &[u8]) -> Self {
        let bytes = self.bytes.clone();
        self = self.measure(index, EventType::IPL, measured, b"");
        self.bytes = bytes;
        self
    }

    pub(crate) fn measured_with<T>(&self, then: impl FnOnce(Measured<'_>) -> T) -> T {
        let values: Vec<RegisterValue<'_>> = self
            .registers
            .iter()
            .map(|(number, bank, value)| RegisterValue { number: *number, bank: *bank, value })
            .collect();
        then(Measured { kind: self.kind, values: &values })
    }

    fn write(&mut self, index: u32, event: EventType, digests: &[(TpmHash, Vec<u8>)], data: &[u8]) {
        self.bytes.extend(index.to_le_bytes());
        self.bytes.extend(event.0.to_le_bytes());
        self.bytes.extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
        for (bank, digest) in digests {
            self.bytes.extend(bank.id().to_le_bytes());
            self.bytes.extend(digest);
        }
        self.bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        self.bytes.extend(data);
    }

    fn extend(&mut self, index: u32, digests: &[(TpmHash, Vec<u8>)]) {
        let base = u32::from(self.kind == RegisterKind::Rtmr);
        for (number, bank, value) in &mut self.registers {
            let Some((_, digest_of)) = digests.iter().find(|(of, _)| of == bank) else { continue };
            if u32::from(*number) + base == index
                && let Some(hash) = algorithm(*bank)
            {
                let both = [value.as_slice(), digest_of].concat();
                *value = digest(hash, &both).as_ref().to_vec();
            }
        }
    }
}

/// `UEFI_VARIABLE_DATA`.
pub(crate) fn variable(name: &str, content: &[u8]) -> Vec<u8> {
    let mut data = vec![0x61; 16];
    data.extend(u64::try_from(name.encode_utf16().count()).unwrap().to_le_bytes());
    data.extend(u64::try_from(content.len()).unwrap().to_le_bytes());
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(content);
    data
}

/// `UEFI_GPT_DATA`.
pub(crate) fn partition_table(count: u8) -> Vec<u8> {
    let mut data = b"EFI PART\0\0\x01\0\x5c\0\0\0".to_vec();
    data.resize(92, 0);
    data[24] = 1;
    let crc = crc32(&data);
    data[16..20].copy_from_slice(&crc.to_le_bytes());
    data.extend(u64::from(count).to_le_bytes());
    data.resize(100 + 128 * usize::from(count), 7);
    data
}
