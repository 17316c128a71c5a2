//! Credentials that `docker login`, `podman login` or `skopeo login` left: Docker's `config.json` and the helper
//! programs that it names.
//!
//! What it is not: a store. Nothing is written, and a registry that the file does not name gets nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::error::RegistryError;
use crate::limits::{DOCKER_CONFIG_BYTES_MAX, HELPER_BYTES_MAX, Limits};
use crate::reference::DOCKER_HUB;

/// The key of Docker Hub in the file.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name with which helpers mark an identity token.
const TOKEN_USER: &str = "<token>";

/// What proves to a registry who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// An OAuth 2 refresh token.
    IdentityToken(Zeroizing<String>),
}

/// Docker's `config.json`, as far as it is about credentials.
#[derive(Default)]
pub struct DockerConfig {
    path: PathBuf,
    file: File,
    search: Option<std::ffi::OsString>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    creds_store: String,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
struct Entry {
    #[serde(default, deserialize_with = "secret")]
    auth: Zeroizing<String>,
    #[serde(default)]
    username: String,
    #[serde(default, deserialize_with = "secret")]
    password: Zeroizing<String>,
    #[serde(default, deserialize_with = "secret")]
    identitytoken: Zeroizing<String>,
}

/// A text that does not stay in memory.
pub(crate) fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

impl DockerConfig {
    /// No credentials at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The file at `path`; nothing where there is none.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`] where it cannot be read: what it says must not be skipped silently.
    pub fn load(path: &Path) -> Result<Self, RegistryError> {
        let bad = |problem: String| RegistryError::Credentials { from: path.display().to_string(), problem };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::none()),
            Err(error) => return Err(bad(error.kind().to_string())),
        };
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(bad("not a file".to_owned()));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        file.take(DOCKER_CONFIG_BYTES_MAX.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| bad(error.kind().to_string()))?;
        if bytes.len() as u64 > DOCKER_CONFIG_BYTES_MAX {
            return Err(bad(format!("more than {DOCKER_CONFIG_BYTES_MAX} bytes")));
        }
        // The parser's own message may quote a secret; its place does not.
        let file = serde_json::from_slice(&bytes)
            .map_err(|error| bad(format!("not Docker's JSON at {}:{}", error.line(), error.column())))?;
        Ok(Self { path: path.to_owned(), file, search: None })
    }

    /// Looks for helpers in these directories (as in `PATH`) and nowhere else.
    #[must_use]
    pub fn with_search_path(mut self, search: std::ffi::OsString) -> Self {
        self.search = Some(search);
        self
    }

    /// The credential for a registry, by its name as in a reference: that of its helper, of the common helper, or of
    /// the file. Runs at most one program.
    ///
    /// # Errors
    /// [`RegistryError::Credentials`].
    pub fn find(&self, registry: &str, limits: &Limits) -> Result<Option<Credential>, RegistryError> {
        let key = if registry == DOCKER_HUB { DOCKER_HUB_KEY } else { registry };
        let own = [key, registry].iter().find_map(|key| self.file.cred_helpers.get(*key));
        let helper = own.unwrap_or(&self.file.creds_store);
        if !helper.is_empty()
            && let Some(credential) = self.ask_helper(helper, key, limits)?
        {
            return Ok(Some(credential));
        }
        let entry = self.file.auths.iter().find(|(name, _)| is_for(name, registry));
        match entry {
            Some((name, entry)) => self.read_entry(name, entry),
            None => Ok(None),
        }
    }

    fn read_entry(&self, name: &str, entry: &Entry) -> Result<Option<Credential>, RegistryError> {
        if !entry.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(entry.identitytoken.clone())));
        }
        if !entry.username.is_empty() {
            return Ok(Some(Credential::Password {
                user: entry.username.clone(),
                password: entry.password.clone(),
            }));
        }
        if entry.auth.is_empty() {
            // With a helper, the file names registries without credentials.
            return Ok(None);
        }
        let decoded = BASE64_STANDARD.decode(entry.auth.as_bytes()).map(Zeroizing::new).ok();
        let text = decoded.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        match text.and_then(|text| text.split_once(':')) {
            Some((user, password)) => Ok(Some(Credential::Password {
                user: user.to_owned(),
                // Old versions of Docker end it with zero bytes.
                password: Zeroizing::new(password.trim_end_matches('\0').to_owned()),
            })),
            None => Err(RegistryError::Credentials {
                from: self.path.display().to_string(),
                problem: format!(
                    "`auth` of `{}` is not USER:PASSWORD in base64",
                    crate::error::shortened(name)
                ),
            }),
        }
    }

    /// Runs `docker-credential-HELPER get`, the protocol of docker-credential-helpers: the registry on standard
    /// input, JSON on standard output.
    fn ask_helper(
        &self,
        helper: &str,
        key: &str,
        limits: &Limits,
    ) -> Result<Option<Credential>, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            #[serde(default)]
            username: String,
            #[serde(default, deserialize_with = "secret")]
            secret: Zeroizing<String>,
        }
        let program = format!("docker-credential-{helper}");
        let bad = |problem: &str| RegistryError::Credentials {
            from: crate::error::shortened(&program),
            problem: problem.to_owned(),
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !helper.bytes().all(plain) {
            return Err(bad("not the name of a program"));
        }
        let path = self.find_program(&program).ok_or_else(|| {
            bad(&format!("{} names this program, which is not in PATH", self.path.display()))
        })?;
        let (succeeded, output) = run_helper(&path, key, limits).map_err(|problem| bad(&problem))?;
        if !succeeded {
            // The protocol's word for it; anything else is a failure that must be seen.
            let said = String::from_utf8_lossy(&output);
            return if said.contains("credentials not found") {
                Ok(None)
            } else {
                Err(bad(&format!("failed: {}", crate::error::shortened(&said))))
            };
        }
        let answer: Answer =
            serde_json::from_slice(&output).map_err(|_| bad("answered something else than JSON"))?;
        Ok(match answer {
            Answer { secret, .. } if secret.is_empty() => None,
            Answer { username, secret } if username == TOKEN_USER => Some(Credential::IdentityToken(secret)),
            Answer { username, secret } => Some(Credential::Password { user: username, password: secret }),
        })
    }

    fn find_program(&self, program: &str) -> Option<PathBuf> {
        let search = self.search.clone().or_else(|| std::env::var_os("PATH"))?;
        std::env::split_paths(&search)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(program))
            .find(|path| path.is_file())
    }
}

/// Whether a key of `auths` is about the registry: its name, or a URL of it without a path but the API's version.
fn is_for(key: &str, registry: &str) -> bool {
    if registry == DOCKER_HUB {
        return [DOCKER_HUB_KEY, "index.docker.io", DOCKER_HUB].contains(&key);
    }
    let host = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = host.trim_end_matches('/');
    let host = host.strip_suffix("/v1").or_else(|| host.strip_suffix("/v2")).unwrap_or(host);
    host.eq_ignore_ascii_case(registry)
}

/// Whether it succeeded, and what it wrote. It is killed when its time is up.
fn run_helper(path: &Path, key: &str, limits: &Limits) -> Result<(bool, Zeroizing<Vec<u8>>), String> {
    const POLL: Duration = Duration::from_millis(5);
    let mut child = Command::new(path)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("does not start: {}", error.kind()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read has its reasons; its answer decides.
        let _ = stdin.write_all(key.as_bytes());
    }
    let Some(stdout) = child.stdout.take() else { return Err("has no output".to_owned()) };
    let reader = std::thread::spawn(move || {
        let mut output = Zeroizing::new(Vec::new());
        let read = stdout.take(HELPER_BYTES_MAX.saturating_add(1)).read_to_end(&mut output);
        read.map(|_| output)
    });
    let deadline = Instant::now() + Duration::from_millis(limits.helper_ms_max);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
            Ok(None) | Err(_) => break None,
        }
    };
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("gave no answer within {} ms", limits.helper_ms_max));
    };
    // A grandchild may keep the pipe open; what there is by the deadline counts.
    while !reader.is_finished() {
        if Instant::now() >= deadline {
            return Err(format!("gave no answer within {} ms", limits.helper_ms_max));
        }
        std::thread::sleep(POLL);
    }
    match reader.join() {
        Ok(Ok(output)) if output.len() as u64 <= HELPER_BYTES_MAX => Ok((status.success(), output)),
        Ok(Ok(_)) => Err(format!("wrote more than {HELPER_BYTES_MAX} bytes")),
        _ => Err("cannot be read".to_owned()),
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
