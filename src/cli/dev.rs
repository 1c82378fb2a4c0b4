//! `rollcall dev`: the service beside a stand-in for Clerk, each on a port of its own, with a small world to try it on.
//!
//! No account, no Redis, no database. The two reach each other only over HTTP, with real keys and real signatures. With
//! `REDIS_URL` in the environment it may be several nodes. The journal is a file that ends with the world it tells of, unless
//! `DATABASE_URL` names one that stays, which is said: it might be a production's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use aws_lc_rs::{digest, rand};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::serve::told_to_stop;
use crate::app::{self, App};
use crate::config::{Config, ConfigError, Environment, Name, Settings, Typed};
use crate::dev::{Options, StandIn, World};
use crate::journal::{self, Sharing, SqlJournal};
use crate::telemetry;

/// The service key of every `dev` on loopback: known to all, so that documented requests work when pasted.
pub const DEV_KEY: &str = "rk_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev_dev";

/// Arguments of `dev`. No `Debug`: the URL may hold a password.
#[derive(clap::Args)]
#[command(
    after_help = "Settings other than keys, secrets and addresses come from the environment and rollcall.toml, as for serve; the \
    journal not from the file.\n\nExit codes: 0 stopped when told to, 1 failed or told twice, 2 typed wrongly, 78 bad configuration"
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
    /// A journal that stays, also by DATABASE_URL [default: a file of its own, gone when it ends]
    #[arg(long, value_name = "URL", conflicts_with = "clerk_only")]
    database_url: Option<String>,
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
    let settings = gather(&args, &environment)?;
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
        let folder = if args.database_url.is_some() || names_a_journal() { None } else { Some(Folder::make()?) };
        let file = folder.as_ref().map(Folder::journal);
        let mut environment = environment.with("CLERK_API_URL", clerk.url());
        if let Some(file) = &file {
            environment = environment.with("DATABASE_URL", file.clone());
        }
        let url = gather(&args, &environment)?.database_url()?;
        // They share one process, so they may share a file too.
        let journal = Arc::new(SqlJournal::open(journal::Settings { url, io: io.clone() }, Sharing::Alone).await?);
        let mut nodes = Vec::new();
        for number in 0..args.nodes {
            nodes.push(build_node(&args, number, &environment, &clerk, journal.clone(), io).await?);
        }
        let addresses: Vec<SocketAddr> = nodes.iter().map(App::address).collect();
        clerk.sender().set_endpoints(addresses.iter().map(|address| format!("http://{address}/webhooks/clerk")).collect());
        if file.is_none() && args.database_url.is_none() {
            eprintln!("DATABASE_URL is set: what happens in this world is written into the journal that it names");
        }
        println!("{}", guide(&addresses, &clerk.url(), file.as_deref()));
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
        // Of another instance, if they are set at all.
        .without(Name::JwtKey)
        .without(Name::AuthorizedParties)
        .with("CLERK_SECRET_KEY", defaults.secret_key)
        .with("CLERK_WEBHOOK_SIGNING_SECRET", defaults.webhook_secret)
        .with("CLERK_API_URL", format!("http://{}", args.clerk_listen))
        .with("ROLLCALL_API_KEYS", key_entry())
}

/// Whether the environment names a journal.
fn names_a_journal() -> bool {
    let process = Environment::of_process();
    ["DATABASE_URL", "DATABASE_URL_FILE"].into_iter().any(|variable| process.get(variable).is_some())
}

/// The settings, with the one that has a flag here.
fn gather(args: &Args, environment: &Environment) -> Result<Settings, ConfigError> {
    Settings::gather(&Typed::only(Name::DatabaseUrl, args.database_url.clone()), environment)
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

/// A folder of this run's own, gone when it ends: what `dev` remembers is of a world that ends with it.
struct Folder(PathBuf);

impl Folder {
    /// New, and nobody else's: one that a killed run left is not entered, nor one that somebody laid out for us.
    fn make() -> anyhow::Result<Self> {
        loop {
            let mut random = [0; 8];
            rand::fill(&mut random).ok().context("the system gives no randomness")?;
            let path = std::env::temp_dir().join(format!("rollcall-dev-{:016x}", u64::from_ne_bytes(random)));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
            }
        }
    }

    /// The URL of the journal in there.
    fn journal(&self) -> String {
        format!("sqlite://{}", self.0.join("rollcall.db").display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is the system's to clear.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn build_node(
    args: &Args,
    number: u16,
    environment: &Environment,
    clerk: &StandIn,
    journal: Arc<SqlJournal>,
    io: &Handle,
) -> anyhow::Result<App> {
    let environment = environment
        .clone()
        .with("ROLLCALL_LISTEN", node_address(args, number).to_string())
        .with("CLERK_SECRET_KEY", clerk.secret_key())
        .with("CLERK_PUBLISHABLE_KEY", clerk.publishable_key())
        .with("CLERK_ISSUER", clerk.issuer())
        .with("CLERK_WEBHOOK_SIGNING_SECRET", clerk.sender().secret());
    // One address is for one listener.
    let environment = if number == 0 { environment } else { environment.without(Name::MetricsListen) };
    let config = Config { is_description_open: true, ..gather(args, &environment)?.resolve()? };
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
export CLERK_PUBLISHABLE_KEY={publishable_key}
export CLERK_WEBHOOK_SIGNING_SECRET={secret}
export ROLLCALL_API_KEYS={entry}
export ROLLCALL_LISTEN={listen}",
        url = clerk.url(),
        listen = args.listen,
        key = clerk.secret_key(),
        publishable_key = clerk.publishable_key(),
        secret = clerk.sender().secret(),
        entry = key_entry(),
    )
}

/// Requests that work when pasted. A journal that was typed is not repeated: its URL may hold a password.
fn guide(nodes: &[SocketAddr], clerk: &str, journal: Option<&str>) -> String {
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

Who is she, by a session token? (It lives for a minute.)
  {context}
{look}
Every route, with requests to try: {at}/docs
The whole world: curl -s {clerk}/world. Stop with Ctrl-C.
",
        context = context(&at, clerk),
        look = journal.map(look).unwrap_or_default(),
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

/// A context by a fresh token, on one line: the token lives for a minute.
fn context(at: &str, clerk: &str) -> String {
    let body = r#"{"user":"user_ada","organization":"northfold-bakery"}"#;
    let mint = format!("curl -s -H 'Content-Type: application/json' -d '{body}' '{clerk}/world/tokens'");
    let cut = r#"sed 's/.*"jwt":"\([^"]*\)".*/\1/'"#;
    format!("curl -s -H \"Authorization: Bearer $({mint} | {cut})\" '{at}/v1/context?org=northfold-bakery'")
}

/// How the journal is looked at, with the binary that runs: it need not be on the path.
fn look(journal: &str) -> String {
    let binary = std::env::current_exe().unwrap_or_else(|_| "rollcall".into());
    let (binary, url) = (quoted(&binary.to_string_lossy()), quoted(journal));
    format!("\nWhat was received, and what became of it:\n  {binary} journal list --database-url {url}\n")
}

/// One word for a shell, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_run_has_a_folder_of_its_own_that_nobody_else_may_enter_and_that_is_gone_with_it() {
        let (one, other) = (Folder::make().unwrap(), Folder::make().unwrap());
        assert_ne!(one.0, other.0);
        let path = one.0.clone();
        std::fs::write(path.join("rollcall.db"), "").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(one);
        assert!(!path.exists() && other.0.exists());
    }

    #[test]
    fn a_quoted_word_is_one_word_for_a_shell() {
        for word in ["sqlite:///tmp/a b/rollcall.db", "it's $HOME `x` \"y\" \\", ""] {
            let told = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&told.stdout), word);
        }
    }

    #[test]
    fn the_key_has_the_form_of_a_key() {
        assert_eq!(DEV_KEY.len(), 3 + 43);
    }
}
