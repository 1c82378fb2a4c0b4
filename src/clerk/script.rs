//! For tests: a server that answers what it was told to, one connection after another, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Clerk, Settings};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(super) enum Act {
    /// Sends these bytes and closes.
    Send(Vec<u8>),
    /// Says nothing.
    Hang,
    /// Closes at once.
    Close,
}

/// A server with a script; past its end the last act is repeated.
pub(super) struct Clerklike {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// A JSON answer.
pub(super) fn json(status: u16, body: &str) -> Act {
    answer(status, "Content-Type: application/json\r\n", body)
}

/// An answer with these header lines, each ending in CRLF.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Send(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes())
}

impl Clerklike {
    pub(super) async fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, script, Arc::clone(&requests)));
        Self { url, requests }
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// A client of this server, with more budget than any test spends.
    pub(super) fn clerk(&self) -> Clerk {
        self.clerk_with(1_000_000, Duration::from_secs(4))
    }

    pub(super) fn clerk_with(&self, rate: u32, read_time_max: Duration) -> Clerk {
        let settings = Settings { secret_key: SecretString::from("sk_test_x"), api_url: self.url.clone(), rate };
        Clerk::with_read_time(settings, read_time_max).expect("good settings")
    }

    /// The heads of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

async fn serve(listener: TcpListener, script: Vec<Act>, requests: Arc<Mutex<Vec<String>>>) {
    let mut hanging = Vec::new();
    for turn in 0.. {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        let Some(head) = head(&mut stream).await else { continue };
        requests.lock().expect("not poisoned").push(head);
        match &script[turn.min(script.len() - 1)] {
            Act::Send(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
            }
            Act::Hang => hanging.push(stream),
            Act::Close => {}
        }
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}
