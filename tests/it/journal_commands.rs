//! `rollcall journal list|show|retry|stats` as an operator or a script meets them, with and without a service beside them.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use rollcall::dev::World as ClerkWorld;
use rollcall::domain::{OrganizationId, Subject};
use rollcall::ports::{AppliedBy, Deferred, Journal, Message, Settled};
use serde_json::Value;
use sqlx::PgPool;

use crate::world::operator::{Operator, appeared, ended, id};
use crate::world::rollcall::Rollcall;
use crate::world::shell::{Ran, Shell};
use crate::world::wait::until;
use crate::world::webhooks::Webhook;

/// Four messages, one in each state: 1 applied, 2 pending for an hour, 3 ignored, 4 buried.
async fn one_in_each_state() -> Operator {
    one_in_each_state_at(Operator::new()).await
}

async fn one_in_each_state_at(operator: Operator) -> Operator {
    operator.apply(&[ended(1, "user_ada")]).await;
    let renamed = Message {
        event_type: "organization.updated".to_owned(),
        subject: Subject { organization: OrganizationId::parse("org_velvet_anvil").ok(), ..Subject::default() },
        ..ended(2, "user_noor")
    };
    let ignored = Message { event_type: "email.created".to_owned(), is_open: false, payload: None, ..appeared(3, "user_noor") };
    operator.receive(&[renamed, ignored, appeared(4, "user_mei")]).await;
    operator
        .at(async |journal| {
            let deferred = Deferred { id: id(2), retry_in: Duration::from_secs(3_600) };
            journal.defer(&[deferred], "Redis is away").await?;
            let buried = Settled { id: id(4), buried_because: Some("no user in it".to_owned()) };
            journal.settle(&[buried], AppliedBy::Inline).await
        })
        .await;
    operator
}

/// The ids of a list, in its order.
fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("an array").iter().map(|row| row["messageId"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_holds_what_every_filter_lets_through_the_latest_first() {
    for operator in [Operator::new(), Operator::on_postgres()] {
        check_every_filter(one_in_each_state_at(operator).await);
    }
}

fn check_every_filter(operator: Operator) {
    let check = |words: &[&str], expected: &[&str]| {
        let words = [&["journal", "list", "--json"], words].concat();
        let list = operator.run(&words).ends_with(0).json();
        let found: BTreeSet<&str> = ids(&list).into_iter().collect();
        assert_eq!(found, expected.iter().copied().collect(), "{words:?}");
    };
    check(&[], &["msg_00001", "msg_00002", "msg_00003", "msg_00004"]);
    check(&["--type", "user.created"], &["msg_00004"]);
    check(&["--type", "user.*"], &["msg_00004"]);
    check(&["--type", "organization*"], &["msg_00001", "msg_00002"]);
    check(&["--type", "organization.*"], &["msg_00002"]);
    check(&["--type", "organization_*"], &[]);
    check(&["--type", "Organization*"], &[]);
    check(&["--type", "*"], &["msg_00001", "msg_00002", "msg_00003", "msg_00004"]);
    check(&["--user", "user_ada"], &["msg_00001"]);
    check(&["--user", "user_noor", "--type", "email.*"], &["msg_00003"]);
    check(&["--org", "org_velvet_anvil"], &["msg_00002"]);
    for (state, message) in
        [("applied", "msg_00001"), ("pending", "msg_00002"), ("ignored", "msg_00003"), ("buried", "msg_00004")]
    {
        check(&["--state", state], &[message]);
    }
    check(&["--since", "1h"], &["msg_00001", "msg_00002", "msg_00003", "msg_00004"]);
    check(&["--until", "1h"], &[]);
    check(&["--since", "2000-01-01T00:00:00+01:00", "--until", "2000-01-02T00:00:00Z"], &[]);

    let list = operator.run(&["journal", "list", "--json"]).json();
    let mut order: Vec<(i64, &str)> = ids(&list).into_iter().map(|id| (0, id)).collect();
    for (place, row) in list.as_array().expect("an array").iter().enumerate() {
        order[place].0 = row["receivedAtMs"].as_i64().expect("a time");
    }
    assert!(order.is_sorted_by(|one, next| one > next), "{order:?}");
    let (earliest, latest) = (order.last().expect("four").0.to_string(), order[0].0);
    check(&["--until", &earliest], &[]);
    check(&["--since", &earliest, "--until", &(latest + 1).to_string()], &["msg_00001", "msg_00002", "msg_00003", "msg_00004"]);
    let limited = operator.run(&["journal", "list", "--json", "--limit", "2"]).json();
    assert_eq!(ids(&limited), [order[0].1, order[1].1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_for_people_is_aligned_tells_ages_and_has_no_colour_in_a_pipe() {
    let operator = one_in_each_state().await;
    let text = operator.run(&["journal", "list"]).ends_with(0).out();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for title in ["message", "type", "state", "user", "organization"] {
        let column = lines[0].find(title).expect("a title");
        assert!(
            lines.iter().all(|line| line.as_bytes()[column - 1] == b' ' && line.as_bytes()[column] != b' '),
            "{title}: {text}"
        );
    }
    assert!(text.contains(" s ago") && text.contains("next try in 59 min: Redis is away"), "{text}");
    assert!(text.contains("by inline") && text.contains("no user in it") && !text.contains('\x1b'), "{text}");
    operator.run(&["journal", "list", "--user", "user_nobody"]).ends_with(0).says(&["no messages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_shown_with_its_payload_and_one_that_is_not_there_is_exit_code_1() {
    let operator = one_in_each_state().await;
    let shown = operator.run(&["journal", "show", "msg_00001", "--json"]).ends_with(0).json();
    assert_eq!(shown["payload"]["change"]["membership"], "orgmem_gone_1", "{shown}");
    assert_eq!(
        (&shown["state"], &shown["appliedBy"], &shown["userId"]),
        (&"applied".into(), &"inline".into(), &"user_ada".into())
    );
    let words =
        ["orgmem_gone_1", "happened", "2026-03-01T12:00:00.000Z", "applied by", "inline", "\"kind\": \"membershipDeleted\""];
    operator.run(&["journal", "show", "msg_00001"]).ends_with(0).says(&words);
    operator.run(&["journal", "show", "msg_00004"]).ends_with(0).says(&["buried", "no user in it"]);
    operator.run(&["journal", "show", "msg_absent"]).ends_with(1).says(&["there is no message msg_absent in the journal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_have_the_promised_members_and_no_others() {
    let empty = Operator::new().run(&["journal", "stats", "--json"]).ends_with(0).out();
    assert_eq!(empty, "{\"pending\":0,\"applied\":0,\"ignored\":0,\"buried\":0,\"oldestOpenMs\":null}\n");
    let operator = one_in_each_state().await;
    let stats = operator.run(&["journal", "stats", "--json"]).ends_with(0).json();
    let open_ms = stats["oldestOpenMs"].as_u64().expect("a number");
    assert!(open_ms < 60_000, "{stats}");
    assert_eq!(stats.as_object().expect("an object").len(), 5);
    for state in ["pending", "applied", "ignored", "buried"] {
        assert_eq!(stats[state], 1, "{stats}");
    }
    operator.run(&["journal", "stats"]).ends_with(0).says(&["pending  1  the oldest for ", "buried   1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_makes_due_what_it_names_and_nothing_else() {
    for operator in [Operator::new(), Operator::on_postgres()] {
        check_retries(one_in_each_state_at(operator).await).await;
    }
}

async fn check_retries(operator: Operator) {
    let states = async || {
        let mut rows = operator.rows().await;
        rows.sort_by(|one, other| one.message_id.cmp(&other.message_id));
        let now_ms = rows.iter().map(|row| row.last_seen_at_ms).max().expect("rows") + 60_000;
        rows.iter().map(|row| (row.state.clone(), row.next_attempt_at_ms.is_some_and(|due| due < now_ms))).collect::<Vec<_>>()
    };
    let expected = |words: [(&str, bool); 4]| words.map(|(state, is_due)| (state.to_owned(), is_due)).to_vec();
    let before = expected([("applied", false), ("pending", false), ("ignored", false), ("buried", false)]);
    assert_eq!(states().await, before);

    operator.run(&["journal", "retry", "--state", "buried", "--user", "user_ada"]).ends_with(0).says(&["0 messages made due"]);
    operator.run(&["journal", "retry", "msg_00003", "msg_absent"]).ends_with(1).says(&["msg_absent is not in the journal"]);
    assert_eq!(states().await, before);
    let retried =
        operator.run(&["journal", "retry", "--state", "pending", "--type", "organization.*", "--json"]).ends_with(0).json();
    assert_eq!((&retried["due"], &retried["missing"]), (&1.into(), &Value::Array(Vec::new())));
    assert_eq!(states().await, expected([("applied", false), ("pending", true), ("ignored", false), ("buried", false)]));
    operator.run(&["journal", "retry", "--state", "buried"]).ends_with(0).says(&["1 message made due"]);
    operator.run(&["journal", "retry", "msg_00001"]).ends_with(0).says(&["1 message made due"]);
    assert_eq!(states().await, expected([("pending", true), ("pending", true), ("ignored", false), ("pending", true)]));
}

/// Whoever writes several messages takes them in the order of their ids, or two of them could wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_waits_for_a_message_holds_none_behind_it() -> anyhow::Result<()> {
    let operator = Operator::on_postgres();
    // In the table, and in what is asked for, the second comes first.
    operator.receive(&[appeared(2, "user_ada")]).await;
    operator.receive(&[appeared(1, "user_ada")]).await;
    let server = PgPool::connect(&operator.url()).await?;
    let mut held = server.begin().await?;
    sqlx::query("select 1 from webhook_messages where message_id = 'msg_00001' for update").execute(&mut *held).await?;

    let retry = operator.shell.command(&["journal", "retry", "msg_00002", "msg_00001"]).stdout(Stdio::null()).spawn()?;
    until("the retry waits", async || {
        let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        let waiting = sqlx::query_scalar::<_, i64>(sql).fetch_one(&server).await.expect("the server answers");
        (waiting > 0).then_some(())
    })
    .await;
    let second = "select 1 from webhook_messages where message_id = 'msg_00002' for update nowait";
    sqlx::query(second).execute(&mut *held).await.expect("nobody has the second");
    held.rollback().await?;
    let ended = tokio::task::spawn_blocking(|| retry.wait_with_output()).await??;
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_retried_in_several_batches_each_once() {
    let operator = Operator::new();
    let messages: Vec<_> = (0..1_234).map(|number| appeared(number, "user_ada")).collect();
    operator.receive(&messages).await;
    operator.run(&["journal", "retry", "--state", "pending"]).ends_with(0).says(&["1234 messages made due"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_service_everything_is_listed_without_anything_of_a_person_and_a_retry_is_applied() -> anyhow::Result<()>
{
    let operator = Operator::new();
    let rollcall = Rollcall::serve_with(ClerkWorld::small(), &[("DATABASE_URL", &operator.url())]).await;
    let (fixtures, to) = (concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/webhooks"), rollcall.webhooks());
    rollcall.run(&["replay", fixtures, "--to", &to]).ends_with(0);
    let unreadable = r#"{"type":"organizationMembership.deleted","data":{"id":7,"public_user_data":{"user_id":"user_ada"}}}"#;
    let webhook = Webhook::signed(&rollcall.clerk.sender().secret(), unreadable);
    let request = rollcall.http.post(&to).header("content-type", "application/json");
    let request = webhook.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    assert_eq!(request.body(webhook.body.clone()).send().await?.status(), 204);

    let listed = operator.run(&["journal", "list", "--limit", "1000", "--json"]).ends_with(0);
    assert_eq!(listed.json().as_array().expect("an array").len(), 57);
    for text in [listed.out(), operator.run(&["journal", "list", "--limit", "1000"]).ends_with(0).out()] {
        for word in ["@", "example.test", "Farrowby", "Ada", "192.0.2", "198.51.100", "203.0.113"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
    }
    let buried = id_of_the_buried(&operator);
    operator.run(&["journal", "retry", &buried]).ends_with(0).says(&["1 message made due"]);
    until("the worker applies it once more", async || {
        let row = operator.run(&["journal", "show", &buried, "--json"]).ends_with(0).json();
        (row["state"] == "buried" && row["appliedBy"] == "worker" && row["attempts"] == 2).then_some(())
    })
    .await;
    let stats = operator.run(&["journal", "stats", "--json"]).ends_with(0).json();
    assert_eq!((&stats["pending"], &stats["buried"], &stats["oldestOpenMs"]), (&0.into(), &1.into(), &Value::Null));
    Ok(())
}

fn id_of_the_buried(operator: &Operator) -> String {
    let list = operator.run(&["journal", "list", "--state", "buried", "--json"]).ends_with(0).json();
    assert_eq!(ids(&list).len(), 1);
    ids(&list)[0].to_owned()
}

#[test]
fn where_there_is_no_journal_the_verbs_say_so_and_create_nothing() {
    let verbs: [&[&str]; 5] = [
        &["journal", "list"],
        &["journal", "show", "msg_1"],
        &["journal", "retry", "msg_1"],
        &["journal", "stats", "--json"],
        &["replay", "--from-journal"],
    ];
    for words in verbs {
        for url in ["sqlite://there.db", "sqlite://there.db?mode=rwc", "postgres://nobody@127.0.0.1:9/nothing"] {
            let shell = Shell::new().file("folder/rollcall.toml", "").set("DATABASE_URL", url);
            shell.run(words).ends_with(1).says(&["journal", "cannot be opened; check DATABASE_URL"]);
            let left = shell.command(&[]).get_current_dir().expect("a folder").read_dir().expect("it is there").count();
            assert_eq!(left, 1, "{words:?} left something beside `folder`");
        }
        let not_migrated = Shell::new().file("rollcall.db", "").set("DATABASE_URL", "sqlite://rollcall.db");
        not_migrated.run(words).ends_with(1).says(&["run `rollcall migrate`, or start the service once"]);
    }
}

#[test]
fn the_journal_is_found_by_flag_variable_and_file_and_a_bad_url_is_exit_code_78() {
    let found = |ran: Ran| ran.ends_with(0).says(&["pending"]);
    let shell = Shell::new().file("rollcall.toml", "database_url = \"sqlite://mine.db\"");
    shell.run(&["migrate"]).ends_with(0);
    found(shell.run(&["journal", "stats", "--database-url", "sqlite://mine.db"]));
    found(shell.run(&["journal", "stats"]));
    let shell = shell.set("DATABASE_URL", "sqlite://other.db");
    shell.run(&["journal", "stats"]).ends_with(1);
    found(shell.run(&["journal", "stats", "--database-url", "sqlite://mine.db"]));
    for verb in [&["journal", "list"][..], &["migrate"], &["replay", "--from-journal"]] {
        let words = [verb, &["--database-url", "mysql://root:hidden@x/y"]].concat();
        let ran = shell.run(&words).ends_with(78).says(&["DATABASE_URL", "--database-url"]);
        assert!(!(ran.out() + &ran.err()).contains("hidden"), "{words:?}");
    }
}

#[test]
fn what_cannot_be_meant_is_exit_code_2() {
    let shell = Shell::new().file("a.json", "{}");
    let all: [&[&str]; 14] = [
        &["journal"],
        &["journal", "list", "--state", "lost"],
        &["journal", "list", "--since", "soon"],
        &["journal", "list", "--limit", "0"],
        &["journal", "list", "--org", "acme"],
        &["journal", "retry"],
        &["journal", "retry", "--state", "applied"],
        &["journal", "retry", "msg_1", "--state", "buried"],
        &["journal", "retry", "msg_1", "--user", "user_1"],
        &["replay", "--from-journal", "a.json"],
        &["replay", "--from-journal", "--to", "http://127.0.0.1:9"],
        &["replay"],
        &["replay", "a.json", "--since", "2h"],
        &["replay", "a.json", "--anew"],
    ];
    for words in all {
        shell.run(words).ends_with(2);
    }
}
