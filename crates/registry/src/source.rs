//! One place that an image can come from: a registry or a mirror. Follows redirects, logs in, and tries again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::auth::Login;
use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::http::{self, Request, Response};
use crate::pull::Client;
use crate::reference::{DOCKER_HUB, Reference};
use crate::url::{Origin, Scheme, Url, UrlProblem};

/// Media types of documents that are asked for, in the order of preference (image specification 1.1, and Docker's
/// image manifest version 2, schema 2).
pub(crate) const MANIFEST_TYPES: [(&str, Kind); 4] = [
    ("application/vnd.oci.image.index.v1+json", Kind::Index),
    ("application/vnd.oci.image.manifest.v1+json", Kind::Manifest),
    ("application/vnd.docker.distribution.manifest.list.v2+json", Kind::Index),
    ("application/vnd.docker.distribution.manifest.v2+json", Kind::Manifest),
];

/// Where the API of Docker Hub is.
const DOCKER_HUB_API: &str = "registry-1.docker.io";

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Index,
    Manifest,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Index => "an index",
            Self::Manifest => "a manifest",
        }
    }
}

/// A registry or mirror, and the repository there.
pub(crate) struct Source<'a> {
    client: &'a Client,
    origin: Origin,
    repository: String,
    /// As shown: `docker.io`, `mirror.example`.
    pub(crate) name: String,
    credential: Option<Credential>,
    authorization: Mutex<Option<Zeroizing<String>>>,
}

/// A manifest or index as it came.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) kind: Kind,
    /// What the registry says the digest is.
    pub(crate) digest_header: Option<String>,
    pub(crate) url: Url,
}

impl<'a> Source<'a> {
    /// The registry of the reference itself.
    pub(crate) async fn registry(client: &'a Client, reference: &Reference) -> Result<Self, RegistryError> {
        // Docker Hub's API is at another host than its name.
        let host = match reference.registry() {
            DOCKER_HUB => DOCKER_HUB_API,
            other => other,
        };
        let plain = origin_of(Scheme::Http, host)?;
        let tls = origin_of(Scheme::Https, host)?;
        let origin = if client.connector.is_listed(&plain)
            || (plain.is_loopback() && !client.connector.speaks_tls(&tls).await)
        {
            plain
        } else {
            tls
        };
        Self::new(client, origin, reference.repository().to_owned(), reference.registry())
    }

    /// A mirror of it.
    pub(crate) fn mirror(
        client: &'a Client,
        url: &Url,
        reference: &Reference,
    ) -> Result<Self, RegistryError> {
        let prefix = url.target.trim_matches('/');
        let repository = match prefix {
            "" => reference.repository().to_owned(),
            prefix => format!("{prefix}/{}", reference.repository()),
        };
        Self::new(client, url.origin.clone(), repository, &url.origin.authority())
    }

    fn new(
        client: &'a Client,
        origin: Origin,
        repository: String,
        name: &str,
    ) -> Result<Self, RegistryError> {
        let credential = client.docker_config.find(name, &client.limits)?;
        Ok(Self {
            client,
            origin,
            repository,
            name: name.to_owned(),
            credential,
            authorization: Mutex::new(None),
        })
    }

    /// Fetches a manifest or index by tag or digest.
    pub(crate) async fn manifest(&self, wanted: &str) -> Result<Fetched, RegistryError> {
        let mut attempt = 1;
        loop {
            let error = match self.manifest_once(wanted).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            self.wait_before_retry(&error, attempt).await.ok_or(error)?;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn manifest_once(&self, wanted: &str) -> Result<Fetched, RegistryError> {
        let accept = MANIFEST_TYPES.map(|(name, _)| name).join(", ");
        let url = self.url(&format!("manifests/{wanted}"));
        let mut response = self.get(&url, &accept, 0).await?;
        let media_type = response.header("content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let known = MANIFEST_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&media_type));
        let Some((_, kind)) = known else {
            let expected = "an OCI or Docker (schema 2) image manifest";
            return Err(RegistryError::form(&url, expected, &format!("its type is `{media_type}`")));
        };
        let bytes = response.collect("the manifest", self.client.limits.manifest_bytes_max).await?;
        let digest_header = response.header("docker-content-digest").map(str::to_owned);
        Ok(Fetched { bytes, kind: *kind, digest_header, url })
    }

    /// Begins to fetch a blob from the byte `from` on.
    pub(crate) async fn blob(&self, digest: &str, from: u64) -> Result<Response, RegistryError> {
        self.get(&self.url(&format!("blobs/{digest}")), "application/octet-stream, */*;q=0.5", from).await
    }

    /// Waits, and says nothing where it is no use to try again.
    pub(crate) async fn wait_before_retry(&self, error: &RegistryError, attempt: u32) -> Option<()> {
        let limits = &self.client.limits;
        if attempt >= limits.attempts_max {
            return None;
        }
        let doubled = limits.retry_ms_min.saturating_mul(1_u64.checked_shl(attempt.min(16))? / 2);
        let wait_ms = match error {
            RegistryError::TooManyRequests { wait_s: Some(wait_s), .. } => wait_s.saturating_mul(1000),
            RegistryError::TooManyRequests { wait_s: None, .. } => doubled,
            error if error.is_transient() => doubled.min(limits.retry_ms_max),
            _ => return None,
        };
        if wait_ms > limits.retry_ms_max {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        Some(())
    }

    fn url(&self, rest: &str) -> Url {
        Url { origin: self.origin.clone(), target: format!("/v2/{}/{rest}", self.repository) }
    }

    /// Asks until there is content or an error: redirects are followed, one challenge is answered.
    async fn get(&self, asked: &Url, accept: &str, from: u64) -> Result<Response, RegistryError> {
        let limits = &self.client.limits;
        let mut url = asked.clone();
        let mut redirects = 0;
        let mut logged_in = false;
        loop {
            let at_registry = url.origin == self.origin;
            let authorization = if at_registry { self.authorization() } else { None };
            let request = Request { accept, authorization, from, form: None };
            let mut response = http::send(&self.client.connector, &url, request, limits).await?;
            match response.status.as_u16() {
                200 | 206 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    redirects += 1;
                    url = self.follow(&response, redirects)?;
                }
                401 if !at_registry => {
                    return Err(RegistryError::ForeignChallenge {
                        url: url.to_string(),
                        registry: self.origin.authority(),
                    });
                }
                401 if !logged_in => {
                    logged_in = true;
                    let answer = self.login().answer(&mut response).await?;
                    *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
                    url = asked.clone();
                    redirects = 0;
                }
                401 | 403 => return Err(self.login().denied(&mut response).await),
                404 => {
                    let remark = response.remark(limits).await;
                    return Err(RegistryError::NotFound { url: url.to_string(), remark });
                }
                429 => {
                    let wait_s = response.header("retry-after").and_then(|text| text.trim().parse().ok());
                    return Err(RegistryError::TooManyRequests { url: url.to_string(), wait_s });
                }
                status => {
                    let remark = response.remark(limits).await;
                    return Err(RegistryError::Status { url: url.to_string(), status, remark });
                }
            }
        }
    }

    /// Where a redirect leads, if it may be followed. Credentials are no matter here: they go to the registry's own
    /// scheme, host and port alone.
    fn follow(&self, response: &Response, redirects: u32) -> Result<Url, RegistryError> {
        let from = &response.url;
        let refused = |to: String| RegistryError::Redirect { url: from.to_string(), to };
        if redirects > self.client.limits.redirects_max {
            return Err(refused(format!("yet another place, after {} others", redirects.saturating_sub(1))));
        }
        let location = response.header("location").ok_or_else(|| refused("nowhere".to_owned()))?;
        let to = from.join(location).map_err(|problem| {
            let scheme = location.split(':').next().unwrap_or_default();
            refused(match problem {
                UrlProblem::Form => "something that is no address".to_owned(),
                UrlProblem::Scheme => {
                    format!("`{}:`, which is not http or https", crate::error::shortened(scheme))
                }
            })
        })?;
        if from.origin.scheme == Scheme::Https && to.origin.scheme == Scheme::Http {
            return Err(refused(format!("{}, from TLS to plain HTTP", to.origin)));
        }
        Ok(to)
    }

    fn login(&self) -> Login<'_> {
        Login {
            connector: &self.client.connector,
            limits: &self.client.limits,
            registry: &self.origin,
            repository: &self.repository,
            credential: self.credential.as_ref(),
            token_servers: &self.client.token_servers,
        }
    }

    fn authorization(&self) -> Option<Zeroizing<String>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) fn origin_of(scheme: Scheme, host: &str) -> Result<Origin, RegistryError> {
    Url::parse(&format!("{}://{host}", scheme.name())).map(|url| url.origin).map_err(|_| {
        RegistryError::Setting {
            what: "host",
            found: crate::error::shortened(host),
            problem: "is not a host name with an optional port",
        }
    })
}
