//! Requests as they go over the wire: also those that no well-meaning client sends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in small letters, one line each.
    pub headers: String,
    pub body: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the answer is JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What the server says is wrong, as RFC 9457 has it.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.headers);
        self.json()["detail"].as_str().expect("a problem says what is wrong").to_owned()
    }
}

/// Asks over a socket. HTTP/1.0, so that the answer ends with the connection.
pub fn ask(socket: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
    let mut head = format!("{method} {path} HTTP/1.0\r\nhost: offtake\r\ncontent-length: {}\r\n", body.len());
    if !body.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
        head += "content-type: application/json\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    raw(socket, format!("{head}\r\n").as_bytes(), body)
}

/// Sends bytes, and reads what comes.
pub fn raw(socket: &str, head: &[u8], body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(head)?;
    // A server that has seen enough answers and closes; what it says is what counts.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes)
        && bytes.is_empty()
    {
        return Err(error);
    }
    let text = String::from_utf8_lossy(&bytes);
    let broken = || std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the answer is broken off");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok(Answer { status, headers: headers.replace("\r\n", "\n"), body: body.to_owned() })
}
