//! What Redis loses is put back from the journal: after a restart from an old snapshot, or empty, no node says "yes" once more
//! to whom a revocation was acknowledged, and known users are answered again at once. I2, I5, I6.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::world::service::{Deployment, READ_KEY, Setup, World, run_test};
use crate::world::wait::{until, until_eq};
use crate::world::webhooks::event;

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";
const HISTORY: &str = "{user-orgs:~changes}:history";

impl World {
    /// Waits until nothing of the stream's history is in doubt: a new Redis is, until a node has looked through the journal.
    pub async fn until_whole(&mut self) {
        let redis = self.redis();
        until_eq("the history is whole", "1".to_owned(), || redis.query(&["HGET", HISTORY, "whole"])).await;
    }

    /// Waits until the user's one message was applied once more, and the history is whole. A snapshot says that it is, too.
    pub async fn until_put_back(&mut self, user: &str) {
        until("the message to be applied again", async || (self.applied_by(user).await == ["applied failover"]).then_some(()))
            .await;
        self.until_whole().await;
    }

    async fn applied_by(&self, user: &str) -> Vec<String> {
        let filter =
            rollcall::journal::Filter { user: Some(rollcall::domain::UserId::parse(user).expect("an id")), ..Default::default() };
        let rows = self.journal.list(&filter, 100).await.expect("the journal answers");
        rows.into_iter().map(|row| format!("{} {}", row.state, row.applied_by.unwrap_or_default())).collect()
    }
}

/// Asks every node for one membership, over and over, and counts who says "yes".
struct Watch {
    is_over: Arc<AtomicBool>,
    readers: Vec<tokio::task::JoinHandle<usize>>,
}

impl Watch {
    fn begin(world: &World) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let readers = world.nodes.iter().map(|node| {
            let (http, url, is_over) = (world.http.clone(), node.url(), is_over.clone());
            tokio::spawn(async move {
                let mut yes = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let request = http.get(format!("{url}/v1/users/{ADA}/orgs/{WORKS}")).bearer_auth(READ_KEY);
                    yes += usize::from(request.send().await.expect("an answer").status() == 200);
                }
                yes
            })
        });
        Self { readers: readers.collect(), is_over }
    }

    async fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        let mut yes = 0;
        for reader in self.readers {
            yes += reader.await.expect("no panic");
        }
        yes
    }
}

/// The snapshot holds the value from before the revocation, and nothing of the revocation; Clerk's replicas still show it.
#[tokio::test(flavor = "multi_thread")]
async fn i5_a_revocation_outlives_a_redis_set_back_to_before_it() {
    run_test(Deployment::Redis(3), Setup::default(), async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.until_whole().await;
        world.until_shared(ADA).await;
        assert!(world.redis().query(&["GET", "user-orgs:user_ada"]).contains(WORKS), "it is in the snapshot");
        world.redis().save();
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        for node in 0..3 {
            until("the revocation", async || {
                (world.ask(node, &format!("/v1/users/{ADA}/orgs/{WORKS}")).await.ok()?.status == 404).then_some(())
            })
            .await;
        }
        let watch = Watch::begin(world);
        world.redis().restore();
        world.until_put_back(ADA).await;
        // What stayed in doubt is an answer again, and was put right before it was.
        let redis = world.redis();
        until_eq("no value says yes", false, || redis.query(&["GET", "user-orgs:user_ada"]).contains(WORKS)).await;
        for node in 0..3 {
            let answer = world.ask(node, &format!("/v1/users/{ADA}/orgs/{WORKS}")).await?;
            assert_eq!(answer.status, 404, "node {node}");
        }
        assert_eq!(watch.end().await, 0, "somebody said yes");
        Ok(())
    })
    .await;
}

/// Without the repair everybody would be asked of Clerk again; with it, a value that outlived the break is an answer again.
#[tokio::test(flavor = "multi_thread")]
async fn what_outlived_a_break_is_an_answer_again_without_asking_the_origin() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.check(ADA, WORKS).await?.is_member();
        world.until_whole().await;
        world.until_shared(ADA).await;
        assert_eq!(world.redis().query(&["SAVE"]), "OK");
        world.redis().restart();
        // Another server: its history is in doubt until the journal, with nothing to put back, was looked through.
        world.clerk.calls().reset();
        until("an answer from Redis", async || {
            let answer =
                world.ask_with(0, &format!("/v1/users/{ADA}/orgs"), &[("cache-control", "only-if-cached")]).await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
        assert_eq!(world.clerk.calls().total(), 0);
        Ok(())
    })
    .await;
}

/// What a node with another journal acknowledged nobody can put back, so nobody says that all was.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_not_whole_while_a_node_has_another_journal() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.until_whole().await;
        let beat = "redis.call('ZADD', 'user-orgs:~nodes', redis.call('TIME')[1] * 1000 + 60000, 'another/node')";
        world.redis().query(&["EVAL", beat, "0"]);
        let ready = async |world: &World| world.readiness().await.map(|answer| answer.json());
        until("it to be noticed", async || (ready(world).await.ok()?["stream"]["hasOtherJournal"] == true).then_some(())).await;
        assert_eq!(ready(world).await?["status"], "degraded");
        world.redis().query(&["HSET", HISTORY, "whole", "0", "since", "1"]);
        // Two beats are longer than a repair takes.
        let beat = |world: &mut World| -> Option<f64> {
            let ours = format!("{}/", world.journal.id());
            let beats = world.redis().query(&["ZRANGE", "user-orgs:~nodes", "0", "-1", "WITHSCORES"]);
            beats.lines().skip_while(|line| !line.starts_with(&ours)).nth(1)?.parse().ok()
        };
        let first = beat(world).expect("a beat");
        until_eq("two more beats", true, || beat(world).is_some_and(|beat| beat >= first + 4_000.0)).await;
        assert_eq!(world.redis().query(&["EXISTS", "{user-orgs:~changes}:repair"]), "0");
        assert_eq!(world.redis().query(&["HGET", HISTORY, "whole"]), "0");
        world.redis().query(&["ZREM", "user-orgs:~nodes", "another/node"]);
        world.until_whole().await;
        Ok(())
    })
    .await;
}

/// During a deploy an older node may hold the right to repair: what it can read it applies, and calls nothing whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_not_whole_while_a_message_of_it_cannot_be_read() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        world.until_whole().await;
        for user in ["user_noor", ADA] {
            world.take(&event("user.created", serde_json::json!({ "id": user }))).await?;
        }
        let later =
            r#"update webhook_messages set payload = '{"change":{"kind":"ofALaterRelease"}}' where user_id = 'user_noor'"#;
        assert_eq!(world.sql(later).await, 1);
        world.redis().restart();
        until("what can be read to be applied", async || (world.applied_by(ADA).await == ["applied failover"]).then_some(()))
            .await;
        let redis = world.redis();
        until_eq("the right to be given back", "0".to_owned(), || redis.query(&["EXISTS", "{user-orgs:~changes}:repair"])).await;
        assert_eq!(redis.query(&["HGET", HISTORY, "whole"]), "0");
        assert_eq!(world.applied_by("user_noor").await, ["applied inline"]);
        Ok(())
    })
    .await;
}

/// The stream is gone as a whole, and with it every change of the last half hour.
#[tokio::test(flavor = "multi_thread")]
async fn i5_changes_are_put_back_into_a_stream_that_was_lost() {
    run_test(Deployment::Redis(2), Setup::default(), async |world: &mut World| {
        world.list(ADA).await?;
        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        world.until_whole().await;
        world.redis().restart();
        world.until_put_back(ADA).await;
        let entries = world.redis().query(&["XRANGE", "user-orgs:~changes", "-", "+"]);
        assert!(entries.contains("membershipDeleted"), "{entries}");
        Ok(())
    })
    .await;
}
