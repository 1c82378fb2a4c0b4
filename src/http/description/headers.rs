//! The headers of every answer, in one table. Whoever describes them by the library can name them, but not say which are
//! always there, so they are added to what it made.

use serde_json::{Map, Value, json};

use crate::cache::Source;
use crate::http::headers::{Decision, cache_status};

/// Adds to every answer what it carries.
pub fn add(surface: &mut Value) {
    let Some(Value::Object(paths)) = surface.get_mut("paths") else { return };
    for (path, operations) in paths {
        let answers =
            operations.as_object_mut().into_iter().flatten().filter_map(|(_, operation)| operation.get_mut("responses"));
        for (status, answer) in answers.filter_map(Value::as_object_mut).flatten() {
            answer["headers"] = described(&carried(path, status));
        }
    }
    if let Some(Value::Object(answers)) = surface.pointer_mut("/components/responses") {
        for (name, answer) in answers {
            answer["headers"] = described(&elsewhere(name));
        }
    }
    let all = HEADERS.map(|name| (name.to_owned(), describe(name, is_usual(name))));
    surface["components"]["headers"] = Value::Object(Map::from_iter(all));
}

/// Whether an answer has it always.
type Carried = Vec<(&'static str, bool)>;

const EVERY: [(&str, bool); 2] = [("Cache-Control", true), ("X-Request-Id", true)];
const READING: [&str; 5] = ["Rollcall-Decision", "Cache-Status", "Age", "Rollcall-Age", "Rollcall-Lag"];

fn carried(path: &str, status: &str) -> Carried {
    let reading = |is_always: bool| READING.map(|name| (name, is_always)).to_vec();
    let more = match (path, status) {
        ("/webhooks/clerk", _) => vec![],
        // A body of its own, not a problem: nothing is to be retried.
        ("/readyz", "503") => vec![],
        (_, "401") => vec![("WWW-Authenticate", true)],
        (_, "503") => vec![("Retry-After", true)],
        ("/v1/users/{userId}/orgs" | "/v1/users/{userId}/orgs/{org}", "200" | "304") => {
            [reading(true), vec![("ETag", true)]].concat()
        }
        // By a read these are decisions; an eviction's 403 is not.
        ("/v1/users/{userId}/orgs" | "/v1/users/{userId}/orgs/{org}", "404") | ("/v1/users/{userId}/orgs/{org}", "403") => {
            reading(true)
        }
        // Where no organization is asked for nothing was read.
        ("/v1/context", "200" | "304") => vec![
            ("Rollcall-Decision", true),
            ("Rollcall-Lag", true),
            ("ETag", true),
            ("Cache-Status", false),
            ("Age", false),
            ("Rollcall-Age", false),
        ],
        ("/v1/context", "404") => reading(true),
        // A role that is missing is a decision, a party or a pending session is not.
        ("/v1/context", "403") => reading(false),
        ("/v1/checks", "200") => vec![("Age", true), ("Rollcall-Age", true), ("Rollcall-Lag", true)],
        ("/docs", "200") => vec![("Content-Security-Policy", true)],
        _ => vec![],
    };
    // These are what callers wait for; of all else nobody is told how long it took.
    let timed = if path.starts_with("/v1/") { vec![("Server-Timing", false)] } else { vec![] };
    [EVERY.to_vec(), timed, more].concat()
}

/// Where there is no route, or none for the method.
fn elsewhere(name: &str) -> Carried {
    let more = if name == "MethodNotAllowed" { vec![("Allow", true)] } else { vec![] };
    [EVERY.to_vec(), more].concat()
}

fn described(carried: &Carried) -> Value {
    let described = carried.iter().map(|(name, is_always)| {
        let header = match *is_always == is_usual(name) {
            true => json!({ "$ref": format!("#/components/headers/{name}") }),
            false => describe(name, *is_always),
        };
        ((*name).to_owned(), header)
    });
    Value::Object(described.collect())
}

/// Whether what carries it usually does so always.
fn is_usual(name: &str) -> bool {
    name != "Server-Timing"
}

const HEADERS: [&str; 13] = [
    "Age",
    "Allow",
    "Cache-Control",
    "Cache-Status",
    "Content-Security-Policy",
    "ETag",
    "Retry-After",
    "Rollcall-Age",
    "Rollcall-Decision",
    "Rollcall-Lag",
    "Server-Timing",
    "WWW-Authenticate",
    "X-Request-Id",
];

const DECISIONS: [Decision; 6] =
    [Decision::List, Decision::Context, Decision::Member, Decision::NotAMember, Decision::RoleMissing, Decision::UserUnknown];

const SOURCES: [Source; 7] =
    [Source::Local, Source::Shared, Source::Origin, Source::Collapsed, Source::Demanded, Source::Checked, Source::Grace];

fn describe(name: &str, is_always: bool) -> Value {
    let (description, schema) = meaning(name);
    json!({ "description": description, "required": is_always, "schema": schema })
}

fn meaning(name: &str) -> (&'static str, Value) {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    match name {
        "Cache-Control" => {
            ("An intermediary must never keep an answer.", json!({ "type": "string", "enum": ["private, no-store"] }))
        }
        "X-Request-Id" => {
            ("The caller's own if it is sane, else made.", json!({ "type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$" }))
        }
        "Server-Timing" => ("How long each stage took, where that is switched on.", text()),
        "Rollcall-Decision" => (
            "On every answer that decides, and on nothing else: it tells \"no\" from \"could not find out\".",
            json!({ "type": "string", "enum": DECISIONS.map(Decision::as_str) }),
        ),
        "Cache-Status" => {
            ("Where the answer was found (RFC 9211).", json!({ "type": "string", "enum": SOURCES.map(cache_status) }))
        }
        "Age" => ("Whole seconds since the reading began; 0 when it began for this request.", count()),
        "Rollcall-Age" => ("The same in milliseconds.", count()),
        "Rollcall-Lag" => (
            "How far behind the change stream the node was, in milliseconds, or `unknown`.",
            json!({ "type": "string", "pattern": "^([0-9]+|unknown)$" }),
        ),
        "ETag" => ("Strong, from the content.", json!({ "type": "string", "pattern": "^\"[0-9a-f]{32}\"$" })),
        "WWW-Authenticate" => ("How to bring a credential.", json!({ "type": "string", "enum": ["Bearer"] })),
        "Retry-After" => ("Seconds to wait.", json!({ "type": "integer", "minimum": 1 })),
        "Allow" => ("The methods that are taken here.", text()),
        "Content-Security-Policy" => ("The page loads nothing and asks nobody but this service.", text()),
        _ => unreachable!("every header in the table is described"),
    }
}
