//! A server on loopback that answers as a function says, in bytes that no proper server would send.

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Image, MANIFEST};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// How often this target was asked before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Then,
}

/// What follows the bytes of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    /// Nothing, for as long as the client stays.
    Silence,
    /// Bytes without end.
    Endless,
    /// One byte now and then.
    Drip,
}

impl Reply {
    pub(crate) fn new(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !headers.iter().any(|(name, _)| ["Content-Length", "Transfer-Encoding"].contains(name)) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        Self { bytes: [head.as_bytes(), body].concat(), then: Then::Close }
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::new("200 OK", &[("Content-Type", "application/octet-stream")], body)
    }

    pub(crate) fn manifest(body: &[u8]) -> Self {
        Self::new("200 OK", &[("Content-Type", MANIFEST)], body)
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::new("307 Temporary Redirect", &[("Location", to)], b"")
    }

    pub(crate) fn not_found() -> Self {
        let body = br#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such\nthing"}]}"#;
        Self::new("404 Not Found", &[("Content-Type", "application/json")], body)
    }

    pub(crate) fn then(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

impl Server {
    /// Over plain HTTP.
    pub(crate) fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_with(None, Box::new(handler))
    }

    /// Over TLS.
    pub(crate) fn start_tls(
        tls: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(tls), Box::new(handler))
    }

    /// That serves one image, after `special` had its say.
    pub(crate) fn of_image(
        image: Image,
        special: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |asked| special(asked).unwrap_or_else(|| serve(&image, asked)))
    }

    fn start_with(tls: Option<Arc<rustls::ServerConfig>>, handler: Box<Handler>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let handler: Arc<Handler> = handler.into();
        let (seen, ended) = (Arc::clone(&asked), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (handler, seen, ended, tls) =
                    (Arc::clone(&handler), Arc::clone(&seen), Arc::clone(&ended), tls.clone());
                std::thread::spawn(move || {
                    // A client that leaves is what most tests are about.
                    let _ = match tls {
                        None => answer(stream, &*handler, &seen, &ended),
                        Some(config) => rustls::ServerConnection::new(config)
                            .map_err(std::io::Error::other)
                            .and_then(|session| {
                                answer(rustls::StreamOwned::new(session, stream), &*handler, &seen, &ended)
                            }),
                    };
                });
            }
        });
        Self { port, asked, stop }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Serves an image as a registry does, ranges included.
pub(crate) fn serve(image: &Image, asked: &Asked) -> Reply {
    if asked.target.contains("/manifests/") {
        return Reply::manifest(&image.manifest);
    }
    let Some(blob) = image.blob(&asked.target) else { return Reply::not_found() };
    let from = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match from.and_then(|from| from.parse::<usize>().ok()) {
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
            Reply::new("206 Partial Content", &[("Content-Range", &range)], &blob[from..])
        }
        None => Reply::ok(blob),
    }
}

fn answer(
    stream: impl std::io::Read + Write,
    handler: &Handler,
    seen: &Mutex<Vec<Asked>>,
    ended: &AtomicBool,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    // What is not HTTP, such as the beginning of a TLS session, is answered as other servers do.
    if stream.by_ref().take(4096).read_line(&mut line).is_err() || !line.contains("HTTP/1.1") {
        return stream.get_mut().write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    }
    let mut words = line.split(' ');
    let (method, target) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.by_ref().take(65536).read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut asked = Asked { method, target, headers, body: String::new(), before: 0 };
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    {
        let mut seen = seen.lock().unwrap();
        asked.before = seen.iter().filter(|other| other.target == asked.target).count();
        seen.push(asked.clone());
    }
    let reply = handler(&asked);
    let out = stream.get_mut();
    out.write_all(&reply.bytes)?;
    out.flush()?;
    let piece = vec![b'x'; 65536];
    while reply.then != Then::Close && !ended.load(Ordering::Relaxed) {
        match reply.then {
            Then::Close => {}
            Then::Silence => std::thread::sleep(Duration::from_millis(20)),
            Then::Endless => out.write_all(&piece)?,
            Then::Drip => {
                std::thread::sleep(Duration::from_millis(20));
                out.write_all(b"x")?;
                out.flush()?;
            }
        }
    }
    Ok(())
}
