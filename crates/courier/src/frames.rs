//! Messages on the warden's socket: `u32` length (little-endian), then the message.
//!
//! What it is: reading and writing with the protocol's bounds. What it is not: their meaning (`casemate_protocol`).
//! Who trusts it: `courier`.

use std::io;

use casemate_protocol::courier::TO_COURIER_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Most bytes of a message's own fields around its body.
const HEADER_BYTES_MAX: usize = 64;

/// Reads one message; `None` where the socket ends between messages.
pub(crate) async fn read_message(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match socket.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => socket.read_exact(&mut length[1..]).await?,
    };
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > TO_COURIER_BYTES_MAX + HEADER_BYTES_MAX {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut message = vec![0; length];
    socket.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message.
pub(crate) async fn write_message(socket: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut whole = Vec::with_capacity(message.len().saturating_add(4));
    whole.extend_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(message);
    socket.write_all(&whole).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { read_message(&mut &*bytes).await })
    }

    #[test]
    fn reads_a_message_and_the_end() {
        assert_eq!(read(&[2, 0, 0, 0, 7, 8]).unwrap(), Some(vec![7, 8]));
        assert_eq!(read(&[]).unwrap(), None);
    }

    #[test]
    fn refuses_a_message_that_ends_early_or_is_too_long() {
        for cut in [&[2][..], &[2, 0, 0], &[2, 0, 0, 0], &[2, 0, 0, 0, 7]] {
            assert_eq!(read(cut).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        let over = u32::try_from(TO_COURIER_BYTES_MAX + HEADER_BYTES_MAX + 1).unwrap().to_le_bytes();
        assert_eq!(read(&over).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
