//! How a layer or archive is compressed, and readers of what is in it.
//!
//! Decoders are pure Rust and hold a bounded part of the stream: gzip 32 KiB, zstd the window that
//! the frame names (RFC 8878, section 3.1.1.1.2), which has a limit here.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::ImageError;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// RFC 8878, section 3.1.1.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// RFC 8878, section 3.1.2: the first byte is any from 0x50 to 0x5f.
const ZSTD_SKIPPABLE_MAGIC: [u8; 3] = [0x2a, 0x4d, 0x18];

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes of a stream.
    pub(crate) fn of_start(start: &[u8]) -> Self {
        if start.starts_with(&GZIP_MAGIC) {
            Self::Gzip
        } else if start.starts_with(&ZSTD_MAGIC) {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// A reader of what is in `stream`.
    pub(crate) fn reader<'a>(self, stream: impl BufRead + 'a, window_bytes_max: u64) -> Box<dyn Read + 'a> {
        match self {
            Self::None => Box::new(stream),
            Self::Gzip => Box::new(MultiGzDecoder::new(stream)),
            Self::Zstd => Box::new(ZstdReader::new(stream, window_bytes_max)),
        }
    }
}

/// Reads all frames of a zstd stream.
struct ZstdReader<R> {
    stream: R,
    frame: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(stream: R, window_bytes_max: u64) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(window_bytes_max);
        Self { stream, frame, in_frame: false }
    }

    /// Begins the next frame that has content. False at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.stream.fill_buf()?.is_empty() {
            let mut magic = [0; 4];
            self.stream.read_exact(&mut magic)?;
            if magic.get(1..) == Some(&ZSTD_SKIPPABLE_MAGIC[..]) && magic.first().is_some_and(|b| b >> 4 == 5)
            {
                let mut bytes = [0; 4];
                self.stream.read_exact(&mut bytes)?;
                let bytes = u64::from(u32::from_le_bytes(bytes));
                let skipped = io::copy(&mut self.stream.by_ref().take(bytes), &mut io::sink())?;
                if skipped != bytes {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            self.frame.reset(magic.chain(&mut self.stream)).map_err(error_of)?;
            self.in_frame = true;
            return Ok(true);
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            if self.frame.can_collect() > 0 {
                return self.frame.read(buffer);
            }
            if self.frame.is_finished() {
                self.in_frame = false;
            } else {
                self.frame
                    .decode_blocks(&mut self.stream, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(error_of)?;
            }
        }
    }
}

fn error_of(error: FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::WindowSizeTooBig { max, .. } => {
            io::Error::other(ImageError::Limit { what: "bytes of the zstd window", limit: max })
        }
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar_entry::from_read;

    const WINDOW_BYTES_MAX: u64 = 8 << 20;

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn read(stream: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::new();
        let mut reader = Compression::Zstd.reader(stream, WINDOW_BYTES_MAX);
        reader.read_to_end(&mut out).map(|_| out).map_err(from_read)
    }

    fn sample() -> Vec<u8> {
        (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect()
    }

    #[test]
    fn reads_several_frames_and_skips_skippable_ones() {
        let mut stream = zstd(&sample());
        stream.extend([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        stream.extend(zstd(b"second"));
        stream.extend([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]);
        let expected = [sample(), b"second".to_vec()].concat();
        assert_eq!(read(&stream), Ok(expected));
        assert_eq!(read(&zstd(b"")), Ok(Vec::new()));
    }

    #[test]
    fn refuses_a_stream_cut_at_every_offset() {
        let mut stream = zstd(&sample()[..5000]);
        stream.extend([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        let frame = stream.len() - 11;
        for end in (1..stream.len()).filter(|end| *end != frame) {
            let result = read(&stream[..end]);
            assert!(matches!(result, Err(ImageError::Malformed { .. })), "{end}: {result:?}");
        }
        assert!(matches!(read(&[&stream[..], b"tail"].concat()), Err(ImageError::Malformed { .. })));
    }

    #[test]
    fn refuses_a_window_above_the_limit_before_it_is_made() {
        // A frame header without content size: descriptor 0, window 2^(10 + exponent).
        for (exponent, ok) in [(13, true), (14, false), (31, false)] {
            let frame = [&ZSTD_MAGIC[..], &[0, exponent << 3], &[1, 0, 0]].concat();
            let expected = if ok {
                Ok(Vec::new())
            } else {
                Err(ImageError::Limit { what: "bytes of the zstd window", limit: WINDOW_BYTES_MAX })
            };
            assert_eq!(read(&frame), expected, "{exponent}");
        }
        // One segment: the window is the content size, here 2^60.
        let frame = [&ZSTD_MAGIC[..], &[0xe0], &(1_u64 << 60).to_le_bytes()].concat();
        assert!(matches!(read(&frame), Err(ImageError::Limit { .. } | ImageError::Malformed { .. })));
    }

    #[test]
    fn recognises_by_the_first_bytes() {
        assert_eq!(Compression::of_start(&zstd(b"x")), Compression::Zstd);
        assert_eq!(Compression::of_start(&[0x1f, 0x8b, 8]), Compression::Gzip);
        assert_eq!(Compression::of_start(b""), Compression::None);
        assert_eq!(Compression::of_start(&[0x1f]), Compression::None);
    }
}
