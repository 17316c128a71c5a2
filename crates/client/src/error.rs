//! What can go wrong between a client and its broker.

use casemate_protocol::Refusal;

use crate::jwe::JweError;

/// Which request was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `POST auth`.
    Begin,
    /// `POST attest`.
    Attest,
    /// `GET resource`.
    Fetch,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin => "asking for a challenge",
            Self::Attest => "sending evidence",
            Self::Fetch => "fetching a resource",
        })
    }
}

/// Why an exchange with the broker did not succeed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// What the caller wants to send is not a request of the protocol.
    #[error("{0}")]
    Input(#[from] InputError),
    /// The broker does not speak the protocol.
    #[error("broker breaks the protocol while {step}: {problem}")]
    Protocol {
        /// What was under way.
        step: Step,
        /// What is wrong with the answer.
        problem: Problem,
    },
    /// The broker refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The broker cannot be reached or cannot serve now.
    #[error("broker not reachable while {step}: {cause}")]
    Unreachable {
        /// What was under way.
        step: Step,
        /// What happened.
        cause: Cause,
    },
}

/// Configuration or request of the caller that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Not `https://HOST[:PORT]`.
    #[error("broker address is not https://HOST[:PORT]")]
    BrokerUrl,
    /// The certificate file has no certificate, too many, or one that cannot be an anchor.
    #[error("broker certificate file is not 1 to {max} certificates in PEM", max = crate::broker::CERTIFICATES_MAX)]
    Certificate,
    /// The TLS library does not take the configuration.
    #[error("TLS cannot be configured")]
    TlsConfiguration,
    /// Not a resource path.
    #[error("resource is not a path of three parts")]
    Resource,
    /// A request body is larger than the protocol's limit.
    #[error("request of {found} bytes, at most {max} allowed")]
    TooLong {
        /// Its size in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// What is wrong with a broker's answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The body is not the JSON message that belongs here.
    #[error("answer is not the expected message")]
    Message,
    /// The body, or the head, is over the limit.
    #[error("answer is larger than {max} bytes")]
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// No session cookie, or one that is not plain.
    #[error("session cookie is missing or malformed")]
    Cookie,
    /// The nonce is not one.
    #[error("nonce is malformed")]
    Nonce,
    /// The token is not in three parts.
    #[error("token is malformed")]
    Token,
    /// A sealed secret is malformed.
    #[error("sealed secret: {0}")]
    Jwe(#[from] JweError),
    /// The status is none that the protocol has.
    #[error("status {0}")]
    Status(u16),
    /// Not HTTP/1.1.
    #[error("answer is not HTTP/1.1")]
    Http,
}

/// Why the broker was not reached.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(std::io::ErrorKind),
    /// No TLS session, for instance because the certificate is another.
    #[error("no TLS session: {0}")]
    Tls(TlsFailure),
    /// The connection ended before the answer did.
    #[error("connection ended before the answer")]
    Closed,
    /// Time is up.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: u64,
    },
    /// The broker says that it cannot serve now.
    #[error("broker cannot serve now (status {status}): {detail}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// What it says, made printable and bounded.
        detail: String,
    },
}

/// Why there is no TLS session.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// rustls refused the peer.
    #[error("{0}")]
    Refused(rustls::Error),
    /// The connection broke.
    #[error("connection broke: {0}")]
    Io(std::io::ErrorKind),
}
