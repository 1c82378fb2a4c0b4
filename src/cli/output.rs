//! What verbs write to stdout: lines, tables, JSON, and colour only where a person sees it.

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

/// Lines with aligned columns. A cell may have a colour, which takes no width.
pub(super) fn table(rows: &[Vec<(String, Option<Colour>)>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<(String, Option<Colour>)>| {
        let cells = row.iter().zip(&widths).map(|((text, colour), width)| {
            let space = " ".repeat(width - text.chars().count());
            let text = colour.map_or_else(|| text.clone(), |colour| paint(colour, text));
            text + &space
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_their_widest_cell() {
        let row = |cells: [&str; 3]| cells.map(|cell| (cell.to_owned(), None)).to_vec();
        let lines = table(&[row(["a", "b", "c"]), row(["aaa", "ü", ""])]);
        assert_eq!(lines, ["a    b  c", "aaa  ü"]);
    }
}
