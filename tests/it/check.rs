//! `rollcall check` as an operator meets it: what is wrong, each on a line of its own that names the fix; nothing is changed,
//! nothing hangs, and no secret is told.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rollcall::dev::{Act, Faults, INSTANCE_ID, Options, Rule, StandIn, World as ClerkWorld};
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};

use crate::world::postgres::Postgres;
use crate::world::redis_server::{RedisServer, free_port};
use crate::world::rollcall::{Rollcall, hex_digest};
use crate::world::service::{ADMIN_KEY, READ_KEY};
use crate::world::shell::{Ran, Shell};
use crate::world::stepping_clock::SteppingClock;
use crate::world::token_keys::{TokenKey, pem_of};

const HISTORY: &str = "{user-orgs:~changes}:history";
const WEBHOOK_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Where everything is as it should be, and no service runs yet.
struct Place {
    clerk: StandIn,
    redis: RedisServer,
    shell: Shell,
}

impl Place {
    async fn new() -> Self {
        Self::on(RedisServer::start()).await
    }

    async fn on(redis: RedisServer) -> Self {
        let clerk = StandIn::start(Options { world: ClerkWorld::small(), ..Options::default() }).await.expect("Clerk starts");
        let shell = Shell::new()
            .set("CLERK_SECRET_KEY", clerk.secret_key())
            .set("CLERK_API_URL", &clerk.url())
            .set("CLERK_WEBHOOK_SIGNING_SECRET", WEBHOOK_SECRET)
            .set("REDIS_URL", &redis.url())
            .set("ROLLCALL_API_KEYS", &format!("web:read:{},ops:admin:{}", hex_digest(READ_KEY), hex_digest(ADMIN_KEY)));
        Self { clerk, redis, shell }
    }

    fn set(mut self, variable: &str, value: &str) -> Self {
        self.shell = self.shell.set(variable, value);
        self
    }

    fn check(&self) -> Checked {
        Checked::of(tokio::task::block_in_place(|| self.shell.run(&["check", "--json"])))
    }
}

/// What a run found.
struct Checked {
    ran: Ran,
    lines: Value,
}

impl Checked {
    fn of(ran: Ran) -> Self {
        let lines = ran.json();
        Self { ran, lines }
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        Self { ran: self.ran.ends_with(code), lines: self.lines }
    }

    #[track_caller]
    fn line(&self, name: &str) -> &Value {
        let mut lines = self.lines.as_array().expect("an array").iter();
        lines.find(|line| line["name"] == name).unwrap_or_else(|| panic!("no {name}: {}", self.lines))
    }

    /// The names of the lines that are not ok, each with how it stands.
    fn complaints(&self) -> Vec<String> {
        let lines = self.lines.as_array().expect("an array").iter().filter(|line| line["status"] != "ok");
        lines.map(|line| format!("{} {}", line["status"], line["name"]).replace('"', "")).collect()
    }

    /// A line as it should be.
    #[track_caller]
    fn finds(&self, name: &str, words: &[&str]) -> &Self {
        let line = self.line(name);
        assert_eq!((&line["status"], &line["fix"]), (&"ok".into(), &Value::Null), "{line}");
        holds(&line["found"], words);
        self
    }

    /// A line that is not, and what it says is to be done.
    #[track_caller]
    fn names_the_fix(&self, name: &str, status: &str, found: &[&str], fix: &[&str]) -> &Self {
        let line = self.line(name);
        assert_eq!(line["status"], status, "{line}");
        holds(&line["found"], found);
        holds(&line["fix"], fix);
        self
    }
}

#[track_caller]
fn holds(text: &Value, words: &[&str]) {
    let text = text.as_str().unwrap_or_default();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not in: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_as_it_should_be_every_line_is_ok_and_nothing_is_changed() {
    let place = Place::new().await;
    let checked = place.check().ends_with(0);
    assert_eq!(checked.complaints(), [""; 0]);
    checked.finds("CLERK_SECRET_KEY", &["development", "from the environment, CLERK_SECRET_KEY"]);
    checked.finds("ROLLCALL_API_KEYS", &["web:read, ops:admin"]).finds("ROLLCALL_TTL", &["5m (the default)"]);
    checked.finds("clerk key", &["knows"]).finds("clerk instance", &[INSTANCE_ID]).finds("clock", &["within 5 s"]);
    checked.finds("redis", &["primary"]).finds("redis policy", &["noeviction"]).finds("redis memory", &["MiB used"]);
    checked.finds("redis replicas", &["0 connected, 0 awaited"]).finds("redis prefix", &["nobody's yet"]);
    checked.finds("redis nodes", &["0 running"]).finds("journal", &["the first start makes it"]);
    assert_eq!(place.redis.query(&["DBSIZE"]), "0");
    assert_eq!(place.shell.folder().read_dir().expect("it is there").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_service_it_tells_whose_everything_is() {
    let rollcall = Rollcall::serve().await;
    let checked = Checked::of(rollcall.run(&["check", "--json"])).ends_with(0);
    checked.finds("redis prefix", &[INSTANCE_ID, "as the key is"]).finds("redis nodes", &["1 running"]);
    checked.finds("journal", &["SQLite, of this release's form; open: 0, buried: 0"]);
    checked.names_the_fix("webhooks", "warn", &["none ever came"], &["register the endpoint"]);
    let renamed = rollcall.clerk.world().lock().rename("org_harbour_works", Some("Harbour"), None).expect("the world allows it");
    rollcall.clerk.sender().deliver_now(&renamed.messages[0], &rollcall.webhooks()).await;
    let checked = Checked::of(rollcall.run(&["check", "--json"])).ends_with(0);
    assert_eq!(checked.complaints(), [""; 0]);
    checked.finds("webhooks", &["the last one came ", " s ago"]).finds("webhook instance", &[INSTANCE_ID]);
    assert_eq!(rollcall.redis.query(&["ZCARD", "user-orgs:~nodes"]), "1", "it is no node");
}

/// One that came first an hour ago is the last that came at all, for it has just come again.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_webhook_is_the_one_that_came_last_be_it_for_the_first_time_or_again() {
    let rollcall = Rollcall::serve().await;
    for name in ["Harbour", "Haven"] {
        let renamed = rollcall.clerk.world().lock().rename("org_harbour_works", Some(name), None).expect("the world allows it");
        rollcall.clerk.sender().deliver_now(&renamed.messages[0], &rollcall.webhooks()).await;
    }
    let older = "update webhook_messages set received_at_ms = received_at_ms - 9000000
        where message_id = (select min(message_id) from webhook_messages)";
    let newer =
        "update webhook_messages set received_at_ms = received_at_ms - 7200000, last_seen_at_ms = last_seen_at_ms - 7200000
        where message_id = (select max(message_id) from webhook_messages)";
    for sql in [older, newer] {
        in_sqlite(&rollcall.journal_file(), sql).await;
    }
    let checked = Checked::of(rollcall.run(&["check", "--json"])).ends_with(0);
    checked.finds("webhooks", &["the last one came ", " s ago"]);
}

/// Does this in the file, as any program does; the file is made where there is none, as SQLite makes it by itself.
async fn in_sqlite(file: &Path, sql: &'static str) {
    let options = SqliteConnectOptions::new().filename(file).create_if_missing(true).busy_timeout(Duration::from_secs(10));
    let options = if file.exists() { options } else { options.journal_mode(SqliteJournalMode::Delete) };
    let mut connection = options.connect().await.expect("the file opens");
    sqlx::query(sql).execute(&mut connection).await.expect("it is done");
    connection.close().await.expect("it closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_wrong_kind_is_named_with_where_to_get_the_right_one() {
    let place = Place::new().await.set("CLERK_SECRET_KEY", "pk_test_hidden");
    let checked = place.check().ends_with(78);
    let (found, fix) = (["set (from the environment"], ["this is the publishable key", "sk_live_ or sk_test_"]);
    checked.names_the_fix("CLERK_SECRET_KEY", "fail", &found, &fix);
    checked.names_the_fix("clerk key", "warn", &["not looked at"], &["CLERK_SECRET_KEY"]).finds("redis", &["primary"]);
    let checked = place.set("CLERK_SECRET_KEY", "sk_test_of_nobody").check().ends_with(1);
    checked.names_the_fix("clerk key", "fail", &["refuses it (401)"], &["copy the secret key", "Configure, API keys"]);
    checked.finds("clock", &["within 5 s"]).finds("redis", &["primary"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_pasted_where_none_belongs_is_not_repeated() {
    let place = Place::new().await.set("CLERK_PUBLISHABLE_KEY", "sk_live_hidden").set("ROLLCALL_SERVER_TIMING", "rk_hidden");
    let place = place.set("ROLLCALL_API_KEYS", "web:read:rk_hidden");
    let checked = place.check().ends_with(78);
    let found = ["set (from the environment"];
    checked.names_the_fix("CLERK_PUBLISHABLE_KEY", "fail", &found, &["this is the secret key"]);
    checked.names_the_fix("ROLLCALL_API_KEYS", "fail", &found, &["holds the key itself", "rollcall keys new"]);
    checked.names_the_fix("ROLLCALL_SERVER_TIMING", "fail", &found, &["names of service keys"]);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
    let refused = tokio::task::block_in_place(|| place.shell.run(&["serve"])).ends_with(78);
    assert!(!(refused.out() + &refused.err()).contains("hidden"), "{}", refused.err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_reached_is_named_with_what_to_do() {
    let place = Place::new().await.set("REDIS_URL", "redis://:hidden@127.0.0.1:9");
    let checked = place.check().ends_with(1);
    let fix = ["start Redis", "REDIS_URL"];
    checked.names_the_fix("redis", "fail", &["Redis cannot be reached (connection refused)"], &fix);
    checked.finds("clerk key", &["knows"]).finds("journal", &[]);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
}

/// It is there, and starting it would mend nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_answers_and_does_not_tell_is_named_with_what_its_user_lacks() {
    let place = Place::new().await;
    place.redis.query(&["ACL", "SETUSER", "looker", "on", ">hidden", "~*", "&*", "+@all", "-hget"]);
    place.redis.query(&["SET", "user-orgs:~nodes", "of another program"]);
    let url = format!("redis://looker:hidden@127.0.0.1:{}", place.redis.port());
    let place = place.set("REDIS_URL", &url);
    let checked = place.check().ends_with(1);
    assert_eq!(checked.complaints(), ["fail redis prefix", "fail redis nodes"]);
    let fix = ["let the user of REDIS_URL run HGET, ZRANGE and TIME on the prefix"];
    checked.names_the_fix("redis prefix", "fail", &["it does not tell (NOPERM)"], &fix);
    checked.names_the_fix("redis nodes", "fail", &["it does not tell (WRONGTYPE)"], &fix);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_of_which_nothing_is_promised_is_looked_at_like_any_other() {
    let redis = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let place = Place::on(redis).await.set("ROLLCALL_CONSISTENCY", "eventual");
    let checked = place.check().ends_with(0);
    assert_eq!(checked.complaints(), ["warn redis policy"]);
    checked.finds("ROLLCALL_CONSISTENCY", &["eventual (from the environment"]).finds("redis", &["primary"]);
    checked.finds("redis prefix", &["nobody's yet"]).finds("redis nodes", &["0 running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_may_evict_the_stream_is_named_with_the_right_ones() {
    let redis = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let checked = Place::on(redis).await.check().ends_with(1);
    let fix = ["set maxmemory-policy to volatile-ttl or noeviction"];
    checked.names_the_fix("redis policy", "fail", &["allkeys-lru", "may drop the change stream"], &fix);
    checked.finds("redis", &["primary"]).finds("redis memory", &["of 100 MiB"]).finds("redis prefix", &["nobody's yet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_sign_is_named_with_where_to_get_it() {
    let place = Place::new().await.set("CLERK_WEBHOOK_SIGNING_SECRET", &format!("{WEBHOOK_SECRET},whsec_hidden!"));
    let checked = place.check().ends_with(78);
    let fix = ["secret 2 of 2 is not `whsec_` followed by base64", "copy it whole from Clerk"];
    checked.names_the_fix("CLERK_WEBHOOK_SIGNING_SECRET", "fail", &["from the environment"], &fix);
    checked.finds("clerk key", &["knows"]).finds("redis", &["primary"]);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_off_is_named_with_which_way_and_what_to_do() {
    let place = Place::new().await;
    for (minutes, direction) in [(10, "ahead of"), (-10, "behind")] {
        let clock = SteppingClock::new();
        clock.step(minutes * 60_000);
        let checked = Checked::of(tokio::task::block_in_place(|| place.shell.run_by(&clock, &["check", "--json"]))).ends_with(1);
        assert_eq!(checked.complaints(), ["fail clock"]);
        checked.names_the_fix("clock", "fail", &["this machine's clock is ", direction, "Clerk's"], &["NTP", "300 s"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instances_key_is_named_with_both_ways_out_and_claims_nothing() {
    let place = Place::new().await;
    place.redis.query(&["HSET", HISTORY, "instance", "ins_other"]);
    let checked = place.check().ends_with(1);
    assert_eq!(checked.complaints(), ["fail redis prefix"]);
    let found = ["user-orgs: belongs to the Clerk instance ins_other", INSTANCE_ID];
    let fix = ["set ROLLCALL_KEY_PREFIX to one of its own", "CLERK_SECRET_KEY to one of ins_other"];
    checked.names_the_fix("redis prefix", "fail", &found, &fix);
    assert_eq!(place.redis.query(&["HGETALL", HISTORY]), "instance\nins_other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_session_tokens_that_is_another_instances_is_named_with_where_to_get_the_right_one() {
    let place = Place::new().await;
    let own = published_key(&place.clerk).await;
    let place = place.set("CLERK_JWT_KEY", &own);
    place.check().ends_with(0).finds("token key", &["CLERK_JWT_KEY is", INSTANCE_ID]);
    let place = place.set("CLERK_JWT_KEY", &TokenKey::new("ins_other").pem());
    let checked = place.check().ends_with(1);
    assert_eq!(checked.complaints(), ["fail token key"]);
    let fix = ["copy that of", INSTANCE_ID, "leave it out"];
    checked.names_the_fix("token key", "fail", &["CLERK_JWT_KEY is not", INSTANCE_ID, "which CLERK_SECRET_KEY belongs to"], &fix);
    // Of its two keys in a rotation either will do, and of a Clerk that says nothing there is none to compare with.
    place.clerk.rotate_keys(false);
    let place = place.set("CLERK_JWT_KEY", &own);
    place.check().ends_with(0).finds("token key", &[]);
    place.clerk.faults().set(Faults::status(503));
    place.check().ends_with(1).names_the_fix("token key", "warn", &["compared with no key"], &["keeps Clerk"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publishable_key_that_leads_to_another_instances_keys_or_to_none_is_named() {
    let (place, other) = (Place::new().await, Place::new().await);
    let place = place.set("CLERK_PUBLISHABLE_KEY", &other.clerk.publishable_key());
    let checked = place.check().ends_with(1);
    assert_eq!(checked.complaints(), ["fail publishable key"]);
    let found = ["CLERK_PUBLISHABLE_KEY is not", INSTANCE_ID];
    checked.names_the_fix("publishable key", "fail", &found, &["copy that of", INSTANCE_ID]);
    // A right key beside it is no cure: the issuer is another instance's.
    let key = published_key(&place.clerk).await;
    let place = place.set("CLERK_JWT_KEY", &key);
    let checked = place.check().ends_with(1);
    checked.finds("token key", &["CLERK_JWT_KEY is", INSTANCE_ID]);
    assert_eq!(checked.complaints(), ["fail publishable key"]);
    let place = place.set("CLERK_JWT_KEY", "");
    other.clerk.faults().set(Faults::status(503));
    let (found, fix) = (["CLERK_PUBLISHABLE_KEY leads to", "cannot be read"], ["copy the key once more"]);
    place.check().ends_with(1).names_the_fix("publishable key", "fail", &found, &fix);
    let own = place.clerk.publishable_key();
    place
        .set("CLERK_PUBLISHABLE_KEY", &own)
        .check()
        .ends_with(0)
        .finds("publishable key", &["CLERK_PUBLISHABLE_KEY is", INSTANCE_ID]);
}

/// The instance's first key, in PEM.
async fn published_key(clerk: &StandIn) -> String {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let url = format!("{}/.well-known/jwks.json", clerk.url());
    let published: Value = http.get(url).send().await.expect("an answer").json().await.expect("JSON");
    pem_of(&published["keys"][0])
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_tokens_are_taken_is_told() {
    let place = Place::new().await;
    place.check().ends_with(0).finds("CLERK_ISSUER", &["iss is not compared", "keys alone"]);
    let (key, issuer) = (place.clerk.publishable_key(), place.clerk.issuer().to_owned());
    let place = place.set("CLERK_PUBLISHABLE_KEY", &key);
    place.check().ends_with(0).finds("CLERK_ISSUER", &[&issuer, "from the publishable key"]);
    let place = place.set("CLERK_ISSUER", "https://clerk.example.test");
    place.check().ends_with(0).finds("CLERK_ISSUER", &["https://clerk.example.test", "from the environment"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_another_instance_than_the_keys_are_told() {
    let rollcall = Rollcall::serve().await;
    let body = r#"{"object":"event","type":"user.created","timestamp":1790000000000,"instance_id":"ins_other","data":{"id":"user_new"}}"#;
    std::fs::write(rollcall.journal_file().with_file_name("body.json"), body).expect("a file");
    rollcall.run(&["replay", "body.json"]).ends_with(0);
    // It may be an example, which was asked for: no reason to stop a deploy.
    let checked = Checked::of(rollcall.run(&["check", "--json"])).ends_with(0);
    let fix = ["unless it was an example", "CLERK_SECRET_KEY and CLERK_WEBHOOK_SIGNING_SECRET of one instance"];
    checked.names_the_fix("webhook instance", "warn", &["ins_other", INSTANCE_ID], &fix);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_journal_and_a_replica_that_is_missing_are_told() {
    let rollcall = Rollcall::serve().await;
    let place = Place::on(RedisServer::start()).await.set("REDIS_URL", &rollcall.redis.url());
    let place = place.set("ROLLCALL_REDIS_REPLICAS", "1");
    // The first start would make one, and be refused with it.
    let checked = place.check().ends_with(1);
    checked.names_the_fix("redis nodes", "fail", &["a node with another journal", "ours is not made yet"], &["DATABASE_URL"]);
    tokio::task::block_in_place(|| place.shell.run(&["migrate"])).ends_with(0);
    let checked = place.check().ends_with(1);
    checked.names_the_fix("redis nodes", "fail", &["a node with another journal"], &["DATABASE_URL", "one Postgres"]);
    checked.names_the_fix("redis replicas", "fail", &["0 connected, 1 awaited"], &["ROLLCALL_REDIS_REPLICAS"]);
}

/// As during a deploy: the nodes that run have this very journal, and the first start of this release brings it up to date.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_of_an_earlier_release_is_no_other_one() {
    let rollcall = Rollcall::serve().await;
    let last_step = "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    in_sqlite(&rollcall.journal_file(), last_step).await;
    let checked = Checked::of(rollcall.run(&["check", "--json"])).ends_with(0);
    checked.names_the_fix("journal", "warn", &["of an earlier release"], &["rollcall migrate"]);
    checked.finds("redis nodes", &["1 running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_is_not_there_or_has_no_form_yet_is_told() {
    let postgres = Postgres::start();
    let place = Place::new().await.set("DATABASE_URL", &postgres.url());
    place.check().ends_with(0).names_the_fix("journal", "warn", &["there is no journal here yet"], &["rollcall migrate"]);
    tokio::task::block_in_place(|| place.shell.run(&["migrate"])).ends_with(0);
    place.check().ends_with(0).finds("journal", &["Postgres, of this release's form"]);
    let place = place.set("DATABASE_URL", &format!("postgres://rollcall:hidden@127.0.0.1:{}/rollcall", free_port()));
    let checked = place.check().ends_with(1);
    checked.names_the_fix("journal", "fail", &["cannot be opened"], &["DATABASE_URL"]);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
    let place = place.set("DATABASE_URL", "sqlite://absent/rollcall.db");
    place.check().ends_with(1).names_the_fix("journal", "fail", &["absent/rollcall.db"], &["make the folder"]);
    // Where nobody can write, whoever he is.
    let place = place.set("DATABASE_URL", "sqlite:///proc/sys/rollcall.db");
    place.check().ends_with(1).names_the_fix("journal", "fail", &["/proc/sys/rollcall.db cannot be written"], &["write there"]);
    let place = place.set("DATABASE_URL", "sqlite:///proc/sys/kernel/ostype");
    place.check().ends_with(1).names_the_fix("journal", "fail", &["ostype or its folder cannot be written"], &["chown"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_refuses_the_password_is_told_without_it() {
    let postgres = Postgres::start();
    postgres.ask_for_passwords().await;
    let url = format!("postgres://rollcall:hidden@127.0.0.1:{}/postgres?sslmode=disable", postgres.port());
    let checked = Place::new().await.set("DATABASE_URL", &url).check().ends_with(1);
    checked.names_the_fix("journal", "fail", &["cannot be opened", "password authentication failed"], &["DATABASE_URL"]);
    assert!(!checked.lines.to_string().contains("hidden"), "{}", checked.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_program_is_left_as_it_is() {
    let place = Place::new().await.set("DATABASE_URL", "sqlite://others.db");
    let file = place.shell.folder().join("others.db");
    in_sqlite(&file, "create table of_others (id integer)").await;
    let before = std::fs::read(&file).expect("it is there");
    place.check().ends_with(0).names_the_fix("journal", "warn", &["there is no journal here yet"], &["rollcall migrate"]);
    assert!(std::fs::read(&file).expect("it is there") == before, "its bytes are others");
    assert_eq!(place.shell.folder().read_dir().expect("it is there").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_run_tells_everything_that_is_wrong() {
    let place =
        Place::new().await.set("ROLLCALL_TTL", "25m").set("ROLLCALL_API_KEYS_FILE", "absent").set("ROLLCALL_API_KEYS", "");
    place.clerk.faults().set(Faults::status(503));
    place.redis.query(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lfu"]);
    let shell = place.shell.file("rollcall.toml", "tll = \"5m\"\ngrace = \"11m\"");
    let checked = Checked::of(tokio::task::block_in_place(|| shell.run(&["check", "--json"]))).ends_with(78);
    checked.names_the_fix(
        "ROLLCALL_TTL",
        "fail",
        &["25m (from the environment", "ROLLCALL_GRACE = 11m (from rollcall.toml)"],
        &["at most the 30m"],
    );
    checked.names_the_fix("ROLLCALL_API_KEYS", "fail", &["absent (named by ROLLCALL_API_KEYS_FILE)"], &["No such file"]);
    checked.names_the_fix("configuration", "fail", &["unknown key `tll` in rollcall.toml"], &["accepted: ", "ttl, grace"]);
    checked.names_the_fix("clerk key", "fail", &["status 503"], &["CLERK_API_URL"]);
    checked.names_the_fix("redis policy", "fail", &["allkeys-lfu"], &["noeviction"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_costs_its_own_lines_only() {
    let place = Place::new().await;
    place.clerk.faults().add(Rule::always(Act::Hang));
    place.redis.pause();
    let began = Instant::now();
    let checked = place.check().ends_with(1);
    assert!(began.elapsed() < Duration::from_secs(30), "what hangs hangs for a minute: {:?}", began.elapsed());
    checked.names_the_fix("clerk key", "fail", &["in time"], &["CLERK_API_URL"]);
    checked.names_the_fix("redis", "fail", &["Redis cannot be reached"], &["start Redis"]).finds("journal", &[]);
}

/// Somebody was to write it, and never comes.
#[test]
fn a_file_that_nobody_writes_is_not_waited_for() {
    let shell = Shell::new().set("CLERK_SECRET_KEY_FILE", "pipe");
    let made = Command::new("mkfifo").arg(shell.folder().join("pipe")).status().expect("coreutils are installed");
    assert!(made.success());
    let checked = Checked::of(shell.run(&["check", "--json"])).ends_with(78);
    checked.names_the_fix("configuration", "fail", &["cannot be read in time"], &["ROLLCALL_CONFIG", "_FILE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_a_table_coloured_on_a_terminal_alone() {
    let place = Place::new().await.set("ROLLCALL_TLL", "1m");
    tokio::task::block_in_place(|| {
        let ran = place.shell.run(&["check", "--ttl", "4m"]).ends_with(0);
        let text = ran.out();
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("no {name}: {text}"));
        assert_eq!(line("ROLLCALL_TTL "), "ok    ROLLCALL_TTL                  4m (from the flag --ttl)");
        assert!(line("ROLLCALL_TLL").starts_with("warn  configuration") && line("ROLLCALL_TLL").contains(" -> correct its name"));
        assert!(!text.contains('\u{1b}'), "{text}");
        for secret in [place.clerk.secret_key(), WEBHOOK_SECRET, &hex_digest(READ_KEY)] {
            assert!(!text.contains(secret), "{text}");
        }
        let coloured = place.shell.run_on_a_terminal(&["check"]).ends_with(0);
        assert!(coloured.out().contains("\u{1b}[32mok\u{1b}[0m"), "{}", coloured.out());
    });
    let place = place.set("NO_COLOR", "1");
    tokio::task::block_in_place(|| {
        let plain = place.shell.run_on_a_terminal(&["check"]).ends_with(0);
        assert!(!plain.out().contains('\u{1b}'), "{}", plain.out());
    });
}
