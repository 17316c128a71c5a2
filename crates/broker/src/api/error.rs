//! How a request fails: the one mapping to status, `type`, `detail` and `refusal`.
//!
//! What it is: the error shape of the key-broker protocol; every non-200 answer has it, because stock clients parse
//! it always. 401 means "attest (again)", 403 "refused by a rule", 404 "nothing there". What it is not: the story,
//! which goes to the local log. Who trusts it: clients, as far as they trust this broker.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use casemate_protocol::Refusal;
use casemate_protocol::rcar::{ERROR_TYPE_PREFIX, ErrorInformation};

use crate::store::StoreError;

/// Rule of the refusal of what is permitted and not there.
const RULE_STORED: &str = "secret.stored";

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// The request is malformed.
    Malformed {
        /// What is wrong, in our words.
        what: &'static str,
    },
    /// The body is too long.
    TooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// Not attested, or not any more.
    Unauthenticated {
        /// What is missing, in our words.
        what: &'static str,
    },
    /// Refused by a rule.
    Refused(Refusal),
    /// Permitted, but nothing is stored there.
    NoResource {
        /// The path.
        resource: String,
    },
    /// Not a route.
    NoRoute,
    /// Not a method of the route.
    Method,
    /// A limit is reached.
    TooMany {
        /// Which, in our words.
        what: &'static str,
    },
    /// The broker cannot serve now.
    Unavailable {
        /// Why, in our words.
        what: &'static str,
    },
}

impl ApiError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed { .. } => StatusCode::BAD_REQUEST,
            Self::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Self::Refused(_) => StatusCode::FORBIDDEN,
            Self::NoResource { .. } | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn information(self) -> ErrorInformation {
        let (variant, detail, refusal) = match self {
            Self::Malformed { what } => ("MalformedRequest", what.to_owned(), None),
            Self::TooLong { max } => ("PayloadTooLarge", format!("body of more than {max} bytes"), None),
            Self::Unauthenticated { what } => ("TokenNotFound", what.to_owned(), None),
            Self::Refused(refusal) => ("PolicyDeny", refusal.to_string(), Some(refusal)),
            Self::NoResource { resource } => (
                "ResourceNotFound",
                format!("nothing is stored under {resource}"),
                Some(Refusal::new(RULE_STORED, format_args!("a secret under {resource}"), "nothing")),
            ),
            Self::NoRoute => ("InvalidRequestPath", "no such path".to_owned(), None),
            Self::Method => ("InvalidRequestMethod", "no such method for this path".to_owned(), None),
            Self::TooMany { what } => ("TooManyRequests", what.to_owned(), None),
            Self::Unavailable { what } => ("Unavailable", what.to_owned(), None),
        };
        ErrorInformation { kind: format!("{ERROR_TYPE_PREFIX}{variant}"), detail, refusal }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self::Unavailable {
            what: match error {
                StoreError::Locked => "the database is locked",
                StoreError::Full => "the database cannot be written",
                StoreError::Vault(_) => "the stored secret is damaged",
                StoreError::SetBack { .. } => "the stored secret is not the one that was put last",
                StoreError::Schema { .. }
                | StoreError::File(_)
                | StoreError::LogDamaged
                | StoreError::Sqlite(_) => "the database failed",
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::to_vec(&self.information()).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
