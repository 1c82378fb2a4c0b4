//! What the journal keeps of a body: nothing of a person, unless the operator asks for whole bodies.

use std::path::Path;

use rollcall::ingest::Keep;
use serde_json::Value;
use sqlx::Row;

use crate::world::service::{Database, Deployment, Setup, World, run_test};
use crate::world::webhooks::fixture;

/// In every text of a person that is sent.
const MARK: &str = "Personal-Mark";
/// Members whose texts tell something of a person, or are written to one.
const PERSONAL: [&str; 17] = [
    "first_name",
    "last_name",
    "username",
    "identifier",
    "email_address",
    "to_email_address",
    "affiliation_email_address",
    "from_email_name",
    "inviter_name",
    "subject",
    "body",
    "body_plain",
    "profile_image_url",
    "image_url",
    "client_ip",
    "user_agent",
    "url",
];

/// Marks every text of a person in an event, and answers the texts as they were. An organization's picture is none.
fn mark(value: &mut Value, texts: &mut Vec<String>) {
    let is_organization = value["object"] == "organization";
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let is_personal = PERSONAL.contains(&name.as_str()) && !(is_organization && name == "image_url");
                match member {
                    Value::String(text) if is_personal => {
                        texts.push(text.clone());
                        text.push_str(MARK);
                    }
                    member => mark(member, texts),
                }
            }
        }
        Value::Array(members) => members.iter_mut().for_each(|member| mark(member, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Delivers every fixture, marked; answers the texts of persons in them that cannot be there by chance.
async fn deliver_all(world: &World) -> anyhow::Result<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webhooks");
    let names = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<_> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    assert!(names.len() >= 28, "{names:?}");
    let mut texts = Vec::new();
    for name in names {
        let mut event = fixture(&name);
        mark(&mut event, &mut texts);
        world.take(&event).await?;
    }
    texts.retain(|text| text.len() >= 8);
    texts.sort();
    texts.dedup();
    assert!(texts.len() >= 12, "{texts:?}");
    Ok(texts)
}

fn files(folder: &Path) -> Vec<u8> {
    let paths = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| std::fs::read(path).expect("a file")).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_the_journals_files_tells_of_a_person() {
    run_test(Deployment::Alone, Setup::default(), async |world: &mut World| {
        let texts = deliver_all(world).await?;
        world.stop_nodes().await;
        let bytes = files(world.folder());
        assert!(holds(&bytes, "user_kofi") && holds(&bytes, "org_harbour_works"), "this is the journal");
        assert!(holds(&bytes, "Harbour & Sons") && holds(&bytes, "harbour-and-sons"), "an organization's name is kept");
        for text in texts.iter().map(String::as_str).chain([MARK]) {
            assert!(!holds(&bytes, text), "{text} is in the journal");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_column_in_postgres_tells_of_a_person() {
    let setup = Setup { database: Database::Postgres, ..Setup::default() };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        let texts = deliver_all(world).await?;
        let database = world.database().await;
        let dump = sqlx::query("select cast(to_jsonb(m) as text) from webhook_messages m").fetch_all(&database).await?;
        database.close().await;
        let dump: Vec<String> = dump.iter().map(|row| row.get(0)).collect();
        let dump = dump.join("\n");
        assert!(dump.contains("user_kofi") && dump.contains("Harbour & Sons"), "this is the journal");
        for text in texts.iter().map(String::as_str).chain([MARK]) {
            assert!(!dump.contains(text), "{text} is in the journal");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_bodies_are_kept_where_they_are_asked_for() {
    let setup = Setup { keep: Keep::Full, ..Setup::default() };
    run_test(Deployment::Alone, setup, async |world: &mut World| {
        let event = fixture("user.updated").to_string();
        let webhook = world.webhook(event.clone());
        assert_eq!(world.post(&webhook).await?.status, 204);
        let payload = world.row(&webhook).await.and_then(|row| row.payload).expect("a payload");
        assert_eq!(payload["body"].as_str(), Some(event.as_str()));
        Ok(())
    })
    .await;
}
