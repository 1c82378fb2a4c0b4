//! A server that answers in turn what a test wrote down, and keeps what it was asked: a proxy, or a service in trouble.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer that never comes: the connection stays open.
pub const SILENCE: &str = "silence";

/// Ended when dropped.
pub struct Canned {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Canned {
    /// Gives these answers, each once and on a connection of its own. One is what follows `HTTP/1.1 `; nothing at all hangs up.
    pub async fn start(answers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let heads = asked.clone();
        let task = tokio::spawn(async move {
            let mut held = Vec::new();
            for answer in answers {
                let (mut caller, _) = listener.accept().await.expect("it listens");
                let head = head(&mut caller).await;
                heads.lock().expect("nobody panicked").push(head);
                match answer.as_str() {
                    SILENCE => held.push(caller),
                    "" => drop(caller),
                    // Whoever hung up before the end has what was wanted.
                    answer => _ = caller.write_all(format!("HTTP/1.1 {}", closing(answer)).as_bytes()).await,
                }
            }
            // Nobody may ask more than was foreseen: the listener is gone, unless answers are still owed.
            if !held.is_empty() {
                std::future::pending::<()>().await;
            }
        });
        Self { address, asked, task }
    }

    /// The heads of the requests so far, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Canned {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// With the connection's end as that of the body.
fn closing(answer: &str) -> String {
    answer.replacen("\r\n", "\r\nconnection: close\r\n", 1)
}

async fn head(caller: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(caller.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text").to_lowercase()
}
