//! The API outside the box that the demo's researcher calls: it wants the bearer token and answers in JSON.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Where it listens; the example's Compose file names the port.
const ADDRESS: &str = "127.0.0.1:8090";
/// Longest request head in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Time for one read or write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);
/// What it knows.
const ANSWER: &str = "A compartment each: own namespaces, own root file system, own secrets. The kernel is shared, and evidence says so.";

/// Starts serving in a thread that lives as long as this process.
pub(crate) fn start(token: &str) -> Result<(), String> {
    let listener = TcpListener::bind(ADDRESS).map_err(|error| {
        format!("the demo's API cannot listen on {ADDRESS}: {error}; end what uses the port")
    })?;
    let token = token.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A caller that goes away is no concern.
            let _ = answer(stream, &token);
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, token: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let (status, body) = reply(&String::from_utf8_lossy(&head), token);
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn reply(head: &str, token: &str) -> (&'static str, String) {
    let wanted = format!("Bearer {token}");
    let allowed = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| name.eq_ignore_ascii_case("authorization") && value.trim() == wanted);
    if !head.starts_with("GET /v1/search?") {
        ("404 Not Found", r#"{"error":"no such path"}"#.to_owned())
    } else if !allowed {
        ("401 Unauthorized", r#"{"error":"wants the token"}"#.to_owned())
    } else {
        ("200 OK", serde_json::json!({ "answer": ANSWER }).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_the_token_only() {
        let with = |line: &str| reply(&format!("GET /v1/search?q=x HTTP/1.1\r\n{line}\r\n\r\n"), "t0ken").0;
        assert_eq!(with("Authorization: Bearer t0ken"), "200 OK");
        assert_eq!(with("authorization: Bearer t0ken"), "200 OK");
        assert_eq!(with("Authorization: Bearer other"), "401 Unauthorized");
        assert_eq!(with("X: y"), "401 Unauthorized");
    }
}
