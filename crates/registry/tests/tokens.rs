//! Token authentication against a registry and a token server that check what they are given.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod common;

use casemate_registry::{CredentialsSent, RegistryError, Settings};
use common::server::{Asked, Reply, Server};
use common::{TestStore, docker_config, own_image, pull, refused, settings};
use serde_json::json;

/// Gives `public` to anybody, `private` to whom has credentials, and only for the scope of the repository.
fn token_server() -> Server {
    Server::start(|asked| {
        let scope_of = |text: &str| {
            let found = text.split(['&', '?']).find_map(|pair| pair.strip_prefix("scope="));
            found.map(str::to_owned)
        };
        if asked.method == "POST" {
            let good = asked.body.contains("grant_type=refresh_token")
                && asked.body.contains("refresh_token=re%2Ffresh")
                && asked.body.contains("service=reg.example")
                && scope_of(&asked.body).as_deref() == Some("repository%3Ateam%2Fapp%3Apull");
            return if good { Reply::ok(br#"{"access_token":"private"}"#) } else { denied("") };
        }
        let service = asked.target.contains("service=reg.example");
        match (scope_of(&asked.target).as_deref(), asked.header("authorization")) {
            (Some("repository%3Ateam%2Fapp%3Apull"), None) if service => Reply::ok(br#"{"token":"public"}"#),
            (Some("repository%3Ateam%2Fapp%3Apull"), Some("Basic dTpw")) if service => {
                Reply::ok(br#"{"token":"private","expires_in":60}"#)
            }
            _ => denied(""),
        }
    })
}

fn denied(challenge: &str) -> Reply {
    let body = br#"{"errors":[{"code":"DENIED","message":"not for you"}]}"#;
    match challenge {
        "" => Reply::new("401 Unauthorized", &[], body),
        challenge => Reply::new("401 Unauthorized", &[("WWW-Authenticate", challenge)], body),
    }
}

/// A registry that takes these tokens. Its challenge asks for more than is needed.
fn registry(tokens: &Server, accepted: &'static [&'static str]) -> Server {
    let challenge = format!(
        "Bearer realm=\"http://{}/token\",service=\"reg.example\",scope=\"repository:team/app:pull,push\"",
        tokens.host()
    );
    Server::of_image(own_image(b"tokens"), move |asked: &Asked| {
        let given = asked.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let known = given.is_some_and(|token| accepted.contains(&token));
        (!known).then(|| denied(&challenge))
    })
}

#[test]
fn a_public_image_needs_one_anonymous_token() {
    let tokens = token_server();
    let registry = registry(&tokens, &["public"]);
    let store = TestStore::new();
    let name = format!("{}/team/app:1", registry.host());
    pull(&store.store, &name, settings()).0.unwrap();
    assert_eq!(tokens.asked().len(), 1);
    assert_eq!(tokens.asked()[0].header("authorization"), None);
    // One request without a token, three with it.
    assert_eq!(registry.asked().len(), 4);
}

#[test]
fn a_private_image_needs_credentials_or_an_identity_token() {
    let tokens = token_server();
    let registry = registry(&tokens, &["private"]);
    let name = format!("{}/team/app:1", registry.host());
    let nobody = refused(&name, settings());
    let RegistryError::Denied { credentials: CredentialsSent::None, remark, .. } = &nobody else {
        panic!("{nobody:?}")
    };
    assert_eq!(remark, ": DENIED not for you");
    let dir = tempfile::tempdir().unwrap();
    let entries = [
        json!({"auth": "dTpw"}),
        json!({"username": "u", "password": "p"}),
        json!({"auth": "eDp5", "identitytoken": "re/fresh"}),
    ];
    for entry in entries {
        let docker_config = docker_config(dir.path(), &registry.host(), entry);
        let store = TestStore::new();
        pull(&store.store, &name, Settings { docker_config, ..settings() }).0.unwrap();
    }
    let docker_config = docker_config(dir.path(), &registry.host(), json!({"auth": "d3Jvbmc6eA=="}));
    let wrong = refused(&name, Settings { docker_config, ..settings() });
    assert!(matches!(wrong, RegistryError::Denied { credentials: CredentialsSent::Known, .. }), "{wrong:?}");
}

#[test]
fn a_token_that_expires_during_a_pull_is_asked_for_again() {
    let tokens = token_server();
    let challenge = format!("Bearer realm=\"http://{}/token\",service=\"reg.example\"", tokens.host());
    let layer = own_image(b"tokens").layer_path();
    let registry = Server::of_image(own_image(b"tokens"), move |asked| {
        let expired = asked.target.ends_with(&layer) && asked.before == 0;
        (expired || asked.header("authorization").is_none()).then(|| denied(&challenge))
    });
    let store = TestStore::new();
    pull(&store.store, &format!("{}/team/app:1", registry.host()), settings()).0.unwrap();
    assert_eq!(tokens.asked().len(), 2);
}
