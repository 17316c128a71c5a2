//! One configfs-tsm entry: its attributes and generations, without any file system.
//!
//! Follows Linux drivers/virt/coco (report.c) and Documentation/ABI/testing/configfs-tsm-report: every write of an
//! attribute steps `generation`; the report is made at the first read after a write; `inblob` holds at most 64 bytes.

use casemate_testkit::Tee;
use rustix::io::Errno;

use crate::platform::{Answer, Machine};

/// Longest `inblob` (TSM_REPORT_INBLOB_MAX).
pub(crate) const INBLOB_BYTES_MAX: usize = 64;
/// Highest privilege level (TSM_REPORT_PRIVLEVEL_MAX).
const PRIVLEVEL_MAX: u32 = 3;
/// Lowest privilege level this guest may ask for: it runs at VMPL 0.
const PRIVLEVEL_FLOOR: u32 = 0;

/// An attribute of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Generation,
    Provider,
    Privlevel,
    PrivlevelFloor,
    Inblob,
    Outblob,
    Auxblob,
}

impl Attribute {
    /// Every attribute, in the order in which the kernel declares them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Generation,
        Self::Provider,
        Self::Privlevel,
        Self::PrivlevelFloor,
        Self::Inblob,
        Self::Outblob,
        Self::Auxblob,
    ];

    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Provider => "provider",
            Self::Privlevel => "privlevel",
            Self::PrivlevelFloor => "privlevel_floor",
            Self::Inblob => "inblob",
            Self::Outblob => "outblob",
            Self::Auxblob => "auxblob",
        }
    }

    /// TDX guests show neither privilege levels nor auxiliary data.
    pub(crate) fn is_visible(self, tee: Tee) -> bool {
        match self {
            Self::Generation | Self::Provider | Self::Inblob | Self::Outblob => true,
            Self::Privlevel | Self::PrivlevelFloor | Self::Auxblob => tee == Tee::Snp,
        }
    }

    /// Mode bits, which bind root as well: configfs refuses an open that they do not allow.
    pub(crate) fn mode(self) -> u16 {
        match self {
            Self::Inblob | Self::Privlevel => 0o200,
            _ => 0o444,
        }
    }

    /// Binary attributes are taken over when the file is closed, text attributes at once.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Self::Inblob | Self::Outblob | Self::Auxblob)
    }
}

/// One entry.
#[derive(Default)]
pub(crate) struct Entry {
    inblob: Vec<u8>,
    privlevel: u32,
    write_generation: u64,
    read_generation: u64,
    answer: Option<Answer>,
}

impl Entry {
    /// What a read of `attribute` returns.
    pub(crate) fn read(&mut self, attribute: Attribute, machine: &Machine) -> Result<Vec<u8>, Errno> {
        match attribute {
            Attribute::Generation => Ok(format!("{}\n", self.write_generation).into_bytes()),
            Attribute::Provider => Ok(provider(machine.tee()).to_vec()),
            Attribute::PrivlevelFloor => Ok(format!("{PRIVLEVEL_FLOOR}\n").into_bytes()),
            Attribute::Outblob => Ok(self.answer(machine)?.outblob.clone()),
            Attribute::Auxblob => Ok(self.answer(machine)?.auxblob.clone()),
            Attribute::Inblob | Attribute::Privlevel => Err(Errno::ACCESS),
        }
    }

    /// Sets `inblob`, as when a file that was written is closed.
    pub(crate) fn set_inblob(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        if bytes.len() > INBLOB_BYTES_MAX {
            return Err(Errno::INVAL);
        }
        self.advance()?;
        bytes.clone_into(&mut self.inblob);
        Ok(())
    }

    /// Sets `privlevel` from text.
    pub(crate) fn set_privlevel(&mut self, text: &[u8]) -> Result<(), Errno> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::INVAL)?;
        let level: u32 = text.strip_suffix('\n').unwrap_or(text).parse().map_err(|_| Errno::INVAL)?;
        if !(PRIVLEVEL_FLOOR..=PRIVLEVEL_MAX).contains(&level) {
            return Err(Errno::INVAL);
        }
        self.advance()?;
        self.privlevel = level;
        Ok(())
    }

    /// Refuses only when writes have gone all the way round without a read between.
    fn advance(&mut self) -> Result<(), Errno> {
        if self.write_generation == self.read_generation.wrapping_sub(1) {
            return Err(Errno::BUSY);
        }
        self.write_generation = self.write_generation.wrapping_add(1);
        Ok(())
    }

    /// The report for what was written last, made now unless it was made before.
    fn answer(&mut self, machine: &Machine) -> Result<&Answer, Errno> {
        if self.inblob.is_empty() {
            return Err(Errno::INVAL);
        }
        if self.read_generation != self.write_generation {
            self.answer = None;
        }
        if self.answer.is_none() {
            // Both guest drivers want exactly 64 bytes.
            let report_data = self.inblob.as_slice().try_into().map_err(|_| Errno::INVAL)?;
            self.answer = Some(machine.report(report_data, self.privlevel).map_err(|_| Errno::IO)?);
            self.read_generation = self.write_generation;
        }
        self.answer.as_ref().ok_or(Errno::IO)
    }
}

fn provider(tee: Tee) -> &'static [u8] {
    match tee {
        Tee::Tdx => b"tdx_guest\n",
        Tee::Snp => b"sev_guest\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_would_make_an_old_report_look_current_is_busy() {
        let mut entry = Entry { write_generation: 6, read_generation: 7, ..Entry::default() };
        assert_eq!(entry.set_inblob(&[1; 64]), Err(Errno::BUSY));
        assert_eq!(entry.set_privlevel(b"1"), Err(Errno::BUSY));
        entry.write_generation = u64::MAX;
        entry.read_generation = u64::MAX;
        assert_eq!(entry.set_inblob(&[1; 64]), Ok(()));
        assert_eq!(entry.write_generation, 0);
    }

    #[test]
    fn a_privilege_level_is_a_number_from_floor_to_maximum() {
        let mut entry = Entry::default();
        for bad in ["", "\n", "4", "-1", "1\n\n", "1 ", "one", "4294967296"] {
            assert_eq!(entry.set_privlevel(bad.as_bytes()), Err(Errno::INVAL), "{bad:?}");
        }
        assert_eq!(entry.set_privlevel(b"\xff"), Err(Errno::INVAL));
        assert_eq!((entry.write_generation, entry.privlevel), (0, 0));
        for good in ["0", "3", "2\n"] {
            assert_eq!(entry.set_privlevel(good.as_bytes()), Ok(()), "{good:?}");
        }
        assert_eq!((entry.write_generation, entry.privlevel), (3, 2));
    }
}
