//! Broken and hostile registries: each defect has its error, in bounded time, and leaves nothing in the store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

mod common;

use std::time::{Duration, Instant};

use casemate_canon::Sha256;
use casemate_images::ImageError;
use casemate_registry::{CredentialsSent, Event, Limits, RegistryError, Settings};
use common::server::{Asked, Reply, Server, Then, serve};
use common::{INDEX, MANIFEST, TestStore, certificate, docker_config, own_image, pull, refused, settings};
use serde_json::json;

/// The longest that one of these pulls may take.
const BOUND: Duration = Duration::from_secs(8);

/// The error of a pull from a server that serves a good image but for what `special` says.
fn error_where(special: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> RegistryError {
    let begun = Instant::now();
    let server = Server::of_image(own_image(b"hello"), special);
    let error = refused(&format!("{}/team/app:1", server.host()), settings());
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    assert!(!error.todo().is_empty());
    error
}

fn rule(error: &RegistryError) -> &str {
    match error {
        RegistryError::Refused(refusal) | RegistryError::Image(ImageError::Refused(refusal)) => &refusal.rule,
        other => panic!("not refused by a rule: {other:?}"),
    }
}

fn is_manifest(asked: &Asked) -> bool {
    asked.target.contains("/manifests/")
}

fn is_layer(asked: &Asked) -> bool {
    asked.target.ends_with(&own_image(b"hello").layer_path())
}

#[test]
fn a_good_image_arrives() {
    let image = own_image(b"hello");
    let server = Server::of_image(image.clone(), |_| None);
    let store = TestStore::new();
    let (outcome, events) = pull(&store.store, &format!("{}/team/app:1", server.host()), settings());
    assert_eq!(outcome.unwrap().manifest, image.digest());
    assert!(matches!(&events[0], Event::Resolved { blobs, present: 0, .. } if blobs.len() == 2));
    // The second time nothing but the manifest is asked for.
    let before = server.asked().len();
    let (outcome, events) = pull(&store.store, &format!("{}/team/app:1", server.host()), settings());
    assert!(outcome.is_ok());
    assert!(matches!(&events[..], [Event::Resolved { blobs, present: 2, .. }] if blobs.is_empty()));
    assert_eq!(server.asked().len(), before + 1);
}

#[test]
fn a_layer_with_other_bytes() {
    let error = error_where(|asked| {
        is_layer(asked).then(|| {
            let mut layer = own_image(b"hello").layer;
            layer[600] ^= 1;
            Reply::ok(&layer)
        })
    });
    assert_eq!(rule(&error), "image.blob.digest");
}

#[test]
fn a_layer_of_another_size() {
    for change in [-1_isize, 1] {
        let error = error_where(move |asked| {
            is_layer(asked).then(|| {
                let mut layer = own_image(b"hello").layer;
                layer.resize(layer.len().checked_add_signed(change).unwrap(), 0);
                Reply::ok(&layer)
            })
        });
        assert_eq!(rule(&error), "registry.blob.size");
    }
}

#[test]
fn a_layer_without_length_that_is_too_short_or_never_ends() {
    let head = [("Transfer-Encoding", "identity")];
    // Without a length the body ends with the connection.
    let short = error_where(move |asked| is_layer(asked).then(|| Reply::new("200 OK", &head, b"short")));
    assert_eq!(rule(&short), "image.blob.size");
    let begun = Instant::now();
    let endless = error_where(move |asked| {
        is_layer(asked).then(|| Reply::new("200 OK", &head, b"").then(Then::Endless))
    });
    assert_eq!(rule(&endless), "image.blob.size");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_layer_that_stalls() {
    let error = error_where(|asked| {
        is_layer(asked).then(|| Reply::new("200 OK", &[("Content-Length", "2048")], b"x").then(Then::Silence))
    });
    assert!(matches!(error, RegistryError::TimedOut { what: "nothing more came", ms: 300, .. }), "{error:?}");
}

#[test]
fn a_layer_that_drips() {
    let error = error_where(|asked| {
        is_layer(asked).then(|| Reply::new("200 OK", &[("Content-Length", "2048")], b"").then(Then::Drip))
    });
    assert!(matches!(error, RegistryError::TimedOut { what: "the blob was not whole", .. }), "{error:?}");
}

#[test]
fn a_registry_that_does_not_answer() {
    let error =
        error_where(|asked| is_manifest(asked).then(|| Reply { bytes: Vec::new(), then: Then::Silence }));
    assert!(matches!(error, RegistryError::TimedOut { what: "no answer", ms: 500, .. }), "{error:?}");
}

#[test]
fn redirects_in_a_circle_and_to_nowhere() {
    let circle = error_where(|asked| is_layer(asked).then(|| Reply::redirect(&asked.target)));
    assert!(
        matches!(&circle, RegistryError::Redirect { to, .. } if to.contains("after 5 others")),
        "{circle}"
    );
    let nowhere = error_where(|asked| is_layer(asked).then(|| Reply::new("302 Found", &[], b"")));
    assert!(matches!(&nowhere, RegistryError::Redirect { to, .. } if to == "nowhere"), "{nowhere}");
}

#[test]
fn redirects_to_files_and_to_other_machines_without_tls() {
    let file = error_where(|asked| is_layer(asked).then(|| Reply::redirect("file:///etc/passwd")));
    assert!(matches!(&file, RegistryError::Redirect { to, .. } if to.starts_with("`file:`")), "{file}");
    let plain = error_where(|asked| is_layer(asked).then(|| Reply::redirect("http://192.0.2.1/x")));
    assert_eq!(plain, RegistryError::PlainHttp { host: "192.0.2.1".into() });
}

#[test]
fn a_redirect_from_tls_to_plain_http() {
    let image = own_image(b"hello");
    let target = Server::of_image(image.clone(), |_| None);
    let place = format!("http://{}/elsewhere", target.host());
    let (tls, authority) = certificate("localhost");
    let server =
        Server::start_tls(
            tls,
            move |asked| {
                if is_layer(asked) { Reply::redirect(&place) } else { serve(&image, asked) }
            },
        );
    let settings = Settings { anchors: Some(authority), ..settings() };
    let error = refused(&format!("localhost:{}/team/app:1", server.port), settings);
    assert!(
        matches!(&error, RegistryError::Redirect { to, .. } if to.ends_with("from TLS to plain HTTP")),
        "{error}"
    );
    assert_eq!(target.asked().len(), 0);
}

#[test]
fn a_redirect_to_another_server_carries_no_credentials() {
    let image = own_image(b"hello");
    let served = image.clone();
    let blobs = Server::start(move |asked| serve(&served, asked));
    let place = format!("http://{}", blobs.host());
    let server = Server::of_image(image.clone(), move |asked| {
        if asked.header("authorization").is_none() {
            return Some(Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""));
        }
        is_layer(asked).then(|| Reply::redirect(&format!("{place}{}?signature=secret", asked.target)))
    });
    let (dir, store) = (tempfile::tempdir().unwrap(), TestStore::new());
    let docker_config = docker_config(dir.path(), &server.host(), json!({"auth": "dTpw"}));
    let settings = Settings { docker_config, ..settings() };
    let (outcome, _) = pull(&store.store, &format!("{}/team/app:1", server.host()), settings);
    assert_eq!(outcome.unwrap().manifest, image.digest());
    let elsewhere = blobs.asked();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].header("authorization"), None);
    assert!(server.asked().iter().any(|asked| asked.header("authorization") == Some("Basic dTpw")));
}

#[test]
fn a_redirect_target_that_asks_for_credentials() {
    let thief =
        Server::start(|_| Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""));
    let place = format!("http://{}/x", thief.host());
    let server =
        Server::of_image(own_image(b"hello"), move |asked| is_layer(asked).then(|| Reply::redirect(&place)));
    let dir = tempfile::tempdir().unwrap();
    let docker_config = docker_config(dir.path(), &thief.host(), json!({"auth": "dTpw"}));
    let error = refused(&format!("{}/team/app:1", server.host()), Settings { docker_config, ..settings() });
    assert!(matches!(error, RegistryError::ForeignChallenge { .. }), "{error:?}");
    assert!(thief.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn a_token_server_of_another_site_gets_no_credentials_unless_the_user_says_so() {
    let thief = Server::start(|_| Reply::ok(br#"{"token":"t"}"#));
    // Another name for the same machine is another host.
    let realm = format!("Bearer realm=\"http://localhost:{}/token\",service=\"s\"", thief.port);
    let server = Server::of_image(own_image(b"hello"), move |asked| {
        let known = asked.header("authorization") == Some("Bearer t");
        (!known).then(|| Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], b""))
    });
    let dir = tempfile::tempdir().unwrap();
    let with_credentials = || Settings {
        docker_config: docker_config(dir.path(), &server.host(), json!({"auth": "dTpw"})),
        ..settings()
    };
    let name = format!("{}/team/app:1", server.host());
    let error = refused(&name, with_credentials());
    let expected = format!("localhost:{}", thief.port);
    assert!(
        matches!(&error, RegistryError::ForeignTokenServer { server, .. } if *server == expected),
        "{error:?}"
    );
    assert!(error.todo().contains(&format!("--token-server {expected}")));
    assert_eq!(thief.asked().len(), 0);
    // Without credentials there is nothing to lose, and with the user's word it is the right server.
    let store = TestStore::new();
    assert!(pull(&store.store, &name, settings()).0.is_ok());
    let allowed = Settings { token_servers: [expected].into(), ..with_credentials() };
    assert!(pull(&store.store, &name, allowed).0.is_ok());
    let asked = thief.asked();
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[1].header("authorization"), Some("Basic dTpw"));
}

#[test]
fn a_giant_manifest() {
    let announced = error_where(|asked| {
        let head = [("Content-Type", MANIFEST), ("Content-Length", "4194305")];
        is_manifest(asked).then(|| Reply::new("200 OK", &head, b"").then(Then::Endless))
    });
    let too_large =
        |error: &RegistryError| matches!(error, RegistryError::TooLarge { limit_bytes: 4_194_304, .. });
    assert!(too_large(&announced), "{announced:?}");
    let endless = error_where(|asked| {
        let head = [("Content-Type", MANIFEST), ("Transfer-Encoding", "identity")];
        is_manifest(asked).then(|| Reply::new("200 OK", &head, b"").then(Then::Endless))
    });
    assert!(too_large(&endless), "{endless:?}");
}

#[test]
fn a_manifest_that_is_not_one() {
    let page = error_where(|asked| {
        is_manifest(asked)
            .then(|| Reply::new("200 OK", &[("Content-Type", "text/html")], b"<html>Log in</html>"))
    });
    assert!(
        matches!(&page, RegistryError::Form { found, .. } if found == "its type is `text/html`"),
        "{page:?}"
    );
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let schema1 = error_where(move |asked| {
        is_manifest(asked).then(|| Reply::new("200 OK", &[("Content-Type", old)], b"{}"))
    });
    assert!(matches!(&schema1, RegistryError::Form { found, .. } if found.contains("v1+prettyjws")));
    let lie = error_where(|asked| is_manifest(asked).then(|| Reply::manifest(b"<html>Log in</html>")));
    assert!(matches!(lie, RegistryError::Image(ImageError::Malformed { .. })), "{lie:?}");
    let garbage = error_where(|asked| {
        is_manifest(asked).then(|| Reply { bytes: b"SSH-2.0-OpenSSH\r\n".to_vec(), then: Then::Close })
    });
    assert!(matches!(garbage, RegistryError::Form { expected: "HTTP/1.1", .. }), "{garbage:?}");
}

#[test]
fn a_manifest_of_another_type_than_its_header_says() {
    let error = error_where(|asked| {
        let manifest = own_image(b"hello").manifest;
        is_manifest(asked).then(|| Reply::new("200 OK", &[("Content-Type", INDEX)], &manifest))
    });
    assert_eq!(rule(&error), "registry.manifest.type");
}

#[test]
fn a_manifest_of_another_digest_than_was_asked_for_or_announced() {
    let server = Server::of_image(own_image(b"hello"), |_| None);
    let wanted = Sha256::of(b"another");
    let error = refused(&format!("{}/team/app@{wanted}", server.host()), settings());
    assert_eq!(rule(&error), "registry.manifest.digest");
    let announced = error_where(move |asked| {
        let digest = wanted.to_string();
        let head = [("Content-Type", MANIFEST), ("Docker-Content-Digest", digest.as_str())];
        is_manifest(asked).then(|| Reply::new("200 OK", &head, &own_image(b"hello").manifest))
    });
    assert_eq!(rule(&announced), "registry.manifest.digest");
}

#[test]
fn denied_without_end() {
    let basic = error_where(|_| {
        Some(Reply::new("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"x\"")], b""))
    });
    assert!(matches!(basic, RegistryError::Denied { credentials: CredentialsSent::None, .. }), "{basic:?}");
    let none = error_where(|_| Some(Reply::new("401 Unauthorized", &[], b"")));
    assert!(matches!(none, RegistryError::Denied { .. }), "{none:?}");
    // A token server that always gives a token, and a registry that takes none.
    let tokens = Server::start(|_| Reply::ok(br#"{"access_token":"t"}"#));
    let realm = format!("Bearer realm=\"http://{}/\"", tokens.host());
    let bearer =
        error_where(move |_| Some(Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], b"")));
    assert!(matches!(bearer, RegistryError::Denied { .. }), "{bearer:?}");
    assert_eq!(tokens.asked().len(), 1);
}

#[test]
fn challenges_that_lead_nowhere() {
    for realm in ["file:///etc/passwd", "", "not a url"] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let error = error_where(move |_| {
            Some(Reply::new("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""))
        });
        assert!(matches!(error, RegistryError::Form { .. }), "{error:?}");
    }
    let page = Server::start(|_| Reply::new("200 OK", &[("Content-Type", "text/html")], b"<html>"));
    let realm = format!("Bearer realm=\"http://{}/\"", page.host());
    let error =
        error_where(move |_| Some(Reply::new("401 Unauthorized", &[("WWW-Authenticate", &realm)], b"")));
    assert!(
        matches!(&error, RegistryError::Form { expected: "JSON with a token", found, .. }
            if found == "content of type `text/html`"),
        "{error:?}"
    );
}

#[test]
fn too_many_requests() {
    let busy = |asked: &Asked, wait: &'static str| {
        (is_manifest(asked)).then(|| Reply::new("429 Too Many Requests", &[("Retry-After", wait)], b""))
    };
    // Longer than is waited.
    let error = error_where(move |asked| busy(asked, "3600"));
    assert!(matches!(error, RegistryError::TooManyRequests { wait_s: Some(3600), .. }), "{error:?}");
    // As long as it says, and then it goes on.
    let server =
        Server::of_image(
            own_image(b"hello"),
            move |asked| {
                if asked.before == 0 { busy(asked, "1") } else { None }
            },
        );
    let (begun, store) = (Instant::now(), TestStore::new());
    assert!(pull(&store.store, &format!("{}/team/app:1", server.host()), settings()).0.is_ok());
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn servers_that_fail_now_and_then_are_asked_again_and_broken_ones_are_given_up() {
    let server = Server::of_image(own_image(b"hello"), |asked| match asked.before {
        0 => Some(Reply::new("503 Service Unavailable", &[], b"")),
        1 => Some(Reply { bytes: Vec::new(), then: Then::Close }),
        _ => None,
    });
    let store = TestStore::new();
    let (outcome, events) = pull(&store.store, &format!("{}/team/app:1", server.host()), settings());
    assert!(outcome.is_ok(), "{outcome:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Retry { .. })));
    let error = error_where(|_| Some(Reply::new("502 Bad Gateway", &[], b"<html>")));
    assert!(matches!(error, RegistryError::Status { status: 502, .. }), "{error:?}");
}

#[test]
fn a_broken_transfer_goes_on_where_it_ended() {
    for with_ranges in [true, false] {
        let server = Server::of_image(own_image(b"hello"), move |asked| {
            if !is_layer(asked) {
                return None;
            }
            let layer = own_image(b"hello").layer;
            let length = layer.len().to_string();
            match asked.before {
                0 => Some(Reply::new("200 OK", &[("Content-Length", &length)], &layer[..700])),
                _ if with_ranges => None,
                _ => Some(Reply::ok(&layer)),
            }
        });
        let store = TestStore::new();
        let (outcome, _) = pull(&store.store, &format!("{}/team/app:1", server.host()), settings());
        assert!(outcome.is_ok(), "{outcome:?}");
        let asked = server.asked();
        let ranges: Vec<_> = asked.iter().filter_map(|asked| asked.header("range")).collect();
        assert_eq!(ranges, ["bytes=700-"]);
    }
    // A part that is not the one that was asked for.
    let error = error_where(|asked| {
        let layer = own_image(b"hello").layer;
        let length = layer.len().to_string();
        is_layer(asked).then(|| match asked.before {
            0 => Reply::new("200 OK", &[("Content-Length", &length)], &layer[..700]),
            _ => Reply::new("206 Partial Content", &[("Content-Range", "bytes 5-9/10")], &layer[5..]),
        })
    });
    assert!(
        matches!(error, RegistryError::Form { expected: "the part that was asked for", .. }),
        "{error:?}"
    );
}

#[test]
fn what_is_not_there_and_what_a_server_says_of_it() {
    let error = error_where(|_| Some(Reply::not_found()));
    let text = error.to_string();
    assert!(text.ends_with("/manifests/1: not found: NAME_UNKNOWN no such thing"), "{text}");
    let nobody = refused("127.0.0.1:1/x", settings());
    assert_eq!(
        nobody,
        RegistryError::Connect { host: "127.0.0.1:1".into(), kind: std::io::ErrorKind::ConnectionRefused }
    );
    // A name that cannot exist (RFC 6761 section 6.4).
    let nobody = refused("nobody.invalid/x", settings());
    assert_eq!(nobody, RegistryError::Name { host: "nobody.invalid".into() });
    let plain = refused(
        "192.0.2.1:5000/x",
        Settings { limits: Limits { connect_ms_max: 100, ..common::QUICK }, ..settings() },
    );
    assert!(
        matches!(
            plain,
            RegistryError::TimedOut { what: "no connection", .. } | RegistryError::Connect { .. }
        ),
        "{plain:?}"
    );
}

#[test]
fn a_mirror_is_asked_first_and_the_registry_where_it_fails() {
    let image = own_image(b"hello");
    let registry = Server::of_image(image.clone(), |_| None);
    let name = format!("{}/team/app:1", registry.host());
    let mirrored = |mirror: &Server| Settings {
        mirrors: vec![format!("{}=http://{}/proxy", registry.host(), mirror.host()).parse().unwrap()],
        ..settings()
    };
    let good = Server::of_image(image.clone(), |_| None);
    let store = TestStore::new();
    assert!(pull(&store.store, &name, mirrored(&good)).0.is_ok());
    assert!(good.asked().iter().any(|asked| asked.target == "/v2/proxy/team/app/manifests/1"));
    assert_eq!(registry.asked().len(), 0);
    // One that has the manifest and lies about the layer.
    let liar = Server::of_image(image.clone(), |asked| is_layer(asked).then(|| Reply::ok(&[0; 2048])));
    for broken in [liar, Server::start(|_| Reply::not_found())] {
        let store = TestStore::new();
        let (outcome, events) = pull(&store.store, &name, mirrored(&broken));
        assert_eq!(outcome.unwrap().manifest, image.digest());
        assert!(events.iter().any(|event| matches!(event, Event::SourceFailed { .. })));
    }
}
