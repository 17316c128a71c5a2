//! Addresses: who is asked, and where an answer may point.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use hyper::Uri;

use crate::limits::URL_BYTES_MAX;

/// How bytes are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host and port: what credentials are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    /// In small letters; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// `HOST[:PORT]` with the port only where it is not the scheme's own, as in the `Host` header.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether the name or address is this machine's by definition.
    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Whether `other` is run by the same people as far as a name can tell: the same host on any port, or a
    /// host with the same last two labels.
    pub(crate) fn is_same_site(&self, other: &Self) -> bool {
        fn site(host: &str) -> Option<(&str, &str)> {
            let numeric = host.parse::<IpAddr>().is_ok();
            let mut labels = host.rsplit('.');
            let (top, second) = (labels.next()?, labels.next()?);
            (!numeric && !top.is_empty() && !second.is_empty()).then_some((second, top))
        }
        self.host == other.host || site(&self.host).is_some_and(|own| site(&other.host) == Some(own))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

/// An address of something. Shown without its query: that of a redirect often holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) origin: Origin,
    /// Path and query.
    pub(crate) target: String,
}

/// Why a text is no address that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlProblem {
    /// Not a URL, or with a user name.
    Form,
    /// Neither http nor https.
    Scheme,
}

impl Url {
    /// Reads `http[s]://HOST[:PORT][/PATH][?QUERY]`. A fragment is dropped.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlProblem> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlProblem::Form);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UrlProblem::Form)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(UrlProblem::Scheme),
        };
        let uri: Uri = format!("{}:{rest}", scheme.name()).parse().map_err(|_| UrlProblem::Form)?;
        let authority = uri.authority().ok_or(UrlProblem::Form)?;
        let host = plain_host(authority.host()).ok_or(UrlProblem::Form)?;
        // A user name before the host, or a port that is none, is not passed over.
        let port = match authority.as_str().strip_prefix(authority.host()).ok_or(UrlProblem::Form)? {
            "" => scheme.port(),
            port => port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or(UrlProblem::Form)?,
        };
        let origin = Origin { scheme, host, port };
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Ok(Self { origin, target: target.to_owned() })
    }

    /// What a `Location` header means here (RFC 9110 section 10.2.2). Relative paths are not resolved
    /// against the path: registries send absolute ones.
    pub(crate) fn join(&self, location: &str) -> Result<Self, UrlProblem> {
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.origin.scheme.name()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{}{location}", self.origin));
        }
        Self::parse(location)
    }

    /// With one more parameter in its query.
    pub(crate) fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.target.push(if self.target.contains('?') { '&' } else { '?' });
        self.target.push_str(&format!("{name}={}", percent_encoded(value)));
        self
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target.split('?').next().unwrap_or_default())
    }
}

/// A name of letters, digits, `-`, `_` and `.`, or an IPv6 address without its brackets; in small letters.
fn plain_host(text: &str) -> Option<String> {
    let host = text.to_ascii_lowercase();
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok().then(|| address.to_owned());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (!host.is_empty() && host.bytes().all(plain)).then_some(host)
}

/// For a query or a form: everything but unreserved characters as `%XX` (RFC 3986 section 2.3).
pub(crate) fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_and_shows_them_without_their_query() {
        for (text, shown) in [
            ("https://A.example/v2/?key=secret", "https://a.example/v2/"),
            ("HTTP://localhost:5000", "http://localhost:5000/"),
            ("https://[::1]:8443/x#fragment", "https://[::1]:8443/x"),
            ("https://a.example:443/x", "https://a.example/x"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "a",
            "/x",
            "https://",
            "https://u:p@a/",
            "https:///x",
            "https://a b/",
            "https://a:70000/",
            "https://a:/",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlProblem::Form), "{bad}");
        }
        for bad in ["file:///etc/passwd", "ftp://a/", "unix:/x", "data:,"] {
            assert_eq!(Url::parse(bad), Err(UrlProblem::Scheme), "{bad}");
        }
    }

    #[test]
    fn refuses_hosts_and_ports_that_are_none() {
        for bad in [
            "http://realm=[::1]/",
            "http://[::1",
            "http://[a]/",
            "http://a&b/",
            "http://a:65536/",
            "http://a:x/",
        ] {
            assert_eq!(Url::parse(bad), Err(UrlProblem::Form), "{bad}");
        }
        assert_eq!(Url::parse("https://a_b.example/").unwrap().origin.port, 443);
    }

    #[test]
    fn joins_locations() {
        let url = Url::parse("https://a.example:5000/v2/x").unwrap();
        for (location, joined) in [
            ("/y?z=1", "https://a.example:5000/y"),
            ("//b.example/y", "https://b.example/y"),
            ("http://c.example/", "http://c.example/"),
        ] {
            assert_eq!(url.join(location).unwrap().to_string(), joined);
        }
        assert_eq!(url.join("y"), Err(UrlProblem::Form));
    }

    #[test]
    fn a_site_is_a_host_or_a_domain_of_two_labels() {
        let same = |a: &str, b: &str| {
            let origin = |host: &str| Origin { scheme: Scheme::Https, host: host.to_owned(), port: 443 };
            origin(a).is_same_site(&origin(b))
        };
        assert!(same("registry-1.docker.io", "auth.docker.io"));
        assert!(same("gitlab.example", "registry.gitlab.example"));
        assert!(same("localhost", "localhost"));
        for (a, b) in [
            ("ghcr.io", "evil.io"),
            ("10.0.0.1", "10.9.0.1"),
            ("localhost", "x.localhost"),
            ("a.example", "a.example.evil"),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }
}
