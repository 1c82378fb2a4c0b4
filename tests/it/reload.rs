//! SIGHUP, sent to the real binary: service keys and webhook secrets are read again, and nothing else is.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rollcall::dev::World as ClerkWorld;
use rollcall::dev::sign::fresh_secret;
use tempfile::TempDir;

use crate::world::redis_server::RedisServer;
use crate::world::rollcall::{Rollcall, hex_digest};
use crate::world::service::{ADMIN_KEY, READ_KEY};
use crate::world::wait::{until, until_within};

const NEW_KEY: &str = "rk_new_new_new_new_new_new_new_new_new_new_new_ne";
const AGAIN: &str = "SIGHUP: keys and webhook secrets were read again";
const KEPT: &str = "SIGHUP: keys and webhook secrets stay as they were";

/// The service with its keys in a file and its secrets in `rollcall.toml`.
struct Started {
    rollcall: Rollcall,
    /// What its Clerk signs with.
    secret: String,
    folder: TempDir,
}

impl Started {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more settings, each in a file of the folder that holds a secret.
    async fn start_with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let secret = fresh_secret();
        std::fs::write(path("keys"), keys(READ_KEY)).expect("a file");
        std::fs::write(path("rollcall.toml"), toml(&secret)).expect("a file");
        let mut settings = vec![
            ("ROLLCALL_API_KEYS", String::new()),
            ("ROLLCALL_API_KEYS_FILE", path("keys")),
            ("CLERK_WEBHOOK_SIGNING_SECRET", String::new()),
            ("ROLLCALL_CONFIG", path("rollcall.toml")),
        ];
        for (variable, name) in files {
            std::fs::write(path(name), &secret).expect("a file");
            settings.push((variable, path(name)));
        }
        let settings: Vec<_> = settings.iter().map(|(variable, value)| (*variable, value.as_str())).collect();
        let rollcall = Rollcall::serve_on(RedisServer::start(), ClerkWorld::small(), &settings).await;
        rollcall.clerk.sender().set_secrets(vec![secret.clone()]);
        Self { rollcall, secret, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// Sends the signal, and waits for what the log says of it.
    async fn hang_up(&self, word: &str) -> String {
        let before = self.rollcall.log().lines().count();
        self.rollcall.hang_up();
        // A file that hangs is given up within seconds, on a machine with time.
        until_within(Duration::from_secs(30), word, async || {
            self.rollcall.log().lines().skip(before).find(|line| line.contains(word)).map(str::to_owned)
        })
        .await
    }

    async fn status(&self, key: &str) -> u16 {
        let request = self.rollcall.http.get(format!("{}/v1/users/user_ada/orgs", self.rollcall.url)).bearer_auth(key);
        request.send().await.expect("an answer").status().as_u16()
    }

    /// The status of a delivery that Clerk signs with this secret.
    async fn deliver(&self, secret: &str) -> Option<u16> {
        let (clerk, endpoint) = (&self.rollcall.clerk, self.rollcall.webhooks());
        clerk.sender().set_secrets(vec![secret.to_owned()]);
        let renamed = clerk.world().lock().rename("org_harbour_works", Some("Harbour"), None).expect("the world allows it");
        clerk.sender().deliver_now(&renamed.messages[0], &endpoint).await.status
    }
}

fn keys(key: &str) -> String {
    format!("test:read:{},operator:admin:{}\n", hex_digest(key), hex_digest(ADMIN_KEY))
}

fn toml(secret: &str) -> String {
    format!("clerk_webhook_signing_secret = \"{secret}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_secrets_that_were_exchanged_are_known_after_sighup_and_the_old_ones_are_not() {
    let started = Started::start().await;
    assert_eq!((started.status(READ_KEY).await, started.status(NEW_KEY).await), (200, 401));
    let (old, new) = (started.secret.clone(), fresh_secret());
    assert_eq!((started.deliver(&old).await, started.deliver(&new).await), (Some(204), Some(401)));

    started.write("keys", &keys(NEW_KEY));
    started.write("rollcall.toml", &toml(&format!("{old}, {new}")));
    assert_eq!((started.status(NEW_KEY).await, started.deliver(&new).await), (401, Some(401)), "not before the signal");
    let told = started.hang_up(AGAIN).await;
    assert!(told.contains("ROLLCALL_API_KEYS_FILE") && told.contains("rollcall.toml"), "{told}");
    assert_eq!((started.status(READ_KEY).await, started.status(NEW_KEY).await), (401, 200));
    assert_eq!((started.deliver(&old).await, started.deliver(&new).await), (Some(204), Some(204)));

    started.write("rollcall.toml", &toml(&new));
    started.hang_up(AGAIN).await;
    assert_eq!((started.deliver(&old).await, started.deliver(&new).await), (Some(401), Some(204)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_leaves_keys_and_secrets_as_they_were_and_the_log_says_why_and_no_secret() {
    let started = Started::start().await;
    let (old, new) = (started.secret.clone(), fresh_secret());
    started.write("keys", &keys(NEW_KEY));
    let bad = [
        (toml("whsec_hidden!"), "CLERK_WEBHOOK_SIGNING_SECRET"),
        ("clerk_webhook_signing_secret = \"whsec_hidden".to_owned(), "line 1"),
        ("ttl = \"5m\"".to_owned(), "CLERK_WEBHOOK_SIGNING_SECRET is missing"),
        (format!("{}webhook_secret = \"hidden\"", toml(&new)), "unknown key `webhook_secret`"),
    ];
    for (text, why) in bad {
        started.write("rollcall.toml", &text);
        let told = started.hang_up(KEPT).await;
        assert!(told.contains(why) && told.contains("\"level\":\"ERROR\""), "{why} is not in {told}");
        assert!(!told.contains("hidden") && !told.contains(&new), "{told}");
        assert_eq!((started.status(READ_KEY).await, started.status(NEW_KEY).await), (200, 401), "both or neither: {text}");
        assert_eq!(started.deliver(&old).await, Some(204), "{text}");
    }
    started.write("rollcall.toml", &toml(&new));
    started.write("keys", "test:read:rk_hidden");
    let told = started.hang_up(KEPT).await;
    assert!(told.contains("ROLLCALL_API_KEYS") && told.contains("holds the key itself") && !told.contains("hidden"), "{told}");
    assert_eq!((started.status(READ_KEY).await, started.deliver(&new).await), (200, Some(401)));
    std::fs::remove_file(started.path("keys")).expect("it is there");
    started.hang_up(KEPT).await;
    assert_eq!((started.status(READ_KEY).await, started.deliver(&new).await), (200, Some(401)));

    started.write("keys", &keys(NEW_KEY));
    started.hang_up(AGAIN).await;
    assert_eq!((started.status(NEW_KEY).await, started.deliver(&new).await), (200, Some(204)));
}

/// Somebody was to write it, and never comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nobody_writes_is_given_up_and_the_next_signal_is_heard() {
    let started = Started::start().await;
    std::fs::remove_file(started.path("keys")).expect("it is there");
    let made = Command::new("mkfifo").arg(started.path("keys")).status().expect("coreutils are installed");
    assert!(made.success());
    let told = started.hang_up(KEPT).await;
    assert!(told.contains("cannot be read in time") && told.contains("\"level\":\"ERROR\""), "{told}");
    assert_eq!(started.status(READ_KEY).await, 200);
    std::fs::remove_file(started.path("keys")).expect("it is there");
    started.write("keys", &keys(NEW_KEY));
    started.hang_up(AGAIN).await;
    assert_eq!((started.status(READ_KEY).await, started.status(NEW_KEY).await), (401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_secret_in_a_file_of_its_own_is_read_again_too() {
    let started = Started::start_with(&[("CLERK_WEBHOOK_SIGNING_SECRET_FILE", "secret")]).await;
    let (old, new) = (started.secret.clone(), fresh_secret());
    started.write("secret", &format!("{new}\n"));
    let told = started.hang_up(AGAIN).await;
    assert!(told.contains("CLERK_WEBHOOK_SIGNING_SECRET_FILE"), "{told}");
    assert_eq!((started.deliver(&old).await, started.deliver(&new).await), (Some(401), Some(204)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_environment_and_everything_else_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rollcall.toml");
    std::fs::write(&file, "ttl = \"5m\"").expect("a file");
    let settings = [("ROLLCALL_CONFIG", &*file.display().to_string())];
    let rollcall = Rollcall::serve_on(RedisServer::start(), ClerkWorld::small(), &settings).await;
    // A service that is started so is refused: the relation of the two is looked at by a start, and by nothing else.
    std::fs::write(&file, "ttl = \"25m\"\nkey_prefix = \"other:\"").expect("a file");
    rollcall.hang_up();
    until("the signal is heard", async || rollcall.log().contains(AGAIN).then_some(())).await;
    assert!(rollcall.log().contains("from the environment, ROLLCALL_API_KEYS"), "{}", rollcall.log());
    assert_eq!(rollcall.get("/v1/users/user_ada/orgs", &[]).await.expect("an answer").status, 200);
    assert_eq!(rollcall.redis.query(&["EXISTS", "user-orgs:user_ada"]), "1");
}
