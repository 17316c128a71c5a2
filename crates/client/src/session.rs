//! The protocol without IO: each state is a type, each step takes a request out and an answer in.
//!
//! What it is: `begin` → [`Challenged`] → [`Attested`] → resources. What it is not: a transport or a retry policy.
//! Who trusts it: the courier; every answer is bounded and checked for shape here, for truth by the warden.

use casemate_protocol::Refusal;
use casemate_protocol::nonce::Nonce;
use casemate_protocol::rcar::{
    Challenge, ERROR_TYPE_PREFIX, ErrorInformation, Jwe, PATH_PREFIX, RCAR_VERSION, REQUEST_BYTES_MAX,
    Request, SESSION_COOKIE, TokenResponse, is_resource_path,
};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Cause, ClientError, InputError, Problem, Step};

/// Longest session cookie value in bytes.
pub const COOKIE_BYTES_MAX: usize = 128;
/// Rule of a refusal for which the broker named none.
pub const RULE_BROKER: &str = "broker";

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// What is under way.
    pub step: Step,
    /// Method.
    pub method: Method,
    /// Path, from the root.
    pub path: String,
    /// Value of the `Cookie` header.
    pub cookie: Option<String>,
    /// JSON body of a `POST`.
    pub body: Vec<u8>,
}

/// HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`.
    Get,
    /// `POST`.
    Post,
}

/// An answer, whole and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status.
    pub status: u16,
    /// Values of the `Set-Cookie` headers.
    pub set_cookie: Vec<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// The request that opens a session for evidence of kind `tee` (`tdx`, `snp`).
///
/// # Errors
/// [`ClientError::Protocol`] where it has no JSON form (it always has).
pub fn begin(tee: &str) -> Result<HttpRequest, ClientError> {
    let request = Request {
        version: RCAR_VERSION.into(),
        tee: tee.into(),
        extra_params: serde_json::json!({"supported-hash-algorithms": ["sha384"]}),
    };
    let body = serde_json::to_vec(&request).map_err(|_| problem(Step::Begin, Problem::Message))?;
    Ok(HttpRequest {
        step: Step::Begin,
        method: Method::Post,
        path: format!("{PATH_PREFIX}/auth"),
        cookie: None,
        body,
    })
}

/// A session with a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenged {
    cookie: String,
    nonce: Nonce,
}

impl Challenged {
    /// Takes the answer to [`begin`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn from_response(response: &HttpResponse) -> Result<Self, ClientError> {
        let step = Step::Begin;
        let challenge: Challenge = message(step, response)?;
        let nonce = challenge.nonce.parse().map_err(|_| problem(step, Problem::Nonce))?;
        let cookie = response.set_cookie.iter().find_map(|line| session_cookie(line));
        let cookie = cookie.ok_or_else(|| problem(step, Problem::Cookie))?;
        Ok(Self { cookie, nonce })
    }

    /// The broker's nonce.
    #[must_use]
    pub fn nonce(&self) -> &Nonce {
        &self.nonce
    }

    /// The request that carries `body`, the JSON of a [`casemate_protocol::rcar::Attestation`], sent as it is.
    ///
    /// # Errors
    /// [`InputError::TooLong`].
    pub fn attest(&self, body: Vec<u8>) -> Result<HttpRequest, ClientError> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(InputError::TooLong { found: body.len(), max: REQUEST_BYTES_MAX }.into());
        }
        Ok(HttpRequest {
            step: Step::Attest,
            method: Method::Post,
            path: format!("{PATH_PREFIX}/attest"),
            cookie: Some(cookie_header(&self.cookie)),
            body,
        })
    }

    /// Takes the answer to [`Challenged::attest`]. The challenge is spent either way.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn attested(self, response: &HttpResponse) -> Result<Attested, ClientError> {
        let TokenResponse { token } = message(Step::Attest, response)?;
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if token.split('.').count() != 3 || !token.split('.').all(plain) {
            return Err(problem(Step::Attest, Problem::Token));
        }
        Ok(Attested { cookie: self.cookie, token })
    }
}

/// A session whose evidence the broker affirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    cookie: String,
    token: String,
}

impl Attested {
    /// The attestation result, a JWT. Its signature is not checked here.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The request for a resource.
    ///
    /// # Errors
    /// [`InputError::Resource`].
    pub fn fetch(&self, resource: &str) -> Result<HttpRequest, ClientError> {
        if !is_resource_path(resource) {
            return Err(InputError::Resource.into());
        }
        Ok(HttpRequest {
            step: Step::Fetch,
            method: Method::Get,
            path: format!("{PATH_PREFIX}/resource/{resource}"),
            cookie: Some(cookie_header(&self.cookie)),
            body: Vec::new(),
        })
    }

    /// Takes the answer to [`Attested::fetch`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn resource(&self, response: &HttpResponse) -> Result<Jwe, ClientError> {
        message(Step::Fetch, response)
    }
}

/// Reads an answer: the message on 200, a refusal on 4xx, unavailable on 5xx.
fn message<T: DeserializeOwned>(step: Step, response: &HttpResponse) -> Result<T, ClientError> {
    match response.status {
        200 => serde_json::from_slice(&response.body).map_err(|_| problem(step, Problem::Message)),
        400..=499 => Err(ClientError::Refused(refusal(step, response)?)),
        status @ 500..=599 => {
            let detail = serde_json::from_slice::<ErrorInformation>(&response.body)
                .map_or_else(|_| String::from("no reason given"), |error| error.detail);
            let detail = Refusal::new(RULE_BROKER, "", detail).found;
            Err(ClientError::Unreachable { step, cause: Cause::Unavailable { status, detail } })
        }
        status => Err(problem(step, Problem::Status(status))),
    }
}

fn refusal(step: Step, response: &HttpResponse) -> Result<Refusal, ClientError> {
    // Parsed in two steps: a stock broker's error has no `refusal`, or another's has one of another shape.
    let value: Value = serde_json::from_slice(&response.body).map_err(|_| problem(step, Problem::Message))?;
    if let Some(refusal) = value.get("refusal")
        && let Ok(refusal) = Refusal::deserialize(refusal)
    {
        return Ok(refusal.cleaned());
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let (Some(kind), Some(detail)) = (text("type"), text("detail")) else {
        return Err(problem(step, Problem::Message));
    };
    let variant = kind.strip_prefix(ERROR_TYPE_PREFIX).unwrap_or(kind);
    Ok(Refusal::new(RULE_BROKER, "agreement of the broker", format_args!("{variant}: {detail}")))
}

fn problem(step: Step, problem: Problem) -> ClientError {
    ClientError::Protocol { step, problem }
}

fn session_cookie(set_cookie: &str) -> Option<String> {
    let pair = set_cookie.split(';').next()?;
    let (name, value) = pair.split_once('=')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let ok = name.trim() == SESSION_COOKIE
        && (1..=COOKIE_BYTES_MAX).contains(&value.trim().len())
        && value.trim().bytes().all(plain);
    ok.then(|| value.trim().to_owned())
}

fn cookie_header(value: &str) -> String {
    format!("{SESSION_COOKIE}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "r4zitDYpPMMKdtjaFQzIcp1MxUD4JwLAWmAznF3iU/8=";

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            set_cookie: vec!["kbs-session-id=1d9f; Expires=never".into()],
            body: body.as_bytes().to_vec(),
        }
    }

    fn challenged() -> Challenged {
        let body = format!(r#"{{"nonce":"{NONCE}","extra-params":""}}"#);
        Challenged::from_response(&answer(200, &body)).unwrap()
    }

    fn attested() -> Attested {
        challenged().attested(&answer(200, r#"{"token":"a.b.c"}"#)).unwrap()
    }

    #[test]
    fn goes_from_begin_to_a_resource_with_the_cookie_it_was_given() {
        let request = begin("tdx").unwrap();
        assert_eq!((request.path.as_str(), request.cookie), ("/kbs/v0/auth", None));
        let challenged = challenged();
        assert_eq!(challenged.nonce().as_str(), NONCE);
        let request = challenged.attest(b"{}".to_vec()).unwrap();
        assert_eq!(request.path, "/kbs/v0/attest");
        assert_eq!(request.cookie.as_deref(), Some("kbs-session-id=1d9f"));
        assert_eq!(request.body, b"{}");
        let attested = attested();
        assert_eq!(attested.token(), "a.b.c");
        let request = attested.fetch("desk/secret/key").unwrap();
        assert_eq!(request.path, "/kbs/v0/resource/desk/secret/key");
        assert_eq!(request.cookie.as_deref(), Some("kbs-session-id=1d9f"));
    }

    #[test]
    fn reports_the_rule_of_a_refusal_cleaned() {
        let body = r#"{"type":"t","detail":"d","refusal":{"rule":"nonce","expected":"a","found":"b\u001b"}}"#;
        let error = challenged().attested(&answer(403, body)).unwrap_err();
        assert_eq!(error, ClientError::Refused(Refusal::new("nonce", "a", "b\u{fffd}")));
    }

    #[test]
    fn makes_a_refusal_of_a_stock_error() {
        let body = format!(r#"{{"type":"{ERROR_TYPE_PREFIX}PolicyDeny","detail":"no"}}"#);
        for body in [body.clone(), body.replace('}', r#","refusal":7}"#)] {
            assert_eq!(
                attested().resource(&answer(403, &body)).unwrap_err(),
                ClientError::Refused(Refusal::new("broker", "agreement of the broker", "PolicyDeny: no"))
            );
        }
    }

    #[test]
    fn says_that_a_broker_with_an_inner_error_is_not_available() {
        let unavailable = |detail: &str| ClientError::Unreachable {
            step: Step::Fetch,
            cause: Cause::Unavailable { status: 503, detail: detail.into() },
        };
        let body = r#"{"type":"t","detail":"store is locked"}"#;
        assert_eq!(attested().resource(&answer(503, body)).unwrap_err(), unavailable("store is locked"));
        assert_eq!(attested().resource(&answer(503, "<html>")).unwrap_err(), unavailable("no reason given"));
    }

    #[test]
    fn refuses_answers_that_are_not_the_protocol() {
        let begin = |answer: HttpResponse| Challenged::from_response(&answer).unwrap_err();
        let wrong = |step, found| ClientError::Protocol { step, problem: found };
        assert_eq!(begin(answer(200, "{}")), wrong(Step::Begin, Problem::Message));
        assert_eq!(begin(answer(302, "")), wrong(Step::Begin, Problem::Status(302)));
        assert_eq!(begin(answer(401, "<html>")), wrong(Step::Begin, Problem::Message));
        assert_eq!(
            begin(answer(200, r#"{"nonce":"a b","extra-params":""}"#)),
            wrong(Step::Begin, Problem::Nonce)
        );
        for cookie in ["", "other=1", "kbs-session-id=", "kbs-session-id=a b", "kbs-session-id=\r\nX: y"] {
            let mut response = answer(200, r#"{"nonce":"12345678","extra-params":""}"#);
            response.set_cookie = vec![cookie.into()];
            assert_eq!(begin(response), wrong(Step::Begin, Problem::Cookie), "{cookie}");
        }
        for token in ["", "a.b", "a.b.c.d", "a..c", "a.b c.d", "a.b.c\n"] {
            let body = serde_json::json!({ "token": token }).to_string();
            let error = challenged().attested(&answer(200, &body)).unwrap_err();
            assert_eq!(error, wrong(Step::Attest, Problem::Token), "{token}");
        }
    }

    #[test]
    fn does_not_put_a_path_that_is_no_resource_on_the_wire() {
        for bad in ["../../admin/x", "a/b", "a/b/c?d", "a/b/c HTTP/1.1"] {
            assert_eq!(attested().fetch(bad), Err(ClientError::Input(InputError::Resource)), "{bad}");
        }
    }

    #[test]
    fn does_not_send_a_body_over_the_limit() {
        let error = challenged().attest(vec![0; REQUEST_BYTES_MAX + 1]).unwrap_err();
        let expected = InputError::TooLong { found: REQUEST_BYTES_MAX + 1, max: REQUEST_BYTES_MAX };
        assert_eq!(error, ClientError::Input(expected));
    }
}
