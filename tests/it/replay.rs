//! The real thing: the binary on a real Redis, Clerk over HTTP, and `rollcall replay` with the fixtures that people try. What
//! each of them does to the answers is written in `fixtures/webhooks/effects.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::world::rollcall::Rollcall;
use crate::world::wait::until;

#[derive(Deserialize)]
struct Effects {
    effect: Vec<Effect>,
}

/// What one fixture does to one answer.
#[derive(Deserialize)]
struct Effect {
    fixture: String,
    user: String,
    org: String,
    before: String,
    after: String,
    name: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webhooks")
}

fn effects() -> Vec<Effect> {
    let text = std::fs::read_to_string(folder().join("effects.toml")).expect("a table");
    toml::from_str::<Effects>(&text).expect("a table of effects").effect
}

/// The fixtures in a folder, by their paths.
fn fixtures(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let json = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let mut paths: Vec<String> = json.map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}

/// What is answered about a user in an organization, in the words of the table.
async fn decision(rollcall: &Rollcall, effect: &Effect) -> anyhow::Result<String> {
    let answer = rollcall.check(&effect.user, &effect.org).await?;
    Ok(match answer.header("rollcall-decision") {
        "member" => format!("member {}", answer.json()["role"].as_str().expect("a role")),
        other => other.to_owned(),
    })
}

async fn expect_before(rollcall: &Rollcall, effect: &Effect) -> anyhow::Result<()> {
    assert_eq!(decision(rollcall, effect).await?, effect.before, "before {}: {} in {}", effect.fixture, effect.user, effect.org);
    Ok(())
}

async fn expect_after(rollcall: &Rollcall, effect: &Effect) -> anyhow::Result<()> {
    assert_eq!(decision(rollcall, effect).await?, effect.after, "after {}: {} in {}", effect.fixture, effect.user, effect.org);
    if let Some(name) = effect.name.as_ref().filter(|_| effect.after.starts_with("member ")) {
        assert_eq!(rollcall.check(&effect.user, &effect.org).await?.json()["organizationName"], *name);
    }
    Ok(())
}

/// Replays fixtures one by one: each does what the table says, and nothing to what the others are about.
async fn each_has_its_effect(folder: &Path, count: usize) -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    let (effects, fixtures) = (effects(), fixtures(folder));
    assert_eq!(fixtures.len(), count);
    let mut replayed: Vec<&str> = Vec::new();
    for path in &fixtures {
        let name = path.rsplit('/').next().expect("a name");
        let own: Vec<&Effect> = effects.iter().filter(|effect| effect.fixture == name).collect();
        assert!(!own.is_empty(), "{name}");
        for effect in &own {
            let is_changed = effects.iter().any(|other| {
                let is_same = (&other.user, &other.org) == (&effect.user, &effect.org);
                is_same && other.before != other.after && replayed.contains(&other.fixture.as_str())
            });
            assert!(!is_changed, "{name} would prove nothing");
            expect_before(&rollcall, effect).await?;
        }
        rollcall.run(&["replay", path, "--to", &rollcall.webhooks()]).ends_with(0).says(&["204", "1 delivered", "0 failed"]);
        for effect in &own {
            expect_after(&rollcall, effect).await?;
        }
        replayed.push(name);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fixture_has_the_effect_in_the_table() -> anyhow::Result<()> {
    each_has_its_effect(&folder(), 28).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fixture_with_its_time_in_seconds_has_the_same_effect() -> anyhow::Result<()> {
    each_has_its_effect(&folder().join("seconds"), 28).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_of_the_folder_changes_the_answers_as_the_table_says_and_so_does_a_second() -> anyhow::Result<()> {
    let (rollcall, folder) = (Rollcall::serve().await, folder().display().to_string());
    let dry = rollcall.run(&["replay", &folder, "--to", &rollcall.webhooks(), "--dry-run", "--json"]).ends_with(0).json();
    assert_eq!((&dry["sent"], dry["deliveries"].as_array().expect("a list").len()), (&0.into(), 56));
    for effect in effects() {
        expect_before(&rollcall, &effect).await?;
    }
    assert_eq!(rollcall.redis.query(&["XLEN", "user-orgs:~changes"]), "1", "nothing but the stream's own first entry");

    for _ in 0..2 {
        let summary = rollcall.run(&["replay", &folder, "--to", &rollcall.webhooks(), "--json"]).ends_with(0).json();
        assert_eq!((&summary["sent"], &summary["failed"]), (&56.into(), &0.into()), "{summary}");
        let statuses = summary["deliveries"].as_array().expect("a list").iter().map(|delivery| &delivery["status"]);
        assert!(statuses.clone().all(|status| *status == 204), "{summary}");
        for effect in effects() {
            expect_after(&rollcall, &effect).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_fails_when_a_change_is_not_confirmed_and_succeeds_when_it_is() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    let path = |name: &str| folder().join(name).display().to_string();
    let (changes, ignored) = (path("organizationMembership.deleted.json"), path("role.updated.json"));
    let to = rollcall.webhooks();
    let words = ["replay", &changes, &ignored, "--to", &to];
    rollcall.redis.pause();
    rollcall.run(&words).ends_with(1).says(&["503  ", "204  ", "1 delivered", "1 failed"]);
    rollcall.redis.resume();
    until("Redis is met again", async || {
        let answer = rollcall.get("/readyz", &[]).await.ok()?;
        (answer.json()["status"] == "ready").then_some(())
    })
    .await;
    rollcall.run(&words).ends_with(0).says(&["2 delivered", "0 failed"]);
    rollcall.check("user_mei", "copperline-rail").await?.is_not_a_member();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_signed_with_another_secret_is_refused() -> anyhow::Result<()> {
    let rollcall = Rollcall::serve().await;
    let secret = tempfile::NamedTempFile::new()?;
    std::fs::write(secret.path(), rollcall::dev::sign::fresh_secret() + "\n")?;
    let (fixture, to) = (folder().join("user.deleted.json").display().to_string(), rollcall.webhooks());
    let secret = secret.path().display().to_string();
    rollcall.run(&["replay", &fixture, "--to", &to, "--secret-file", &secret]).ends_with(1).says(&["401", "1 failed"]);
    rollcall.check("user_ivo", "quillmark-press").await?.is_member();
    Ok(())
}
