//! The fixture webhooks hold what they promise: their names, their shapes, and that they speak of the small world.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::world::{AsOf, EPOCH_MS, INSTANCE_ID, World, shapes, wall_ms};

#[derive(Debug, Deserialize)]
struct Effects {
    effect: Vec<Effect>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Effect {
    fixture: String,
    user: String,
    org: String,
    before: String,
    after: String,
    #[allow(dead_code, reason = "read by the integration tests")]
    name: Option<String>,
    #[allow(dead_code, reason = "for people")]
    why: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webhooks")
}

/// Name without `.json`, and body.
fn fixtures(folder: &Path) -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let json = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("a name").to_str().expect("text").to_owned();
        let body = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("every fixture is JSON");
        (name, body)
    };
    json.map(read).collect()
}

fn effects() -> Vec<Effect> {
    let text = fs::read_to_string(folder().join("effects.toml")).expect("readable");
    toml::from_str::<Effects>(&text).expect("every effect has its members").effect
}

fn has_ip(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .any(|word| word.split('.').count() == 4 && word.split('.').all(|part| part.parse::<u8>().is_ok()))
}

#[test]
fn every_fixture_is_named_after_its_type_and_holds_no_address() {
    let all = [fixtures(&folder()), fixtures(&folder().join("seconds"))];
    assert_eq!([all[0].len(), all[1].len()], [28, 28]);
    for (name, body) in all.iter().flatten() {
        let event_type = body["type"].as_str().expect("a type");
        assert!(name == event_type || name.strip_suffix(".banned") == Some(event_type), "{name}");
        assert_eq!((&body["object"], &body["instance_id"]), (&Value::from("event"), &Value::from(INSTANCE_ID)), "{name}");
        let text = body.to_string();
        assert!(!has_ip(&text), "{name}");
        assert!(text.split('@').skip(1).all(|rest| rest.split(['"', ' ']).next().expect("a part").ends_with("example.test")));
    }
    assert!(has_ip("from 10.0.0.1, say") && !has_ip("version 1.2.3"));
}

#[test]
fn times_are_after_the_world_began_and_before_now() {
    for (name, body) in fixtures(&folder()) {
        let at = body["timestamp"].as_i64().expect("a time");
        assert!(at > EPOCH_MS && at < wall_ms(), "{name}");
    }
    for (name, mut body) in fixtures(&folder().join("seconds")) {
        let mut in_ms = fixtures(&folder()).remove(&name).expect("has a twin");
        let (seconds, ms) = (body["timestamp"].take(), in_ms["timestamp"].take());
        assert_eq!(seconds.as_i64(), ms.as_i64().map(|ms| ms / 1_000), "{name}");
        assert_eq!(body, in_ms, "{name}");
    }
}

#[test]
fn fixtures_have_the_members_that_the_stand_in_sends() {
    let mut world = World::small();
    let all = fixtures(&folder());
    let members = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<BTreeSet<_>>();
    let membership = world.page("user_mei", 1, 0, AsOf::Now).expect("there").data.remove(0);
    let organization = world.organization_shape("harbour-works", AsOf::Now).expect("there");
    let session = world.start_session("user_noor").expect("there").messages.remove(0).body;
    let session: Value = serde_json::from_slice(&session).expect("json");
    let user = shapes::user(world.user("user_ada", AsOf::Now).expect("there"));
    for (name, body) in &all {
        let expected = match name.as_str() {
            "organizationMembership.created" | "organizationMembership.updated" | "organizationMembership.deleted" => &membership,
            "organization.created" | "organization.updated" => &organization,
            "user.created" | "user.updated" | "user.updated.banned" => &user,
            name if name.starts_with("session.") => &session["data"],
            _ => continue,
        };
        assert_eq!(members(&body["data"]), members(expected), "{name}");
        assert_eq!(members(body), members(&session), "{name}");
    }
}

#[test]
fn fixtures_speak_of_what_is_in_the_small_world_and_outrank_it() {
    let world = World::small();
    let all = fixtures(&folder());
    let membership = |name: &str| all[name]["data"]["id"].as_str().expect("an id").to_owned();
    for (name, user, org) in [
        ("organizationMembership.updated", "user_kofi", "northfold-bakery"),
        ("organizationMembership.deleted", "user_mei", "copperline-rail"),
    ] {
        let row = world.membership(user, org).expect("a member");
        assert_eq!(row.id, membership(name));
        assert_eq!(all[name]["data"]["created_at"], row.created_at, "{name}");
        let advances = name.ends_with("updated");
        assert_eq!(all[name]["data"]["updated_at"].as_i64() > Some(row.updated_at), advances, "{name}");
        let embedded = world.organization_shape(org, AsOf::Now).expect("there");
        assert_eq!(all[name]["data"]["organization"], embedded, "{name}");
    }
    let renamed = world.organization("harbour-works", AsOf::Now).expect("there");
    assert_eq!(all["organization.updated"]["data"]["id"], renamed.id.as_str());
    assert!(all["organization.updated"]["data"]["updated_at"].as_i64() > Some(renamed.updated_at));
    assert!(world.organization("harbour-and-sons", AsOf::Now).is_none());
    assert!(world.user("user_lena", AsOf::Now).is_none() && world.organization("org_juniper_forge", AsOf::Now).is_none());
    assert!(world.membership("user_kofi", "tidewell-energy").is_none());
    assert_eq!(all["user.updated.banned"]["data"]["banned"], true);
}

#[test]
fn every_fixture_has_an_effect_and_no_two_contradict_each_other() {
    let world = World::small();
    let decide = |user: &str, org: &str| match (world.user(user, AsOf::Now), world.membership(user, org)) {
        (None, _) => "user-unknown".to_owned(),
        (_, None) => "not-a-member".to_owned(),
        (_, Some(row)) => format!("member {}", row.role),
    };
    let mut after = BTreeMap::new();
    let mut named = BTreeSet::new();
    for effect in effects() {
        assert_eq!(decide(&effect.user, &effect.org), effect.before, "{effect:?}");
        named.insert(effect.fixture.trim_end_matches(".json").to_owned());
        let first = after.entry((effect.user.clone(), effect.org.clone())).or_insert_with(|| effect.after.clone());
        assert_eq!(*first, effect.after, "{effect:?}");
    }
    assert_eq!(named, fixtures(&folder()).into_keys().collect());
}

#[test]
fn the_table_for_people_is_the_table_for_tests() {
    let readme = fs::read_to_string(folder().join("README.md")).expect("readable");
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    let effects = effects();
    assert_eq!(rows.len(), effects.len());
    for (row, effect) in rows.iter().zip(&effects) {
        let fixture = effect.fixture.trim_end_matches(".json");
        let start = format!("| `{fixture}` | `{}` in `{}` | {} | {}", effect.user, effect.org, effect.before, effect.after);
        assert!(row.starts_with(&start), "{row}");
    }
}
