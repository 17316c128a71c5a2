//! Logging in: challenges (RFC 9110 section 11.6.1) and tokens (distribution specification, "Token
//! authentication").
//!
//! Credentials go to the registry itself, and to a token server of the same site over TLS. They never go to where a
//! redirect leads, and over plain HTTP to another machine only where the user named its host for that.

use std::collections::BTreeSet;

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::connect::{Connector, basic};
use crate::credentials::{Credential, secret};
use crate::error::{CredentialsSent, RegistryError, shortened};
use crate::http::{self, Request, Response};
use crate::limits::Limits;
use crate::url::{Origin, Scheme, Url, UrlProblem, percent_encoded};

/// Challenges of one answer that are looked at.
const CHALLENGES_MAX: usize = 8;
/// Parameters of one challenge.
const PARAMETERS_MAX: usize = 16;

/// How a server wants to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In small letters.
    pub(crate) scheme: String,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All that logging in needs to know.
pub(crate) struct Login<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) limits: &'a Limits,
    pub(crate) registry: &'a Origin,
    pub(crate) repository: &'a str,
    pub(crate) credential: Option<&'a Credential>,
    /// Token servers of other sites that the user allows, as `HOST[:PORT]`.
    pub(crate) token_servers: &'a BTreeSet<String>,
}

impl Login<'_> {
    /// Answers the challenge of a 401 with the value of an `Authorization` header.
    pub(crate) async fn answer(&self, denied: &mut Response) -> Result<Zeroizing<String>, RegistryError> {
        let challenges = challenges_of(denied);
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            return self.token(bearer, &denied.url).await;
        }
        let offers_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match self.credential {
            Some(Credential::Password { user, password }) if offers_basic => {
                Ok(Zeroizing::new(basic(user, password)))
            }
            _ => Err(self.denied(denied).await),
        }
    }

    /// The error that a 401 or 403 is.
    pub(crate) async fn denied(&self, response: &mut Response) -> RegistryError {
        let credentials = self.credentials_sent();
        let remark = response.remark(self.limits).await;
        RegistryError::Denied { url: response.url.to_string(), credentials, remark }
    }

    fn credentials_sent(&self) -> CredentialsSent {
        if self.credential.is_some() { CredentialsSent::Known } else { CredentialsSent::None }
    }

    async fn token(&self, challenge: &Challenge, asked: &Url) -> Result<Zeroizing<String>, RegistryError> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let bad = |expected| RegistryError::form(asked, expected, &format!("realm `{realm}`"));
        let url = Url::parse(realm).map_err(|problem| match problem {
            UrlProblem::Form => bad("a challenge with the URL of a token server"),
            UrlProblem::Scheme => bad("a challenge with an http or https token server"),
        })?;
        if url.origin.scheme == Scheme::Http && self.registry.scheme == Scheme::Https {
            return Err(RegistryError::Redirect {
                url: asked.to_string(),
                to: format!("a token server over plain HTTP, {}", url.origin),
            });
        }
        if self.credential.is_some() && !self.may_have_credentials(&url.origin) {
            return Err(RegistryError::ForeignTokenServer {
                registry: self.registry.authority(),
                server: url.origin.authority(),
            });
        }
        let mut response = self.ask_for_token(challenge, &url).await?;
        match response.status.as_u16() {
            200 => {}
            401 | 403 => return Err(self.denied(&mut response).await),
            status => {
                let remark = response.remark(self.limits).await;
                return Err(RegistryError::Status { url: url.to_string(), status, remark });
            }
        }
        let body = Zeroizing::new(response.collect("the token", self.limits.token_bytes_max).await?);
        read_token(&body).ok_or_else(|| RegistryError::form(&url, "JSON with a token", &excerpt(&response)))
    }

    async fn ask_for_token(&self, challenge: &Challenge, url: &Url) -> Result<Response, RegistryError> {
        let scope = self.scope(challenge);
        let service = challenge.parameter("service");
        let request =
            |authorization, form| Request { accept: "application/json", authorization, from: 0, form };
        if let Some(Credential::IdentityToken(token)) = self.credential {
            // OAuth 2 (RFC 6749 section 6), as the specification has it for identity tokens.
            let mut form = Zeroizing::new(format!(
                "grant_type=refresh_token&client_id=casemate&scope={}&refresh_token={}",
                percent_encoded(&scope),
                percent_encoded(token)
            ));
            if let Some(service) = service {
                form.push_str(&format!("&service={}", percent_encoded(service)));
            }
            return http::send(self.connector, url, request(None, Some(form)), self.limits).await;
        }
        let mut asked = url.clone();
        if let Some(service) = service {
            asked = asked.with_parameter("service", service);
        }
        asked = asked.with_parameter("scope", &scope);
        let authorization = match self.credential {
            Some(Credential::Password { user, password }) => Some(Zeroizing::new(basic(user, password))),
            _ => None,
        };
        http::send(self.connector, &asked, request(authorization, None), self.limits).await
    }

    /// Reading this repository and nothing else, whatever the challenge asks for. A scope that is not about a
    /// repository is the registry's own word for it.
    fn scope(&self, challenge: &Challenge) -> String {
        match challenge.parameter("scope") {
            Some(scope) if !scope.is_empty() && !scope.starts_with("repository:") => scope.to_owned(),
            _ => format!("repository:{}:pull", self.repository),
        }
    }

    fn may_have_credentials(&self, server: &Origin) -> bool {
        let named = [server.authority(), server.host.clone()];
        self.registry.is_same_site(server) || named.iter().any(|name| self.token_servers.contains(name))
    }
}

/// What the body is, for a message: its type, never its content, which may hold a token.
fn excerpt(response: &Response) -> String {
    format!("content of type `{}`", shortened(response.header("content-type").unwrap_or("unknown")))
}

/// `token` or `access_token`, as a `Bearer` header.
fn read_token(body: &[u8]) -> Option<Zeroizing<String>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default, deserialize_with = "secret")]
        token: Zeroizing<String>,
        #[serde(default, deserialize_with = "secret")]
        access_token: Zeroizing<String>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let token = if answer.token.is_empty() { answer.access_token } else { answer.token };
    let plain = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Zeroizing::new(format!("Bearer {}", token.as_str())))
}

/// All challenges of an answer. What cannot be read is left out.
fn challenges_of(response: &Response) -> Vec<Challenge> {
    let values = response.headers.get_all("www-authenticate");
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(parse_challenges).take(CHALLENGES_MAX).collect()
}

/// `SCHEME name=value, name="value", SCHEME …`
pub(crate) fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = text;
    while found.len() <= CHALLENGES_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (word, after) = split_word(rest);
        if word.is_empty() {
            break;
        }
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
            rest = after;
            continue;
        };
        let Some((value, after)) = split_value(value.trim_start_matches([' ', '\t'])) else { break };
        let Some(challenge) = found.last_mut() else { break };
        if challenge.parameters.len() < PARAMETERS_MAX {
            challenge.parameters.push((word.to_ascii_lowercase(), value));
        }
        rest = after;
    }
    found
}

/// A token of RFC 9110 section 5.6.2 and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !is_word(c)).unwrap_or(text.len()))
}

/// A token or a quoted string, and what follows it.
fn split_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (word, after) = split_word(text);
        return (!word.is_empty()).then(|| (word.to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, quoted.get(at.saturating_add(1)..)?)),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_challenges() {
        let found = parse_challenges(
            r#"Basic realm="a, b", bearer Realm="https://auth/\"x\"",service=reg.example , scope="repository:a:pull,push""#,
        );
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].scheme.as_str(), found[0].parameter("realm")), ("basic", Some("a, b")));
        assert_eq!(found[1].scheme, "bearer");
        assert_eq!(found[1].parameter("realm"), Some(r#"https://auth/"x""#));
        assert_eq!(found[1].parameter("service"), Some("reg.example"));
        assert_eq!(found[1].parameter("scope"), Some("repository:a:pull,push"));
    }

    #[test]
    fn broken_challenges_end_where_they_break() {
        assert_eq!(parse_challenges("").len(), 0);
        assert_eq!(parse_challenges("realm=x").len(), 0);
        assert_eq!(parse_challenges("=x").len(), 0);
        assert_eq!(parse_challenges("Negotiate").len(), 1);
        let open = parse_challenges("Bearer realm=\"https://a");
        assert_eq!((open.len(), open[0].parameter("realm")), (1, None));
        assert!(parse_challenges(&"a ".repeat(10_000)).len() <= CHALLENGES_MAX + 1);
    }

    #[test]
    fn reads_tokens_that_a_header_can_carry() {
        let token = |text: &str| read_token(text.as_bytes()).map(|token| token.as_str().to_owned());
        assert_eq!(token(r#"{"token":"a","access_token":"b"}"#), Some("Bearer a".into()));
        assert_eq!(token(r#"{"token":"","access_token":"b"}"#), Some("Bearer b".into()));
        for bad in [r#"{"token":"a\r\nx: y"}"#, r#"{"token":""}"#, "{}", "<html>", "[]", r#"{"token":1}"#] {
            assert_eq!(token(bad), None, "{bad}");
        }
    }
}
