//! `rollcall dev`: the service beside a stand-in for Clerk, each on a port of its own, with a small world to try it on.
//!
//! No account, no Redis, no database. The two reach each other only over HTTP, with real keys and real signatures. With
//! `REDIS_URL` in the environment it may be several nodes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use aws_lc_rs::digest;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::serve::told_to_stop;
use crate::app::{self, App};
use crate::config::{Environment, Settings, Typed};
use crate::dev::{Options, StandIn, World};
use crate::journal::{self, Sharing, SqlJournal};
use crate::telemetry;

/// The service key of every `dev` on loopback: known to all, so that documented requests work when pasted.
pub const DEV_KEY: &str = "rk_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev";

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Settings other than keys, secrets and addresses come from the environment and rollcall.toml, as for serve.\n\n\
    Exit codes: 0 stopped when told to, 1 failed or told twice, 2 typed wrongly, 78 bad configuration"
)]
pub(super) struct Args {
    /// Where the service listens; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Where the stand-in for Clerk listens; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8788")]
    clerk_listen: SocketAddr,
    /// How many nodes; more than one need REDIS_URL, and listen on the ports after both of the above
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Only the stand-in for Clerk: prints the environment for a `rollcall serve` beside it
    #[arg(long)]
    clerk_only: bool,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    if !args.listen.ip().is_loopback() || args.clerk_listen.ip() != IpAddr::from([127, 0, 0, 1]) {
        bail!(super::Usage(
            "dev listens on loopback only: its key is known to all and its world takes changes from anybody".into()
        ));
    }
    let environment = environment(&args);
    let settings = Settings::gather(&Typed::default(), &environment)?;
    if args.nodes > 1 && settings.redis()?.is_none() {
        return Err(super::Usage("several nodes share what changes through Redis: set REDIS_URL".to_owned()).into());
    }
    telemetry::init(&settings.logging()?);
    actix_web::rt::System::new().block_on(async {
        let shutdown = told_to_stop(io)?;
        let clerk = start_clerk(&args, io).await?;
        if args.clerk_only {
            clerk.sender().set_endpoints(vec![format!("http://{}/webhooks/clerk", args.listen)]);
            println!("{}", exports(&args, &clerk));
            shutdown.await;
            clerk.stop().await;
            return Ok(());
        }
        let environment = environment.with("CLERK_API_URL", clerk.url());
        let folder = Folder::make()?;
        let environment = folder.journal(environment);
        let journal = open_journal(&environment, io).await?;
        let mut nodes = Vec::new();
        for number in 0..args.nodes {
            nodes.push(build_node(node_address(&args, number), &environment, &clerk, journal.clone(), io).await?);
        }
        let addresses: Vec<SocketAddr> = nodes.iter().map(App::address).collect();
        clerk.sender().set_endpoints(addresses.iter().map(|address| format!("http://{address}/webhooks/clerk")).collect());
        println!("{}", guide(&addresses, &clerk.url(), environment.get("DATABASE_URL").unwrap_or_default()));
        run_all(nodes, shutdown).await?;
        journal.close().await;
        clerk.stop().await;
        anyhow::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The process's own, except for what the stand-in decides.
fn environment(args: &Args) -> Environment {
    let defaults = Options::default();
    Environment::of_process()
        .with("CLERK_SECRET_KEY", defaults.secret_key)
        .with("CLERK_WEBHOOK_SIGNING_SECRET", defaults.webhook_secret)
        .with("CLERK_API_URL", format!("http://{}", args.clerk_listen))
        .with("ROLLCALL_API_KEYS", key_entry())
}

fn key_entry() -> String {
    let digest = digest::digest(&digest::SHA256, DEV_KEY.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("dev:admin:{digest}")
}

async fn start_clerk(args: &Args, io: &Handle) -> anyhow::Result<StandIn> {
    let options = Options { port: args.clerk_listen.port(), world: World::small(), ..Options::default() };
    io.spawn(StandIn::start(options)).await.context("the stand-in did not start")?
}

/// The journal of all nodes: they share one process, so they may share a file too.
async fn open_journal(environment: &Environment, io: &Handle) -> anyhow::Result<Arc<SqlJournal>> {
    let url = Settings::gather(&Typed::default(), environment)?.database_url()?;
    Ok(Arc::new(SqlJournal::open(journal::Settings { url, io: io.clone() }, Sharing::Alone).await?))
}

/// A folder of this run's own, gone when it ends: what `dev` remembers is of a world that ends with it.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("rollcall-dev-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The journal is in there, unless the environment names one.
    fn journal(&self, environment: Environment) -> Environment {
        match environment.get("DATABASE_URL").or(environment.get("DATABASE_URL_FILE")) {
            Some(_) => environment,
            None => environment.with("DATABASE_URL", format!("sqlite://{}", self.0.join("rollcall.db").display())),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is the system's to clear.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn build_node(
    address: SocketAddr,
    environment: &Environment,
    clerk: &StandIn,
    journal: Arc<SqlJournal>,
    io: &Handle,
) -> anyhow::Result<App> {
    let environment = environment
        .clone()
        .with("ROLLCALL_LISTEN", address.to_string())
        .with("CLERK_SECRET_KEY", clerk.secret_key())
        .with("CLERK_WEBHOOK_SIGNING_SECRET", clerk.sender().secret());
    let config = Settings::gather(&Typed::default(), &environment)?.resolve()?;
    app::build_on(config, journal, io.clone()).await.context("cannot start")
}

/// The first node where asked for; the others on the ports behind it and the stand-in's.
fn node_address(args: &Args, number: u16) -> SocketAddr {
    let after = args.listen.port().max(args.clerk_listen.port());
    let port = if number == 0 { args.listen.port() } else { after + number };
    SocketAddr::new(args.listen.ip(), port)
}

async fn run_all(nodes: Vec<App>, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
    let told = Arc::new(Notify::new());
    let waiting: Vec<_> = nodes
        .into_iter()
        .map(|node| {
            let told = told.clone();
            // Registered before anybody is told, so that no node misses it.
            let mut is_told = Box::pin(told.notified_owned());
            is_told.as_mut().enable();
            node.run_until(is_told)
        })
        .collect();
    tokio::spawn(async move {
        shutdown.await;
        told.notify_waiters();
    });
    futures_util::future::try_join_all(waiting).await.map(|_| ())
}

/// What a `serve` beside the stand-in needs. The secrets are of this world only.
fn exports(args: &Args, clerk: &StandIn) -> String {
    format!(
        "# A stand-in for Clerk is on {url}; it sends webhooks to {listen}. The service key is {DEV_KEY}.
export CLERK_API_URL={url}
export CLERK_SECRET_KEY={key}
export CLERK_WEBHOOK_SIGNING_SECRET={secret}
export ROLLCALL_API_KEYS={entry}
export ROLLCALL_LISTEN={listen}",
        url = clerk.url(),
        listen = args.listen,
        key = clerk.secret_key(),
        secret = clerk.sender().secret(),
        entry = key_entry(),
    )
}

/// Requests that work when pasted.
fn guide(nodes: &[SocketAddr], clerk: &str, journal: &str) -> String {
    let at = format!("http://{}", nodes[0]);
    let ask = |path: &str| format!("curl -s -H 'Authorization: Bearer {DEV_KEY}' '{at}{path}'");
    let tell = |method: &str, path: &str, body: &str| {
        format!("curl -s -X {method} -H 'Content-Type: application/json' -d '{body}' '{clerk}/world{path}'")
    };
    let others = nodes[1..].iter().map(|address| format!("  another node: http://{address}\n")).collect::<String>();
    format!(
        "rollcall is on {at}, a stand-in for Clerk on {clerk}
{others}
Which organizations is Ada in? (Twelve; Tomas, user_tomas, is in none.)
  {list}

Is she a member of this one, by id or by slug? As an admin? (Of the last she is one, but no admin: 403 role-missing.)
  {by_id}
  {by_slug}
  {by_role}

Change the world; the stand-in sends the signed webhook. Then ask again: 404 not-a-member.
  {revoke}
  {by_slug}

Grant, change a role, rename, delete; an organization that no webhook tells of shows on the next check a second later.
  {grant}
  {role}
  {rename}
  {silent}
  {delete}

What was received, and what became of it:
  DATABASE_URL={journal} rollcall journal list

The whole world: curl -s {clerk}/world. Stop with Ctrl-C.
",
        list = ask("/v1/users/user_ada/orgs"),
        by_id = ask("/v1/users/user_ada/orgs/org_harbour_works"),
        by_slug = ask("/v1/users/user_ada/orgs/harbour-works"),
        by_role = ask("/v1/users/user_ada/orgs/northfold-bakery?role=org:admin"),
        revoke = tell("DELETE", "/memberships", r#"{"user":"user_ada","organization":"harbour-works"}"#),
        grant = tell("POST", "/memberships", r#"{"user":"user_tomas","organization":"harbour-works","role":"org:member"}"#),
        role = tell("PATCH", "/memberships", r#"{"user":"user_tomas","organization":"harbour-works","role":"org:admin"}"#),
        rename = tell("PATCH", "/organizations/orchard-nine", r#"{"name":"Orchard Ten","slug":"orchard-ten"}"#),
        silent = tell(
            "POST",
            "/organizations?webhook=false",
            r#"{"name":"Night Shift","slug":"night-shift","createdBy":"user_tomas"}"#
        ),
        delete = tell("DELETE", "/organizations/velvet-anvil", "{}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_form_of_a_key() {
        assert_eq!(DEV_KEY.len(), 3 + 43);
    }
}
