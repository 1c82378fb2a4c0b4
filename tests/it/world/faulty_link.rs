//! The link between one node and its Redis or its database, with trouble at hand: cut, stalled, silent (half-open), cut in the
//! middle of an answer, slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::redis_proxy::TAIL_ANSWER;

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Connections end at once, and new ones with them.
    Cut,
    /// Nothing is carried until it is over; then everything is.
    Stalled,
    /// What is sent is lost, for good on connections that were there: both sides take them for alive.
    Silent,
    /// A connection ends after so many bytes of answers.
    CutAfter(usize),
    /// A connection goes silent after so many bytes of answers: what was asked last is never answered.
    SilentAfter(usize),
    /// Everything comes late.
    Slow(Duration),
    /// The answers to the tail come late, and nothing else does.
    SlowTail(Duration),
}

impl Trouble {
    /// Whether nothing at all comes through.
    pub fn is_whole(self) -> bool {
        match self {
            Self::Cut | Self::Stalled | Self::Silent => true,
            Self::CutAfter(_) | Self::SilentAfter(_) | Self::Slow(_) | Self::SlowTail(_) => false,
        }
    }
}

/// A link. Its connections end with it.
pub struct FaultyLink {
    port: u16,
    trouble: watch::Sender<Option<Trouble>>,
    listening: JoinHandle<()>,
}

impl FaultyLink {
    /// To the server on `port`; nothing is wrong with it.
    pub async fn to(port: u16) -> Self {
        Self::between(TcpListener::bind("127.0.0.1:0").await.expect("a free port"), port)
    }

    /// The same, on the same port, by another name of this machine.
    pub async fn at(host: &str, port: u16) -> Self {
        Self::between(TcpListener::bind((host, port)).await.expect("nobody else listens there"), port)
    }

    fn between(listener: TcpListener, port: u16) -> Self {
        let own_port = listener.local_addr().expect("bound").port();
        let (trouble, seen) = watch::channel(None);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    // A server that is dead refuses: the client sees its connection end.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                        Connection::of(seen).carry(client, server).await;
                    }
                });
            }
        });
        Self { port: own_port, trouble, listening }
    }

    /// The port where it begins.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it begins.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on this is wrong with it. What arrives after this returns meets it.
    pub fn trouble(&self, trouble: Trouble) {
        self.trouble.send_replace(Some(trouble));
    }

    /// Nothing is wrong with it any more.
    pub fn heal(&self) {
        self.trouble.send_replace(None);
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// One connection, in both directions.
#[derive(Clone)]
struct Connection {
    trouble: watch::Receiver<Option<Trouble>>,
    is_silent: Arc<AtomicBool>,
    /// Bytes of answers carried since the trouble began.
    answered: Arc<AtomicUsize>,
}

/// What becomes of some bytes.
enum Fate {
    Carried(usize),
    Lost,
    CutAfter(usize),
}

impl Connection {
    fn of(trouble: watch::Receiver<Option<Trouble>>) -> Self {
        Self { trouble, is_silent: Arc::default(), answered: Arc::default() }
    }

    /// Until one side ends it, or the trouble does.
    async fn carry(self, client: TcpStream, server: TcpStream) {
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a live socket");
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let mut watched = self.clone();
        tokio::select! {
            () = self.clone().carry_one_way(from_client, to_server, false) => {}
            () = self.carry_one_way(from_server, to_client, true) => {}
            () = watched.watch() => {}
        }
    }

    /// Ends when the connection is cut.
    async fn watch(&mut self) {
        loop {
            let trouble = *self.trouble.borrow_and_update();
            match trouble {
                Some(Trouble::Cut) => return,
                Some(Trouble::Silent) => self.is_silent.store(true, Ordering::Relaxed),
                Some(Trouble::CutAfter(_) | Trouble::SilentAfter(_)) => self.answered.store(0, Ordering::Relaxed),
                Some(Trouble::Stalled | Trouble::Slow(_) | Trouble::SlowTail(_)) | None => {}
            }
            if self.trouble.changed().await.is_err() {
                return;
            }
        }
    }

    async fn carry_one_way(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_answer: bool) {
        let mut bytes = vec![0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let (count, is_cut) = match self.fate(&bytes[..read], is_answer).await {
                Fate::Carried(count) => (count, false),
                Fate::CutAfter(count) => (count, true),
                Fate::Lost => continue,
            };
            if to.write_all(&bytes[..count]).await.is_err() || is_cut {
                return;
            }
        }
    }

    async fn fate(&mut self, bytes: &[u8], is_answer: bool) -> Fate {
        let trouble = *self.trouble.borrow();
        match trouble {
            Some(Trouble::Stalled) => {
                // The link may be gone by then; so is this connection.
                let _ = self.trouble.wait_for(|trouble| *trouble != Some(Trouble::Stalled)).await;
            }
            Some(Trouble::Slow(by)) => sleep(by).await,
            Some(Trouble::SlowTail(by)) if is_answer && holds(bytes, TAIL_ANSWER) => sleep(by).await,
            Some(Trouble::CutAfter(limit)) if is_answer => {
                let before = self.answered.fetch_add(bytes.len(), Ordering::Relaxed);
                if before + bytes.len() > limit {
                    return Fate::CutAfter(limit.saturating_sub(before));
                }
            }
            Some(Trouble::SilentAfter(limit)) if is_answer => {
                let before = self.answered.fetch_add(bytes.len(), Ordering::Relaxed);
                self.is_silent.fetch_or(before + bytes.len() > limit, Ordering::Relaxed);
            }
            // Whoever ends the connection may come later than this.
            Some(Trouble::Cut) => return Fate::CutAfter(0),
            Some(Trouble::Silent) => self.is_silent.store(true, Ordering::Relaxed),
            Some(Trouble::CutAfter(_) | Trouble::SilentAfter(_) | Trouble::SlowTail(_)) | None => {}
        }
        if self.is_silent.load(Ordering::Relaxed) { Fate::Lost } else { Fate::Carried(bytes.len()) }
    }
}

/// Answers to several questions may come in one piece.
fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
