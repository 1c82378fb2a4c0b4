//! `rollcall evict USER…`: forgets what is remembered of users, on every node; the next read of each asks Clerk.
//!
//! Through a running service (`--server`), which carries it to all others; or straight through Redis, for when none can be
//! reached (`through_redis`). Confirmed or failed: a user whose eviction was not confirmed makes the exit code 1 (I8).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, StatusCode, Url};
use serde::Serialize;
use tokio::runtime::Handle;

use super::caller::{self, Caller};
use super::output::{self, Colour};
use super::{Usage, client};
use crate::domain::UserId;
use crate::telemetry::ErrorChain;

mod through_redis;

/// More than the service's own limit for an eviction.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Arguments of `evict`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 all evicted, 1 something failed, 2 typed wrongly, 78 bad configuration")]
pub(super) struct Args {
    /// The users
    #[arg(value_name = "USER", value_parser = UserId::parse, required_unless_present = "all")]
    users: Vec<UserId>,
    /// All users (through Redis only)
    #[arg(long, conflicts_with_all = ["users", "server"])]
    all: bool,
    #[command(flatten)]
    caller: Caller,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// What became of one user.
#[derive(Debug, Serialize)]
struct Eviction {
    user: UserId,
    evicted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What became of everybody.
#[derive(Debug, Serialize)]
struct AllEvicted {
    /// Always true; tells the two shapes apart.
    all: bool,
    /// Values that were in Redis.
    values: usize,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    if args.all {
        return report_all(&args, io.block_on(through_redis::everybody())?);
    }
    let evictions = match &args.caller.server {
        Some(server) => io.block_on(through_server(&args, client::url(server)?))?,
        None => io.block_on(through_redis::users(&args.users))?,
    };
    let is_done = evictions.iter().all(|eviction| eviction.evicted);
    if args.json {
        output::json(&evictions)?;
    } else {
        evictions.iter().try_for_each(|eviction| output::line(&eviction.line()))?;
    }
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report_all(args: &Args, values: usize) -> anyhow::Result<ExitCode> {
    match args.json {
        true => output::json(&AllEvicted { all: true, values })?,
        false => output::line(&format!("{}  everybody; values in Redis: {values}", output::paint(Colour::Green, "evicted")))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn through_server(args: &Args, server: Url) -> anyhow::Result<Vec<Eviction>> {
    let client = client::client(&server, ANSWER_MAX)?;
    let authorization = args.caller.authorization()?;
    let mut evictions = Vec::with_capacity(args.users.len());
    for user in &args.users {
        let error = evict(&client, &server, &authorization, user).await.err();
        let error = error.map(|error| ErrorChain(error.as_ref()).to_string());
        evictions.push(Eviction { user: user.clone(), evicted: error.is_none(), error });
    }
    Ok(evictions)
}

async fn evict(client: &Client, server: &Url, authorization: &str, user: &UserId) -> anyhow::Result<()> {
    let url = format!("{}/v1/users/{user}/orgs", server.as_str().trim_end_matches('/'));
    let answer = client.delete(url).header(AUTHORIZATION, authorization).send().await;
    match answer.map_err(reqwest::Error::without_url).context("no answer")?.status() {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::SERVICE_UNAVAILABLE => anyhow::bail!("503: not confirmed on every node; try again"),
        status => Err(caller::refusal(status, "evict or admin")),
    }
}

impl Eviction {
    fn line(&self) -> String {
        match &self.error {
            None => format!("{}  {}", output::paint(Colour::Green, "evicted"), self.user),
            Some(error) => format!("{}  {}", output::paint(Colour::Red, error), self.user),
        }
    }
}
