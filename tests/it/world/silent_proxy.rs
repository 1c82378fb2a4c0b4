//! A proxy whose connections can go silent: they stay open and carry nothing any more, as after a machine that lost its power
//! or a firewall that forgot them. New connections are carried.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A proxy before a server on this machine. Its threads end with the connections they carry.
pub struct SilentProxy {
    port: u16,
    /// How often everything went silent.
    silences: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl SilentProxy {
    /// Stands before the server on `port`.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy =
            Self { port: listener.local_addr().expect("bound").port(), silences: Arc::default(), connections: Arc::default() };
        let (silences, connections) = (proxy.silences.clone(), proxy.connections.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let server = TcpStream::connect(("127.0.0.1", port)).expect("the server behind");
                let (client_in, server_out) = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                let (there, back) = (silences.clone(), silences.clone());
                let began = silences.load(Ordering::Relaxed);
                thread::spawn(move || carry(client_in, server_out, || there.load(Ordering::Relaxed) == began));
                thread::spawn(move || carry(server, client, || back.load(Ordering::Relaxed) == began));
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Every connection there is goes silent, for good.
    pub fn silence(&self) {
        self.silences.fetch_add(1, Ordering::Relaxed);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_heard: impl Fn() -> bool) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if is_heard() && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    if is_heard() {
        // The other direction notices.
        let _ = to.shutdown(Shutdown::Both);
    } else {
        // Nobody hears of an end either: both sockets stay open as long as this process.
        std::mem::forget((from, to));
    }
}
