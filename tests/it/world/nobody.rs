//! An address where nobody listens.

use tokio::net::TcpSocket;

/// Keeps an address where nobody listens, for as long as it is held.
pub fn nobody() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    socket
}
