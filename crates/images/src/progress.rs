//! How far a long operation is, for whoever shows it.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::ImageError;
use crate::hash::CHUNK_BYTES;
use crate::tar_entry::from_read;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A compressed file is read. Bytes are those of the file.
    Read,
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
    /// Layers and documents done.
    pub done_layers: usize,
    /// Layers and documents in all; 0 where the step does not go by layers.
    pub total_layers: usize,
}

/// Bytes between two reports.
const REPORT_EVERY_BYTES: u64 = 1 << 20;

/// Counts bytes and layers of one step and reports them.
pub(crate) struct Meter<'p> {
    report: Option<&'p mut dyn FnMut(Progress)>,
    now: Progress,
    reported_bytes: u64,
}

impl<'p> Meter<'p> {
    /// Begins a step.
    pub(crate) fn new(step: Step, total_bytes: Option<u64>, report: &'p mut dyn FnMut(Progress)) -> Self {
        Self { report: Some(report), ..Self::of(step, total_bytes) }
    }

    /// For what is too small to report.
    pub(crate) fn silent() -> Self {
        Self::of(Step::Import, None)
    }

    fn of(step: Step, total_bytes: Option<u64>) -> Self {
        let now = Progress { step, done_bytes: 0, total_bytes, done_layers: 0, total_layers: 0 };
        Self { report: None, now, reported_bytes: 0 }
    }

    /// The step goes by this many layers.
    pub(crate) fn with_layers(mut self, layers: usize) -> Self {
        self.now.total_layers = layers;
        self
    }

    /// More bytes are done.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.now.done_bytes = self.now.done_bytes.saturating_add(bytes);
        let done = self.now.total_bytes == Some(self.now.done_bytes);
        if done || self.now.done_bytes.saturating_sub(self.reported_bytes) >= REPORT_EVERY_BYTES {
            self.tell();
        }
    }

    /// A layer is done.
    pub(crate) fn layer_done(&mut self) {
        self.now.done_layers = self.now.done_layers.saturating_add(1);
        self.tell();
    }

    /// The step is done, and what was counted is all there is.
    pub(crate) fn done(&mut self) {
        self.now.total_bytes = Some(self.now.done_bytes);
        self.tell();
    }

    /// Reports how far it is.
    pub(crate) fn tell(&mut self) {
        self.reported_bytes = self.now.done_bytes;
        if let Some(report) = &mut self.report {
            report(self.now);
        }
    }

    /// Counts what is read from `inner`.
    pub(crate) fn reader<R: Read>(&mut self, inner: R) -> Counted<'_, 'p, R> {
        Counted { inner, meter: self }
    }

    /// Copies a stream and counts it. Returns how many bytes.
    pub(crate) fn copy(
        &mut self,
        mut from: impl Read,
        to: &mut dyn Write,
        path: &Path,
    ) -> Result<u64, ImageError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut copied = 0_u64;
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => return Ok(copied),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(from_read(error)),
            };
            to.write_all(buffer.get(..n).unwrap_or_default()).map_err(|error| {
                match error.downcast::<ImageError>() {
                    Ok(refused) => refused,
                    Err(error) => ImageError::io("write", path, &error),
                }
            })?;
            copied = copied.saturating_add(n as u64);
            self.add(n as u64);
        }
    }
}

/// A reader that counts.
pub(crate) struct Counted<'m, 'p, R> {
    inner: R,
    meter: &'m mut Meter<'p>,
}

impl<R: Read> Read for Counted<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.meter.add(n as u64);
        Ok(n)
    }
}
