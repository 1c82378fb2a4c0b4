//! The headers of one attempt: signed as Svix signs, or wrong in one chosen way.
//!
//! Used by the sender alone. Nothing here is logged.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::dev::sign::{HEADER_NAMES, sign};
use crate::dev::world::Message;

/// What is forged in an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tamper {
    /// Nothing.
    None,
    /// A space is added to the body after it was signed.
    Body,
    /// It is signed with this secret instead.
    Secret(String),
    /// It is rightly signed, as of this many seconds ago (negative: ahead).
    Age(i64),
    /// This header is left out.
    Missing(&'static str),
    /// This header is sent twice, with different values.
    Doubled(&'static str),
    /// The names of Standard Webhooks are sent too, the id with another value.
    MixedFamilies,
    /// The signature is cut short.
    CutSignature,
}

/// The headers of an attempt, signed now.
pub(super) fn headers(message: &Message, secrets: &[String], tamper: &Tamper) -> anyhow::Result<HeaderMap> {
    let age = if let Tamper::Age(age) = tamper { *age } else { 0 };
    let timestamp = i64::try_from(crate::clock::wall().as_secs())? - age;
    let secrets = if let Tamper::Secret(secret) = tamper { std::slice::from_ref(secret) } else { secrets };
    let signatures = secrets.iter().map(|secret| sign(secret, &message.id, timestamp, &message.body));
    let mut signature = signatures.collect::<Result<Vec<_>, _>>()?.join(" ");
    if *tamper == Tamper::CutSignature {
        signature.truncate(11);
    }
    let values = [message.id.clone(), timestamp.to_string(), signature];
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in HEADER_NAMES.into_iter().zip(values) {
        let twin = HeaderValue::from_str(&format!("{value}0"))?;
        if *tamper != Tamper::Missing(name) {
            headers.insert(name, HeaderValue::from_str(&value)?);
        }
        if *tamper == Tamper::Doubled(name) {
            headers.append(name, twin);
        } else if *tamper == Tamper::MixedFamilies {
            headers.insert(HeaderName::from_bytes(name.replace("svix", "webhook").as_bytes())?, twin);
        }
    }
    Ok(headers)
}
