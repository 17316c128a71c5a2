//! What an agent may ask over its own socket, `/run/casemate/agent.sock`: one JSON object a line.
//!
//! The socket a request arrives on says who asks. No request takes an agent name: a member `agent` is refused like
//! any unknown member.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::nonce::Nonce;
use crate::refusal::Refusal;

/// Where the socket is inside each compartment.
pub const AGENT_SOCKET_PATH: &str = "/run/casemate/agent.sock";
/// Longest request line in bytes.
pub const REQUEST_LINE_BYTES_MAX: usize = 4096;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum AgentRequest {
    /// Who am I? Braces, because serde looks for unknown members only in variants that have them.
    Identity {},
    /// Evidence about me, for this nonce.
    Evidence {
        /// The relying party's nonce.
        nonce: Nonce,
    },
    /// Contents of one of my secrets.
    Secret {
        /// File name below `/run/secrets`.
        name: String,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentResponse {
    /// The result: shape depends on the method.
    Ok(Value),
    /// The request was understood and refused.
    Refused(Refusal),
    /// The request was not understood, or could not be served; a short reason.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_takes_an_agent_name() {
        for (request, members) in [
            ("identity", ""),
            ("evidence", r#","nonce":"0123456789abcdef""#),
            ("secret", r#","name":"token""#),
        ] {
            let line = |more: &str| format!(r#"{{"method":"{request}"{members}{more}}}"#);
            assert!(serde_json::from_str::<AgentRequest>(&line("")).is_ok(), "{request}");
            let error = serde_json::from_str::<AgentRequest>(&line(r#","agent":"peer""#)).unwrap_err();
            assert!(error.to_string().starts_with("unknown field `agent`"), "{request}: {error}");
        }
    }
}
