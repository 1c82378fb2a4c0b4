//! From a delivery to a verified one. The webhook route calls it with the request's headers, the raw body and the time.
//!
//! Upholds I1: a [`VerifiedDelivery`] can only be made here, and holding one is the proof that a configured secret signed
//! this id, this time and these bytes. The id is the one that was verified, never one from another header. Signatures and
//! secrets never reach an error's text.

use std::time::Duration;

use bytes::Bytes;
use http1::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use svix::webhooks::Webhook;

use crate::domain::MessageId;

/// How far a delivery's time may be from ours, in both directions; Svix's own tolerance.
const TOLERANCE: Duration = Duration::from_secs(300);
const TIMESTAMP_DIGITS_MAX: usize = 20;
/// During a rotation a header holds at most eleven signatures of fifty characters.
const SIGNATURE_BYTES_MAX: usize = 2 * 1024;
/// Keys below the specification's minimum are accepted, and named to the operator.
const KEY_BYTES_MIN: usize = 24;

const ID: usize = 0;
const TIMESTAMP: usize = 1;
const SIGNATURE: usize = 2;

/// One family of header names.
type Family = [&'static str; 3];
const BRANDED: Family = ["svix-id", "svix-timestamp", "svix-signature"];
const UNBRANDED: Family = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// Why a delivery is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing, doubled, not of its form, or of a second family. `which` names it.
    #[error("the header {which} is missing, doubled or malformed")]
    Malformed {
        /// The header's name.
        which: &'static str,
    },
    /// No configured secret signed this.
    #[error("no configured secret signed this")]
    SignatureInvalid,
    /// Rightly signed, and too far from our clock: a replay, or one of the clocks is wrong.
    #[error("signed {by:?} {}", if *.is_ahead { "ahead of our clock" } else { "ago" })]
    TooOld {
        /// The distance.
        by: Duration,
        /// Whether it was signed in our future.
        is_ahead: bool,
    },
}

/// Secrets that cannot be used. Names the place in the list, never the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("no webhook signing secret is given")]
    None,
    /// Not `whsec_` and base64.
    #[error("webhook signing secret number {position} is not whsec_ followed by base64")]
    Malformed {
        /// Counted from one.
        position: usize,
    },
}

/// The three headers of one delivery, each of its form. Nothing is proved of them yet.
#[derive(Debug, Clone)]
pub struct DeliveryHeaders {
    id: MessageId,
    sent_at: i64,
    signature: String,
}

impl DeliveryHeaders {
    /// The id that the sender claims: for a log line about a refused delivery, and for nothing else.
    pub fn claimed_id(&self) -> &MessageId {
        &self.id
    }
}

/// Picks the delivery's headers out of the request's: names in lower case, values as they came. One family, each once.
pub fn headers<'a>(pairs: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<DeliveryHeaders, VerifyError> {
    let mut branded: [Option<&[u8]>; 3] = [None; 3];
    let mut unbranded: [Option<&[u8]>; 3] = [None; 3];
    for (name, value) in pairs {
        for (family, found) in [(&BRANDED, &mut branded), (&UNBRANDED, &mut unbranded)] {
            if let Some(position) = family.iter().position(|known| *known == name)
                && found[position].replace(value).is_some()
            {
                return Err(VerifyError::Malformed { which: family[position] });
            }
        }
    }
    // Of two families one could be signed and the other believed.
    match unbranded.iter().position(Option::is_some) {
        None => read(&BRANDED, branded),
        Some(_) if branded.iter().all(Option::is_none) => read(&UNBRANDED, unbranded),
        Some(position) => Err(VerifyError::Malformed { which: UNBRANDED[position] }),
    }
}

fn read(family: &Family, found: [Option<&[u8]>; 3]) -> Result<DeliveryHeaders, VerifyError> {
    let text = |position: usize| found[position].and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    let of = |position: usize| VerifyError::Malformed { which: family[position] };
    let id = text(ID).and_then(|text| MessageId::parse(text).ok()).ok_or(of(ID))?;
    let sent_at = text(TIMESTAMP).and_then(timestamp).ok_or(of(TIMESTAMP))?;
    let signature = text(SIGNATURE).filter(|text| is_signature(text)).ok_or(of(SIGNATURE))?.to_owned();
    Ok(DeliveryHeaders { id, sent_at, signature })
}

fn timestamp(text: &str) -> Option<i64> {
    let is_number = text.len() <= TIMESTAMP_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn is_signature(text: &str) -> bool {
    (1..=SIGNATURE_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// The secrets that may sign: one, or several during a rotation. Parsed once.
#[derive(Debug)]
pub struct Secrets {
    keys: Vec<Webhook>,
    short: Vec<usize>,
}

impl Secrets {
    /// Parses each `whsec_…`. White space around them is ignored: files end in newlines.
    pub fn parse(texts: &[SecretString]) -> Result<Self, SecretError> {
        let parse = |(index, text): (usize, &SecretString)| {
            Webhook::new(text.expose_secret().trim()).map_err(|_| SecretError::Malformed { position: index + 1 })
        };
        let keys = texts.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
        let is_short = |text: &SecretString| {
            let base64 = text.expose_secret().trim().trim_start_matches("whsec_").trim_end_matches('=');
            base64.len() * 3 / 4 < KEY_BYTES_MIN
        };
        let short = texts.iter().enumerate().filter(|(_, text)| is_short(text)).map(|(index, _)| index + 1).collect();
        match keys.is_empty() {
            true => Err(SecretError::None),
            false => Ok(Self { keys, short }),
        }
    }

    /// Secrets shorter than the specification asks for, counted from one: worth a warning.
    pub fn short(&self) -> &[usize] {
        &self.short
    }

    /// Verifies a delivery at `now`, the time since the Unix epoch. The signature comes first, so that a right one with a
    /// wrong time can be told apart: that is a clock to be looked at, and not a stranger.
    pub fn verify(&self, headers: DeliveryHeaders, body: Bytes, now: Duration) -> Result<VerifiedDelivery, VerifyError> {
        let map = headers.as_map();
        let is_right = |key: &Webhook| key.verify_ignoring_timestamp(&body, &map).is_ok();
        let secret = self.keys.iter().position(is_right).ok_or(VerifyError::SignatureInvalid)?;
        let sent_at = Duration::from_secs(headers.sent_at.unsigned_abs());
        // Whole seconds, as the sender's are.
        let now = Duration::from_secs(now.as_secs());
        match now.abs_diff(sent_at) {
            by if by > TOLERANCE => Err(VerifyError::TooOld { by, is_ahead: sent_at > now }),
            _ => Ok(VerifiedDelivery { id: headers.id, sent_at, body, secret }),
        }
    }
}

impl DeliveryHeaders {
    /// What the verifier reads: these three and nothing else of the request.
    fn as_map(&self) -> HeaderMap {
        let value = |text: &str| HeaderValue::try_from(text).expect("visible ASCII was checked when the header was read");
        let values = [value(self.id.as_str()), HeaderValue::from(self.sent_at), value(&self.signature)];
        BRANDED.map(HeaderName::from_static).into_iter().zip(values).collect()
    }
}

/// A delivery that a configured secret signed within the tolerance. Made by [`Secrets::verify`] alone.
pub struct VerifiedDelivery {
    id: MessageId,
    sent_at: Duration,
    body: Bytes,
    secret: usize,
}

impl VerifiedDelivery {
    /// The message, the same through all its deliveries.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    /// When this delivery was signed, since the Unix epoch.
    pub fn sent_at(&self) -> Duration {
        self.sent_at
    }

    /// The bytes that were signed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Which of the configured secrets signed it, counted from zero.
    pub fn secret(&self) -> usize {
        self.secret
    }
}

impl std::fmt::Debug for VerifiedDelivery {
    /// Without the body: it holds names and addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifiedDelivery").field("id", &self.id).field("secret", &self.secret).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
