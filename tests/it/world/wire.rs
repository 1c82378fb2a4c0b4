//! HTTP by hand, byte by byte: for what no client library would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::webhooks::Webhook;

/// Longer than anything the service lets wait.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection. Both halves can be moved into tasks of their own.
pub struct Wire {
    pub out: OwnedWriteHalf,
    pub back: Back,
}

/// What comes back.
pub struct Back {
    half: OwnedReadHalf,
    unread: Vec<u8>,
}

/// One response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Wire {
    /// Connects.
    pub async fn to(address: SocketAddr) -> anyhow::Result<Self> {
        let (half, out) = TcpStream::connect(address).await?.into_split();
        Ok(Self { out, back: Back { half, unread: Vec::new() } })
    }

    /// Sends these bytes.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
        Ok(self.out.write_all(bytes.as_ref()).await?)
    }

    /// The next response.
    pub async fn response(&mut self) -> anyhow::Result<Response> {
        self.back.response().await
    }
}

impl Back {
    /// The next response, within twenty seconds.
    pub async fn response(&mut self) -> anyhow::Result<Response> {
        timeout(LIMIT, self.read_response()).await?
    }

    async fn read_response(&mut self) -> anyhow::Result<Response> {
        let end = loop {
            match self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => anyhow::ensure!(self.read_more().await?, "the connection ended before a whole response"),
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect())?;
        let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let length: usize = length.unwrap_or(0);
        while self.unread.len() < length {
            anyhow::ensure!(self.read_more().await?, "the connection ended within a body");
        }
        let body = String::from_utf8(self.unread.drain(..length).collect())?;
        let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
        Ok(Response { status, head, body })
    }

    /// Waits for the other side to end the connection, within twenty seconds; a reset is an end too.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        timeout(LIMIT, async { while self.read_more().await.unwrap_or(false) {} }).await?;
        Ok(())
    }

    async fn read_more(&mut self) -> anyhow::Result<bool> {
        Ok(self.half.read_buf(&mut self.unread).await? > 0)
    }
}

impl Response {
    /// The problem's code.
    pub fn code(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        problem["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether there is a header of this name.
    pub fn has_header(&self, name: &str) -> bool {
        self.head.lines().any(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))
    }
}

/// The head of a webhook's request with these headers more.
pub fn head(webhook: &Webhook, more: &[(&str, &str)]) -> String {
    let mut head = String::from("POST /webhooks/clerk HTTP/1.1\r\nhost: rollcall\r\ncontent-type: application/json\r\n");
    let own = webhook.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(more.iter().copied()) {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n"
}

/// The whole request, with its length announced.
pub fn request(webhook: &Webhook) -> Vec<u8> {
    let head = head(webhook, &[("content-length", &webhook.body.len().to_string())]);
    [head.as_bytes(), &webhook.body].concat()
}

/// A body in chunks of this many bytes.
pub fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let mut all: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    all.extend(b"0\r\n\r\n");
    all
}
