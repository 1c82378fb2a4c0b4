//! `rollcall keys new NAME --scope SCOPE`: makes a service key. The key is printed once and kept nowhere; the service is
//! configured with its SHA-256 only.

use std::process::ExitCode;

use anyhow::Context;
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::output;

/// What can be done about keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Makes a key; prints it once, and the entry for ROLLCALL_API_KEYS
    New(Args),
}

/// Arguments of `keys new`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 printed, 1 failed, 2 typed wrongly")]
pub(super) struct Args {
    /// Who will hold it, for logs: [a-z0-9-]{1,64}
    #[arg(value_parser = crate::config::key_name)]
    name: String,
    /// What it may do; each scope includes the ones before it
    #[arg(long, value_enum)]
    scope: ScopeName,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// The words for [`crate::http::auth::Scope`].
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ScopeName {
    /// Reads
    Read,
    /// Reads and evictions
    Evict,
    /// Everything
    Admin,
}

#[derive(Debug, Serialize)]
struct Made {
    name: String,
    scope: &'static str,
    key: String,
    entry: String,
}

pub(super) fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    let Verb::New(args) = verb;
    let mut random = [0; 32];
    rand::fill(&mut random).ok().context("the system gives no randomness")?;
    let made = make(args.name, args.scope, &random);
    if args.json {
        output::json(&made)?;
    } else {
        output::line(&format!("key:   {}", made.key))?;
        output::line(&format!("entry: {}", made.entry))?;
        output::line("The key is shown this once: give it to the caller. Add the entry to ROLLCALL_API_KEYS (comma-separated).")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn make(name: String, scope: ScopeName, random: &[u8; 32]) -> Made {
    let scope = match scope {
        ScopeName::Read => "read",
        ScopeName::Evict => "evict",
        ScopeName::Admin => "admin",
    };
    let key = format!("rk_{}", URL_SAFE_NO_PAD.encode(random));
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Made { entry: format!("{name}:{scope}:{hex}"), name, scope, key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_holds_the_digest_of_the_whole_key_text() {
        let made = make("web".to_owned(), ScopeName::Evict, &[0; 32]);
        assert_eq!(made.key, format!("rk_{}", "A".repeat(43)));
        // printf 'rk_AAA…' | sha256sum
        assert_eq!(made.entry, "web:evict:f09559e766f61996b6306a064fff75a4e32b0b3c6642ba0a9640cdd908f70863");
    }
}
