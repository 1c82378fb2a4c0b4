//! The form of the database, step by step: the files under `migrations/`, embedded. Each step can be borne by the release
//! before it, so that nodes of both run side by side during a deploy.

use sqlx::Row;
use sqlx::migrate::Migrator;

use super::database::{Database, Dialect, OpenError};

/// A later release's steps are no reason to refuse: a node of this one may start beside it.
fn of(dialect: Dialect) -> Migrator {
    let mut steps = match dialect {
        Dialect::Sqlite => sqlx::migrate!("migrations/sqlite"),
        Dialect::Postgres => sqlx::migrate!("migrations/postgres"),
    };
    steps.set_ignore_missing(true);
    steps
}

/// Takes all steps that are missing. Two that start at once: one waits for the other.
pub(super) async fn run(database: &Database) -> Result<(), OpenError> {
    of(database.dialect()).run(database.pool()).await.map_err(OpenError::Migration)
}

/// The same; answers the names of the steps taken.
pub(super) async fn run_and_tell(database: &Database) -> Result<Vec<String>, OpenError> {
    let before = last_applied(database).await.unwrap_or(0);
    run(database).await?;
    let steps = of(database.dialect());
    let taken = steps.iter().filter(|step| step.version > before);
    Ok(taken.map(|step| format!("{}_{}", step.version, step.description.replace(' ', "_"))).collect())
}

/// Whether the form is one this release knows: that of its last step or of a later release.
pub(super) async fn check(database: &Database) -> Result<(), OpenError> {
    let newest = of(database.dialect()).iter().map(|step| step.version).max().unwrap_or(0);
    match last_applied(database).await {
        Some(applied) if applied >= newest => Ok(()),
        Some(_) | None => Err(OpenError::Missing),
    }
}

async fn last_applied(database: &Database) -> Option<i64> {
    let row = sqlx::query("select max(version) from _sqlx_migrations").fetch_one(database.pool()).await.ok()?;
    row.try_get(0).ok()
}
