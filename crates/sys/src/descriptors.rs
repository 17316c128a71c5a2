//! Passing descriptors between processes, one packet at a time (`SOCK_SEQPACKET`, SCM_RIGHTS).

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Most descriptors of one packet.
pub const PACKET_DESCRIPTORS_MAX: usize = 64;

/// A pair of connected packet sockets, both closed on exec.
///
/// # Errors
/// The system's error.
pub fn packet_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Sends one packet with descriptors.
///
/// # Errors
/// The system's error; `E2BIG` for more than [`PACKET_DESCRIPTORS_MAX`] descriptors.
pub fn send_packet(socket: impl AsFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if descriptors.len() > PACKET_DESCRIPTORS_MAX {
        return Err(Errno::TOOBIG);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::TOOBIG);
    }
    let socket = socket.as_fd();
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(socket, &[IoSlice::new(packet)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    if sent == packet.len() { Ok(()) } else { Err(Errno::MSGSIZE) }
}

/// Receives one packet of at most `bytes_max` bytes, and its descriptors (closed on exec). An empty packet without
/// descriptors is the end of the stream.
///
/// # Errors
/// The system's error; `EMSGSIZE` where packet or descriptors did not fit (what arrived is closed).
pub fn receive_packet(socket: impl AsFd, bytes_max: usize) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut buffer = vec![0; bytes_max];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let socket = socket.as_fd();
    let result = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if result.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE);
    }
    buffer.truncate(result.bytes);
    Ok((buffer, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn passes_a_descriptor_that_works() {
        let (a, b) = packet_pair().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        send_packet(&a, b"pipe", &[reader.as_fd()]).unwrap();
        drop(reader);
        let (packet, mut descriptors) = receive_packet(&b, 16).unwrap();
        assert_eq!((packet.as_slice(), descriptors.len()), (&b"pipe"[..], 1));
        writer.write_all(b"x").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn refuses_packets_over_the_bound() {
        let (a, b) = packet_pair().unwrap();
        send_packet(&a, b"longer than four", &[]).unwrap();
        assert_eq!(receive_packet(&b, 4).map(|_| ()), Err(Errno::MSGSIZE));
    }

    #[test]
    fn end_of_stream_is_an_empty_packet() {
        let (a, b) = packet_pair().unwrap();
        drop(a);
        assert_eq!(receive_packet(&b, 4).map(|(p, d)| (p.len(), d.len())), Ok((0, 0)));
    }
}
