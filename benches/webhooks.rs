//! Webhooks a second, recorded durably and applied: the real binary on SQLite and a Redis of its own, 64 senders that keep
//! their connections, and then a steady pace. Started by `scripts/bench-webhooks`.
//!
//! `webhooks BINARY SECONDS PACE`: the binary to measure, how long each part takes, webhooks a second of the steady part.
//! Signatures are made before a part begins. Everything listens on loopback and ends with this process.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use rollcall::clock;
use rollcall::dev::sign::signed_headers;
use rollcall::dev::{NewOrganization, NewUser, Options, StandIn, World};
use rollcall::journal::{Settings, Sharing, SqlJournal};
use rollcall::ports::Journal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

const SENDERS: usize = 64;
const USERS: usize = 2_000;
const ORGANIZATIONS: usize = 10;
/// More than can be taken in a second.
const PER_SECOND_MAX: usize = 12_000;
/// A part lasts so long at most: signatures are good for five minutes.
const SECONDS_MAX: u64 = 60;
/// Clock ticks of `/proc` in a second, on every Linux that the binary runs on.
const TICKS: f64 = 100.0;

/// A process that ends with this one.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Seconds of processor time so far.
    fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        (ticks(11) + ticks(12)) / TICKS
    }
}

/// What a part measured.
struct Part {
    took: Duration,
    statuses: BTreeMap<u16, usize>,
    latencies: Vec<Duration>,
    server_seconds: f64,
    redis_seconds: f64,
}

impl Part {
    fn percentile(&self, percent: f64) -> f64 {
        let at = (self.latencies.len() as f64 * percent / 100.0) as usize;
        self.latencies.get(at.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    fn print(&self, name: &str) {
        let taken = self.statuses.get(&204).copied().unwrap_or_default();
        let each = |seconds: f64| seconds * 1e6 / taken.max(1) as f64;
        println!(
            "| {name} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:?} |",
            taken as f64 / self.took.as_secs_f64(),
            self.percentile(50.0),
            self.percentile(99.0),
            self.percentile(100.0),
            each(self.server_seconds),
            each(self.redis_seconds),
            self.statuses
        );
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, binary, seconds, pace] = arguments.as_slice() else {
        // Run by `cargo bench` or a test runner without arguments: there is nothing to measure alone.
        return Ok(());
    };
    let (seconds, pace) = (seconds.parse::<u64>()?.clamp(1, SECONDS_MAX), pace.parse::<usize>()?.clamp(1, PER_SECOND_MAX));
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(run(binary, seconds, pace))
}

async fn run(binary: &str, seconds: u64, pace: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let (redis_port, address) = (free_port()?, SocketAddr::from(([127, 0, 0, 1], free_port()?)));
    let redis = start_redis(redis_port, folder.path())?;
    let clerk = StandIn::start(Options { world: world(), ..Options::default() }).await?;
    let server = start_server(binary, &clerk, redis_port, address, folder.path())?;
    until_listening(address).await?;

    println!("| part | webhooks/s | ack p50 ms | p99 ms | max ms | server CPU µs each | Redis CPU µs each | answers |");
    println!("|---|---|---|---|---|---|---|---|");
    let length = Duration::from_secs(seconds);
    let requests = requests(&clerk, PER_SECOND_MAX * 2);
    measure(&server, &redis, address, requests, (Duration::from_secs(2), None)).await?.print("warm-up, 2 s");
    let requests = self::requests(&clerk, PER_SECOND_MAX * usize::try_from(seconds)?);
    measure(&server, &redis, address, requests, (length, None)).await?.print(&format!("{SENDERS} senders, {seconds} s"));
    let requests = self::requests(&clerk, pace * usize::try_from(seconds)?);
    measure(&server, &redis, address, requests, (length, Some(pace))).await?.print(&format!("{pace} a second, {seconds} s"));

    let url = format!("sqlite://{}", folder.path().join("rollcall.db").display());
    let settings = Settings { url: url.into(), io: tokio::runtime::Handle::current() };
    let journal = SqlJournal::open(settings, Sharing::Operator).await?;
    println!("\nrows at the end: {:?}", journal.stats().await?);
    journal.close().await;
    clerk.stop().await;
    Ok(())
}

fn world() -> World {
    let mut world = World::new();
    world.seed(|world| {
        for n in 0..ORGANIZATIONS {
            let (id, slug) = (Some(format!("org_{n}")), Some(format!("slug-{n}")));
            let new = NewOrganization { id, name: format!("Organization {n}"), slug, created_by: None };
            world.create_organization(new).expect("a new organization");
        }
        for n in 0..USERS {
            world.create_user(NewUser { id: Some(format!("user_{n}")), ..NewUser::default() }).expect("a new user");
        }
    });
    world
}

/// Webhooks of joining, another role, and leaving, for everybody in turn: whole requests, signed.
fn requests(clerk: &StandIn, count: usize) -> Vec<Vec<u8>> {
    let (secret, now) = (clerk.sender().secret(), i64::try_from(clock::wall().as_secs()).expect("a time"));
    let mut world = clerk.world().lock();
    (0..count)
        .map(|n| {
            let (user, organization) = (format!("user_{}", n % USERS), format!("org_{}", n / USERS / 3 % ORGANIZATIONS));
            let done = match world.membership(&user, &organization).map(|row| row.role.as_str()) {
                None => world.grant(&user, &organization, "org:member"),
                Some("org:member") => world.change_role(&user, &organization, "org:admin"),
                Some(_) => world.revoke(&user, &organization),
            };
            let message = done.expect("the world allows it").messages.remove(0);
            let headers = signed_headers(&secret, &message.id, now, &message.body).expect("it can be signed");
            let mut head = "POST /webhooks/clerk HTTP/1.1\r\nhost: rollcall\r\ncontent-type: application/json\r\n".to_owned();
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            head += &format!("content-length: {}\r\n\r\n", message.body.len());
            [head.as_bytes(), &message.body].concat()
        })
        .collect()
}

/// Sends until the time is over: each sender the next one as soon as it has an answer, or at a pace, where what is late counts
/// from when it was due.
async fn measure(
    server: &Running,
    redis: &Running,
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    (length, pace): (Duration, Option<usize>),
) -> anyhow::Result<Part> {
    let (next, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(requests));
    let (server_before, redis_before, began) = (server.cpu_seconds(), redis.cpu_seconds(), Instant::now());
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(send(address, requests.clone(), next.clone(), (began, length, pace)));
    }
    let mut part =
        Part { took: length, statuses: BTreeMap::new(), latencies: Vec::new(), server_seconds: 0.0, redis_seconds: 0.0 };
    while let Some(sent) = senders.join_next().await {
        for (status, latency) in sent?? {
            *part.statuses.entry(status).or_default() += 1;
            part.latencies.push(latency);
        }
    }
    part.took = began.elapsed();
    part.latencies.sort_unstable();
    (part.server_seconds, part.redis_seconds) = (server.cpu_seconds() - server_before, redis.cpu_seconds() - redis_before);
    Ok(part)
}

async fn send(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    (began, length, pace): (Instant, Duration, Option<usize>),
) -> anyhow::Result<Vec<(u16, Duration)>> {
    let (mut connection, mut answers, mut buffer) = (TcpStream::connect(address).await?, Vec::new(), vec![0; 16 << 10]);
    connection.set_nodelay(true)?;
    while began.elapsed() < length {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(request) = requests.get(number) else { break };
        let mut sent_at = Instant::now();
        if let Some(pace) = pace {
            sent_at = began + Duration::from_secs_f64(number as f64 / pace as f64);
            sleep_until(sent_at.into()).await;
        }
        connection.write_all(request).await?;
        let mut read = 0;
        // A 204 ends with its head; anything else is told and ends the measurement.
        while !buffer[..read].ends_with(b"\r\n\r\n") {
            let more = connection.read(&mut buffer[read..]).await?;
            anyhow::ensure!(more > 0, "the connection ended: {}", String::from_utf8_lossy(&buffer[..read]));
            read += more;
            anyhow::ensure!(
                read < 4 || buffer.starts_with(b"HTTP/1.1 204") || read < 12,
                "{}",
                String::from_utf8_lossy(&buffer[..read])
            );
        }
        answers.push((204, sent_at.elapsed()));
    }
    Ok(answers)
}

fn start_redis(port: u16, folder: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    Ok(Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("redis-server is needed to measure")?))
}

fn start_server(binary: &str, clerk: &StandIn, redis_port: u16, address: SocketAddr, folder: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .env_clear()
        .current_dir(folder)
        .env("CLERK_SECRET_KEY", clerk.secret_key())
        .env("CLERK_API_URL", clerk.url())
        .env("CLERK_WEBHOOK_SIGNING_SECRET", clerk.sender().secret())
        .env("REDIS_URL", format!("redis://127.0.0.1:{redis_port}"))
        .env("ROLLCALL_API_KEYS", format!("bench:read:{}", "0".repeat(64)))
        .env("ROLLCALL_LISTEN", address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(Running(command.spawn().context("the binary does not start")?))
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn until_listening(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the binary does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
