//! Sentinels that are away, dead, or know another name; passwords of theirs and of the primary's.

use rollcall::ports::{Break, ChangeStream};

use crate::world::faulty_link::{FaultyLink, Trouble};
use crate::world::redis_node::{RedisNode, change, connect};
use crate::world::redis_server::RedisServer;
use crate::world::sentinels::Sentinels;
use crate::world::shell::Shell;
use crate::world::wait::until;

/// Nothing to ask yet; everything heals by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_before_its_sentinels_can_be_reached_finds_them_later() {
    let redis = Sentinels::start(0).await;
    let mut links = Vec::new();
    for port in redis.ports() {
        let link = FaultyLink::to(port).await;
        link.trouble(Trouble::Cut);
        links.push(link);
    }
    let hosts: Vec<_> = links.iter().map(|link| format!("127.0.0.1:{}", link.port())).collect();
    let node = RedisNode::start(&format!("redis+sentinel://{}/main", hosts.join(","))).await;
    assert!(node.stream.append(&change(1)).await.is_err());
    links.iter().for_each(FaultyLink::heal);
    node.caught_up().await;
    until("an append to be confirmed", async || node.stream.append(&change(1)).await.ok()).await;
}

/// Two of three are enough for them, and for us; one that hangs keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed_with_one_sentinel_dead_and_with_one_that_hangs() {
    let mut redis = Sentinels::start(1).await;
    let hanging = FaultyLink::to(redis.ports()[0]).await;
    let ports = redis.ports();
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}/main", hanging.port(), ports[1], ports[2]);
    hanging.trouble(Trouble::Stalled);
    let began = std::time::Instant::now();
    let beside_hanging = RedisNode::started(&url).await;
    println!("the fence moves {:?} after a start beside a sentinel that hangs", began.elapsed());
    let beside_dead = RedisNode::started(&redis.url()).await;
    redis.kill_sentinel(0);
    redis.servers[0].kill();
    redis.promoted_after(0).await;
    for node in [&beside_hanging, &beside_dead] {
        node.broke(Break::PrimaryChanged).await;
        until("an append to be confirmed again", async || node.stream.append(&change(2)).await.ok()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_sentinels_do_not_know_stops_a_start_and_is_told() {
    let redis = Sentinels::start(0).await;
    let url = redis.url().replace("/main", "/mian");
    let error = connect(&url).await.expect_err("it must not start").to_string();
    assert!(error.contains("know no primary called \"mian\"") && error.contains("REDIS_URL"), "{error}");
    assert!(connect(&redis.url()).await.is_ok());
}

/// What they would be is written nowhere, however much is logged.
const PRIMARY: &str = "pr1mary p@ss/wörd";
const SENTINEL: &str = "s3ntinel:p@ss?";
const PRIMARY_ENCODED: &str = "pr1mary%20p%40ss%2Fw%C3%B6rd";
const SENTINEL_ENCODED: &str = "s3ntinel%3Ap%40ss%3F";

async fn guarded() -> Sentinels {
    let primary = tokio::task::block_in_place(RedisServer::start);
    assert_eq!(primary.query(&["CONFIG", "SET", "requirepass", PRIMARY]), "OK");
    let auth = format!("sentinel auth-pass main \"{PRIMARY}\"");
    let (require, mutual) = (format!("requirepass \"{SENTINEL}\""), format!("sentinel sentinel-pass \"{SENTINEL}\""));
    Sentinels::start_with(primary, &[&auth, &require, &mutual]).await
}

fn url(redis: &Sentinels, primary: &str, sentinel: &str) -> String {
    let plain = redis.url();
    let plain = plain.strip_prefix("redis+sentinel://").expect("its scheme");
    format!("redis+sentinel://:{primary}@{plain}?sentinel_password={sentinel}")
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_the_primary_and_of_the_sentinels_are_decoded_and_used() {
    let redis = guarded().await;
    let right = url(&redis, PRIMARY_ENCODED, SENTINEL_ENCODED);
    until("the sentinels to be up", async || connect(&right).await.ok()?.check().await.ok()).await;
    let node = RedisNode::started(&right).await;
    node.append(&change(1)).await;
    for (primary, sentinel, word) in
        [("wrong", SENTINEL_ENCODED, "Redis cannot be reached"), (PRIMARY_ENCODED, "wrong", "the sentinels refuse us")]
    {
        let refused = connect(&url(&redis, primary, sentinel)).await.expect("it may heal").check().await;
        let error = refused.expect_err("it must not be let in").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_of_a_sentinel_url_is_logged() {
    let redis = guarded().await;
    let bad = [
        url(&redis, "pr1mary-wrong", SENTINEL_ENCODED),
        url(&redis, PRIMARY_ENCODED, "s3ntinel-wrong"),
        url(&redis, PRIMARY_ENCODED, SENTINEL_ENCODED).replace("/main", "/mian"),
        url(&redis, PRIMARY_ENCODED, SENTINEL_ENCODED).replace("sentinel_password", "password"),
        url(&redis, PRIMARY, SENTINEL_ENCODED),
        url(&redis, PRIMARY_ENCODED, SENTINEL_ENCODED),
    ];
    let port_taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for url in bad {
        let shell = Shell::new()
            .set("CLERK_SECRET_KEY", "sk_test_0123456789")
            .set("CLERK_API_URL", "http://127.0.0.1:9")
            .set("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
            .set("ROLLCALL_API_KEYS", &format!("web:read:{}", "ab".repeat(32)))
            .set("ROLLCALL_LOG", "trace")
            .set("ROLLCALL_LISTEN", &port_taken.local_addr().expect("bound").to_string())
            .set("ROLLCALL_REDIS_REPLICAS", "0")
            .set("REDIS_URL", &url);
        // It ends, at the latest because its port is taken.
        let ran = tokio::task::block_in_place(|| shell.run(&["serve"]));
        let written = ran.out() + &ran.err();
        assert!(written.len() > 40, "{written}");
        for secret in ["pr1mary", "s3ntinel"] {
            assert!(!written.contains(secret), "{secret} is in: {written}");
        }
    }
}
