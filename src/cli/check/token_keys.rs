//! The lines about the keys that session tokens are verified with: whether what is configured is of the instance that the secret key
//! belongs to. With another instance's every token of this one is refused, and that one's are taken (I13).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::Line;
use crate::clerk::{Seen, WellKnown};
use crate::config::{Settings, TokenKeys};
use crate::ports::{KeySource, OriginError};
use crate::token::{Key, KeySet};

const TOKEN_KEY: &str = "token key";
const PUBLISHABLE_KEY: &str = "publishable key";
/// Less than a look may take.
const TIME_MAX: Duration = Duration::from_secs(5);

/// What is configured beside the secret key, as far as it can be used.
#[derive(Default)]
pub(super) struct Configured {
    /// `CLERK_JWT_KEY`.
    key: Option<Arc<Key>>,
    /// The document that `CLERK_PUBLISHABLE_KEY` leads to.
    document: Option<Result<KeySet, OriginError>>,
}

/// Fetches what there is to fetch.
pub(super) async fn look(settings: &Settings) -> Configured {
    let key = settings.tokens().ok().and_then(|tokens| match tokens.keys {
        TokenKeys::Pinned(key) => Some(key),
        TokenKeys::Published(_) | TokenKeys::OfTheApi => None,
    });
    let source = settings.frontend().ok().flatten().and_then(|base| WellKnown::new(&base).ok());
    let document = match source {
        Some(source) => Some(timeout(TIME_MAX, source.key_set()).await.unwrap_or(Err(OriginError::TimedOut))),
        None => None,
    };
    Configured { key, document }
}

/// Holds it against what Clerk showed for the secret key.
pub(super) fn lines(configured: &Configured, seen: &Seen) -> Vec<Line> {
    let ours = seen.keys.as_ref();
    let of_key = configured.key.as_ref().map(|key| compare(TOKEN_KEY, "CLERK_JWT_KEY", ours.map(|ours| ours.holds(key)), seen));
    let of_document = configured.document.as_ref().map(|document| match document {
        Ok(keys) => compare(PUBLISHABLE_KEY, "CLERK_PUBLISHABLE_KEY", ours.map(|ours| ours.shares_a_key_with(keys)), seen),
        Err(error) => {
            let found = format!("the key set that CLERK_PUBLISHABLE_KEY leads to cannot be read: {error}");
            let fix =
                "copy the key once more: Clerk dashboard, Configure, API keys; and check the way there: DNS, proxy, firewall";
            // With a key of its own a service asks for no document.
            match configured.key {
                Some(_) => Line::warn(PUBLISHABLE_KEY, found, fix),
                None => Line::fail(PUBLISHABLE_KEY, found, fix),
            }
        }
    });
    of_key.into_iter().chain(of_document).collect()
}

/// `is_its`: whether it is the instance's; none where Clerk showed no keys.
fn compare(name: &'static str, variable: &str, is_its: Option<bool>, seen: &Seen) -> Line {
    let instance = seen.instance.iter().flatten().next().map_or("the instance", String::as_str);
    match is_its {
        Some(true) => Line::ok(name, format!("{variable} is {instance}'s")),
        Some(false) => Line::fail(
            name,
            format!("{variable} is not {instance}'s, which CLERK_SECRET_KEY belongs to"),
            format!(
                "copy that of {instance}: Clerk dashboard, Configure, API keys; or leave it out, for the secret key leads to the keys too"
            ),
        ),
        None => Line::warn(
            name,
            format!("{variable} was compared with no key of Clerk's"),
            "correct what keeps Clerk from showing them",
        ),
    }
}
