//! What a service sees that reads the documented keys of Redis over REST, with `@upstash/redis` of npm as it comes.

use rollcall::domain::decode_memberships;
use serde_json::{Value, json};

use crate::world::libraries::{UPSTASH_NODE, ask};
use crate::world::service::{Deployment, Setup, World, run_test};
use crate::world::upstash::{TOKEN, Upstash};

const ADA: &str = "user_ada";
const WORKS: &str = "harbour-works";

/// A question with the right token, which may go into a batch.
fn question(what: &str, user: &str) -> Value {
    json!({ "do": what, "key": format!("user-orgs:{user}"), "token": TOKEN, "batched": true })
}

async fn value(rest: &Upstash, user: &str) -> Value {
    ask(UPSTASH_NODE, rest.address, &[question("get", user)]).await.remove(0)["ok"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_read_over_rest_as_the_list_route_answers_it() {
    let mut setup = Setup::default();
    setup.clerk.rename(WORKS, Some("Häfen & \"Söhne\" 港"), None).expect("it is in the world");
    run_test(Deployment::Redis(1), setup, async |world: &mut World| {
        let rest = Upstash::start(&world.redis().url()).await;
        // Twelve organizations; one without a slug among three; none at all. The fourth was never asked for.
        let users = [ADA, "user_mei", "user_tomas", "user_noor"];
        let mut lists = Vec::new();
        for user in &users[..3] {
            lists.push(world.list(user).await?);
        }
        assert_eq!(lists.iter().map(|list| list.slugs().len()).collect::<Vec<_>>(), [12, 3, 0]);
        let mut expected: Vec<Value> = lists.iter().map(|list| list.json()).collect();
        expected.push(Value::Null);

        for batched in [true, false] {
            let with = |mut question: Value| {
                question["batched"] = json!(batched);
                question
            };
            let mut questions: Vec<Value> = users.iter().map(|user| with(question("get", user))).collect();
            let keys: Vec<String> = users.iter().map(|user| format!("user-orgs:{user}")).collect();
            questions.push(with(json!({ "do": "mget", "keys": keys, "token": TOKEN })));
            questions.extend(users.iter().map(|user| with(question("exists", user))));
            questions.extend([ADA, "user_noor"].map(|user| with(question("seconds", user))));
            questions.push(with(question("text", ADA)));
            let outcomes = ask(UPSTASH_NODE, rest.address, &questions).await;
            let ok: Vec<&Value> = outcomes.iter().map(|outcome| outcome.get("ok").expect("no error")).collect();

            assert_eq!(ok[..4], expected.iter().collect::<Vec<_>>(), "parsed by the library");
            assert_eq!(ok[4], &json!(expected), "all at once");
            assert_eq!(ok[5..9], [1, 1, 1, 0], "no memberships are a value, and nobody's key is none");
            let bounds = world.bounds();
            let seconds = ok[9].as_u64().expect("a number");
            assert!((1..=(bounds.ttl + bounds.grace).as_secs()).contains(&seconds), "{seconds}");
            assert_eq!(ok[10], -2, "there is no such key");
            let text = ok[11].as_str().expect("a text").as_bytes();
            assert_eq!(text, lists[0].body, "byte for byte");
            assert_eq!(decode_memberships(text).expect("the documented shape").len(), 12);
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_acknowledged_revocation_no_reader_over_rest_finds_the_old_list() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let rest = Upstash::start(&world.redis().url()).await;
        world.list(ADA).await?;
        assert_eq!(value(&rest, ADA).await.as_array().map(Vec::len), Some(12));

        let left = world.change(|clerk| clerk.revoke(ADA, WORKS));
        world.deliver(&left).await;
        assert_eq!(value(&rest, ADA).await, Value::Null);

        let list = world.list(ADA).await?;
        assert!(list.slugs().len() == 11 && !list.slugs().contains(&WORKS.to_owned()));
        assert_eq!(value(&rest, ADA).await, list.json());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_over_rest_with_another_token_reads_nothing() {
    run_test(Deployment::Redis(1), Setup::default(), async |world: &mut World| {
        let rest = Upstash::start(&world.redis().url()).await;
        world.list(ADA).await?;
        for batched in [true, false] {
            let question = json!({ "do": "get", "key": "user-orgs:user_ada", "token": "another", "batched": batched });
            let outcome = ask(UPSTASH_NODE, rest.address, &[question]).await.remove(0);
            assert!(outcome["error"].as_str().is_some_and(|error| error.contains("Unauthorized")), "{outcome}");
        }
        Ok(())
    })
    .await;
}
