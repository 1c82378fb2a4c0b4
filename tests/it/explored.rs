//! The service under requests that somebody else makes up from its description: schemathesis of PyPI asks every route with
//! what is right, at the edge and wrong. No answer is a 500, and none is undocumented.
//!
//! `scripts/test` installs it into `tests/openapi/`; without it these tests fail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rollcall::dev::NewToken;
use tokio::process::Command;

use crate::world::service::{ADMIN_KEY, Deployment, Setup, World, run_test_within};

/// Not the script beside it, which names the folder where it was installed.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi/.venv/bin/python");
/// Some thousand requests: on a slow machine they take longer than others' tests. It ends before the runner's own limit.
const LIMIT: Duration = Duration::from_secs(110);
/// The same requests in every run.
const SEED: &str = "20261122";
/// Of each operation, beside those at the edges of what is described.
const EXAMPLES: &str = "25";
/// Every check is on, except for those of what is made by one route and used by another: there is nothing of that kind here.
///
/// Headers and parameters that nobody knows are no violation of anything, so none are made up. That what is described is
/// accepted is not asked of two routes: a role needs an organization beside it, and a webhook the sender's signature. Where a
/// machine stands still, "could not be found out" is as described as any other answer; a 500 never is.
const SETTINGS: &str = r#"
[generation]
allow-extra-parameters = false

[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503, 504]
use_after_free.enabled = false
ensure_resource_availability.enabled = false
object_level_authorization.enabled = false

[[operations]]
include-path = "/v1/context"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = "/webhooks/clerk"
checks.positive_data_acceptance.enabled = false
"#;

/// Has the operations asked that this filter selects, with this credential; what was said of it.
async fn explore(world: &World, folder: &Path, credential: &str, filter: [&str; 2]) -> String {
    let description = world.send(world.request("GET", "/openapi.json").bearer_auth(ADMIN_KEY)).await.expect("an answer");
    let file: PathBuf = folder.join("openapi.json");
    std::fs::write(&file, &description.body).expect("a file");
    std::fs::write(folder.join("schemathesis.toml"), SETTINGS).expect("a file");
    let mut command = Command::new(PYTHON);
    // None of this machine's proxies, and nothing is kept from one run to the next.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command.current_dir(folder).kill_on_drop(true).args(["-m", "schemathesis.cli", "run"]).arg(&file);
    command.args(["--url", &world.nodes[0].url(), "--header", &format!("Authorization: Bearer {credential}")]);
    command.args(["--phases", "examples,coverage,fuzzing"]);
    command.args(["--seed", SEED, "--max-examples", EXAMPLES, "--generation-database", "none", "--no-color"]);
    command.args(["--continue-on-failure", "--request-timeout", "10", "--workers", "1"]).args(filter);
    let output = command.output().await.unwrap_or_else(|error| panic!("{PYTHON} cannot be run ({error}): see scripts/test"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_a_service_key_answers_as_described_whatever_is_asked() {
    run_test_within(LIMIT, Deployment::Alone, Setup::default(), async |world: &mut World| {
        let folder = tempfile::tempdir()?;
        let said = explore(world, folder.path(), ADMIN_KEY, ["--exclude-path", "/v1/context"]).await;
        assert!(said.contains("Operations:       11 selected / 12 total"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_context_of_a_live_session_answers_as_described_whatever_is_asked() {
    run_test_within(LIMIT, Deployment::Alone, Setup::default(), async |world: &mut World| {
        let folder = tempfile::tempdir()?;
        let new = NewToken { user: Some("user_ada".to_owned()), lives_seconds: Some(500), ..NewToken::default() };
        let token = world.clerk.mint(&new)?;
        let said = explore(world, folder.path(), &token, ["--include-path", "/v1/context"]).await;
        assert!(said.contains("Operations:       1 selected / 12 total"), "{said}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_answer_as_described_while_clerk_is_away() {
    run_test_within(LIMIT, Deployment::Alone, Setup::default(), async |world: &mut World| {
        let folder = tempfile::tempdir()?;
        world.origin_answers(500);
        let said = explore(world, folder.path(), ADMIN_KEY, ["--include-path-regex", "^/v1/users/.*/orgs"]).await;
        assert!(said.contains("Operations:       3 selected / 12 total"), "{said}");
        Ok(())
    })
    .await;
}
