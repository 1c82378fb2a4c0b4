//! One line of a check: what was looked at, how it stands, what was found, and what to do about it.

use serde::Serialize;

use crate::cli::output::Colour;

/// One line. Scripts read it as JSON: the names are a promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// A setting's variable, or a word for what was looked at.
    pub name: &'static str,
    /// How it stands.
    pub status: Status,
    /// What was found; never a secret.
    pub found: String,
    /// What to do; on every line that is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How it stands, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// It works, and somebody should look.
    Warn,
    /// It does not work.
    Fail,
}

impl Line {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), fix: None }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Fail, found: found.into(), fix: Some(fix.into()) }
    }

    /// Its row in a table for people.
    pub(super) fn cells(&self) -> Vec<(String, Option<Colour>)> {
        let (word, colour) = match self.status {
            Status::Ok => ("ok", Colour::Green),
            Status::Warn => ("warn", Colour::Yellow),
            Status::Fail => ("fail", Colour::Red),
        };
        let fix = self.fix.as_ref().map(|fix| format!(" -> {fix}")).unwrap_or_default();
        vec![(word.to_owned(), Some(colour)), (self.name.to_owned(), None), (format!("{}{fix}", self.found), None)]
    }
}
