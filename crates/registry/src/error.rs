//! What can go wrong between here and a registry, and what to do about it.

use std::io;

use casemate_images::ImageError;
use casemate_protocol::Refusal;

use crate::reference::ReferenceError;
use crate::url::Url;

/// What did not happen where nobody answers.
pub(crate) const NO_CONNECTION: &str = "no connection";

/// What went wrong, by whose fault: input, the registry, a refusal, the machine.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name of an image is not one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A mirror, host, file or variable that the user set is not usable.
    #[error("{what} `{found}` {problem}")]
    Setting {
        /// Which: `mirror`, `HTTPS_PROXY`.
        what: &'static str,
        /// What was given.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Credentials cannot be read.
    #[error("credentials in {from}: {problem}")]
    Credentials {
        /// A file or a program.
        from: String,
        /// What is wrong.
        problem: String,
    },
    /// Plain HTTP to another machine.
    #[error("{host}: plain HTTP to another machine")]
    PlainHttp {
        /// Host and port.
        host: String,
    },

    /// The answer is not what the specification says.
    #[error("{url}: answer is not {expected}: {found}")]
    Form {
        /// What was asked.
        url: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// The answer is larger than its limit.
    #[error("{url}: {what} is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What was asked.
        url: String,
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// The answer points to where nobody is followed to.
    #[error("{url}: redirect to {to}")]
    Redirect {
        /// What was asked.
        url: String,
        /// Where it points, without its query, and why that is not followed.
        to: String,
    },
    /// The server of a redirect asks for credentials.
    #[error("{url}: asks for credentials, and is not the registry {registry}")]
    ForeignChallenge {
        /// What was asked.
        url: String,
        /// The registry.
        registry: String,
    },
    /// The registry sends credentials to a server of another site.
    #[error("{registry}: wants the credentials given to {server}")]
    ForeignTokenServer {
        /// The registry.
        registry: String,
        /// Host and port of the token server.
        server: String,
    },
    /// The answer to a request with fresh credentials or a fresh token is 401 or 403, or no way to log in is offered.
    #[error("{url}: access denied{remark}")]
    Denied {
        /// What was asked.
        url: String,
        /// Whether credentials were sent.
        credentials: CredentialsSent,
        /// What the registry says of it.
        remark: String,
    },
    /// The registry has no such image.
    #[error("{url}: not found{remark}")]
    NotFound {
        /// What was asked.
        url: String,
        /// What the registry says of it.
        remark: String,
    },
    /// The registry asks to wait, for longer than is waited or again and again.
    #[error("{url}: too many requests{}", wait_remark(*wait_s))]
    TooManyRequests {
        /// What was asked.
        url: String,
        /// How long to wait, where it says so.
        wait_s: Option<u64>,
    },
    /// Another status.
    #[error("{url}: status {status}{remark}")]
    Status {
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the registry says of it.
        remark: String,
    },
    /// The connection ended before the answer did.
    #[error("{url}: connection ended before the answer")]
    Closed {
        /// What was asked.
        url: String,
    },
    /// Nothing more came, or too slowly.
    #[error("{url}: {what} within {ms} ms")]
    TimedOut {
        /// What was asked.
        url: String,
        /// What did not happen: `no answer`.
        what: &'static str,
        /// The limit.
        ms: u64,
    },
    /// No address.
    #[error("{host}: no address was found for this name")]
    Name {
        /// The host, of the proxy where there is one.
        host: String,
    },
    /// No connection.
    #[error("{host}: no connection: {kind}")]
    Connect {
        /// Host and port, of the proxy where there is one.
        host: String,
        /// What happened.
        kind: io::ErrorKind,
    },
    /// The proxy does not connect.
    #[error("proxy {proxy}: does not connect to {host}: {found}")]
    Proxy {
        /// The proxy.
        proxy: String,
        /// Where to.
        host: String,
        /// Its answer.
        found: String,
    },
    /// No TLS session.
    #[error("{host}: no TLS session: {problem}")]
    Tls {
        /// Host and port.
        host: String,
        /// What happened.
        problem: String,
    },

    /// Bytes are not those that were asked for.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store or the content of the image.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What was sent along with a request that was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsSent {
    /// Nothing: none are known.
    None,
    /// Those of the user.
    Known,
}

impl RegistryError {
    /// What the user can do: the second line of the message.
    #[must_use]
    pub fn todo(&self) -> String {
        let fixed = match self {
            Self::Reference(error) => error.todo(),
            Self::Setting { what, .. } => match *what {
                "mirror" => {
                    "write [HOST=]https://MIRROR[/PATH], for example docker.io=https://mirror.example"
                }
                "file of authorities" => "name a file with certificates in PEM: `--ca FILE`",
                "host" => "write HOST[:PORT]",
                "platform" => "write linux/ARCHITECTURE, for example linux/amd64",
                _ => "write http://[USER:PASSWORD@]HOST:PORT, or remove the variable",
            },
            Self::Credentials { .. } => "log in again (`docker login HOST`), or repair what is named",
            Self::PlainHttp { host } => {
                return format!(
                    "give the registry a certificate, or accept that anybody on the way reads and changes what is asked: \
                     `--plain-http {host}`"
                );
            }
            Self::Form { .. } => {
                "check that the name and the address are those of an OCI registry, and that no proxy or login page answers for it"
            }
            Self::TooLarge { .. } | Self::Redirect { .. } | Self::ForeignChallenge { .. } => {
                "the registry is broken or hostile: pull from another one, and tell whoever runs it"
            }
            Self::ForeignTokenServer { server, .. } => {
                return format!(
                    "if the registry's documentation names that server, allow it: `--token-server {server}`"
                );
            }
            Self::Denied { credentials: CredentialsSent::None, .. } => {
                "check the name; a private image needs credentials: `docker login HOST` writes them, \
                 or `skopeo login --authfile ~/.docker/config.json HOST`"
            }
            Self::Denied { credentials: CredentialsSent::Known, .. } => {
                "check the name, and that these credentials may read it: log in again with `docker login HOST`"
            }
            Self::NotFound { .. } => "check the name, the tag and the registry",
            Self::TooManyRequests { .. } => "wait, log in for a higher limit, or use a mirror: `--mirror`",
            Self::Status { .. } | Self::Closed { .. } | Self::TimedOut { .. } => {
                "try again later, or use a mirror: `--mirror`"
            }
            Self::Name { .. } | Self::Connect { .. } => {
                "check the name, the port and the network; behind a proxy, set HTTPS_PROXY"
            }
            Self::Proxy { .. } => "check HTTPS_PROXY and NO_PROXY, and what the proxy allows",
            Self::Tls { .. } => {
                "check the host's name and its certificate; name its authority with `--ca FILE`, or for a test registry \
                 without TLS use `--plain-http HOST`"
            }
            Self::Refused(_) => {
                "nothing of it was kept; pull from another source, and tell whoever runs the registry"
            }
            Self::Image(error) => error.todo(),
        };
        fixed.to_owned()
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::TimedOut { what, .. } => *what != NO_CONNECTION,
            Self::Connect { kind, .. } => matches!(
                kind,
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::TimedOut
            ),
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    pub(crate) fn form(url: &Url, expected: &'static str, found: &str) -> Self {
        Self::Form { url: url.to_string(), expected, found: shortened(found) }
    }
}

/// Text of a server: one printable line of bounded length.
pub(crate) fn shortened(text: &str) -> String {
    let cut: String = text.trim().chars().map(|c| if c == '\n' { ' ' } else { c }).take(200).collect();
    casemate_protocol::refusal::printable_line(&cut)
}

fn wait_remark(wait_s: Option<u64>) -> String {
    wait_s.map_or_else(String::new, |wait_s| format!("; the registry asks to wait {wait_s} s"))
}
