//! How the process speaks to its operators: log lines on stderr, and errors with their causes on one line.
//!
//! Called once by the verbs that run for long. It never decides what is logged: each room does, and no room logs a secret.

use std::error::Error;
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;

use crate::config::{LogFormat, Logging};

/// Starts logging, and logs panics. A second call changes nothing.
pub fn init(logging: &Logging) {
    let is_terminal = io::stderr().is_terminal();
    let format = logging.format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let filter = EnvFilter::try_new(&logging.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines: SubscriberBuilder<_, _, EnvFilter, fn() -> io::Stderr> =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        LogFormat::Text => {
            let may_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            tracing::subscriber::set_global_default(lines.with_ansi(may_colour).finish())
        }
        LogFormat::Json => tracing::subscriber::set_global_default(lines.json().flatten_event(true).finish()),
    };
    if started.is_ok() {
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// A panic is a mistake of ours: someone should look, so it is a line like any other and not loose text on stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let message = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(error = message, location, thread = thread.name().unwrap_or("unnamed"), "panicked");
}

/// Shows an error and its sources on one line, outermost first. A cause that its parent repeats word for word is left out.
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        let mut next = Some(self.0);
        while let Some(error) = next {
            next = error.source();
            let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            if said.ends_with(&text) && !said.is_empty() {
                continue;
            }
            write!(f, "{}{text}", if said.is_empty() { "" } else { ": " })?;
            said = text;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        #[source]
        source: Option<Box<Link>>,
    }

    fn chain(texts: &[&'static str]) -> Link {
        let source = (texts.len() > 1).then(|| Box::new(chain(&texts[1..])));
        Link { text: texts[0], source }
    }

    #[test]
    fn an_error_is_shown_with_its_causes_once_on_one_line() {
        let check = |texts: &[&'static str], expected| assert_eq!(ErrorChain(&chain(texts)).to_string(), expected);
        check(&["cannot read"], "cannot read");
        check(&["cannot read", "cannot connect", "refused"], "cannot read: cannot connect: refused");
        check(&["two\n  lines", "cause"], "two lines: cause");
        check(&["cannot connect: refused", "refused"], "cannot connect: refused");
    }
}
