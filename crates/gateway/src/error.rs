//! What ends the gateway. Nothing that an agent or a remote host does is in here: only the warden and the
//! machine can end it.

use std::io;

/// What is wrong with a descriptor that came with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorFault {
    /// It is no socket.
    #[error("no socket")]
    NotASocket,
    /// It is a socket of another family, type or protocol.
    #[error("no socket of the expected family and type")]
    WrongKind,
    /// A listening socket was expected and it does not listen.
    #[error("does not listen")]
    NotListening,
    /// An unconnected socket was expected and it listens or has a peer.
    #[error("listens or is connected")]
    InUse,
}

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A packet or its descriptors did not fit the buffers.
    #[error("packet is longer than {bytes_max} bytes or carries more than {descriptors_max} descriptors")]
    PacketTooLong {
        /// Largest packet, in bytes.
        bytes_max: usize,
        /// Most descriptors.
        descriptors_max: usize,
    },
    /// A packet is not a message of the protocol.
    #[error("packet is no message: {reason}")]
    NotAMessage {
        /// What the JSON reader says.
        reason: String,
    },
    /// A message came with the wrong number of descriptors.
    #[error("`{message}` came with {found} descriptors, expected {expected}")]
    DescriptorCount {
        /// Which message.
        message: &'static str,
        /// How many came.
        found: usize,
        /// How many belong to it.
        expected: &'static str,
    },
    /// A descriptor is not what its message says.
    #[error("descriptor {index} of `{message}`: {fault}")]
    Descriptor {
        /// Which message.
        message: &'static str,
        /// Its place in the message, from 0.
        index: usize,
        /// What is wrong.
        fault: DescriptorFault,
    },
    /// A host or resolver name in a message is not a host name.
    #[error("`{found}` is no host name")]
    HostName {
        /// The name, cut to 80 characters.
        found: String,
    },
    /// A message goes past a limit.
    #[error("more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// The inherited descriptor is not a `SOCK_SEQPACKET` Unix socket.
    #[error("descriptor {found} is no SOCK_SEQPACKET Unix socket")]
    NotTheControlSocket {
        /// Its number.
        found: i32,
    },
    /// The machine refused something.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl GatewayError {
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }

    pub(crate) fn kernel(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::System { doing, source: errno.into() }
    }
}
