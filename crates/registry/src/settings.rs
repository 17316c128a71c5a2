//! What the user says about registries.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::credentials::DockerConfig;
use crate::error::{RegistryError, shortened};
use crate::limits::Limits;
use crate::proxy::Proxies;
use crate::reference::{DOCKER_HUB, is_host};
use crate::url::{Scheme, Url};

/// Settings of a client.
pub struct Settings {
    /// Asked before the registry itself, in this order.
    pub mirrors: Vec<Mirror>,
    /// Hosts, with or without a port, that are asked over plain HTTP. Whoever is on the way there reads and changes
    /// what is asked.
    pub plain_hosts: BTreeSet<String>,
    /// Token servers of other sites that may have a registry's credentials, as `HOST[:PORT]`.
    pub token_servers: BTreeSet<String>,
    /// Certificates of further authorities, in PEM, beside those of the web.
    pub anchors: Option<Vec<u8>>,
    /// Proxies.
    pub proxies: Proxies,
    /// Credentials.
    pub docker_config: DockerConfig,
    /// Limits.
    pub limits: Limits,
}

impl Settings {
    /// Without mirrors, proxies, credentials or exceptions.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            mirrors: Vec::new(),
            plain_hosts: BTreeSet::new(),
            token_servers: BTreeSet::new(),
            anchors: None,
            proxies: Proxies::none(),
            docker_config: DockerConfig::none(),
            limits: Limits::STANDARD,
        }
    }
}

/// A host that has images of a registry: `[REGISTRY=]URL`. The path of the URL stands before the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The registry that it mirrors.
    pub(crate) of: String,
    pub(crate) url: Url,
}

impl FromStr for Mirror {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let bad = |problem| RegistryError::Setting { what: "mirror", found: shortened(text), problem };
        let (of, url) = match text.split_once('=') {
            Some((of, url)) if !of.contains('/') => (of, url),
            _ => (DOCKER_HUB, text),
        };
        if !is_host(of) {
            return Err(bad("does not begin with the host of a registry"));
        }
        let url = Url::parse(url).map_err(|_| bad("has no URL that begins with https:// or http://"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
        if !url.target.bytes().all(plain) {
            return Err(bad("has a path that cannot stand before a repository"));
        }
        if url.target.split('/').any(|part| part == "..") {
            return Err(bad("has a path that climbs"));
        }
        Ok(Self { of: of.to_ascii_lowercase(), url })
    }
}

/// A host with an optional port, in small letters.
///
/// # Errors
/// [`RegistryError::Setting`].
pub fn parse_host(text: &str) -> Result<String, RegistryError> {
    if !is_host(text) {
        return Err(RegistryError::Setting {
            what: "host",
            found: shortened(text),
            problem: "is not a host name with an optional port",
        });
    }
    // As addresses are compared: without brackets where there is no port.
    let origin = crate::source::origin_of(Scheme::Http, text)?;
    Ok(if origin.port == 80 { origin.host } else { origin.authority() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mirrors() {
        let mirror: Mirror = "https://Mirror.example:5000/hub/".parse().unwrap();
        assert_eq!((mirror.of.as_str(), mirror.url.target.as_str()), ("docker.io", "/hub/"));
        let mirror: Mirror = "ghcr.io=http://10.0.0.1".parse().unwrap();
        assert_eq!((mirror.of.as_str(), mirror.url.to_string().as_str()), ("ghcr.io", "http://10.0.0.1/"));
        for bad in
            ["", "mirror.example", "x y=https://a", "ghcr.io=", "https://a/?x=1", "https://a/../b", "ftp://a"]
        {
            assert!(
                matches!(bad.parse::<Mirror>(), Err(RegistryError::Setting { what: "mirror", .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn reads_hosts() {
        for (text, host) in
            [("A.example", "a.example"), ("a:5000", "a:5000"), ("[::1]:5000", "[::1]:5000"), ("[::1]", "::1")]
        {
            assert_eq!(parse_host(text).unwrap(), host);
        }
        for bad in ["", "http://a", "a/b", "a:x", "::1"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }
}
