//! Through a proxy, to a host that only the proxy knows: a name under `.test` is nowhere (RFC 6761).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use casemate_registry::{Proxies, RegistryError, Settings};
use common::server::{Reply, Server, serve};
use common::{TestStore, certificate, own_image, pull, refused, settings};

/// Answers `CONNECT` with `status` and carries bytes to `port`. Returns its own port and the heads that it got.
fn tunnel(status: &'static str, port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    // Ends with the test's process: it has nothing but sockets.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), Arc::clone(&seen));
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
                if !status.starts_with("200") {
                    return;
                }
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let _ = std::io::copy(&mut (&server), &mut stream);
                let _ = stream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (own, heads)
}

fn through(variable: &str, port: u16) -> Settings {
    let value = format!("http://user:sesame@127.0.0.1:{port}");
    let proxies = Proxies::from_environment(&|name| (name == variable).then(|| value.clone())).unwrap();
    Settings { proxies, ..settings() }
}

#[test]
fn tls_goes_through_a_tunnel_and_the_proxy_sees_the_host_alone() {
    let image = own_image(b"proxied");
    let (tls, authority) = certificate("registry.test");
    let served = image.clone();
    let server = Server::start_tls(tls, move |asked| serve(&served, asked));
    let (port, heads) = tunnel("200 Connection established", server.port);
    let store = TestStore::new();
    let settings = Settings { anchors: Some(authority), ..through("HTTPS_PROXY", port) };
    let info = pull(&store.store, "registry.test/team/app:1", settings).0.unwrap();
    assert_eq!(info.manifest, image.digest());
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 3);
    // `user:sesame`
    let expected = "CONNECT registry.test:443 HTTP/1.1\r\nHost: registry.test:443\r\n\
                    Proxy-Authorization: Basic dXNlcjpzZXNhbWU=\r\n\r\n";
    assert!(heads.iter().all(|head| head == expected), "{heads:?}");
    assert!(server.asked().iter().all(|asked| asked.header("proxy-authorization").is_none()));
}

#[test]
fn a_proxy_that_refuses_says_why() {
    let (port, _) = tunnel("407 Proxy Authentication Required", 1);
    let error = refused("registry.test/team/app:1", through("HTTPS_PROXY", port));
    let expected = RegistryError::Proxy {
        proxy: format!("127.0.0.1:{port}"),
        host: "registry.test:443".into(),
        found: "HTTP/1.1 407 Proxy Authentication Required".into(),
    };
    assert_eq!(error, expected);
}

#[test]
fn plain_http_is_forwarded_where_the_host_was_named() {
    let image = own_image(b"proxied");
    let served = image.clone();
    let proxy = Server::start(move |asked| {
        let Some(target) = asked.target.strip_prefix("http://registry.test:5000") else {
            return Reply::not_found();
        };
        let known = asked.header("proxy-authorization") == Some("Basic dXNlcjpzZXNhbWU=");
        let mut asked = asked.clone();
        asked.target = target.to_owned();
        if known { serve(&served, &asked) } else { Reply::not_found() }
    });
    let name = "registry.test:5000/team/app:1";
    let store = TestStore::new();
    let named = Settings {
        plain_hosts: ["registry.test:5000".to_owned()].into(),
        ..through("http_proxy", proxy.port)
    };
    assert_eq!(pull(&store.store, name, named).0.unwrap().manifest, image.digest());
    // Without the name it is TLS, for which this proxy is not.
    let error = refused(name, through("http_proxy", proxy.port));
    assert_eq!(error, RegistryError::Name { host: "registry.test".into() });
}
