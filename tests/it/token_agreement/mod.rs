//! Thousands of session tokens, valid ones and changed ones, judged by us and by Clerk's own library of npm: the verdicts are the
//! same, but for a list of kinds that we refuse on purpose; where both accept, they read the same user, session and
//! organization.
//!
//! One seed, unless `ROLLCALL_TEST_TOKEN_SEED` names another; 2,000 tokens, unless `ROLLCALL_TEST_AGREEMENT_TOKENS` asks for more.

mod differences;
mod made;

use std::collections::BTreeMap;
use std::time::Duration;

use differences::{DIFFERENCES, Seen};
use futures_util::{StreamExt, stream};
use made::{Keys, Made, Maker};
use rollcall::config::{Config, TokenKeys};
use rollcall::token::{Jws, Key, Policy};
use serde_json::{Value, json};

use crate::world::answer::Answer;
use crate::world::dice::Dice;
use crate::world::libraries::{CLERK_NODE, ask};
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::token_keys::{PublishedKeys, TokenKey};
use crate::world::webhooks::now;

const SEED: usize = 20_260_725;
const TOKENS: usize = 2_000;
const KNOWN_PARTY: &str = "https://app.example.test";
/// Requests under way.
const AT_ONCE: usize = 16;

fn by_hand(variable: &str, ordinary: usize) -> usize {
    std::env::var(variable).map_or(ordinary, |text| text.parse().expect("a number"))
}

/// A question to the library, which shall ask for parties or not.
fn question(token: &str, has_parties: bool) -> Value {
    let parties = has_parties.then_some([KNOWN_PARTY, "https://b.example.test"]);
    json!({ "do": "verify", "key": "sk_test_agreement", "token": token, "parties": parties })
}

#[tokio::test(flavor = "multi_thread")]
async fn our_verdicts_are_those_of_clerks_own_library_but_for_what_is_listed() {
    let (seed, count) = (by_hand("ROLLCALL_TEST_TOKEN_SEED", SEED), by_hand("ROLLCALL_TEST_AGREEMENT_TOKENS", TOKENS));
    let keys = Keys { first: TokenKey::new("ins_1"), second: TokenKey::new("ins_2"), foreign: TokenKey::new("ins_1") };
    let published = PublishedKeys::start(&[&keys.first, &keys.second]);
    run_test(Deployment::Bare, Setup::default(), async |world: &mut World| {
        let of_keys = |config: &mut Config| config.tokens.keys = TokenKeys::Published(published.url());
        world.add_node_with(of_keys).await;
        world
            .add_node_with(|config| {
                of_keys(config);
                config.tokens.policy.authorized_parties = vec![KNOWN_PARTY.to_owned(), "https://b.example.test".to_owned()];
            })
            .await;
        let mut dice = Dice::new(seed as u64);
        let maker = Maker::new(&keys, world.clerk.issuer(), now());
        let made: Vec<(Made, bool)> = (0..count).map(|n| (maker.make(n, &mut dice), dice.chance(40))).collect();
        let questions: Vec<Value> = made.iter().map(|(made, has_parties)| question(&made.token, *has_parties)).collect();
        let (theirs, ours) = tokio::join!(ask(CLERK_NODE, published.address, &questions), told(world, &made));
        let mut verdicts = Verdicts::default();
        for (((made, has_parties), theirs), ours) in made.iter().zip(&theirs).zip(&ours) {
            let seen = Seen::of(&made.token, world.clerk.issuer());
            let case = format!("seed {seed}, {:?}, parties: {has_parties}: {}", made.how, seen.show());
            verdicts.compare(&case, &seen, theirs, ours);
        }
        verdicts.judge(count);
        Ok(())
    })
    .await;
}

/// What the node says that asks for parties, or the one that does not.
async fn told(world: &World, made: &[(Made, bool)]) -> Vec<Answer> {
    let asks = made.iter().map(async |(made, has_parties)| {
        let url = format!("{}/v1/context", world.nodes[usize::from(*has_parties)].url());
        let response = world.http.get(url).bearer_auth(&made.token).send().await.expect("an answer");
        Answer::of(response).await.expect("a whole answer").lawful()
    });
    stream::iter(asks).buffered(AT_ONCE).collect().await
}

/// How often what was said.
#[derive(Default)]
struct Verdicts {
    accepted: usize,
    refused: usize,
    /// By the name of the difference.
    differing: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

impl Verdicts {
    fn compare(&mut self, case: &str, seen: &Seen, theirs: &Value, ours: &Answer) {
        let theirs = theirs.get("ok");
        let meant: Vec<_> = DIFFERENCES.iter().filter(|of| (of.is_meant)(seen)).collect();
        match (theirs, refusal(ours)) {
            (Some(theirs), None) => {
                self.accepted += 1;
                let ours = ours.json();
                self.wrong.extend(meant.iter().map(|of| format!("listed as {}, and accepted: {case}", of.name)));
                if !is_read_alike(theirs, &ours) {
                    self.wrong.push(format!("they read {theirs} and we {ours}: {case}"));
                }
            }
            (None, Some(_)) => self.refused += 1,
            (Some(_), Some(code)) => {
                let of_code: Vec<_> = meant.iter().filter(|of| of.codes.contains(&&*code)).collect();
                if of_code.is_empty() {
                    self.wrong.push(format!("only they accept, we say {code}: {case}"));
                }
                for difference in of_code {
                    *self.differing.entry(difference.name).or_default() += 1;
                }
            }
            (None, None) => self.wrong.push(format!("only we accept: {case}")),
        }
    }

    fn judge(self, count: usize) {
        println!("{count} tokens: {} accepted by both, {} refused by both; refused by us alone:", self.accepted, self.refused);
        for difference in DIFFERENCES {
            let times = self.differing.get(difference.name).copied().unwrap_or_default();
            println!("{times:6} {}: {}", difference.name, difference.why);
        }
        assert!(
            self.wrong.is_empty(),
            "{} disagreements that nobody listed:\n{}",
            self.wrong.len(),
            self.wrong[..self.wrong.len().min(8)].join("\n")
        );
        assert!(self.accepted * 10 > count * 2 && self.refused * 10 > count * 2, "too few to mean anything");
        let idle: Vec<_> = DIFFERENCES.iter().filter(|of| !self.differing.contains_key(of.name)).map(|of| of.name).collect();
        assert!(idle.is_empty(), "listed, and never met: {idle:?}");
    }
}

/// The code of a refusal of the token; none where it was taken.
fn refusal(answer: &Answer) -> Option<String> {
    match answer.status {
        200 => None,
        401 | 403 => Some(answer.json()["code"].as_str().expect("a code").to_owned()),
        _ => panic!("neither taken nor refused: {answer:?}"),
    }
}

/// The same user, session and organization; where the user is not in that organization, we say so, and the library cannot know.
fn is_read_alike(theirs: &Value, ours: &Value) -> bool {
    let organization = &ours["organization"]["organizationId"];
    let is_active = match ours["organizationReason"] == "not-a-member" {
        true => organization.is_null() && theirs["organization"].is_string(),
        false => theirs["organization"] == *organization,
    };
    theirs["user"] == ours["userId"] && theirs["session"] == ours["sessionId"] && is_active
}

/// Both at the same standing time, a millisecond before and behind every edge.
#[tokio::test(flavor = "multi_thread")]
async fn at_the_edges_of_the_skew_both_turn_at_the_same_millisecond() {
    let key = TokenKey::new("ins_1");
    let published = PublishedKeys::start(&[&key]);
    let pinned = Key::from_pem(&key.pem()).expect("a key");
    let ours = |token: &str, at: i64| {
        let signed = Jws::parse(token)?.verify(&pinned)?;
        Policy::default().admit(&signed, Duration::from_millis(at as u64))
    };
    let start = now();
    let token = |iat: i64, nbf: i64, exp: i64| {
        use base64::Engine;
        let part = |value: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"sub": "user_ada", "sid": "sess_1", "iat": start + iat, "nbf": start + nbf, "exp": start + exp});
        key.sign(&part(json!({"alg": "RS256", "kid": "ins_1", "typ": "JWT"})), &part(claims))
    };
    let tokens = [token(0, -10, 60), token(0, 20, 60), token(30, 20, 60)];
    let edges = [-5_i64, 0, 5, 15, 20, 25, 30, 35, 55, 60, 65];
    let times: Vec<i64> = edges.iter().flat_map(|edge| [-1, 0, 1].map(|ms| (start + edge) * 1_000 + ms)).collect();
    let cases: Vec<(&String, i64)> = tokens.iter().flat_map(|token| times.iter().map(move |at| (token, *at))).collect();
    let questions: Vec<Value> = cases
        .iter()
        .map(|(token, at)| {
            let mut question = question(token, false);
            question["at"] = json!(at);
            question
        })
        .collect();
    let theirs = ask(CLERK_NODE, published.address, &questions).await;
    for ((token, at), theirs) in cases.iter().zip(&theirs) {
        let ours = ours(token, *at);
        assert_eq!(ours.is_ok(), theirs["ok"].is_object(), "{} ms: {ours:?} {theirs}", at - start * 1_000);
    }
    let accepted = theirs.iter().filter(|outcome| outcome["ok"].is_object()).count();
    assert!(accepted > 20 && accepted < cases.len() - 20, "{accepted} of {}", cases.len());
}
