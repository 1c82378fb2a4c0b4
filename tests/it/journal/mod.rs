//! The journal on real databases: a SQLite file, and PostgreSQL. Each promise is put to both where they could differ.

mod away;
mod claims;
mod payload;
mod records;
mod silent;
mod starts;
mod told;
mod under_redis;
mod upkeep;

use std::time::Duration;

use rollcall::domain::{MessageId, Subject};
use rollcall::journal::{Filter, Row, State};
use rollcall::ports::{Journal, JournalStats, Message};
use serde_json::Value;
use sqlx::{AnyPool, AssertSqlSafe};

use crate::world::answer::Answer;
use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::wait::until;
use crate::world::webhooks::Webhook;

/// Where every node appends its changes.
const STREAM: &str = "user-orgs:~changes";
const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";

/// Runs a test in a world with each database, both at once.
async fn on_both_databases(deployment: Deployment, test: impl AsyncFn(&mut World) -> anyhow::Result<()>) {
    let on = async |database| {
        run_test(deployment, Setup { database, ..Setup::default() }, async |world: &mut World| {
            if deployment != Deployment::Alone {
                // The repair of a new Redis applies what is open too, and would be counted.
                world.until_whole().await;
            }
            test(world).await
        })
        .await;
    };
    tokio::join!(on(Database::Sqlite), on(Database::Postgres));
}

impl World {
    /// The row of a delivery.
    async fn row(&self, webhook: &Webhook) -> Option<Row> {
        let id = MessageId::parse(webhook.header("svix-id")).expect("an id");
        self.journal.show(&id).await.expect("the journal answers")
    }

    /// Waits until the row of a delivery is in this state.
    async fn until_state(&self, webhook: &Webhook, state: State) -> Row {
        until(&format!("the row to be {}", state.as_str()), async || {
            self.row(webhook).await.filter(|row| row.state == state.as_str())
        })
        .await
    }

    /// All rows, the latest first.
    async fn rows(&self) -> Vec<Row> {
        self.journal.list(&Filter::default(), 100_000).await.expect("the journal answers")
    }

    /// Waits until nothing is open.
    async fn until_all_settled(&self) -> JournalStats {
        until("everything to be settled", async || self.journal.stats().await.ok().filter(|stats| stats.pending == 0)).await
    }

    /// Connects to the database, past the journal.
    async fn database(&self) -> AnyPool {
        use secrecy::ExposeSecret;
        sqlx::any::install_default_drivers();
        AnyPool::connect(self.config().database_url.expose_secret()).await.expect("the database answers")
    }

    /// Runs a statement past the journal; how many rows it changed.
    pub async fn sql(&self, statement: &str) -> u64 {
        let database = self.database().await;
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&database).await.expect(statement);
        database.close().await;
        done.rows_affected()
    }

    /// Everything of this journal happened so much earlier.
    async fn let_pass(&self, time: Duration) {
        let ms = time.as_millis();
        self.sql(&format!(
            "update webhook_messages set received_at_ms = received_at_ms - {ms}, last_seen_at_ms = last_seen_at_ms - {ms},
                opened_at_ms = opened_at_ms - {ms}, applied_at_ms = applied_at_ms - {ms}"
        ))
        .await;
    }

    /// How many changes the stream of this world holds.
    fn changes(&mut self) -> u64 {
        self.redis().query(&["XLEN", STREAM]).parse().expect("a number")
    }

    /// Ada leaves the works: the delivery that says so, not yet sent.
    fn ada_leaves(&self) -> Webhook {
        let left = self.change(|clerk| clerk.revoke(ADA, WORKS));
        self.webhook(left.messages[0].body.clone())
    }

    /// Waits until the first node says that it is ready, or degraded.
    async fn until_status(&self, status: &str) -> Value {
        until(&format!("the node to be {status}"), async || {
            self.readiness().await.ok().map(|answer| answer.json()).filter(|told| told["status"] == status)
        })
        .await
    }
}

/// A message of this id that is open, as a delivery records it before it applies anything.
fn open_message(id: &str, payload: Option<&str>) -> Message {
    Message {
        id: MessageId::parse(id).expect("an id"),
        event_type: "organizationMembership.deleted".to_owned(),
        instance_id: None,
        subject: Subject::default(),
        occurred_at_ms: None,
        is_open: true,
        payload: payload.map(str::to_owned),
    }
}

/// Not taken, for this reason; and the sender is not told when to come back: it has its own times.
#[track_caller]
fn expect_unavailable(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some(code)), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "");
}
