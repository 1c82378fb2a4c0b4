//! A proxy before a Redis, as some services are: it answers INFO itself, in a way of its own, and may have reads answered by
//! a replica. Everything else it forwards, one command after another.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// A proxy. Its threads end with the connections they carry.
pub struct BlindProxy(u16);

/// Where it forwards to, and what it says for itself.
#[derive(Clone)]
pub struct Blind {
    /// Where writes and scripts go.
    pub primary: u16,
    /// Where reads go.
    pub reads: u16,
    /// The text of INFO; none: an error.
    pub info: Option<String>,
}

/// Commands that a replica may answer.
const READS: [&str; 6] = ["GET", "HGET", "HMGET", "XRANGE", "ZRANGE", "EXISTS"];

impl BlindProxy {
    /// Listens.
    pub fn start(blind: Blind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let blind = blind.clone();
                // Whoever goes away ends it.
                thread::spawn(move || drop(blind.carry(client)));
            }
        });
        Self(port)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0)
    }
}

impl Blind {
    fn carry(self, mut client: TcpStream) -> io::Result<()> {
        let mut asked = BufReader::new(client.try_clone()?);
        let (mut primary, mut reads) = (Upstream::to(self.primary)?, Upstream::to(self.reads)?);
        loop {
            let command = value(&mut asked)?;
            let reply = match name(&command).as_str() {
                "INFO" => self.tell(),
                name if READS.contains(&name) => reads.ask(&command)?,
                _ => primary.ask(&command)?,
            };
            client.write_all(&reply)?;
        }
    }

    fn tell(&self) -> Vec<u8> {
        match &self.info {
            Some(text) => format!("${}\r\n{text}\r\n", text.len()).into_bytes(),
            None => b"-ERR unknown command 'INFO'\r\n".to_vec(),
        }
    }
}

/// A connection to a server behind.
struct Upstream(TcpStream, BufReader<TcpStream>);

impl Upstream {
    fn to(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        Ok(Self(stream.try_clone()?, BufReader::new(stream)))
    }

    fn ask(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(command)?;
        value(&mut self.1)
    }
}

/// The first word of a command, in capitals.
fn name(command: &[u8]) -> String {
    let word = command.split(|byte| *byte == b'\n').nth(2).unwrap_or_default();
    String::from_utf8_lossy(word).trim().to_uppercase()
}

/// One value of the protocol (RESP2), byte for byte.
fn value(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if from.read_until(b'\n', &mut bytes)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = || std::str::from_utf8(&bytes[1..]).ok().and_then(|text| text.trim().parse::<i64>().ok());
    match (bytes[0], number()) {
        (b'$', Some(length @ 0..)) => {
            let length = usize::try_from(length).expect("not negative") + 2;
            let begin = bytes.len();
            bytes.resize(begin + length, 0);
            from.read_exact(&mut bytes[begin..])?;
        }
        (b'*', Some(count @ 1..)) => {
            for _ in 0..count {
                bytes.extend(value(from)?);
            }
        }
        _ => {}
    }
    Ok(bytes)
}
