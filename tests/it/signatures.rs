//! Signatures across implementations: what the libraries of npm and PyPI sign is verified here, what is signed here they
//! verify, and where they differ is written down in `fixtures/signatures/differences.json`.
//!
//! `scripts/test` installs the libraries into `tests/signatures/`; without them these tests fail.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rollcall::dev::sign::sign;
use rollcall::webhook::{Secrets, headers};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use svix::webhooks::Webhook;

use crate::world::webhooks::{SVIX, now};

/// The same bodies in every run.
const SEED: u64 = 20_261_122;
const BODIES: usize = 300;

/// Libraries of other languages: interpreter, script, argument.
const LIBRARIES: [(&str, &str, &str); 3] =
    [("node", "sign.mjs", "svix"), ("node", "sign.mjs", "standardwebhooks"), (".venv/bin/python", "sign.py", "")];

/// Asks a library about all cases at once; an outcome for each.
fn ask((interpreter, script, argument): (&str, &str, &str), cases: &[Value]) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/signatures");
    let advice = "scripts/test installs what is needed";
    let program = if interpreter.contains('/') { folder.join(interpreter) } else { interpreter.into() };
    let mut command = Command::new(program);
    command.args([script, argument]).current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{interpreter} cannot be run ({error}); {advice}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    // Whoever fails before it has read everything says why on stderr.
    let _ = stdin.write_all(json!(cases).to_string().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{interpreter} {script} {argument} fails; {advice}. It said: {said}");
    let outcomes: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list of outcomes");
    assert_eq!(outcomes.len(), cases.len());
    outcomes
}

/// A delivery as values, none of them checked yet.
#[derive(Debug, Clone)]
struct Case {
    secret: String,
    id: String,
    timestamp: String,
    signature: String,
    body: Vec<u8>,
}

impl Case {
    fn headers(&self) -> [(&'static str, &str); 3] {
        let [id, timestamp, signature] = SVIX;
        [(id, &self.id), (timestamp, &self.timestamp), (signature, &self.signature)]
    }

    fn to_sign(&self) -> Value {
        let timestamp: i64 = self.timestamp.parse().expect("seconds");
        json!({"do": "sign", "secret": self.secret, "id": self.id, "timestamp": timestamp, "body": STANDARD.encode(&self.body)})
    }

    fn to_verify(&self) -> Value {
        let headers: serde_json::Map<_, _> = self.headers().into_iter().map(|(name, text)| (name.into(), text.into())).collect();
        json!({"do": "verify", "secret": self.secret, "headers": headers, "body": STANDARD.encode(&self.body)})
    }

    fn ours(&self) -> &'static str {
        let Ok(secrets) = Secrets::parse(&[SecretString::from(self.secret.clone())]) else { return "error" };
        let Ok(headers) = headers(self.headers().into_iter().map(|(name, text)| (name, text.as_bytes()))) else { return "error" };
        let now = Duration::from_secs(now().unsigned_abs());
        if secrets.verify(headers, self.body.clone().into(), now).is_ok() { "ok" } else { "refused" }
    }

    fn crates_io(&self) -> &'static str {
        let Ok(webhook) = Webhook::new(&self.secret) else { return "error" };
        let mut headers = http1::HeaderMap::new();
        for (name, text) in self.headers() {
            let Ok(value) = text.parse() else { return "error" };
            headers.insert(name, value);
        }
        if webhook.verify(&self.body, &headers).is_ok() { "ok" } else { "refused" }
    }
}

/// The scheme by hand, owing nothing to any of the libraries. The secret is `whsec_` and base64.
fn by_hand(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).expect("base64");
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed))
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From every length of UTF-8, controls and what frames the signed text among them.
    fn character(&mut self) -> char {
        let (from, to) = [(0, 0x20), (0x20, 0x7f), (0x80, 0x800), (0x800, 0xd800), (0xe000, 0x1_0000), (0x1_0000, 0x11_0000)]
            [usize::try_from(self.below(6)).expect("six of them")];
        let code = from + u32::try_from(self.below(u64::from(to - from))).expect("a code point");
        char::from_u32(code).expect("no surrogates in these ranges")
    }

    /// A message with a secret of its own, signed by nobody yet. The first is empty, the second begins with a mark that some
    /// readers swallow.
    fn case(&mut self, number: usize) -> Case {
        let length = match number {
            0 => 0,
            1..100 => self.below(40),
            _ => self.below(2_000),
        };
        let mark = if number == 1 { "\u{feff}" } else { "" };
        let body = mark.chars().chain((0..length).map(|_| self.character())).collect::<String>().into_bytes();
        let key: Vec<u8> = (0..24 + self.below(41)).map(|_| self.next().to_le_bytes()[0]).collect();
        let (secret, id) = (format!("whsec_{}", STANDARD.encode(key)), format!("msg_{:x}", self.next()));
        Case { secret, id, timestamp: now().to_string(), signature: String::new(), body }
    }
}

fn cases() -> Vec<Case> {
    let mut numbers = Numbers(SEED);
    (0..BODIES).map(|number| numbers.case(number)).collect()
}

#[test]
fn what_other_libraries_sign_is_verified_and_nothing_else_is() {
    let cases = cases();
    let questions: Vec<Value> = cases.iter().map(Case::to_sign).collect();
    for library in LIBRARIES {
        for (case, outcome) in cases.iter().zip(ask(library, &questions)) {
            let signature = outcome["signature"].as_str().expect("a signature").to_owned();
            let signed = Case { signature, ..case.clone() };
            assert_eq!((signed.ours(), signed.crates_io()), ("ok", "ok"), "{library:?} {signed:?}");
            let longer = Case { body: [&signed.body[..], b" "].concat(), ..signed.clone() };
            let another = Case { id: signed.id.clone() + "0", ..signed };
            assert_eq!((longer.ours(), another.ours()), ("refused", "refused"), "{library:?} {longer:?}");
        }
    }
}

#[test]
fn what_is_signed_here_other_libraries_verify() {
    let sign_ours = |case: Case| {
        let timestamp = case.timestamp.parse().expect("seconds");
        let signature = sign(&case.secret, &case.id, timestamp, &case.body).expect("a secret and a text");
        assert_eq!(signature, format!("v1,{}", by_hand(&case.secret, &case.id, &case.timestamp, &case.body)));
        Case { signature, ..case }
    };
    let good: Vec<Case> = cases().into_iter().map(sign_ours).collect();
    let longer = good.iter().map(|case| Case { body: [&case.body[..], b" "].concat(), ..case.clone() });
    let questions: Vec<Value> = good.iter().cloned().chain(longer).map(|case| case.to_verify()).collect();
    for library in LIBRARIES {
        for (place, outcome) in ask(library, &questions).iter().enumerate() {
            let expected = if place < BODIES { "ok" } else { "refused" };
            assert_eq!(outcome["verdict"], expected, "{library:?} {outcome} {}", questions[place]);
        }
    }
}

#[derive(Deserialize)]
struct Differences {
    implementations: Vec<String>,
    cases: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    name: String,
    key: Option<usize>,
    secret: Option<String>,
    id: Option<String>,
    timestamp: Option<String>,
    signature: Option<String>,
    body: Option<String>,
    body64: Option<String>,
    verdicts: Vec<String>,
}

impl Difference {
    fn case(&self) -> Case {
        let key = STANDARD.encode(vec![7; self.key.unwrap_or(24)]);
        let bare = key.trim_end_matches('=').to_owned();
        let (secret, t) = (format!("whsec_{key}"), now().to_string());
        let id = self.id.clone().unwrap_or_else(|| "msg_1".to_owned());
        let body64 = self.body64.as_ref().map(|text| STANDARD.decode(text).expect("base64"));
        let body = body64.unwrap_or_else(|| self.body.clone().unwrap_or_else(|| "{\"a\": 1}".to_owned()).into_bytes());
        let digest = by_hand(&secret, &id, &t, &body);
        let good = format!("v1,{digest}");
        let (front, back) = digest.split_at(22);
        let fill = |template: &Option<String>, usual: &str| {
            let text = template.as_deref().unwrap_or(usual);
            let values = [
                ("{secret}", secret.as_str()),
                ("{bare}", &bare),
                ("{t}", &t),
                ("{good}", &good),
                ("{digest}", &digest),
                ("{front}", front),
                ("{back}", back),
            ];
            values.into_iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let [secret, timestamp] = [fill(&self.secret, "{secret}"), fill(&self.timestamp, "{t}")];
        Case { secret, id, timestamp, signature: fill(&self.signature, "{good}"), body }
    }
}

#[test]
fn where_implementations_differ_is_as_written_down() {
    let text = include_str!("../../fixtures/signatures/differences.json");
    let written: Differences = serde_json::from_str(text).expect("the table is JSON");
    let cases: Vec<Case> = written.cases.iter().map(Difference::case).collect();
    let questions: Vec<Value> = cases.iter().map(Case::to_verify).collect();
    let others = LIBRARIES.map(|library| ask(library, &questions));
    assert_eq!(written.implementations.len(), 2 + others.len());
    let mut wrong = Vec::new();
    for (place, (difference, case)) in written.cases.iter().zip(&cases).enumerate() {
        let mut verdicts = vec![case.ours().to_owned(), case.crates_io().to_owned()];
        verdicts.extend(others.iter().map(|outcomes| outcomes[place]["verdict"].as_str().expect("a verdict").to_owned()));
        if verdicts != difference.verdicts {
            wrong.push(format!("{}: written {:?}, found {verdicts:?}", difference.name, difference.verdicts));
        }
        // A delivery that its sender's own library refuses is never taken here.
        assert!(verdicts[0] != "ok" || verdicts[1] == "ok" || difference.secret.is_some(), "{}", difference.name);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
