//! A proxy before a Redis: its answers can be held back, and its clock can step, by shifting the seconds in the answers of
//! the tail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::wait::until;

/// A proxy before a Redis. Its threads end with the connections they carry.
pub struct RedisProxy {
    port: u16,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    shift: AtomicI64,
    /// Answers that hold these bytes are held back.
    holding: Mutex<Option<&'static [u8]>>,
    held: AtomicBool,
    may_one_go: AtomicBool,
    /// Questions are held back.
    is_mute: AtomicBool,
}

/// How the answer of the tail begins: nine parts, the first of them ten digits of seconds.
pub const TAIL_ANSWER: &[u8] = b"*9\r\n$10\r\n";

impl RedisProxy {
    /// Stands before the Redis on `port`.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self { port: listener.local_addr().expect("bound").port(), faults: Arc::default() };
        let faults = proxy.faults.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the Redis behind");
                let (client_in, server_out) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                let (faults, is_closed) = (faults.clone(), Arc::new(AtomicBool::new(false)));
                let (closing, asking) = (is_closed.clone(), faults.clone());
                thread::spawn(move || {
                    carry(client_in, server_out, |_| asking.keep_back());
                    closing.store(true, Ordering::Release);
                });
                thread::spawn(move || carry(server, client, |bytes| faults.inflict(bytes, &is_closed)));
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The server's clock steps by so many seconds.
    pub fn step(&self, seconds: i64) {
        self.faults.shift.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Whoever asks through it hears nothing of the stream any more, until the release.
    pub async fn deafen(&self) {
        self.hold(TAIL_ANSWER);
        self.until_holding_one().await;
    }

    /// Whoever asks through it does not reach Redis any more, until the release: what waits to be heard is from before.
    pub fn mute(&self) {
        self.faults.is_mute.store(true, Ordering::Release);
    }

    /// Waits until an answer is being held.
    pub async fn until_holding_one(&self) {
        until("an answer to hold", async || self.is_holding_one().then_some(())).await;
    }

    /// Lets the answer go that is being held, and holds the next one; waits for it.
    pub async fn let_one_go(&self) {
        self.faults.may_one_go.store(true, Ordering::Release);
        until("it to go", async || (!self.faults.may_one_go.load(Ordering::Acquire)).then_some(())).await;
        self.until_holding_one().await;
    }

    /// Holds answers back that hold these bytes, from now on.
    pub fn hold(&self, needle: &'static [u8]) {
        self.faults.held.store(false, Ordering::Relaxed);
        *self.faults.holding.lock().expect("unpoisoned") = Some(needle);
    }

    /// Whether one is.
    pub fn is_holding_one(&self) -> bool {
        self.faults.held.load(Ordering::Relaxed)
    }

    /// Lets answers and questions go.
    pub fn release(&self) {
        self.faults.is_mute.store(false, Ordering::Release);
        *self.faults.holding.lock().expect("unpoisoned") = None;
    }
}

impl Faults {
    fn keep_back(&self) {
        while self.is_mute.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Where nobody waits for the answer any more, nothing is held.
    fn inflict(&self, bytes: &mut [u8], is_closed: &AtomicBool) {
        while self.is_holding(bytes) && !is_closed.load(Ordering::Acquire) {
            if self.may_one_go.load(Ordering::Acquire) {
                self.held.store(false, Ordering::Relaxed);
                self.may_one_go.store(false, Ordering::Release);
                break;
            }
            self.held.store(true, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
        // In a cluster something else is answered before it.
        if let Some(start) = bytes.windows(TAIL_ANSWER.len()).position(|window| window == TAIL_ANSWER) {
            shift_seconds(&mut bytes[start..], self.shift.load(Ordering::Relaxed));
        }
    }

    fn is_holding(&self, bytes: &[u8]) -> bool {
        let holding = *self.holding.lock().expect("unpoisoned");
        holding.is_some_and(|needle| bytes.windows(needle.len()).any(|window| window == needle))
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, change: impl Fn(&mut [u8])) {
    let mut bytes = vec![0; 1 << 20];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        change(&mut bytes[..read]);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    // The other direction notices.
    let _ = to.shutdown(Shutdown::Both);
}

fn shift_seconds(bytes: &mut [u8], seconds: i64) {
    let digits = &mut bytes[TAIL_ANSWER.len()..][..10];
    let told: i64 = std::str::from_utf8(digits).expect("digits").parse().expect("seconds");
    digits.copy_from_slice((told + seconds).to_string().as_bytes());
}
