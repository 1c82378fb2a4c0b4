//! Starts, restarts and stops: whose journal it is, what is made good when a process comes back, and that a stop marks
//! nothing as done. I2, I5.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rollcall::app;
use rollcall::config::Config;
use rollcall::journal::{Settings, Sharing, SqlJournal};
use rollcall::ports::{Journal, JournalError};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{ADA, WORKS, on_both_databases, open_message};
use crate::world::postgres::Postgres;
use crate::world::served::Served;
use crate::world::service::{Deployment, Node, Setup, World, run_test};
use crate::world::silent_proxy::SilentProxy;
use crate::world::wait::until;
use crate::world::webhooks::{Webhook, event, now};

impl World {
    /// The first node stops, and another starts in its place.
    async fn restart_node(&mut self) {
        self.stop_nodes().await;
        self.add_node().await;
    }

    /// As after a crash between the change and its outcome, or after the outcome could not be written.
    async fn forget_outcome(&self, webhook: &Webhook) {
        let id = webhook.header("svix-id");
        let open = "state = 'pending', applied_at_ms = null, applied_by = null, next_attempt_at_ms = opened_at_ms + 3600000";
        assert_eq!(self.sql(&format!("update webhook_messages set {open} where message_id = '{id}'")).await, 1);
    }
}

/// Of two openings of one journal, the second gets it when the first lets go.
async fn expect_turns(url: &str, sharing: Sharing) {
    let open = || SqlJournal::open(Settings { url: url.to_owned().into(), io: Handle::current() }, sharing);
    let first = open().await.expect("a journal");
    let mut second = tokio::spawn(open());
    assert!(timeout(Duration::from_millis(400), &mut second).await.is_err(), "it waits");
    let operator = Settings { url: url.to_owned().into(), io: Handle::current() };
    let operator = SqlJournal::open(operator, Sharing::Operator).await.expect("an operator waits for nobody");
    operator.stats().await.expect("and may look");
    assert!(!second.is_finished());
    first.close().await;
    let second = second.await.expect("no panic").expect("it opens");
    assert_eq!(second.id(), first.id());
    assert!(matches!(first.make_all_due().await, Err(JournalError::Unavailable { .. })), "the first has let go");
    second.make_all_due().await.expect("the second has it");
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_one_processs_and_the_next_one_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("rollcall.db").display());
    expect_turns(&url, Sharing::Alone).await;
    expect_turns(&url, Sharing::Nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_without_redis_is_one_processs_too() {
    let postgres = Postgres::start();
    expect_turns(&postgres.url(), Sharing::Alone).await;
}

/// The lock goes with its connection. Whoever held it takes it again before another process can start.
#[tokio::test(flavor = "multi_thread")]
async fn the_lock_in_postgres_outlives_a_restart_of_postgres() {
    let mut postgres = Postgres::start();
    let settings = Settings { url: postgres.url().into(), io: Handle::current() };
    let first = SqlJournal::open(settings.clone(), Sharing::Alone).await.expect("a journal");
    let look = AnyLook::connect(&postgres).await;
    assert_eq!(look.locks().await, 1);
    postgres.restart();
    let look = AnyLook::connect(&postgres).await;
    until("the lock to be taken again", async || (look.locks().await == 1).then_some(())).await;
    let second = tokio::spawn(SqlJournal::open(settings, Sharing::Alone));
    first.make_all_due().await.expect("the first has it");
    assert!(!second.is_finished());
    first.close().await;
    second.await.expect("no panic").expect("it opens").close().await;
}

/// Its connection went silent, and Postgres does not know yet: the lock is still held, by nobody but itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_held_by_its_own_broken_connection_is_taken_again() {
    let postgres = Postgres::start();
    let proxy = SilentProxy::before(postgres.port());
    let settings = Settings { url: postgres.url_at(proxy.port()).into(), io: Handle::current() };
    let journal = SqlJournal::open(settings, Sharing::Alone).await.expect("a journal");
    let look = AnyLook::connect(&postgres).await;
    let first = look.holder().await.expect("a holder");
    proxy.silence();
    until("another connection to have it", async || look.holder().await.filter(|holder| *holder != first)).await;
    assert_eq!(look.locks().await, 1);
    assert!(timeout(Duration::ZERO, journal.taken_over()).await.is_err(), "nobody else has taken it");
}

/// Nodes of one Redis share the lock; a process that has none, and so would apply to itself alone, is kept out, and waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_redis_stays_off_the_journal_of_a_fleet() {
    let postgres = Postgres::start();
    let settings = Settings { url: postgres.url().into(), io: Handle::current() };
    let fleet = [
        SqlJournal::open(settings.clone(), Sharing::Nodes).await.expect("a journal"),
        SqlJournal::open(settings.clone(), Sharing::Nodes).await.expect("the same journal"),
    ];
    let look = AnyLook::connect(&postgres).await;
    assert_eq!(look.locks().await, 2);
    let waiting = tokio::spawn(SqlJournal::open(settings, Sharing::Alone));
    let [first, second] = fleet;
    first.close().await;
    until("one lock to be left", async || (look.locks().await == 1).then_some(())).await;
    second.make_all_due().await.expect("the fleet has it");
    assert!(!waiting.is_finished());
    second.close().await;
    waiting.await.expect("no panic").expect("it opens").close().await;
}

/// During a deploy, and after one that is taken back, a release runs on a form that a later one has made.
#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_a_later_release_is_borne() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        let later = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
            select version + 10000000000, 'of a later release', success, checksum, execution_time
            from _sqlx_migrations order by version desc limit 1";
        assert_eq!(world.sql(later).await, 1);
        let settings = Settings { url: world.config().database_url.clone(), io: Handle::current() };
        assert!(SqlJournal::migrate(settings.clone()).await?.is_empty());
        SqlJournal::open(settings, Sharing::Operator).await?.close().await;
        Ok(())
    })
    .await;
}

/// Whoever waits for silence must not begin anew with each start.
#[tokio::test(flavor = "multi_thread")]
async fn when_the_last_message_came_outlives_a_restart() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        assert_eq!(world.metric_of(0, "rollcall_last_verified_message_timestamp_seconds", "").await, 0.0);
        let webhook = world.ada_leaves();
        assert_eq!(world.post(&webhook).await?.status, 204);
        let seen = world.row(&webhook).await.expect("a row").last_seen_at_ms;
        world.restart_node().await;
        until("the moment to be known", async || {
            let told = world.metric_of(0, "rollcall_last_verified_message_timestamp_seconds", "").await;
            (told == (seen / 1_000) as f64).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// What is made due later could be what a delivery has just opened, and the worker would be at it beside the delivery.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_is_due_before_anybody_can_deliver() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.stop_nodes().await;
        let open = open_message("msg_open", Some(r#"{"change":{"kind":"ofALaterRelease"}}"#));
        world.journal.record(&open).await?;
        let app = app::build_on(world.config().clone(), world.journal.clone(), Handle::current()).await?;
        let row = world.journal.show(&open.id).await?.expect("a row");
        let now_ms = world.journal.now().await?.as_millis() as i64;
        // Once it was claimed to be remembered; the worker, that runs already, may have claimed it since.
        assert!(row.attempts > 2 || row.next_attempt_at_ms <= Some(now_ms), "{row:?} at {now_ms}");
        app.run_until(std::future::ready(())).await?;
        Ok(())
    })
    .await;
}

/// Who has no Redis hears of nobody else's changes: it must not go on saying "yes" beside another.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_journal_was_taken_by_another_ends() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let postgres = Postgres::start();
        let config = Config { database_url: postgres.url().into(), ..world.config().clone() };
        let app = app::build(config, Handle::current()).await?;
        let address = app.address();
        let serving = tokio::spawn(app.run_until(std::future::pending()));
        AnyLook::connect(&postgres).await.take_over().await;
        let ended = timeout(Duration::from_secs(10), serving).await.expect("it ends")?;
        assert!(ended.expect_err("not as if it were told to").to_string().contains("another process"));
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it still listens");
        Ok(())
    })
    .await;
}

/// A look into Postgres, past the journal.
struct AnyLook(sqlx::AnyPool);

impl AnyLook {
    async fn connect(postgres: &Postgres) -> Self {
        sqlx::any::install_default_drivers();
        Self(sqlx::AnyPool::connect(&postgres.url()).await.expect("it answers"))
    }

    /// Breaks the connection that holds the lock, and takes the lock.
    async fn take_over(&self) {
        use sqlx::Row;
        let mut connection = self.0.acquire().await.expect("it answers").detach();
        let ending = "select objid::bigint | (classid::bigint << 32) as lock, pg_terminate_backend(pid) from pg_locks
            where locktype = 'advisory' and granted";
        let lock: i64 = sqlx::query(ending).fetch_one(&mut connection).await.expect("it answers").get("lock");
        sqlx::query("select pg_advisory_lock($1)").bind(lock).execute(&mut connection).await.expect("it is free");
        // For the rest of the test.
        std::mem::forget(connection);
    }

    /// The server's process that holds the lock.
    async fn holder(&self) -> Option<i32> {
        let question = sqlx::query_scalar("select pid from pg_locks where locktype = 'advisory' and granted");
        question.fetch_optional(&self.0).await.expect("it answers")
    }

    /// How many advisory locks are held.
    async fn locks(&self) -> i64 {
        use sqlx::Row;
        let question = sqlx::query("select count(*) from pg_locks where locktype = 'advisory' and granted");
        question.fetch_one(&self.0).await.expect("it answers").get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_a_journal_of_its_own_may_not_join_the_others() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let folder = tempfile::tempdir()?;
        let mut config = world.config().clone();
        config.database_url = format!("sqlite://{}", folder.path().join("rollcall.db").display()).into();
        let refused = app::build(config, Handle::current()).await.err().expect("it is refused").to_string();
        assert!(refused.contains("another journal") && refused.contains("DATABASE_URL"), "{refused}");
        assert_eq!(world.redis().query(&["ZCARD", "user-orgs:~nodes"]), "1", "it takes its leave");
        assert_eq!(world.readiness().await?.json()["stream"]["hasOtherJournal"], false, "who was refused disturbs nobody");
        Ok(())
    })
    .await;
}

/// It was killed, and comes back without its file: only its beat is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_died_a_moment_ago_keeps_no_other_journal_out() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let config = Config { redis_url: world.config().redis_url.clone(), ..world.config().clone() };
        world.stop_nodes().await;
        world.redis().query(&[
            "EVAL",
            "redis.call('ZADD', 'user-orgs:~nodes', redis.call('TIME')[1] * 1000, 'another/node')",
            "0",
        ]);
        world.nodes.push(Node::start(config, Some(world.journal.clone())).await);
        world.list(ADA).await?;
        let nodes = world.redis().query(&["ZRANGE", "user-orgs:~nodes", "0", "-1"]);
        assert!(!nodes.contains("another") && nodes.lines().count() == 1, "{nodes}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_is_applied_at_the_next_start() {
    for deployment in [Deployment::Alone, Deployment::Redis(1)] {
        on_both_databases(deployment, async |world: &mut World| {
            let webhook = world.ada_leaves();
            assert_eq!(world.post(&webhook).await?.status, 204);
            world.stop_nodes().await;
            world.forget_outcome(&webhook).await;
            world.add_node().await;
            let row = world.until_state(&webhook, rollcall::journal::State::Applied).await;
            assert_eq!((row.applied_by.as_deref(), row.deliveries), (Some("boot"), 1));
            Ok(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i5_an_acknowledged_end_outlives_a_restart_without_redis() {
    on_both_databases(Deployment::Alone, async |world: &mut World| {
        world.origin_lags();
        let webhook = world.ada_leaves();
        assert_eq!(world.post(&webhook).await?.status, 204);
        world.restart_node().await;
        world.check(ADA, WORKS).await?.is_not_a_member();
        Ok(())
    })
    .await;
}

/// It was acknowledged when its change was confirmed; that the outcome could not be written is our affair. The worker has
/// thousands of messages to apply before this one: the node must know of it when it begins to listen.
#[tokio::test(flavor = "multi_thread")]
async fn i5_an_acknowledged_end_without_an_outcome_outlives_a_restart_too() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        world.origin_lags();
        world.take(&event("user.created", json!({ "id": "user_crowd" }))).await?;
        let backlog = "with recursive numbers(n) as (select 1 union all select n + 1 from numbers where n < 10000)
            insert into webhook_messages select 'msg_' || n, event_type, instance_id, user_id, org_id, membership_id, session_id,
                occurred_at_ms, entity_updated_at_ms, received_at_ms, last_seen_at_ms, deliveries, state, reason, attempts,
                opened_at_ms, next_attempt_at_ms, applied_at_ms - 86400000, applied_by, payload, replay_id
            from webhook_messages, numbers";
        assert_eq!(world.sql(backlog).await, 10_000);
        // By its id the last of all.
        let webhook = Webhook::signed_as(&world.clerk.sender().secret(), "msg_zzz", now(), world.ada_leaves().body);
        assert_eq!(world.post(&webhook).await?.status, 204);
        world.stop_nodes().await;
        world.sql("update webhook_messages set state = 'pending', applied_at_ms = null, next_attempt_at_ms = opened_at_ms").await;
        world.nodes.push(Node::start(world.config().clone(), Some(world.journal.clone())).await);
        world.check(ADA, WORKS).await?.is_not_a_member();
        assert_eq!(world.row(&webhook).await.expect("a row").state, "pending", "this was too late to see anything");
        Ok(())
    })
    .await;
}

/// Redis stands still, so nothing that is under way can be confirmed when the process is told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn i2_a_stop_leaves_open_what_is_under_way() {
    let served = Served::on_redis().await;
    served.redis_ref().pause();
    let webhooks: Vec<_> = (0..30).map(|n| served.webhook_of("user.created", &format!("user_{n}"))).collect();
    let journal = served.journal().await;
    let posts = stream::iter(&webhooks).map(|webhook| served.try_post_to(0, webhook)).buffer_unordered(30);
    let stop = async {
        until("all to be recorded", async || (journal.stats().await.ok()?.pending == 30).then_some(())).await;
        served.terminate().await
    };
    let (answers, status) = tokio::join!(posts.collect::<Vec<_>>(), stop);
    assert!(status.success());
    // Some connections are cut; nobody is told that it was taken.
    for answer in answers.into_iter().flatten() {
        assert_eq!(answer.status, 503, "{answer:?}");
    }
    let stats = journal.stats().await.expect("the journal answers");
    assert_eq!((stats.pending, stats.applied), (30, 0));
}
