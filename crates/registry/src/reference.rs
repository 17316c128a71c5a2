//! Names of images at registries: `[HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST]`.
//!
//! The grammar is that of the OCI distribution specification 1.1 (section "Pulling manifests") with
//! the host in front; short names mean Docker Hub, as with every other tool. Strict: what is not
//! exactly of this form is refused with what is wrong.

use std::fmt;
use std::str::FromStr;

use casemate_canon::Sha256;

/// The registry of short names.
pub const DOCKER_HUB: &str = "docker.io";
/// Longest repository with its host, in bytes (distribution specification 1.1).
const NAME_BYTES_MAX: usize = 255;
/// Longest tag, in bytes (distribution specification 1.1).
const TAG_BYTES_MAX: usize = 128;
/// Longest reference that is looked at, in bytes.
const REFERENCE_BYTES_MAX: usize = 512;

/// The name of an image at a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Sha256>,
}

/// A text is not the name of an image at a registry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not an image reference: {problem}")]
pub struct ReferenceError {
    /// The text, printable and cut.
    pub found: String,
    /// What is wrong with it.
    pub problem: ReferenceProblem,
}

/// What is wrong with a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceProblem {
    /// Nothing, or nothing before `:` or `@`.
    #[error("it has no repository name")]
    NoName,
    /// Longer than a registry takes.
    #[error("it is longer than {limit_bytes} bytes")]
    TooLong {
        /// The limit.
        limit_bytes: usize,
    },
    /// It begins with `https://` or the like.
    #[error("it is a URL; a reference has no `://`")]
    Url,
    /// A repository in capitals.
    #[error("repository names have no capital letters")]
    Capitals,
    /// A part of the repository that is not one.
    #[error("`{part}` is not a part of a repository name")]
    Repository {
        /// The part.
        part: String,
    },
    /// A host or port that is not one.
    #[error("`{host}` is not a host name with an optional port")]
    Host {
        /// The host.
        host: String,
    },
    /// A tag that is not one.
    #[error("`{tag}` is not a tag")]
    Tag {
        /// The tag.
        tag: String,
    },
    /// A digest that is not 64 hexadecimal digits.
    #[error("`{digest}` is not `sha256:` and 64 hexadecimal digits in lower case")]
    Digest {
        /// The digest.
        digest: String,
    },
    /// A digest alone.
    #[error("a digest alone does not say which registry has it")]
    DigestAlone,
}

impl ReferenceError {
    /// What the user can do.
    #[must_use]
    pub fn todo(&self) -> &'static str {
        match self.problem {
            ReferenceProblem::Capitals => "write the repository in small letters",
            ReferenceProblem::Url => "leave out the scheme: `registry.example:5000/team/app:1.0`",
            ReferenceProblem::DigestAlone => "write the repository before it: `team/app@sha256:...`",
            _ => "write [HOST[:PORT]/]REPOSITORY[:TAG][@sha256:DIGEST], for example `python:3.12`",
        }
    }
}

impl Reference {
    /// The host as written, with its port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository: `library/python`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, where one was written; `latest` where neither tag nor digest was.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some("latest"),
        }
    }

    /// The digest, where one was written. It decides; a tag beside it is only kept.
    #[must_use]
    pub fn digest(&self) -> Option<&Sha256> {
        self.digest.as_ref()
    }

    /// What the registry is asked for: the digest or the tag.
    #[must_use]
    pub fn wanted(&self) -> String {
        match &self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag().unwrap_or_default().to_owned(),
        }
    }

    /// The name without tag and digest, pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: &Sha256) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|problem| ReferenceError { found: shown(text), problem })
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceProblem> {
    if text.len() > REFERENCE_BYTES_MAX {
        return Err(ReferenceProblem::TooLong { limit_bytes: REFERENCE_BYTES_MAX });
    }
    if text.contains("://") {
        return Err(ReferenceProblem::Url);
    }
    if text.starts_with("sha256:") && text.parse::<Sha256>().is_ok() {
        return Err(ReferenceProblem::DigestAlone);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let parsed = digest.parse().map_err(|_| ReferenceProblem::Digest { digest: shown(digest) })?;
            (rest, Some(parsed))
        }
        None => (text, None),
    };
    // A colon after the last slash begins a tag, one before it a port.
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
        return Err(ReferenceProblem::Tag { tag: shown(tag) });
    }
    if name.is_empty() {
        return Err(ReferenceProblem::NoName);
    }
    let (registry, repository) = split_host(name);
    if !is_host(registry) {
        return Err(ReferenceProblem::Host { host: shown(registry) });
    }
    let registry = match registry.to_ascii_lowercase() {
        hub if ["index.docker.io", "registry-1.docker.io"].contains(&hub.as_str()) => DOCKER_HUB.to_owned(),
        other => other,
    };
    let official = registry == DOCKER_HUB && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
    if registry.len().saturating_add(repository.len()) >= NAME_BYTES_MAX {
        return Err(ReferenceProblem::TooLong { limit_bytes: NAME_BYTES_MAX });
    }
    for part in repository.split('/') {
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceProblem::Capitals);
        }
        if !is_part(part) {
            return Err(ReferenceProblem::Repository { part: shown(part) });
        }
    }
    Ok(Reference { registry, repository, tag: tag.map(str::to_owned), digest })
}

/// The first part is a host where it has a dot or a port, or is `localhost`; capitals cannot be a repository.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, repository))
            if host.contains(['.', ':', '[']) || host == "localhost" || host.is_empty() =>
        {
            (host, repository)
        }
        _ => (DOCKER_HUB, name),
    }
}

/// `HOST[:PORT]`: a DNS name, an IPv4 address, or an IPv6 address in brackets.
pub(crate) fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            (None, if port.is_empty() { None } else { port.strip_prefix(':').or(Some("")) })
        }
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(text), None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let plain_number =
        |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port > 0);
    host.is_none_or(|host| host.split('.').all(label)) && port.is_none_or(plain_number)
}

/// Small letters and digits, separated by `.`, `_`, `__` or hyphens (distribution specification 1.1).
fn is_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut separator = String::new();
    let mut after_plain = false;
    for c in part.chars() {
        if c.is_ascii() && plain(c as u8) {
            let between = ["", ".", "_", "__"].contains(&separator.as_str());
            if !separator.is_empty() && !(after_plain && (between || separator.bytes().all(|b| b == b'-'))) {
                return false;
            }
            separator.clear();
            after_plain = true;
        } else if ".-_".contains(c) {
            separator.push(c);
        } else {
            return false;
        }
    }
    after_plain && separator.is_empty()
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(120).collect();
    casemate_protocol::refusal::printable_line(&cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_mean_docker_hub() {
        for (short, full) in [
            ("python", "docker.io/library/python:latest"),
            ("python:3.12", "docker.io/library/python:3.12"),
            ("grafana/grafana:11.0.0", "docker.io/grafana/grafana:11.0.0"),
            ("docker.io/python", "docker.io/library/python:latest"),
            ("index.docker.io/library/python:3", "docker.io/library/python:3"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("127.0.0.1:5000/a/b/c:v1_2-3", "127.0.0.1:5000/a/b/c:v1_2-3"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("[::1]/x", "[::1]/x:latest"),
            ("GHCR.io/team/app__x/y-z--a.b_c:1", "ghcr.io/team/app__x/y-z--a.b_c:1"),
            ("gcr.io/distroless/static", "gcr.io/distroless/static:latest"),
        ] {
            assert_eq!(short.parse::<Reference>().unwrap().to_string(), full);
            assert_eq!(full.parse::<Reference>().unwrap().to_string(), full, "a full name stays as it is");
        }
    }

    #[test]
    fn a_digest_decides_and_a_tag_beside_it_is_kept() {
        let both: Reference = format!("python:3.12@{DIGEST}").parse().unwrap();
        assert_eq!((both.tag(), both.wanted()), (Some("3.12"), DIGEST.to_owned()));
        assert_eq!(both.to_string(), format!("docker.io/library/python:3.12@{DIGEST}"));
        let digest: Reference = format!("localhost:5000/x@{DIGEST}").parse().unwrap();
        assert_eq!((digest.tag(), digest.wanted()), (None, DIGEST.to_owned()));
        assert_eq!(digest.pinned(digest.digest().unwrap()), format!("localhost:5000/x@{DIGEST}"));
    }

    #[test]
    fn says_what_is_wrong() {
        let problem = |text: &str| text.parse::<Reference>().unwrap_err().problem;
        for empty in ["", ":1", "@"] {
            assert!(
                matches!(problem(empty), ReferenceProblem::NoName | ReferenceProblem::Digest { .. }),
                "{empty}"
            );
        }
        assert_eq!(problem("https://ghcr.io/a/b"), ReferenceProblem::Url);
        assert_eq!(problem("team/App"), ReferenceProblem::Capitals);
        assert_eq!(problem(DIGEST), ReferenceProblem::DigestAlone);
        for host in [
            "-a.io/x",
            "a..io/x",
            "a.io:/x",
            "a.io:0/x",
            "a.io:65536/x",
            "a.io:+1/x",
            "/x",
            "[::g]/x",
            "[::1]5/x",
        ] {
            assert!(matches!(problem(host), ReferenceProblem::Host { .. }), "{host}");
        }
        for part in
            ["a//b", "a/", "a.io/", "a/.b", "a/b.", "a/-b", "a/b___c", "a/b.-c", "a/b..c", "a b", "ä", "a\n"]
        {
            assert!(matches!(problem(part), ReferenceProblem::Repository { .. }), "{part}");
        }
        let long_tag = format!("a:{}", "x".repeat(129));
        for tag in ["a:", "a:-b", "a:.b", "a:b c", "a:1:2:", &long_tag] {
            assert!(matches!(problem(tag), ReferenceProblem::Tag { .. }), "{tag}");
        }
        let upper = format!("a@{}", DIGEST.to_ascii_uppercase());
        for digest in ["a@", "a@sha256:00", "a@sha512:00", "a@b@c", upper.as_str()] {
            assert!(matches!(problem(digest), ReferenceProblem::Digest { .. }), "{digest}");
        }
        assert_eq!(problem(&"a".repeat(255)), ReferenceProblem::TooLong { limit_bytes: 255 });
        assert_eq!(problem(&"a".repeat(513)), ReferenceProblem::TooLong { limit_bytes: 512 });
        assert_eq!(
            "a\u{202e}b".parse::<Reference>().unwrap_err().to_string(),
            "`a\u{fffd}b` is not an image reference: `a\u{fffd}b` is not a part of a repository name"
        );
    }
}
