//! Proxies of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either spelling.
//!
//! As with curl, the variable for plain HTTP counts in small letters only: a web server hands a client's
//! `Proxy` header to its children as `HTTP_PROXY`. This machine is never reached through a proxy.

use std::fmt;
use std::net::IpAddr;

use crate::connect::basic;
use crate::error::RegistryError;
use crate::reference::is_host;
use crate::url::{Origin, Scheme};

/// A proxy.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    credentials: Option<(String, String)>,
}

/// Which proxy is for whom.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    /// Hosts and domains that are reached directly; `*` is all.
    direct: Vec<String>,
}

impl Proxies {
    /// No proxy for anybody.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What the environment says, as `lookup` gives its variables.
    ///
    /// # Errors
    /// [`RegistryError::Setting`] where a variable that would be used names no proxy that can be.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, RegistryError> {
        let find = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                let value = lookup(name).filter(|value| !value.trim().is_empty())?;
                Some((*name, value))
            })
        };
        let proxy = |names: &[&'static str]| {
            find(names).map(|(name, value)| Proxy::parse(name, value.trim())).transpose()
        };
        let direct = find(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
        Ok(Self {
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            direct: direct
                .split([',', ' '])
                .map(|entry| entry.trim().trim_start_matches('.').to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        })
    }

    pub(crate) fn of(&self, origin: &Origin) -> Option<&Proxy> {
        let proxy = match origin.scheme {
            Scheme::Https => self.https.as_ref(),
            Scheme::Http => self.http.as_ref(),
        };
        proxy.filter(|_| !origin.is_loopback() && !self.is_direct(origin))
    }

    fn is_direct(&self, origin: &Origin) -> bool {
        self.direct.iter().any(|entry| {
            let (entry, port) = match entry.rsplit_once(':') {
                Some((name, port)) if !name.contains(':') => (name, port.parse::<u16>().ok()),
                _ => (entry.as_str(), None),
            };
            if port.is_some_and(|port| port != origin.port) {
                return false;
            }
            let below = || origin.host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'));
            entry == "*" || origin.host == entry || below() || is_in_network(&origin.host, entry)
        })
    }
}

/// Whether the address is in `NETWORK/BITS`.
fn is_in_network(host: &str, network: &str) -> bool {
    let Some((network, bits)) = network.split_once('/') else { return false };
    let (Ok(host), Ok(network), Ok(bits)) =
        (host.parse::<IpAddr>(), network.parse::<IpAddr>(), bits.parse::<u32>())
    else {
        return false;
    };
    match (host, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            bits <= 32
                && (a.to_bits() ^ b.to_bits()).checked_shr(32_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            bits <= 128
                && (a.to_bits() ^ b.to_bits()).checked_shr(128_u32.saturating_sub(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl Proxy {
    fn parse(variable: &'static str, text: &str) -> Result<Self, RegistryError> {
        // The text may hold a password, which stays out of the message.
        let bad = |problem| {
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            RegistryError::Setting { what: variable, found: crate::error::shortened(shown), problem }
        };
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err(bad("is not a proxy that is asked over http: not supported")),
            None => text,
        };
        let rest = rest.trim_end_matches('/');
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                (Some((percent_decoded(user), percent_decoded(password))), authority)
            }
            None => (None, rest),
        };
        if !is_host(authority) {
            return Err(bad("is not the address of a proxy"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (authority, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { host, port: port.unwrap_or(80), credentials })
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.credentials.as_ref().map(|(user, password)| basic(user, password))
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `%XX` replaced by what it stands for; what is no such sequence stays.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.split_at_checked(2).and_then(|(digits, after)| {
            let digits =
                std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        match digits {
            Some((byte, after)) if *first == b'%' => {
                out.push(byte);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, RegistryError> {
        Proxies::from_environment(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn origin(url: &str) -> Origin {
        crate::url::Url::parse(url).unwrap().origin
    }

    #[test]
    fn finds_the_proxy_of_a_host() {
        let of = proxies(&[
            ("HTTPS_PROXY", "http://user:p%40ss@proxy.example:3128/"),
            ("http_proxy", "plain.example"),
            ("NO_PROXY", "direct.example, .inner.example,10.0.0.0/8,port.example:5000"),
        ])
        .unwrap();
        let https = of.of(&origin("https://ghcr.io/")).unwrap();
        assert_eq!(https.to_string(), "proxy.example:3128");
        assert_eq!(https.authorization().unwrap(), basic("user", "p@ss"));
        assert_eq!(of.of(&origin("http://ghcr.io/")).unwrap().to_string(), "plain.example:80");
        assert!(of.of(&origin("https://port.example/")).is_some());
        for direct in [
            "https://direct.example",
            "https://a.direct.example",
            "https://inner.example",
            "https://a.inner.example",
            "https://10.200.0.1",
            "https://port.example:5000",
            "https://localhost:5000",
            "http://127.0.0.1:5000",
            "https://[::1]",
        ] {
            assert!(of.of(&origin(direct)).is_none(), "{direct}");
        }
        assert!(of.of(&origin("https://undirect.example")).is_some());
        let none = proxies(&[("ALL_PROXY", "p.example:1"), ("no_proxy", "*")]).unwrap();
        assert!(none.of(&origin("https://ghcr.io/")).is_none());
        // A web server's child may get this one from a stranger.
        assert!(proxies(&[("HTTP_PROXY", "evil.example")]).unwrap().http.is_none());
    }

    #[test]
    fn refuses_proxies_that_it_cannot_use_and_keeps_their_password() {
        for bad in ["socks5://p.example:1080", "https://p.example", "http://u:secret@p example", "http://"] {
            let error = proxies(&[("https_proxy", bad)]).err().unwrap();
            assert!(matches!(error, RegistryError::Setting { what: "https_proxy", .. }), "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
