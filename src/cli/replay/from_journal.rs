//! `rollcall replay --from-journal`: applies settled messages of the journal once more. Messages are made open again, a batch
//! at a time, and the worker of a running service applies them; nothing is applied here. Upholds I12.
//!
//! How far it came is in the journal: stopped at any moment and typed again, it goes on with exactly the rest. Words that count
//! back from now mean other messages later: then they begin a new one.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::pace::Pace;
use super::summary::{Dry, End, Summary};
use crate::cli::Usage;
use crate::cli::journal::{Chosen, Place, age};
use crate::journal::{Replay, ReplayStanding, Selection, SqlJournal};
use crate::ports::JournalError;

/// Messages asked for in one transaction: no delivery waits long behind it.
const BATCH_MAX: u64 = 500;
/// Messages asked for ahead of what is applied: a few batches of the worker's, so that it never waits.
const AHEAD_MAX: u64 = 2_000;
/// How often it looks at how far the worker is.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The worker looks twice a second. If for so long nothing was applied, nobody does.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(15);

/// Arguments of a replay from the journal. Its group of arguments would have the name of the one around it.
#[derive(clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// For operators: messages of the journal that were applied or buried are applied once more, by the running service
    #[arg(long, conflicts_with_all = ["paths", "to", "id", "secret_file"])]
    pub(super) from_journal: bool,
    #[command(flatten)]
    chosen: Chosen,
    /// Begins a new replay, even if one of the same selection is unfinished
    #[arg(long)]
    anew: bool,
    #[command(flatten)]
    place: Place,
}

/// How it is done, as for every replay.
pub(super) struct Manner {
    pub(super) rate: Option<u32>,
    pub(super) dry_run: bool,
    pub(super) json: bool,
    pub(super) bar: ProgressBar,
}

impl Args {
    /// A replay of files has no use for what chooses in the journal.
    pub(super) fn check_unused(&self) -> Result<(), Usage> {
        match self.chosen == Chosen::default() && !self.anew && !self.place.is_typed() {
            true => Ok(()),
            false => {
                let flags = "--type, --user, --org, --since, --until, --anew and --database-url";
                Err(Usage(format!("{flags} go with --from-journal")))
            }
        }
    }
}

pub(super) fn run(args: &Args, manner: &Manner, io: &Handle) -> anyhow::Result<ExitCode> {
    io.block_on(async {
        let journal = args.place.open().await?;
        let code = match manner.dry_run {
            true => tell(&journal, args, manner).await,
            false => replay(&journal, args, manner).await,
        };
        journal.close().await;
        code
    })
}

/// What is asked for, and the unfinished replay of the same words that goes on, if one does.
async fn asked(journal: &SqlJournal, args: &Args) -> anyhow::Result<(Selection, Option<Replay>)> {
    let now = journal.now().await?;
    let selection = Selection::new(args.chosen.typed(), args.chosen.filter(now, Vec::new())?);
    let unfinished = if args.anew { None } else { journal.unfinished_replay(&selection).await? };
    let is_meant = |replay: &Replay| {
        let begun_at = Duration::from_millis(replay.begun_at_ms.max(0).unsigned_abs());
        args.chosen.lasts().is_none_or(|lasts| now.saturating_sub(begun_at) < lasts)
    };
    if let Some(replay) = unfinished.as_ref().filter(|replay| !is_meant(replay)) {
        let (id, age) = (replay.id, age(replay.begun_at_ms, now));
        eprintln!(
            "replay {id} of the same words is unfinished, but was begun {age} and means other messages: it is left as it is"
        );
    }
    Ok((selection, unfinished.filter(is_meant)))
}

async fn tell(journal: &SqlJournal, args: &Args, manner: &Manner) -> anyhow::Result<ExitCode> {
    let (selection, unfinished) = asked(journal, args).await?;
    let messages = match &unfinished {
        Some(replay) => journal.replay_left(replay).await?,
        None => journal.count_replay(&selection).await?,
    };
    Dry { dry_run: true, replay_id: unfinished.map(|replay| replay.id), messages }.report(manner.json)
}

async fn replay(journal: &SqlJournal, args: &Args, manner: &Manner) -> anyhow::Result<ExitCode> {
    // From here on SIGINT ends nothing by itself.
    let interrupt = signal(SignalKind::interrupt())?;
    let (selection, unfinished) = asked(journal, args).await?;
    let is_resumed = unfinished.is_some();
    let replay = match unfinished {
        Some(replay) => replay,
        None if journal.count_replay(&selection).await? > 0 => journal.begin_replay(&selection).await?,
        None => return Summary::of_nothing().report(manner.json),
    };
    let (before, buried_before) = (journal.replay_standing(&replay).await?, journal.replay_buried(&replay).await?);
    let messages = before.requested + journal.replay_left(&replay).await?;
    if is_resumed {
        let (id, requested, age) = (replay.id, before.requested, age(replay.begun_at_ms, journal.now().await?));
        eprintln!(
            "going on with replay {id}: {requested} of {messages} messages were asked for. It was begun {age}, and what was \
             received since is not in it; --anew begins a new one"
        );
    }
    let bar = &manner.bar;
    bar.set_length(messages);
    bar.set_position(before.settled());
    bar.reset_eta();
    let began = Instant::now();
    let run = Run { journal, replay: &replay, rate: manner.rate, bar, interrupt };
    let ended = run.follow_to_end(before).await;
    bar.finish_and_clear();
    let (end, standing) = ended?;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let buried = match journal.replay_buried(&replay).await {
        // Who stops it wants no error of a journal that is away.
        Err(_) if end == End::Interrupted => buried_before,
        buried => buried?,
    };
    let replayed = (standing.settled() + buried_before).saturating_sub(before.settled() + buried);
    let ReplayStanding { requested, pending } = standing;
    // What was open when the replay passed it was not asked for, what was settled since it was begun, was.
    let messages = if end == End::Done { requested } else { messages.max(requested) };
    let replay_id = Some(replay.id);
    Summary { replay_id, end, is_resumed, messages, requested, pending, buried, replayed, took_ms }.report(manner.json)
}

/// One run of a replay.
struct Run<'a> {
    journal: &'a SqlJournal,
    replay: &'a Replay,
    rate: Option<u32>,
    bar: &'a ProgressBar,
    interrupt: Signal,
}

impl Run<'_> {
    /// Asks and waits until all is applied, nobody applies, or SIGINT comes; how the replay then stands.
    async fn follow_to_end(mut self, before: ReplayStanding) -> Result<(End, ReplayStanding), JournalError> {
        let mut pace = self.rate.map(|rate| Pace::new(rate, Instant::now()));
        let (mut standing, mut is_all_asked, mut moved_at) = (before, false, Instant::now());
        loop {
            let stepped = self.step(&mut pace, &mut is_all_asked).await;
            // A journal that is away or locked for a moment is asked again.
            let failed = match stepped {
                Ok(now) => {
                    if now.pending == 0 || now.settled() > standing.settled() {
                        moved_at = Instant::now();
                    }
                    standing = now;
                    None
                }
                Err(error) => Some(error),
            };
            self.bar.set_position(standing.settled());
            if failed.is_none() && is_all_asked && standing.pending == 0 {
                self.journal.finish_replay(self.replay).await?;
                return Ok((End::Done, standing));
            }
            if moved_at.elapsed() >= STALLED_AFTER {
                return failed.map_or(Ok((End::Stalled, standing)), Err);
            }
            tokio::select! {
                _ = self.interrupt.recv() => {
                    return Ok((End::Interrupted, self.journal.replay_standing(self.replay).await.unwrap_or(standing)));
                }
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Asks for what there is room for; how the replay then stands.
    async fn step(&self, pace: &mut Option<Pace>, is_all_asked: &mut bool) -> Result<ReplayStanding, JournalError> {
        let mut pending = self.journal.replay_standing(self.replay).await?.pending;
        // A worker that was away must not find more than a second's worth.
        let ahead_max = self.rate.map_or(AHEAD_MAX, |rate| AHEAD_MAX.min(u64::from(rate)));
        while !*is_all_asked && pending < ahead_max {
            let allowed = pace.as_mut().map_or(BATCH_MAX, |pace| pace.allowance(Instant::now()));
            let rows_max = allowed.min(BATCH_MAX).min(ahead_max - pending);
            if rows_max == 0 {
                break;
            }
            if let Some(pace) = pace {
                // Before it is known to be done: what times out may still happen.
                pace.take(rows_max);
            }
            let requested = self.journal.request_replay(self.replay, u32::try_from(rows_max).unwrap_or(u32::MAX)).await?;
            *is_all_asked = requested == 0;
            pending += requested;
        }
        self.journal.replay_standing(self.replay).await
    }
}
