//! An operator at a journal of its own, with the real binary; no service runs on it unless the test starts one.

use futures_util::future::{join_all, try_join_all};
use rollcall::domain::{MembershipId, MessageId, OrganizationId, Subject, UserId};
use rollcall::journal::{self, Filter, Row, Sharing, SqlJournal};
use rollcall::ports::{AppliedBy, Journal, JournalError, Message, Recorded, Settled};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::postgres::Postgres;
use super::shell::{Ran, Shell};

/// The journal and the shell of somebody who looks at it.
pub struct Operator {
    pub shell: Shell,
    url: String,
    /// Where the journal is; gone when dropped.
    _place: Place,
}

enum Place {
    File(#[allow(dead_code, reason = "held for its drop")] TempDir),
    Server(#[allow(dead_code, reason = "held for its drop")] Postgres),
}

impl Operator {
    /// At an empty journal in SQLite, made by `rollcall migrate`.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let url = format!("sqlite://{}", folder.path().join("rollcall.db").display());
        Self::at_the(url, Place::File(folder))
    }

    /// The same in Postgres.
    pub fn on_postgres() -> Self {
        let server = Postgres::start();
        Self::at_the(server.url(), Place::Server(server))
    }

    fn at_the(url: String, place: Place) -> Self {
        let operator = Self { shell: Shell::new().set("DATABASE_URL", &url), url, _place: place };
        operator.run(&["migrate"]).ends_with(0);
        operator
    }

    /// Where the journal is.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Runs the binary.
    pub fn run(&self, words: &[&str]) -> Ran {
        tokio::task::block_in_place(|| self.shell.run(words))
    }

    /// Does something with the journal, beside whoever else does.
    pub async fn at<T>(&self, work: impl AsyncFnOnce(&SqlJournal) -> Result<T, JournalError>) -> T {
        let settings = journal::Settings { url: self.url().into(), io: Handle::current() };
        let journal = SqlJournal::open(settings, Sharing::Operator).await.expect("a journal");
        let done = work(&journal).await.expect("the journal works");
        journal.close().await;
        done
    }

    /// Records these as received; all are open.
    pub async fn receive(&self, messages: &[Message]) {
        self.at(async |journal| {
            for batch in messages.chunks(1_000) {
                let recorded = join_all(batch.iter().map(|message| journal.record(message))).await;
                for recorded in recorded {
                    assert!(matches!(
                        recorded?,
                        Recorded::Open { is_repeated: false } | Recorded::Settled { is_repeated: false }
                    ));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Records these as received and applied.
    pub async fn apply(&self, messages: &[Message]) {
        self.receive(messages).await;
        let settled: Vec<Settled> =
            messages.iter().map(|message| Settled { id: message.id.clone(), buried_because: None }).collect();
        self.at(async |journal| {
            try_join_all(settled.chunks(500).map(|batch| journal.settle(batch, AppliedBy::Inline))).await.map(|_| ())
        })
        .await;
    }

    /// Everything in the journal.
    pub async fn rows(&self) -> Vec<Row> {
        self.at(async |journal| journal.list(&Filter::default(), 1_000_000).await).await
    }
}

/// A message that ends a membership nobody has any more: whoever applies it changes no answer.
pub fn ended(number: usize, user: &str) -> Message {
    let membership = format!("orgmem_gone_{number}");
    Message {
        id: id(number),
        event_type: "organizationMembership.deleted".to_owned(),
        instance_id: Some("ins_1".to_owned()),
        subject: Subject {
            user: UserId::parse(user).ok(),
            organization: OrganizationId::parse("org_quiet_room").ok(),
            membership: MembershipId::parse(&membership).ok(),
            ..Subject::default()
        },
        occurred_at_ms: Some(1_772_366_400_000),
        is_open: true,
        payload: Some(json!({ "change": { "kind": "membershipDeleted", "membership": membership, "user": user } }).to_string()),
    }
}

/// A message that says of a user that it appeared.
pub fn appeared(number: usize, user: &str) -> Message {
    Message {
        event_type: "user.created".to_owned(),
        subject: Subject { user: UserId::parse(user).ok(), ..Subject::default() },
        payload: Some(json!({ "change": { "kind": "userCreated", "user": user } }).to_string()),
        ..ended(number, user)
    }
}

/// The id of message so-and-so.
pub fn id(number: usize) -> MessageId {
    MessageId::parse(&format!("msg_{number:05}")).expect("an id")
}
