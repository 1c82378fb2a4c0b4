//! The database step by step: each step of `migrations/` meets rows as the steps before it leave them (`fixtures/migrations/`),
//! and in the end an operator can read them all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rollcall::domain::MessageId;
use rollcall::journal::{self, Filter, Sharing, SqlJournal};
use rollcall::ports::Journal;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyPool, AssertSqlSafe};
use tokio::runtime::Handle;

use crate::world::postgres::Postgres;
use crate::world::shell::Shell;

/// A folder of this repository.
fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The steps of a dialect by their file names, in order, with their texts.
fn steps(folder: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let text = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).expect("text"))
    };
    let mut steps: Vec<_> = entries.map(text).collect();
    steps.sort();
    steps
}

async fn connect(url: &str) -> AnyPool {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new().max_connections(1).connect(url).await.expect("the database is there")
}

async fn run(pool: &AnyPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("the statements are good");
}

async fn open(url: &str) -> SqlJournal {
    let settings = journal::Settings { url: url.into(), io: Handle::current() };
    SqlJournal::open(settings, Sharing::Operator).await.expect("the form is the present one")
}

/// Takes every step in the empty database at `url`, with its sample rows after it; everything must be readable then.
async fn every_step_bears_the_rows_before_it(url: &str, dialect: &str) {
    let migrations = folder("migrations").join(dialect);
    let samples = steps(&folder("fixtures/migrations").join(dialect));
    let migrator = Migrator::new(migrations.as_path()).await.expect("migrations");
    let pool = connect(url).await;
    for (step, (name, sample)) in migrator.iter().zip(&samples) {
        assert!(name.starts_with(&step.version.to_string()), "{name} is not the sample of {}", step.version);
        migrator.run_to(step.version, &pool).await.expect("the step bears what was there");
        run(&pool, sample).await;
    }
    pool.close().await;

    let journal = open(url).await;
    assert!(journal.id().len() == 32 && journal.id().bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", journal.id());
    let rows = journal.list(&Filter::default(), 100).await.expect("rows");
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.message_id.as_str()).collect();
    for (_, sample) in &samples {
        for id in sample.split('\'').filter(|text| text.starts_with("msg_")) {
            assert!(ids.contains(id), "{id} is not listed: {ids:?}");
        }
    }
    for row in &rows {
        let shown =
            journal.show(&MessageId::parse(&row.message_id).expect("an id")).await.expect("it can be read").expect("it is there");
        assert_eq!(shown.payload.is_some(), row.state != "ignored", "{shown:?}");
        assert!(shown.payload.is_none_or(|payload| payload["change"]["kind"].is_string()), "{row:?}");
    }
    let stats = journal.stats().await.expect("counts");
    assert_eq!((stats.pending, stats.applied, stats.ignored, stats.buried), (2, 3, 2, 1));
    assert!(stats.oldest_open.is_some());
    assert_eq!(journal.now().await.expect("a time").as_secs() / 1_000_000_000, 1);
    journal.close().await;

    let settings = || journal::Settings { url: url.into(), io: Handle::current() };
    assert_eq!(SqlJournal::migrate(settings()).await.expect("nothing fails"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_bears_the_rows_before_it_in_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rollcall.db");
    every_step_bears_the_rows_before_it(&format!("sqlite://{}?mode=rwc", file.display()), "sqlite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_bears_the_rows_before_it_in_postgres() {
    let server = Postgres::start();
    every_step_bears_the_rows_before_it(&server.url(), "postgres").await;
}

#[test]
fn migrating_names_the_steps_it_takes_and_a_second_time_there_is_nothing_to_do() {
    let names: Vec<String> = steps(&folder("migrations/sqlite")).into_iter().map(|(name, _)| name).collect();
    let shell = Shell::new();
    let first = shell.run(&["migrate", "--json"]).ends_with(0).json();
    assert_eq!(first["applied"], serde_json::json!(names));
    shell.run(&["migrate"]).ends_with(0).says(&["nothing to do"]);
    assert_eq!(shell.run(&["migrate", "--json"]).ends_with(0).out(), "{\"applied\":[]}\n");

    let again = Shell::new().run(&["migrate"]).ends_with(0).out();
    assert_eq!(again.lines().collect::<Vec<_>>(), names);
    Shell::new().run(&["migrate", "--database-url", "sqlite://absent/rollcall.db"]).ends_with(1).says(&["DATABASE_URL"]);
}

#[test]
fn both_dialects_have_the_same_steps_and_each_has_sample_rows() {
    let names = |path: &str| steps(&folder(path)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let expected = names("migrations/sqlite");
    assert!(!expected.is_empty());
    for path in ["migrations/postgres", "fixtures/migrations/sqlite", "fixtures/migrations/postgres"] {
        assert_eq!(names(path), expected, "{path}");
    }
}

/// The tables that a step makes, each with its columns, and the columns that it adds to others.
fn made(sql: &str) -> Vec<(String, Vec<String>)> {
    let mut made: Vec<(String, Vec<String>)> = Vec::new();
    let (mut table, word) = (None, |line: &str, place| line.split([' ', '(']).nth(place).unwrap_or_default().to_owned());
    for line in sql.lines() {
        if line.starts_with("create table ") {
            table = Some((word(line, 2), Vec::new()));
        } else if line.starts_with("alter table ") && line.contains(" add column ") {
            made.push((word(line, 2), vec![word(line, 5)]));
        } else if line.starts_with(')') {
            made.extend(table.take());
        } else if let (Some((_, columns)), false) = (&mut table, line.trim_start().starts_with("--")) {
            columns.push(word(line.trim_start(), 0));
        }
    }
    made
}

#[test]
fn every_table_and_column_has_a_comment_in_postgres() {
    for (name, sql) in steps(&folder("migrations/postgres")) {
        let made = made(&sql);
        assert!(!made.is_empty(), "{name}");
        for (table, columns) in made {
            let is_new = sql.contains(&format!("create table {table} "));
            assert!(!is_new || sql.contains(&format!("comment on table {table} is '")), "{name}: {table}");
            for column in columns {
                assert!(sql.contains(&format!("comment on column {table}.{column} is '")), "{name}: {table}.{column}");
            }
        }
    }
}

#[test]
fn every_table_and_column_is_preceded_by_a_comment_in_sqlite() {
    for (name, sql) in steps(&folder("migrations/sqlite")) {
        let made = made(&sql);
        assert!(made.iter().any(|(_, columns)| !columns.is_empty()), "{name}");
        let lines: Vec<&str> = sql.lines().map(str::trim).collect();
        for (table, columns) in made {
            for column in columns {
                let is_column =
                    |line: &&str| line.starts_with(&format!("{column} ")) || line.contains(&format!(" column {column} "));
                let place = lines.iter().position(is_column).expect("the line it was found in");
                assert!(place > 0 && lines[place - 1].starts_with("--"), "{name}: {table}.{column}");
            }
            let head = format!("create table {table} ");
            let place = lines.iter().position(|line| line.starts_with(&head));
            assert!(place.is_none_or(|place| place > 0 && lines[place - 1].starts_with("--")), "{name}: {table}");
        }
    }
}

#[test]
fn the_columns_of_both_dialects_are_the_same() {
    let both = ["migrations/sqlite", "migrations/postgres"]
        .map(|path| steps(&folder(path)).into_iter().map(|(name, sql)| (name, made(&sql))).collect::<Vec<_>>());
    assert_eq!(both[0], both[1]);
}
