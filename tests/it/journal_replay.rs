//! `rollcall replay --from-journal`: what the journal holds is applied once more, by the running service, each message once.

use std::process::{Child, Command, Stdio};

use rollcall::dev::World as ClerkWorld;
use rollcall::journal::Row;
use rollcall::ports::{AppliedBy, Deferred, Journal, Message, Settled};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection};

use crate::world::history::truth;
use crate::world::operator::{Operator, appeared, ended, id};
use crate::world::rollcall::Rollcall;
use crate::world::wait::until;

const USERS: [&str; 6] = ["user_ada", "user_noor", "user_tomas", "user_mei", "user_kofi", "user_ivo"];

/// The service on the operator's journal. Its Redis is new, and so was put right from the journal: that is over.
async fn serve(operator: &Operator) -> Rollcall {
    let rollcall = Rollcall::serve_with(ClerkWorld::small(), &[("DATABASE_URL", &operator.url())]).await;
    until("the history is whole", async || {
        (rollcall.redis.query(&["HGET", "{user-orgs:~changes}:history", "whole"]) == "1").then_some(())
    })
    .await;
    rollcall
}

/// So many messages, of which some concern each user.
fn messages(count: usize) -> Vec<Message> {
    let message = |number: usize| match number % 2 {
        0 => ended(number, USERS[number % 6]),
        _ => appeared(number, USERS[number % 6]),
    };
    (0..count).map(message).collect()
}

/// How many changes were applied so far: entries of the change stream.
fn changes(rollcall: &Rollcall) -> usize {
    rollcall.redis.query(&["XLEN", "user-orgs:~changes"]).parse().expect("a number")
}

/// Every message was applied by this replay, at the second try, and is otherwise as it was.
fn all_applied_once_more_by(replay: &Value, rows: &[Row]) {
    let is_right = |row: &&Row| {
        (row.state.as_str(), row.applied_by.as_deref(), row.attempts, row.deliveries) == ("applied", Some("replay"), 2, 1)
            && row.replay_id == replay.as_i64()
            && row.next_attempt_at_ms.is_none()
    };
    let wrong: Vec<&Row> = rows.iter().filter(|row| !is_right(row)).collect();
    assert!(wrong.is_empty(), "{} wrong, the first: {:?}", wrong.len(), wrong.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_settled_is_applied_once_more_and_a_second_replay_is_a_new_one() {
    for operator in [Operator::new(), Operator::on_postgres()] {
        check_two_replays(operator).await;
    }
}

async fn check_two_replays(operator: Operator) {
    operator.apply(&messages(60)).await;
    let rollcall = serve(&operator).await;
    let before = changes(&rollcall);

    let dry = operator.run(&["replay", "--from-journal", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!((&dry["messages"], &dry["replayId"]), (&60.into(), &Value::Null));
    operator.run(&["replay", "--from-journal", "--dry-run"]).ends_with(0).says(&["60 messages would be replayed"]);
    assert!(operator.rows().await.iter().all(|row| row.state == "applied" && row.replay_id.is_none()));
    assert_eq!(changes(&rollcall), before, "a dry run changes nothing");

    let summary = operator.run(&["replay", "--from-journal", "--json"]).ends_with(0).json();
    assert_eq!((&summary["end"], &summary["isResumed"]), (&"done".into(), &false.into()), "{summary}");
    assert_eq!((&summary["messages"], &summary["replayed"], &summary["pending"]), (&60.into(), &60.into(), &0.into()));
    all_applied_once_more_by(&summary["replayId"], &operator.rows().await);
    assert_eq!(changes(&rollcall), before + 60);

    let second = operator.run(&["replay", "--from-journal"]).ends_with(0);
    assert!(second.out().starts_with("60 messages replayed in ") && second.out().contains("(replay 2)"), "{}", second.out());
    assert_eq!(changes(&rollcall), before + 120);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_chosen_is_replayed_and_what_is_open_is_left_to_the_worker() {
    let operator = Operator::new();
    operator.apply(&messages(12)).await;
    let rollcall = serve(&operator).await;
    let before = changes(&rollcall);
    operator.receive(&[ended(12, "user_ada")]).await;
    let deferred = Deferred { id: id(12), retry_in: std::time::Duration::from_secs(3_600) };
    operator.at(async |journal| journal.defer(&[deferred], "away").await).await;

    let words =
        ["replay", "--from-journal", "--user", "user_ada", "--type", "organizationMembership.*", "--since", "1h", "--json"];
    let dry = operator.run(&[&words[..], &["--dry-run"]].concat()).ends_with(0).json();
    assert_eq!(dry["messages"], 2, "{dry}");
    let summary = operator.run(&words).ends_with(0).json();
    assert_eq!((&summary["messages"], &summary["replayed"]), (&2.into(), &2.into()), "{summary}");
    for row in operator.rows().await {
        let is_chosen = ["msg_00000", "msg_00006"].contains(&row.message_id.as_str());
        assert_eq!(row.replay_id.is_some(), is_chosen, "{row:?}");
        assert_eq!(row.state == "pending", row.message_id == "msg_00012", "{row:?}");
    }
    assert_eq!(changes(&rollcall), before + 2);
    let nothing = operator.run(&["replay", "--from-journal", "--user", "user_nobody"]).ends_with(0);
    nothing.says(&["nothing to replay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_rate_is_asked_for() {
    let operator = Operator::new();
    operator.apply(&messages(101)).await;
    let rollcall = serve(&operator).await;
    let before = changes(&rollcall);
    let summary = operator.run(&["replay", "--from-journal", "--rate", "50", "--json"]).ends_with(0).json();
    assert!(summary["tookMs"].as_u64().expect("a number") >= 2_000, "{summary}");
    assert_eq!((&summary["replayed"], changes(&rollcall)), (&101.into(), before + 101));
}

/// These messages as an intake leaves them that could not read them: whom they name is evicted, and they are buried.
async fn bury(operator: &Operator, numbers: std::ops::Range<usize>) {
    let unreadable = |number: usize| Message {
        payload: Some(r#"{"change":{"kind":"userCreated","user":"user_mei"},"unreadable":"no user in it"}"#.to_owned()),
        ..appeared(number, "user_mei")
    };
    let messages: Vec<Message> = numbers.map(unreadable).collect();
    operator.receive(&messages).await;
    let buried = |message: Message| Settled { id: message.id, buried_because: Some("no user in it".to_owned()) };
    let settled: Vec<Settled> = messages.into_iter().map(buried).collect();
    operator.at(async |journal| journal.settle(&settled, AppliedBy::Inline).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_buried_again_is_told_apart_from_what_is_applied_and_is_exit_code_1() {
    let operator = Operator::new();
    operator.apply(&messages(5)).await;
    bury(&operator, 5..8).await;
    let _rollcall = serve(&operator).await;
    let ran = operator.run(&["replay", "--from-journal"]).ends_with(1);
    ran.says(&["5 messages replayed in ", "\n3 still cannot be read", "rollcall journal list --state buried"]);
    let summary = operator.run(&["replay", "--from-journal", "--anew", "--json"]).ends_with(1).json();
    assert_eq!((&summary["end"], &summary["messages"], &summary["requested"]), (&"done".into(), &8.into(), &8.into()));
    assert_eq!((&summary["replayed"], &summary["buried"], &summary["pending"]), (&5.into(), &3.into(), &0.into()));
    assert!(operator.rows().await.iter().filter(|row| row.state == "buried").all(|row| row.replay_id == Some(2)));
    let readable = operator.run(&["replay", "--from-journal", "--user", "user_ada", "--json"]).ends_with(0).json();
    assert_eq!((&readable["buried"], &readable["replayed"]), (&0.into(), &1.into()), "{readable}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_replay_counts_what_was_buried_before_and_says_how_many_were_applied_before() {
    let operator = Operator::new();
    operator.apply(&messages(5)).await;
    bury(&operator, 5..8).await;
    interrupted(&operator, &["replay", "--from-journal"], 0).await;
    let _rollcall = serve(&operator).await;
    let is_settled = async || operator.rows().await.iter().all(|row| row.state != "pending").then_some(());
    until("the worker settles them", is_settled).await;
    let ran = operator.run(&["replay", "--from-journal"]).ends_with(1);
    ran.says(&["going on with replay 1", "0 messages replayed in ", "(replay 1, 5 before)", "\n3 still cannot be read"]);
}

/// One picture of the bar: how far it is, of how many, how many a second, and how long it takes yet.
fn picture(text: &str) -> Option<(u64, u64, f64, &str)> {
    let told: Vec<&str> = text.split_whitespace().collect();
    let [.., position, rate, left, "left"] = told[..] else { return None };
    let (position, total) = position.split_once('/')?;
    let rate = rate.strip_suffix("/s")?.replace(',', "");
    Some((position.parse().ok()?, total.parse().ok()?, rate.parse().ok()?, left))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_shown_how_far_a_replay_is_and_a_pipe_is_not() {
    let operator = Operator::new();
    operator.apply(&messages(200)).await;
    let _rollcall = serve(&operator).await;
    let words = ["replay", "--from-journal", "--rate", "100"];
    let shown = tokio::task::block_in_place(|| operator.shell.run_on_a_terminal(&words)).ends_with(0).out();
    let pictures: Vec<_> = shown.split(['\r', '\n', '\x1b']).filter_map(picture).collect();
    assert!(pictures.len() > 3 && pictures.iter().all(|(_, total, ..)| *total == 200), "{shown:?}");
    let positions: Vec<_> = pictures.iter().map(|(position, ..)| *position).collect();
    assert!(positions.is_sorted() && positions.iter().any(|position| (1..200).contains(position)), "{positions:?}");
    // Two seconds for all of them: so it is told once it is under way.
    let is_seconds = |left: &str| left.strip_suffix('s').is_some_and(|left| left.parse::<u64>().is_ok());
    let is_likely = |(position, _, rate, left): &(u64, u64, f64, &str)| {
        (50..200).contains(position) && (10.0..1_000.0).contains(rate) && is_seconds(left)
    };
    assert!(pictures.iter().any(is_likely), "{pictures:?}");
    assert!(shown.trim_end().lines().last().is_some_and(|line| line.contains("200 messages replayed in ")), "{shown:?}");

    let ran = operator.run(&["replay", "--from-journal"]).ends_with(0);
    assert_eq!((ran.err().as_str(), ran.out().lines().count()), ("", 1));
    let quiet = [&words[..2], &["--json"]].concat();
    let quiet = tokio::task::block_in_place(|| operator.shell.run_on_a_terminal(&quiet)).ends_with(0);
    assert_eq!(quiet.json()["replayed"], 200, "nothing but JSON where JSON is asked for");
}

/// How many messages the latest replay has asked for.
async fn requested(operator: &Operator) -> Option<i64> {
    let mut connection = SqliteConnection::connect(&operator.url()).await.expect("the file is there");
    let sql = "select requested from replays order by replay_id desc limit 1";
    let requested = sqlx::query_scalar(sql).fetch_optional(&mut connection).await.expect("it can be read");
    connection.close().await.expect("it closes");
    requested
}

fn interrupt(process: &Child) {
    let status = Command::new("kill").arg("-INT").arg(process.id().to_string()).status().expect("kill is there");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_replay_of_ten_thousand_goes_on_with_exactly_the_rest() -> anyhow::Result<()> {
    const COUNT: usize = 10_000;
    let operator = Operator::new();
    operator.apply(&messages(COUNT)).await;
    let rollcall = serve(&operator).await;
    let applied_before = changes(&rollcall);

    let words = ["replay", "--from-journal", "--since", "1h", "--json"];
    let slow = [&words[..], &["--rate", "3000"]].concat();
    let process = operator.shell.command(&slow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    until("it is half-way", async || requested(&operator).await.filter(|requested| *requested > 3_000)).await;
    interrupt(&process);
    let output = tokio::task::spawn_blocking(|| process.wait_with_output()).await??;
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let first: Value = serde_json::from_slice(&output.stdout)?;
    let asked = first["requested"].as_u64().expect("a number");
    assert!(first["end"] == "interrupted" && asked > 3_000 && asked < 9_000, "{first}");
    assert_eq!(requested(&operator).await, Some(i64::try_from(asked)?), "it asks for nothing any more");

    let dry = operator.run(&[&words[..], &["--dry-run"]].concat()).ends_with(0).json();
    assert_eq!(dry["messages"], COUNT as u64 - asked, "{dry}");
    let ran = operator.run(&words).ends_with(0).says(&["going on with replay 1", "--anew"]);
    let second = ran.json();
    assert_eq!((&second["isResumed"], &second["replayId"], &second["messages"]), (&true.into(), &1.into(), &COUNT.into()));
    let before = COUNT as u64 - second["replayed"].as_u64().expect("a number");
    assert!(before <= asked && before >= asked - first["pending"].as_u64().expect("a number"), "{first} {second}");

    let rows = operator.rows().await;
    assert_eq!(rows.len(), COUNT);
    let (applied, timeouts) = (changes(&rollcall) - applied_before, rollcall.metric("rollcall_redis_timeouts_total").await?);
    if timeouts == 0 {
        all_applied_once_more_by(&1.into(), &rows);
        assert_eq!(applied, COUNT, "each message was applied once over both runs");
    } else {
        // What was not confirmed in time is appended once more; all of it again would be thousands.
        assert!((COUNT..COUNT + 1_000).contains(&applied), "{applied} after {timeouts} time-outs");
        assert!(rows.iter().all(|row| row.state == "applied" && row.replay_id == Some(1)));
    }
    for user in USERS {
        let answer = rollcall.get(&format!("/v1/users/{user}/orgs"), &[("cache-control", "no-cache")]).await?.json();
        let told: Vec<(String, String)> = answer.as_array().expect("a list").iter().map(row).collect();
        let rows = truth(&rollcall.clerk.world().lock(), user).expect("a user");
        let true_rows: Vec<_> = rows.into_iter().map(|row| (row.membership_id, row.role)).collect();
        assert_eq!(told, true_rows, "{user}");
    }
    Ok(())
}

fn row(membership: &Value) -> (String, String) {
    let text = |name: &str| membership[name].as_str().expect("a text").to_owned();
    (text("membershipId"), text("role"))
}

/// An unfinished replay of these words, begun so long ago.
async fn interrupted(operator: &Operator, words: &[&str], begun_ago_ms: i64) {
    let all = operator.rows().await.len();
    let process = operator.shell.command(words).stdout(Stdio::piped()).spawn().expect("it starts");
    until("all are asked for", async || requested(operator).await.filter(|requested| *requested as usize == all)).await;
    interrupt(&process);
    let output = tokio::task::spawn_blocking(|| process.wait_with_output()).await.expect("it ends").expect("it is our child");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let mut connection = SqliteConnection::connect(&operator.url()).await.expect("the file is there");
    let sql = "update replays set begun_at_ms = begun_at_ms - $1 where replay_id = (select max(replay_id) from replays)";
    sqlx::query(sql).bind(begun_ago_ms).execute(&mut connection).await.expect("it can be written");
    connection.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_count_back_from_now_go_on_with_a_replay_only_while_they_mean_the_same_messages() {
    const HOUR_MS: i64 = 3_600_000;
    let operator = Operator::new();
    operator.apply(&messages(40)).await;
    let words = ["replay", "--from-journal", "--since", "2h"];
    interrupted(&operator, &words, 2 * HOUR_MS).await;
    let _rollcall = serve(&operator).await;
    until("they are applied", async || operator.rows().await.iter().all(|row| row.state == "applied").then_some(())).await;

    let dry = operator.run(&[&words[..], &["--dry-run", "--json"]].concat()).ends_with(0).says(&["replay 1", "left as it is"]);
    assert_eq!((&dry.json()["replayId"], &dry.json()["messages"]), (&Value::Null, &40.into()));
    let ran = operator.run(&[&words[..], &["--json"]].concat()).ends_with(0).says(&["begun 2 h ago", "left as it is"]);
    let summary = ran.json();
    assert_eq!((&summary["replayId"], &summary["isResumed"]), (&2.into(), &false.into()), "{summary}");
    assert_eq!((&summary["replayed"], &summary["messages"]), (&40.into(), &40.into()), "{summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begun_lately_or_of_dates_goes_on_and_says_since_when() {
    const HOUR_MS: i64 = 3_600_000;
    let chosen: [(&[&str], i64, &str); 3] = [
        (&["--since", "2h"], HOUR_MS + HOUR_MS / 2, "begun 90 min ago"),
        (&["--since", "2000-01-01T00:00:00Z"], 720 * HOUR_MS, "begun 30 days ago"),
        (&[], 720 * HOUR_MS, "begun 30 days ago"),
    ];
    for (flags, begun_ago_ms, told) in chosen {
        let operator = Operator::new();
        operator.apply(&messages(6)).await;
        let words = [&["replay", "--from-journal"], flags].concat();
        interrupted(&operator, &words, begun_ago_ms).await;
        let dry = operator.run(&[&words[..], &["--dry-run", "--json"]].concat()).ends_with(0).json();
        assert_eq!(dry["replayId"], 1, "{flags:?}: {dry}");
        let _rollcall = serve(&operator).await;
        let ran = operator.run(&words).ends_with(0);
        ran.says(&["going on with replay 1: 6 of 6", told, "received since is not in it", "--anew"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_nobody_applies_says_so_stays_within_its_bound_and_is_applied_when_a_service_starts() {
    let operator = Operator::new();
    operator.apply(&messages(3_000)).await;
    let words = ["replay", "--from-journal"];
    operator.run(&words).ends_with(1).says(&["no running service applies them", "will be applied when one starts"]);
    let stats = operator.run(&["journal", "stats", "--json"]).json();
    assert_eq!((&stats["pending"], &stats["applied"]), (&2_000.into(), &1_000.into()), "no more are open than a service takes");

    let _rollcall = serve(&operator).await;
    let rest = operator.run(&words).ends_with(0).says(&["going on with replay 1: 2000 of 3000", "messages replayed in"]);
    assert!(rest.out().contains("(replay 1, "), "{}", rest.out());
    // Of a new Redis's service the first 2,000 may have been put right before the worker came to them.
    let is_right = |row: &Row| row.state == "applied" && row.replay_id == Some(1);
    assert!(operator.rows().await.iter().all(is_right));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begun_anew_leaves_the_unfinished_one_behind_for_good() {
    let operator = Operator::new();
    operator.apply(&messages(40)).await;
    interrupted(&operator, &["replay", "--from-journal"], 0).await;

    let _rollcall = serve(&operator).await;
    until("they are applied", async || operator.rows().await.iter().all(|row| row.state == "applied").then_some(())).await;
    let dry = operator.run(&["replay", "--from-journal", "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!((&dry["replayId"], &dry["messages"]), (&1.into(), &0.into()), "nobody has seen it end: {dry}");
    let anew = operator.run(&["replay", "--from-journal", "--anew", "--json"]).ends_with(0).json();
    assert_eq!((&anew["replayId"], &anew["isResumed"], &anew["replayed"]), (&2.into(), &false.into(), &40.into()), "{anew}");
    let third = operator.run(&["replay", "--from-journal", "--json"]).ends_with(0).json();
    assert_eq!((&third["replayId"], &third["isResumed"]), (&3.into(), &false.into()), "{third}");
}
