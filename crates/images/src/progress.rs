//! How far a long operation is, for whoever shows it.

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Bytes go into the store.
    Import,
    /// Layers become files. Bytes are those of the layers as stored.
    Unpack,
    /// Files become one EROFS image. Its size is not known before it is done.
    BuildRootfs,
    /// Stored bytes are hashed and compared.
    Verify,
}

/// One report. Reports of one step never go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes in all, when known.
    pub total_bytes: Option<u64>,
}

/// Bytes between two reports.
pub(crate) const REPORT_EVERY_BYTES: u64 = 1 << 20;
