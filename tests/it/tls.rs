//! Redis over TLS: the whole way on two processes, and what is said of a server that is not to be trusted. I2, I6.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rollcall::dev::World as ClerkWorld;

use crate::world::answer::Answer;
use crate::world::certificates::Authority;
use crate::world::fleet::Fleet;
use crate::world::redis_server::{RedisServer, free_port};
use crate::world::rollcall::hex_digest;
use crate::world::service::READ_KEY;
use crate::world::shell::Shell;
use crate::world::wait::until;

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";

/// A server that speaks TLS on a second port.
fn start(authority: &Authority, names: &str) -> (RedisServer, u16) {
    let port = free_port();
    let arguments = authority.issue(names).arguments(port);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    (RedisServer::start_with(&arguments), port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_reaches_two_processes_through_an_encrypted_redis() -> anyhow::Result<()> {
    let authority = Authority::new();
    let (redis, port) = start(&authority, "IP:127.0.0.1");
    let (url, file) = (format!("rediss://127.0.0.1:{port}"), authority.file().display().to_string());
    let fleet = Fleet::start_on(redis, 2, ClerkWorld::small(), &[("REDIS_URL", &url), ("SSL_CERT_FILE", &file)]).await;
    let check = async |node: usize| {
        let url = format!("{}/v1/users/{ADA}/orgs/{WORKS}", fleet.urls()[node]);
        Answer::of(fleet.http.get(url).bearer_auth(READ_KEY).send().await?).await
    };
    for node in 0..2 {
        check(node).await?.is_member();
    }
    check(1).await?.came("hit; detail=local");

    let left = fleet.clerk.world().lock().revoke(ADA, WORKS).expect("the world allows it");
    for message in &left.messages {
        let delivery = fleet.clerk.sender().deliver_now(message, &format!("{}/webhooks/clerk", fleet.urls()[0])).await;
        assert_eq!(delivery.status, Some(204));
    }
    for node in 0..2 {
        until("the revocation", async || (check(node).await.ok()?.status == 404).then_some(())).await;
    }
    let redis = fleet.redis.lock().await;
    let clients = redis.query(&["CLIENT", "LIST", "TYPE", "NORMAL"]);
    let (encrypted, plain): (Vec<_>, Vec<_>) =
        clients.lines().filter(|line| !line.is_empty()).partition(|line| line.contains(&format!("laddr=127.0.0.1:{port} ")));
    assert!(encrypted.len() >= 2 * 3 && plain.len() == 1, "the test's own is the only plain one: {clients}");
    Ok(())
}

/// Starts the binary on this Redis, and answers the line of its log that says why it starts without.
fn complaint(url: &str, trusted: &Authority) -> String {
    let shell = Shell::new()
        .set("CLERK_SECRET_KEY", "sk_test_0123456789")
        .set("CLERK_API_URL", "http://127.0.0.1:9")
        .set("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
        .set("ROLLCALL_API_KEYS", &format!("test:read:{}", hex_digest(READ_KEY)))
        .set("ROLLCALL_LISTEN", "127.0.0.1:0")
        .set("REDIS_URL", url)
        .set("SSL_CERT_FILE", &trusted.file().display().to_string());
    for _ in 0..10 {
        let mut serve = shell.command(&["serve"]).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut log = BufReader::new(serve.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let said = log.by_ref().take(50).find(|line| line.contains("starting without Redis"));
        // Already gone is as good.
        let _ = serve.kill();
        let _ = serve.wait();
        // On a busy machine a second may not be enough for a handshake.
        if let Some(said) = said.filter(|said| !said.contains("in time")) {
            return said;
        }
    }
    panic!("nothing is said of {url}")
}

#[test]
fn a_server_that_is_not_to_be_trusted_is_refused_and_the_log_says_why() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (redis, port) = start(&authority, "DNS:redis.example.test");
    let check = |url: &str, trusted: &Authority, expected: &str| {
        let said = complaint(url, trusted);
        assert!(said.contains(expected), "{said}");
    };
    let url = format!("rediss://127.0.0.1:{port}");
    check(&url, &stranger, "its issuer is unknown here; name the file of its CA in SSL_CERT_FILE");
    check(&url, &authority, "it is for another name than the one in REDIS_URL");
    assert_eq!(redis.query(&["DBSIZE"]), "0", "nothing was written");
}
