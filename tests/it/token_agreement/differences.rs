//! Where we refuse what Clerk's library accepts, and why. There is no list of the other kind: we accept nothing that it refuses,
//! and nothing that is listed here.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);
/// What a `Date` of JavaScript counts to, in seconds.
const DATE_MAX: i64 = 8_640_000_000_000;
const TIMES: [&str; 3] = ["iat", "nbf", "exp"];

/// A token as a lenient reader sees it; of doubled members, the last.
pub struct Seen {
    token: String,
    header: Value,
    claims: Value,
    texts: [String; 2],
    issuer: String,
}

/// A kind of token that the library takes and we do not.
pub struct Difference {
    pub name: &'static str,
    pub why: &'static str,
    /// How we refuse it.
    pub codes: &'static [&'static str],
    pub is_meant: fn(&Seen) -> bool,
}

const INVALID: &[&str] = &["token-invalid"];

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "another issuer",
        why: "the library compares none unless it is told one; ours is pinned to the instance",
        codes: INVALID,
        is_meant: |seen| seen.claims["iss"] != seen.issuer.as_str(),
    },
    Difference {
        name: "a longer life than ten minutes",
        why: "it would outlive what is remembered of dead sessions",
        codes: INVALID,
        is_meant: |seen| matches!((seen.time("exp"), seen.time("iat")), (Some(to), Some(from)) if to.saturating_sub(from) > 600),
    },
    Difference {
        name: "no time of issue",
        why: "without it nobody can tell how long it lives, nor whether it is older than a ban",
        codes: INVALID,
        is_meant: |seen| seen.claims["iat"].is_null(),
    },
    Difference {
        name: "a time that is no whole second",
        why: "Clerk writes whole seconds; the library takes any number, and one beyond its dates for a time that never comes",
        codes: INVALID,
        is_meant: |seen| TIMES.iter().any(|time| seen.claims[time].is_number() && seen.time(time).is_none()) || seen.has("1e999"),
    },
    Difference {
        name: "a time beyond the calendar",
        why: "the library's dates end, and behind their end nothing is expired or early",
        codes: &["token-invalid", "token-expired", "token-not-yet-valid"],
        is_meant: |seen| {
            let is_beyond = |name: &str| seen.time(name).is_some_and(|time| time.unsigned_abs() > DATE_MAX as u64);
            // One that began before the calendar is as good as none.
            is_beyond("exp") || is_beyond("iat") || (is_beyond("nbf") && seen.time("nbf") > Some(0))
        },
    },
    Difference {
        name: "no session",
        why: "only session tokens are taken; a template's names none",
        codes: &["token-kind-refused"],
        is_meant: |seen| seen.claims["sid"].is_null(),
    },
    Difference {
        name: "a machine's, or of another category",
        why: "the library asks for the kind elsewhere, and here only refuses machines by their category",
        codes: &["token-kind-refused"],
        is_meant: |seen| {
            let category = seen.header["cat"].as_str();
            let is_a_sessions = category.is_none_or(|category| ["cl_B7d4PD111AAA", "cl_I7d4PD111III"].contains(&category));
            !is_a_sessions || seen.claims["sub"].as_str().is_some_and(|subject| subject.starts_with("mch_"))
        },
    },
    Difference {
        name: "a pending session",
        why: "the library leaves it to whoever reads the claims",
        codes: &["session-pending"],
        is_meant: |seen| seen.claims["sts"] == "pending",
    },
    Difference {
        name: "a member of another type",
        why: "what decides is of the type that Clerk writes, or nothing is taken; the library does not look, or makes a text of it",
        codes: INVALID,
        is_meant: |seen| {
            let is_odd = |value: &Value| !value.is_null() && !value.is_string();
            let actor = &seen.claims["act"];
            [&seen.header["kid"], &seen.header["cat"]].into_iter().any(is_odd)
                || ["iss", "sid", "azp", "sts"].iter().any(|name| is_odd(&seen.claims[name]))
                || (!actor.is_null() && !actor["sub"].is_string())
                || (!seen.claims["v"].is_null() && !seen.claims["v"].is_i64())
        },
    },
    Difference {
        name: "an id that is none",
        why: "an id is parsed before it is used anywhere",
        codes: INVALID,
        is_meant: |seen| {
            let is_word = |id: &str| {
                (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
            };
            let is_odd = |value: &Value, prefix| value.as_str().is_some_and(|id| !is_word(id) || !id.starts_with(prefix));
            is_odd(&seen.claims["sub"], "")
                || is_odd(&seen.claims["sid"], "")
                || is_odd(&seen.claims["org_id"], "org_")
                || is_odd(&seen.claims["o"]["id"], "org_")
        },
    },
    Difference {
        name: "a header that brings a key or makes demands",
        why: "the library overlooks them; nobody who means well sends them",
        codes: INVALID,
        is_meant: |seen| ["crit", "jku", "jwk", "x5u", "x5c"].iter().any(|name| seen.header.get(name).is_some()),
    },
    Difference {
        name: "a member twice",
        why: "readers differ in which of the two they take",
        codes: INVALID,
        is_meant: |seen| {
            let is_twice = |name: &&str| {
                let written = |text: &String| text.matches(&format!("\"{name}\":")).count();
                let read = occurrences(&seen.header, name) + occurrences(&seen.claims, name);
                seen.texts.iter().map(written).sum::<usize>() > read
            };
            !seen.header.is_null() && !seen.claims.is_null() && ["alg", "kid", "sub", "exp"].iter().any(is_twice)
        },
    },
    Difference {
        name: "padded base64",
        why: "of one token there is one spelling",
        codes: INVALID,
        is_meant: |seen| seen.token.contains('='),
    },
    Difference {
        name: "longer than any token",
        why: "16 KiB is four times what Clerk advises",
        codes: INVALID,
        is_meant: |seen| seen.token.len() > 16 * 1024,
    },
    Difference {
        name: "text that is no UTF-8, or with a mark of its byte order",
        why: "the library mends it before it reads",
        codes: INVALID,
        is_meant: |seen| seen.has("\u{feff}") || seen.claims["azp"].as_str().is_some_and(|party| party.contains('\u{fffd}')),
    },
];

/// How often there is a member of this name, however deep.
fn occurrences(value: &Value, name: &str) -> usize {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| usize::from(key == name) + occurrences(value, name)).sum(),
        Value::Array(values) => values.iter().map(|value| occurrences(value, name)).sum(),
        _ => 0,
    }
}

impl Seen {
    pub fn of(token: &str, issuer: &str) -> Self {
        let mut parts = token.split('.');
        let mut text = || {
            let bytes = LENIENT.decode(parts.next().unwrap_or_default()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let texts = [text(), text()];
        let [header, claims] = texts.each_ref().map(|text| {
            let text = text.trim_start_matches('\u{feff}').replace("1e999", "1e300");
            serde_json::from_str(&text).unwrap_or_default()
        });
        Self { token: token.to_owned(), header, claims, texts, issuer: issuer.to_owned() }
    }

    fn time(&self, name: &str) -> Option<i64> {
        self.claims[name].as_i64()
    }

    fn has(&self, text: &str) -> bool {
        self.texts.iter().any(|part| part.contains(text))
    }

    /// For whoever reads of a failure.
    pub fn show(&self) -> String {
        format!("{} {} ({})", self.texts[0], self.texts[1], self.token)
    }
}
