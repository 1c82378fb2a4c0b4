//! What verbs write to stdout: lines, JSON, and colour only where a person sees it.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

/// A colour, for one word.
#[derive(Debug, Clone, Copy)]
pub(super) enum Colour {
    /// Went well.
    Green,
    /// Went wrong.
    Red,
    /// Is not over.
    Yellow,
}

/// One line. An error when whoever read us has gone: `println!` would panic instead.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// One JSON document on one line.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(line(&serde_json::to_string(value)?)?)
}

/// The word in a colour, if stdout is a terminal and `NO_COLOR` is not set.
pub(super) fn paint(colour: Colour, word: &str) -> String {
    let may_colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match (may_colour, colour) {
        (false, _) => word.to_owned(),
        (true, Colour::Green) => format!("\x1b[32m{word}\x1b[0m"),
        (true, Colour::Red) => format!("\x1b[31m{word}\x1b[0m"),
        (true, Colour::Yellow) => format!("\x1b[33m{word}\x1b[0m"),
    }
}
