//! Names of outside hosts, in the one spelling that is allowed into a lock.
//!
//! Strict on purpose: proxies of others were bypassed with zero bytes, trailing dots, upper case and numbers that
//! a resolver takes for addresses. Whoever wants an address names it under `extra_hosts`.

use std::fmt;
use std::net::IpAddr;

/// A host name: lower-case labels of letters, digits and hyphens; not an address in any spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why a text is not a [`HostName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostNameError {
    /// A scheme, path or user stands with it.
    #[error("it is a URL, not a host name")]
    Url,
    /// `*` stands in it.
    #[error("wildcards are not supported")]
    Wildcard,
    /// It ends with a dot.
    #[error("it ends with a dot")]
    TrailingDot,
    /// A letter is upper case.
    #[error("it is not lower case")]
    UpperCase,
    /// It is an address, or a resolver may take it for one.
    #[error("it is an address, not a host name")]
    Address,
    /// Something else than labels of a-z, 0-9 and `-`.
    #[error("it is not made of labels of a-z, 0-9 and `-`")]
    Label,
    /// Longer than 253 characters.
    #[error("it is longer than 253 characters")]
    TooLong,
}

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for the machine itself in every resolver (RFC 6761).
    #[must_use]
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, HostNameError> {
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label that is a number makes the whole an address for some resolvers (WHATWG URL, section 3.5).
        let last = text.rsplit('.').next().unwrap_or_default();
        let numeric = |label: &str| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_digit())
                || label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        if text.contains(['/', '@', '?', '#']) {
            Err(HostNameError::Url)
        } else if text.contains('*') {
            Err(HostNameError::Wildcard)
        } else if text.parse::<IpAddr>().is_ok() || text.contains(['[', ']', ':']) || numeric(last) {
            Err(HostNameError::Address)
        } else if text.ends_with('.') {
            Err(HostNameError::TrailingDot)
        } else if text.bytes().any(|b| b.is_ascii_uppercase()) {
            Err(HostNameError::UpperCase)
        } else if text.len() > 253 {
            Err(HostNameError::TooLong)
        } else if !text.split('.').all(label_ok) {
            Err(HostNameError::Label)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_host_names_and_nothing_that_could_be_read_otherwise() {
        let long = format!("{}.example", "a.".repeat(130));
        for (text, want) in [
            ("api.example.com", None),
            ("xn--bcher-kva.example", None),
            ("a", None),
            ("1.example", None),
            ("https://api.example.com", Some(HostNameError::Url)),
            ("user@api.example.com", Some(HostNameError::Url)),
            ("*.example.com", Some(HostNameError::Wildcard)),
            ("api.example.com.", Some(HostNameError::TrailingDot)),
            ("API.example.com", Some(HostNameError::UpperCase)),
            ("127.0.0.1", Some(HostNameError::Address)),
            ("127.1", Some(HostNameError::Address)),
            ("2130706433", Some(HostNameError::Address)),
            ("0x7f000001", Some(HostNameError::Address)),
            ("a.0x7f", Some(HostNameError::Address)),
            ("::1", Some(HostNameError::Address)),
            ("[::1]", Some(HostNameError::Address)),
            ("", Some(HostNameError::Label)),
            ("a..b", Some(HostNameError::Label)),
            ("-a.example", Some(HostNameError::Label)),
            ("a_b.example", Some(HostNameError::Label)),
            ("good.example\0.evil.example", Some(HostNameError::Label)),
            ("b\u{fc}cher.example", Some(HostNameError::Label)),
            ("a b", Some(HostNameError::Label)),
            (&long, Some(HostNameError::TooLong)),
        ] {
            assert_eq!(text.parse::<HostName>().err(), want, "{text}");
        }
    }
}
