//! One agent's exchange with the broker, in a task of its own.
//!
//! What it is: the order of steps, and the answer to each message of the warden. What it is not: the protocol
//! (`casemate_client::session`). Who trusts it: the warden, for nothing but effort.

use std::sync::Arc;

use casemate_client::{Attested, BrokerClient, Challenged, ClientError};
use casemate_protocol::courier::{FAILURE_BYTES_MAX, FromCourier, ToCourier};
use tokio::sync::mpsc;

/// How far a session is.
enum State {
    Idle,
    Challenged(Challenged),
    Attested(Attested),
}

/// Serves one session until its messages end.
pub(crate) async fn serve(
    session: u32,
    broker: Arc<BrokerClient>,
    mut inbox: mpsc::Receiver<ToCourier>,
    outbox: mpsc::Sender<FromCourier>,
) {
    let mut state = State::Idle;
    while let Some(message) = inbox.recv().await {
        let answer = match step(&broker, &mut state, session, message).await {
            Ok(answer) => answer,
            Err(ClientError::Refused(refusal)) => FromCourier::Refused { session, refusal },
            Err(error) => failed(session, &error.to_string()),
        };
        if outbox.send(answer).await.is_err() {
            return;
        }
    }
}

/// A failure with its text bounded.
pub(crate) fn failed(session: u32, what: &str) -> FromCourier {
    let mut end = what.len().min(FAILURE_BYTES_MAX);
    while !what.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    FromCourier::Failed { session, what: what.get(..end).unwrap_or_default().to_owned() }
}

async fn step(
    broker: &BrokerClient,
    state: &mut State,
    session: u32,
    message: ToCourier,
) -> Result<FromCourier, ClientError> {
    match (message, std::mem::replace(state, State::Idle)) {
        (ToCourier::Begin { tee, .. }, _) => {
            let challenged = broker.begin(&tee).await?;
            let nonce = challenged.nonce().to_string();
            *state = State::Challenged(challenged);
            Ok(FromCourier::Challenge { session, nonce })
        }
        (ToCourier::Evidence { body, .. }, State::Challenged(challenged)) => {
            *state = State::Attested(broker.attest(challenged, body).await?);
            Ok(FromCourier::Appraised { session })
        }
        (ToCourier::Fetch { resource, .. }, State::Attested(attested)) => {
            let outcome = broker.fetch(&attested, &resource).await;
            *state = State::Attested(attested);
            Ok(FromCourier::Sealed { session, sealed: outcome? })
        }
        (_, unchanged) => {
            *state = unchanged;
            Ok(failed(session, "message out of order"))
        }
    }
}
