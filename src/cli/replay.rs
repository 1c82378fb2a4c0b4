//! `rollcall replay PATH…`: signs bodies as Svix does and sends them, one after the other, in order.
//!
//! The body is sent byte for byte as it is in the file; it is not looked into. `--dry-run` touches nothing and sends nothing.
//! `--from-journal` is another thing, in `from_journal`: what was received is applied once more.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_lc_rs::rand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use svix::webhooks::Webhook;
use tokio::runtime::Handle;

use super::output::{self, Colour};
use super::{Usage, bodies, client};
use crate::clock;
use crate::config::{ConfigError, Environment, Settings, Typed, read_secret};
use crate::domain::MessageId;
use crate::telemetry::ErrorChain;

mod from_journal;
mod pace;
mod summary;

/// What Svix waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Arguments of `replay`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 every answer was 2xx, or all was applied, 1 something failed, is buried again, or nobody \
                        applies anything, 2 typed wrongly, 78 bad configuration, 130 a replay from the journal was interrupted")]
pub(super) struct Args {
    /// Files, or folders of .json files; each file is the bare body of one webhook
    #[arg(required_unless_present = "from_journal", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where to send them [default: the webhook route on ROLLCALL_LISTEN]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// The file that holds the signing secret [env: CLERK_WEBHOOK_SIGNING_SECRET]
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// The message id, for a single file [default: a new one for each]
    #[arg(long, value_name = "ID", value_parser = MessageId::parse)]
    id: Option<MessageId>,
    /// At most this many per second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// Says what would be sent, and sends nothing
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "From the journal")]
    journal: from_journal::Args,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    to: String,
    dry_run: bool,
    sent: usize,
    failed: usize,
    deliveries: Vec<Delivery>,
}

/// What became of one file.
#[derive(Debug, Serialize)]
struct Delivery {
    file: String,
    id: String,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    if args.journal.from_journal {
        let (rate, dry_run, json, bar) = (args.rate, args.dry_run, args.json, progress(0, args.json));
        return from_journal::run(&args.journal, &from_journal::Manner { rate, dry_run, json, bar }, io);
    }
    args.journal.check_unused()?;
    let files = bodies::find(&args.paths)?;
    if args.id.is_some() && files.len() > 1 {
        return Err(Usage(format!("--id is for a single file, and there are {}", files.len())).into());
    }
    let settings = Settings::gather(&Typed::default(), &Environment::of_process())?;
    let to = match &args.to {
        Some(to) => client::url(to)?,
        None => client::own_url(settings.listen()?, "/webhooks/clerk"),
    };
    let sender = match args.dry_run {
        true => None,
        false => Some(Sender { webhook: webhook(&args, &settings)?, client: client::client(&to, ANSWER_MAX)?, to: to.clone() }),
    };
    let summary = io.block_on(replay(&args, &files, to, sender))?;
    report(&args, &summary)?;
    Ok(if summary.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn replay(args: &Args, files: &[PathBuf], to: Url, sender: Option<Sender>) -> anyhow::Result<Summary> {
    let mut summary = Summary { to: to.to_string(), dry_run: args.dry_run, ..Summary::default() };
    let bar = progress(files.len(), args.json || args.dry_run);
    let gap = args.rate.map(|rate| Duration::from_secs(1) / rate);
    let began = Instant::now();
    for (place, file) in files.iter().enumerate() {
        if let (Some(gap), Some(_)) = (gap, &sender) {
            // From the beginning and not from the last one, so that slow answers do not lower the rate.
            let due = began + gap * u32::try_from(place).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due.into()).await;
        }
        let id = args.id.clone().map_or_else(new_id, Ok)?;
        let delivery = deliver(sender.as_ref(), file, &id).await;
        bar.inc(1);
        if !args.json {
            bar.suspend(|| output::line(&delivery.line(args.dry_run)))?;
        }
        summary.sent += usize::from(delivery.status.is_some());
        summary.failed += usize::from(!delivery.is_good());
        summary.deliveries.push(delivery);
    }
    bar.finish_and_clear();
    Ok(summary)
}

async fn deliver(sender: Option<&Sender>, file: &Path, id: &MessageId) -> Delivery {
    let mut delivery = Delivery { file: file.display().to_string(), id: id.to_string(), bytes: 0, status: None, error: None };
    let outcome = async {
        let body = bodies::read(file)?;
        delivery.bytes = body.len();
        match sender {
            Some(sender) => sender.send(id, body).await.map(Some),
            None => Ok(None),
        }
    };
    match outcome.await {
        Ok(status) => delivery.status = status,
        Err(error) => delivery.error = Some(ErrorChain(error.as_ref()).to_string()),
    }
    delivery
}

impl Delivery {
    fn is_good(&self) -> bool {
        self.error.is_none() && self.status.is_none_or(|status| (200..300).contains(&status))
    }

    fn line(&self, is_dry: bool) -> String {
        let what = match (&self.error, self.status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => status.to_string(),
            (None, None) => format!("would be sent, {} bytes", self.bytes),
        };
        let colour = if self.is_good() { Colour::Green } else { Colour::Red };
        // In a dry run no id is promised: the real run makes new ones.
        let id = if is_dry { String::new() } else { format!("  {}", self.id) };
        format!("{}  {}{id}", output::paint(colour, &what), self.file)
    }
}

fn report(args: &Args, summary: &Summary) -> anyhow::Result<()> {
    if args.json {
        return output::json(summary);
    }
    let good = summary.deliveries.len() - summary.failed;
    let text = match args.dry_run {
        true => format!("{good} would be sent to {}, {} cannot", summary.to, summary.failed),
        false => format!("{good} delivered to {}, {} failed", summary.to, summary.failed),
    };
    Ok(output::line(&text)?)
}

/// Who sends, and with which secret.
struct Sender {
    webhook: Webhook,
    client: Client,
    to: Url,
}

impl Sender {
    /// Signs and sends one body; the status of the answer.
    async fn send(&self, id: &MessageId, body: Vec<u8>) -> anyhow::Result<u16> {
        let timestamp = i64::try_from(clock::wall().as_secs()).context("the clock is beyond all timestamps")?;
        let signature = self.webhook.sign(id.as_str(), timestamp, &body).context("cannot be signed")?;
        let request = self.client.post(self.to.clone()).header("content-type", "application/json");
        let request =
            request.header("svix-id", id.as_str()).header("svix-timestamp", timestamp).header("svix-signature", signature);
        // The URL is said once, in the summary.
        let answer = request.body(body).send().await.map_err(reqwest::Error::without_url).context("no answer")?;
        Ok(answer.status().as_u16())
    }
}

/// The first secret: during a rotation every one of them is accepted.
fn webhook(args: &Args, settings: &Settings) -> anyhow::Result<Webhook> {
    let secret: SecretString = match &args.secret_file {
        Some(path) => read_secret(path, "--secret-file").map_err(ConfigError::from)?,
        None => settings.webhook_secrets()?.swap_remove(0),
    };
    // The cause would show a character of the secret.
    Webhook::new(secret.expose_secret()).map_err(|_| anyhow::anyhow!("the signing secret is not `whsec_` followed by base64"))
}

/// A message id as Svix makes them: `msg_` and 27 characters of base62.
fn new_id() -> anyhow::Result<MessageId> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut id = String::from("msg_");
    while id.len() < 31 {
        let mut random = [0; 32];
        rand::fill(&mut random).ok().context("the system gives no randomness")?;
        // Bytes from 248 on would make some characters likelier.
        let characters = random.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        id.extend(characters.take(31 - id.len()));
    }
    MessageId::parse(&id).context("an id of ours is an id")
}

fn progress(files: usize, is_quiet: bool) -> ProgressBar {
    let is_shown = !is_quiet && std::io::stderr().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} left")
        .expect("the template is a constant that parses");
    ProgressBar::with_draw_target(Some(files as u64), target).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_is_like_those_of_svix_and_never_the_same() {
        let ids: std::collections::HashSet<String> = (0..100).map(|_| new_id().unwrap().to_string()).collect();
        assert_eq!(ids.len(), 100);
        for id in ids {
            assert!(id.len() == 31 && id[4..].bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        }
    }
}
