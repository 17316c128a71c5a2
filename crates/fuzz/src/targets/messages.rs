//! What programs say to each other: framed messages, sealed secrets, signed tokens, requests.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use casemate_frame::Reader;
use casemate_jose::{JoseError, RecipientKey, SigningKey, seal};
use casemate_protocol::Refusal;
use casemate_protocol::agent_token::AGENT_TOKEN_TYP;
use casemate_protocol::courier::{FromCourier, Sealed, ToCourier};
use casemate_protocol::rcar::{Jwe, ReceivedAttestation};
use casemate_verifier::verify_jwt;
use serde_json::json;

use super::{outcome, require};
use crate::{Bound, Outcome, Target, Violation};

const BOUND: Bound = Bound {
    input_bytes_max: 80 << 10,
    allocation_bytes: 64 << 10,
    allocation_bytes_per_input_byte: 8,
    time_us: 5_000,
    time_ns_per_input_byte: 500,
};

/// Path of the secret that is sealed.
const RESOURCE: &str = "desk/secret/api_token";
/// What is sealed.
const SECRET: &[u8] = b"a secret of some bytes";

pub(super) fn all() -> Vec<Target> {
    vec![
        Target {
            name: "frame",
            what: "casemate_frame::Reader, fields as the input says",
            seeds: || vec![vec![2, 3, 4, 0, 1, 0, 0, 0, 7, 9], vec![5, 1, 0, 0, 0, b'a', 6, 0, 0, 0, 0]],
            words: &[&[0xff; 4], &[0; 4], &[1, 0, 0, 0], &[0, 0, 0, 0x80]],
            run: frame,
            bound: BOUND,
        },
        Target {
            name: "courier",
            what: "casemate_protocol::courier: ToCourier and FromCourier",
            seeds: courier_messages,
            words: &[&[1], &[3], &[65, 0, 0, 0], &[40, 0, 0, 0], &[12, 0, 0, 0], &[16, 0, 0, 0], &[0xff; 4]],
            run: courier,
            bound: BOUND,
        },
        Target {
            name: "jwe",
            what: "casemate_jose::RecipientKey::open of a framed sealed secret",
            seeds: || vec![SEALED.clone()],
            words: &[b"eyJhbGciOi", b"kid", &[65, 0, 0, 0], &[4], &[0; 32]],
            run: jwe,
            bound: BOUND,
        },
        Target {
            name: "jws",
            what: "casemate_verifier::verify_jwt",
            seeds: || vec![TOKEN.clone()],
            words: &[
                b".",
                b"..",
                b"=",
                b"eyJ0eXAiOiJlYXQrand0IiwiYWxnIjoiRVMyNTYifQ",
                b"eyJhbGciOiJub25lIn0",
                b"\n",
            ],
            run: jws,
            bound: BOUND,
        },
        Target {
            name: "rcar",
            what: "casemate_protocol::rcar::ReceivedAttestation",
            seeds: attestations,
            words: &[
                b"[",
                b"{",
                b"\"init-data\":",
                b"\"runtime-data\":",
                b"null",
                b"\"",
                b"}",
                b"\"nonce\":\"\",",
            ],
            run: rcar,
            bound: BOUND,
        },
    ]
}

/// Reads fields of the kinds that the input itself names, to its end.
fn frame(input: &[u8]) -> Result<Outcome, Violation> {
    const FIELD_BYTES_MAX: usize = 4096;
    let mut reader = Reader::new(input);
    let mut fields = String::new();
    let error = loop {
        let read = reader.u8().and_then(|kind| match kind % 6 {
            0 => reader.u8().map(|_| 'b'),
            1 => reader.u32().map(|_| 'w'),
            2 => reader.u64().map(|_| 'q'),
            3 => reader.bytes(FIELD_BYTES_MAX).map(|_| 's'),
            4 => reader.text(FIELD_BYTES_MAX).map(|_| 't'),
            _ => reader.count(16).map(|_| 'n'),
        });
        match read {
            Ok(field) if fields.len() < 3 => fields.push(field),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    Ok(Outcome(format!("read {fields}, {error}, {}", reader.end().is_ok())))
}

fn courier_messages() -> Vec<Vec<u8>> {
    vec![
        ToCourier::Begin { session: 1, tee: "tdx".into() }.encode(),
        ToCourier::Evidence { session: 2, body: b"{}".to_vec() }.encode(),
        ToCourier::Fetch { session: 3, resource: RESOURCE.into() }.encode(),
        ToCourier::End { session: 4 }.encode(),
        FromCourier::Challenge { session: 1, nonce: "n".repeat(44) }.encode(),
        FromCourier::Appraised { session: 2 }.encode(),
        SEALED.clone(),
        FromCourier::Refused { session: 3, refusal: Refusal::new("nonce", "a", "b") }.encode(),
        FromCourier::Failed { session: 4, what: "connection refused".into() }.encode(),
    ]
}

fn courier(input: &[u8]) -> Result<Outcome, Violation> {
    let to = ToCourier::decode(input);
    if let Ok(message) = &to {
        require(message.encode() == input, "a message to the courier has another encoding")?;
    }
    let from = FromCourier::decode(input);
    if let Ok(message) = &from {
        // Text is made printable, so the bytes may differ; the message may not.
        let again = FromCourier::decode(&message.encode());
        require(again.as_ref() == Ok(message), "a message of the courier reads otherwise again")?;
    }
    let kind = |text: String| text.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    let to = outcome(to, |message| kind(format!("{message:?}")));
    let from = outcome(from, |message| kind(format!("{message:?}")));
    Ok(Outcome(format!("{} / {}", to.0, from.0)))
}

#[expect(clippy::expect_used, reason = "without a key there is nothing to run")]
static RECIPIENT: LazyLock<RecipientKey> =
    LazyLock::new(|| RecipientKey::generate().expect("a key can be made"));
#[expect(clippy::expect_used, reason = "without a key there is nothing to run")]
static SIGNER: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().expect("a key can be made"));

#[expect(clippy::expect_used, reason = "what was sealed here is well formed")]
static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let jwe = seal(&RECIPIENT.jwk(), RESOURCE, SECRET).expect("a secret can be sealed");
    FromCourier::Sealed { session: 1, sealed: decoded(&jwe).expect("a sealed secret has its parts") }.encode()
});

#[expect(clippy::expect_used, reason = "these claims have a JSON form")]
static TOKEN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let claims = json!({"eat_nonce": "a nonce of its own", "sub": "planner"});
    SIGNER.sign_jwt(AGENT_TOKEN_TYP, &claims).expect("claims can be signed").into_bytes()
});

fn decoded(jwe: &Jwe) -> Option<Sealed> {
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let header: serde_json::Value = serde_json::from_slice(&part(&jwe.protected)?).ok()?;
    let coordinate = |name: &str| part(header.get("epk")?.get(name)?.as_str()?);
    Some(Sealed {
        protected: jwe.protected.clone().into_bytes(),
        ephemeral_point: [vec![4], coordinate("x")?, coordinate("y")?].concat().try_into().ok()?,
        encrypted_key: part(&jwe.encrypted_key)?.try_into().ok()?,
        iv: part(&jwe.iv)?.try_into().ok()?,
        ciphertext: part(&jwe.ciphertext)?,
        tag: part(&jwe.tag)?.try_into().ok()?,
    })
}

/// Only what was sealed opens.
fn jwe(input: &[u8]) -> Result<Outcome, Violation> {
    let Ok(FromCourier::Sealed { sealed, .. }) = FromCourier::decode(input) else {
        return Ok(Outcome("not a sealed secret".into()));
    };
    let opened = RECIPIENT.open(&sealed, RESOURCE);
    if opened.is_ok() {
        let original = matches!(FromCourier::decode(&SEALED), Ok(FromCourier::Sealed { sealed: first, .. }) if first == sealed);
        require(original, "something else than what was sealed opens")?;
    }
    Ok(outcome(opened.map_err(|error: JoseError| error), |_| String::new()))
}

/// Only what was signed verifies.
fn jws(input: &[u8]) -> Result<Outcome, Violation> {
    let result = verify_jwt(input, AGENT_TOKEN_TYP, &SIGNER.jwk());
    if result.is_ok() {
        require(input == TOKEN.as_slice(), "something else than what was signed verifies")?;
    }
    Ok(outcome(result.map_err(|refusal| refusal.rule), |_| String::new()))
}

fn attestations() -> Vec<Vec<u8>> {
    let body = json!({
        "init-data": null,
        "runtime-data": {"nonce": "bm9uY2U=", "tee-pubkey": RECIPIENT.jwk()},
        "tee-evidence": {"primary_evidence": {"__cmwc_t": "x", "box": ["t", "AA"]}, "additional_evidence": ""},
    });
    vec![body.to_string().into_bytes()]
}

fn rcar(input: &[u8]) -> Result<Outcome, Violation> {
    let result = ReceivedAttestation::from_json_bytes(input);
    Ok(outcome(result.map_err(|error| error.to_string()), |body| {
        format!("init-data {}", body.init_data.is_some())
    }))
}
