//! How a replay from the journal ended, for people and for scripts. `from_journal` fills it in; it asks nothing.

use std::process::ExitCode;

use serde::Serialize;

use super::from_journal::STALLED_AFTER;
use crate::cli::output;

/// As a shell tells an end by SIGINT.
const INTERRUPTED: u8 = 130;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum End {
    /// All has an outcome.
    Done,
    /// By SIGINT.
    Interrupted,
    /// Nobody applies anything.
    Stalled,
}

/// A run of a replay.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Summary {
    /// None: there was nothing to begin.
    pub(super) replay_id: Option<i64>,
    pub(super) end: End,
    /// It went on with a replay that was begun before.
    pub(super) is_resumed: bool,
    /// Messages of the whole replay.
    pub(super) messages: u64,
    /// Asked for, in all runs of it.
    pub(super) requested: u64,
    /// Asked for, and still open.
    pub(super) pending: u64,
    /// Asked for, and buried again: they still cannot be read.
    pub(super) buried: u64,
    /// Applied in this run.
    pub(super) replayed: u64,
    pub(super) took_ms: u64,
}

/// What a replay would do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dry {
    pub(super) dry_run: bool,
    /// The unfinished replay that would go on.
    pub(super) replay_id: Option<i64>,
    /// Messages that would be asked for.
    pub(super) messages: u64,
}

impl Summary {
    /// Prints it; the exit code that tells the same.
    pub(super) fn report(&self, is_json: bool) -> anyhow::Result<ExitCode> {
        match is_json {
            true => output::json(self)?,
            false => output::line(&self.text())?,
        }
        Ok(match self.end {
            End::Done if self.buried == 0 => ExitCode::SUCCESS,
            End::Done | End::Stalled => ExitCode::FAILURE,
            End::Interrupted => ExitCode::from(INTERRUPTED),
        })
    }

    /// Of a selection without messages.
    pub(super) fn of_nothing() -> Self {
        let (messages, requested, pending, buried, replayed, took_ms) = (0, 0, 0, 0, 0, 0);
        Self { replay_id: None, end: End::Done, is_resumed: false, messages, requested, pending, buried, replayed, took_ms }
    }

    fn text(&self) -> String {
        let Self { replayed, messages, pending, requested, buried, .. } = self;
        let Some(id) = self.replay_id else { return "nothing to replay".to_owned() };
        let (applied, seconds) = (requested.saturating_sub(pending + buried), self.took_ms as f64 / 1_000.0);
        let text = match self.end {
            End::Done => {
                let before =
                    if self.is_resumed { format!(", {} before", applied.saturating_sub(*replayed)) } else { String::new() };
                format!("{replayed} messages replayed in {seconds:.1} s (replay {id}{before})")
            }
            End::Interrupted => format!(
                "interrupted: {applied} of {messages} messages of replay {id} are applied, {pending} more are asked for and will \
                 be; the same command goes on with the rest"
            ),
            End::Stalled => format!(
                "{applied} of {messages} messages of replay {id} are applied, and for {} s none was: no running service applies \
                 them. The {pending} that are asked for will be applied when one starts, or can confirm changes again; the same \
                 command goes on with the rest",
                STALLED_AFTER.as_secs()
            ),
        };
        match buried {
            0 => text,
            buried => format!(
                "{text}\n{buried} still cannot be read: whom they name was evicted once more, and they are buried again; see \
                 `rollcall journal list --state buried`"
            ),
        }
    }
}

impl Dry {
    /// Prints it.
    pub(super) fn report(&self, is_json: bool) -> anyhow::Result<ExitCode> {
        let messages = self.messages;
        match (is_json, self.replay_id) {
            (true, _) => output::json(self)?,
            (false, None) => output::line(&format!("{messages} messages would be replayed"))?,
            (false, Some(id)) => output::line(&format!("{messages} messages would be replayed: the rest of replay {id}"))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
