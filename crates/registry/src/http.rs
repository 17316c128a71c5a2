//! One HTTP/1.1 request at a time, each over a connection of its own: time limits on every wait, a size limit on
//! every answer that is held in memory, and no decision about what an answer means.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, RANGE, USER_AGENT};
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::connect::Connector;
use crate::error::{RegistryError, shortened};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits};
use crate::url::Url;

/// What is asked.
#[derive(Default)]
pub(crate) struct Request<'a> {
    pub(crate) accept: &'a str,
    /// Value of `Authorization`.
    pub(crate) authorization: Option<Zeroizing<String>>,
    /// First byte that is wanted.
    pub(crate) from: u64,
    /// A form to send; without one it is a GET.
    pub(crate) form: Option<Zeroizing<String>>,
}

/// An answer, its body still to come.
pub(crate) struct Response {
    pub(crate) url: Url,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Moves bytes; polled along with the body, so that it ends with it.
    connection: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stall_ms_max: u64,
}

/// Asks `url` and waits for the head of the answer.
pub(crate) async fn send(
    connector: &Connector,
    url: &Url,
    request: Request<'_>,
    limits: &Limits,
) -> Result<Response, RegistryError> {
    let connection = connector.connect(&url.origin).await?;
    let asking = exchange(connection, url, request, limits);
    timeout(Duration::from_millis(limits.head_ms_max), asking).await.unwrap_or_else(|_| {
        Err(RegistryError::TimedOut { url: url.to_string(), what: "no answer", ms: limits.head_ms_max })
    })
}

async fn exchange(
    connection: crate::connect::Connection,
    url: &Url,
    request: Request<'_>,
    limits: &Limits,
) -> Result<Response, RegistryError> {
    let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(connection.stream))
        .await
        .map_err(|error| failed(url, &error))?;
    let target = match &connection.forwarding {
        Some(_) => format!("{}{}", url.origin, url.target),
        None => url.target.clone(),
    };
    let mut builder = hyper::Request::builder()
        .method(if request.form.is_some() { Method::POST } else { Method::GET })
        .uri(target)
        .header(HOST, url.origin.authority())
        .header(USER_AGENT, concat!("casemate/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, request.accept);
    if let Some(value) = &request.authorization {
        builder = builder.header(AUTHORIZATION, value.as_str());
    }
    if let Some(value) = connection.forwarding.and_then(|proxy| proxy.authorization()) {
        builder = builder.header(PROXY_AUTHORIZATION, value);
    }
    if request.from > 0 {
        builder = builder.header(RANGE, format!("bytes={}-", request.from));
    }
    if request.form.is_some() {
        builder = builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let form = request.form.map(|form| Bytes::copy_from_slice(form.as_bytes())).unwrap_or_default();
    let wire = builder
        .body(Full::new(form))
        .map_err(|_| RegistryError::form(url, "reachable", "a header value that cannot be sent"))?;

    let mut driver: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        // What ends it ends the answer too, which says so.
        let _ = driver.await;
    });
    let answer = sender.send_request(wire);
    tokio::pin!(answer);
    let mut driven = true;
    let response = loop {
        tokio::select! {
            outcome = &mut answer => break outcome.map_err(|error| failed(url, &error))?,
            () = &mut driver, if driven => driven = false,
        }
    };
    let (head, body) = response.into_parts();
    Ok(Response {
        url: url.clone(),
        status: head.status,
        headers: head.headers,
        body,
        connection: driven.then_some(driver),
        stall_ms_max: limits.stall_ms_max,
    })
}

impl Response {
    /// The next piece of the body; none at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let ms = self.stall_ms_max;
        let Self { url, body, connection, .. } = self;
        let piece = poll_fn(|cx| {
            if connection.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
                *connection = None;
            }
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Poll::Ready(Ok(Some(data))),
                        // Trailers say nothing here.
                        Err(_) => {}
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failed(url, &error))),
                    Poll::Ready(None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        timeout(Duration::from_millis(ms), piece).await.unwrap_or_else(|_| {
            Err(RegistryError::TimedOut { url: self.url.to_string(), what: "nothing more came", ms })
        })
    }

    /// The whole body, of at most `bytes_max`.
    pub(crate) async fn collect(
        &mut self,
        what: &'static str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let too_large =
            || RegistryError::TooLarge { url: self.url.to_string(), what, limit_bytes: bytes_max };
        if self.content_length().is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let whole = Duration::from_millis(self.stall_ms_max);
        let url = self.url.to_string();
        let ms = self.stall_ms_max;
        let collecting = async {
            let mut bytes = Vec::new();
            while let Some(piece) = self.next().await? {
                if (bytes.len().saturating_add(piece.len())) as u64 > bytes_max {
                    let url = self.url.to_string();
                    return Err(RegistryError::TooLarge { url, what, limit_bytes: bytes_max });
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(bytes)
        };
        timeout(whole, collecting).await.unwrap_or(Err(RegistryError::TimedOut {
            url,
            what: "the answer did not end",
            ms,
        }))
    }

    /// What `Content-Length` says.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What an error answer says, as a remark behind the message: the message of the first error of the
    /// specification's form, or nothing.
    pub(crate) async fn remark(&mut self, limits: &Limits) -> String {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<Problem>,
        }
        #[derive(serde::Deserialize)]
        struct Problem {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(body) = self.collect("the error", limits.error_bytes_max).await else { return String::new() };
        let Ok(Errors { errors }) = serde_json::from_slice(&body) else { return String::new() };
        match errors.first() {
            Some(Problem { code, message }) => format!(": {}", shortened(&format!("{code} {message}"))),
            None => String::new(),
        }
    }
}

fn failed(url: &Url, error: &hyper::Error) -> RegistryError {
    if error.is_parse() || error.is_parse_too_large() {
        RegistryError::form(url, "HTTP/1.1", "something else")
    } else {
        RegistryError::Closed { url: url.to_string() }
    }
}
