//! SHA-256 over streams, in memory that does not grow with them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA256};
use casemate_canon::Sha256;

use crate::error::ImageError;

/// Bytes read at once.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;

/// A reader or writer that hashes what passes and counts it.
pub(crate) struct Hashing<T> {
    inner: T,
    context: Context,
    bytes: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, context: Context::new(&SHA256), bytes: 0 }
    }

    /// Bytes that passed.
    pub(crate) fn hashed_bytes(&self) -> u64 {
        self.bytes
    }

    /// The digest of what passed, and the stream.
    pub(crate) fn finish(self) -> (Sha256, u64, T) {
        (finish(self.context), self.bytes, self.inner)
    }

    fn passed(&mut self, chunk: Option<&[u8]>) {
        if let Some(chunk) = chunk {
            self.context.update(chunk);
            self.bytes = self.bytes.saturating_add(chunk.len() as u64);
        }
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.passed(buffer.get(..n));
        Ok(n)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buffer)?;
        self.passed(buffer.get(..n));
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The digest of the rest of `file`. `on_bytes` is told the size of each chunk.
pub(crate) fn hash_file(
    file: &mut File,
    path: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<Sha256, ImageError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n = match file.read(&mut buffer) {
            Ok(0) => return Ok(finish(context)),
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ImageError::io("read", path, &error)),
        };
        context.update(buffer.get(..n).unwrap_or_default());
        on_bytes(n as u64);
    }
}

fn finish(context: Context) -> Sha256 {
    let mut out = [0; Sha256::LEN];
    out.copy_from_slice(context.finish().as_ref());
    Sha256(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_what_is_read_and_what_is_written_alike() {
        let bytes = vec![7; CHUNK_BYTES * 2 + 3];
        let mut reader = Hashing::new(&bytes[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(&bytes).unwrap();
        assert_eq!(reader.finish().0, Sha256::of(&bytes));
        assert_eq!(writer.finish().0, Sha256::of(&bytes));
    }
}
