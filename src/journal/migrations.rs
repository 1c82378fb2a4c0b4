//! The form of the database, step by step: the files under `migrations/`, embedded. Each step can be borne by the release
//! before it, so that nodes of both run side by side during a deploy.

use sqlx::Row;
use sqlx::migrate::Migrator;
use tokio::time::timeout;

use super::database::{CONNECT_TIME_MAX, Database, Dialect, silent};
use super::open_error::OpenError;

/// A later release's steps are no reason to refuse: a node of this one may start beside it.
fn of(dialect: Dialect) -> Migrator {
    let mut steps = match dialect {
        Dialect::Sqlite => sqlx::migrate!("migrations/sqlite"),
        Dialect::Postgres => sqlx::migrate!("migrations/postgres"),
    };
    steps.set_ignore_missing(true);
    steps
}

/// Takes all steps that are missing, however long that takes. Two that start at once: one waits for the other. Where none is
/// missing this only looks, and a database that goes silent meanwhile is not waited for.
pub(super) async fn run(database: &Database) -> Result<(), OpenError> {
    let mut steps = of(database.dialect());
    let is_done = last_applied(database).await? >= newest(&steps);
    // Who only looks waits for nobody: a later release may be taking a long step just now.
    steps.set_locking(!is_done);
    let taking = steps.run(database.pool());
    let taken = match is_done {
        true => timeout(CONNECT_TIME_MAX, taking).await.map_err(|_| OpenError::Unreachable(silent()))?,
        false => taking.await,
    };
    taken.map_err(OpenError::Migration)
}

/// The same; answers the names of the steps taken.
pub(super) async fn run_and_tell(database: &Database) -> Result<Vec<String>, OpenError> {
    let before = last_applied(database).await?;
    run(database).await?;
    let steps = of(database.dialect());
    let taken = steps.iter().filter(|step| step.version > before);
    Ok(taken.map(|step| format!("{}_{}", step.version, step.description.replace(' ', "_"))).collect())
}

/// Whether the form is one this release knows: that of its last step or of a later release.
pub(super) async fn check(database: &Database) -> Result<(), OpenError> {
    match last_applied(database).await? {
        0 => Err(OpenError::Missing),
        last if last < newest(&of(database.dialect())) => Err(OpenError::Outdated),
        _ => Ok(()),
    }
}

fn newest(steps: &Migrator) -> i64 {
    steps.iter().map(|step| step.version).max().unwrap_or(0)
}

/// Zero where no step was ever taken.
async fn last_applied(database: &Database) -> Result<i64, OpenError> {
    let asking = sqlx::query("select max(version) from _sqlx_migrations").fetch_one(database.pool());
    match timeout(CONNECT_TIME_MAX, asking).await.unwrap_or_else(|_| Err(silent())) {
        Ok(row) => Ok(row.try_get(0).unwrap_or(0)),
        Err(sqlx::Error::Database(error)) if is_missing_table(&*error) => Ok(0),
        Err(error) => Err(OpenError::Unreachable(error)),
    }
}

fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}
