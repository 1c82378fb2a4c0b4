//! A proxy before a Redis: its answers can be held back, and its clock can step, by shifting the seconds in the answers of
//! the tail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
                let faults = faults.clone();
                thread::spawn(move || carry(client_in, server_out, |_| {}));
                thread::spawn(move || carry(server, client, |bytes| faults.inflict(bytes)));
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

    /// Holds answers back that hold these bytes, from now on.
    pub fn hold(&self, needle: &'static [u8]) {
        self.faults.held.store(false, Ordering::Relaxed);
        *self.faults.holding.lock().expect("unpoisoned") = Some(needle);
    }

    /// Whether an answer is being held.
    pub fn is_holding_one(&self) -> bool {
        self.faults.held.load(Ordering::Relaxed)
    }

    /// Lets the answers go.
    pub fn release(&self) {
        *self.faults.holding.lock().expect("unpoisoned") = None;
    }
}

impl Faults {
    fn inflict(&self, bytes: &mut [u8]) {
        while self.is_holding(bytes) {
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
