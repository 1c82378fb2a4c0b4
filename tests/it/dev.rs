//! `rollcall dev` as somebody meets it who tries it: what it prints works when pasted, and it leaves alone what is not its own.

use std::process::Command;

use crate::world::dev::Dev;
use crate::world::redis_server::{RedisServer, free_port};
use crate::world::rollcall::Rollcall;
use crate::world::shell::Shell;

fn pasted(shell: &Shell, line: &str) -> std::process::Output {
    Command::new("sh").args(["-c", line]).env_clear().current_dir(shell.folder()).output().expect("there is a shell")
}

fn left(shell: &Shell, folder: &str) -> Vec<String> {
    let entries = shell.folder().join(folder).read_dir().expect("it is there");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// A shell whose temporary folder is its own, with a name that no shell takes unquoted.
fn shell() -> Shell {
    let shell = Shell::new().file("it's temporary/empty", "");
    let temporary = shell.folder().join("it's temporary").display().to_string();
    shell.set("TMPDIR", &temporary)
}

const LOOK: &str = "What was received";

#[test]
fn the_journal_of_a_dev_is_its_own_is_looked_at_as_printed_and_is_gone_with_it() {
    let shell = shell();
    let dev = Dev::start(&shell, &[]);
    let listed = pasted(&shell, dev.below(LOOK).expect("how to look at the journal"));
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "no messages\n", "{listed:?}\n{}", dev.guide);
    assert_eq!(left(&shell, "it's temporary").len(), 2);
    let log = dev.stop();
    assert!(!log.contains("DATABASE_URL"), "{log}");
    assert_eq!(left(&shell, "it's temporary"), ["empty"]);
}

#[test]
fn a_journal_that_the_environment_names_is_used_and_that_is_said() {
    let shell = shell().set("DATABASE_URL", "sqlite://mine.db");
    let dev = Dev::start(&shell, &[]);
    assert_eq!(dev.below(LOOK), None);
    let text = dev.guide.clone() + &dev.stop();
    assert!(text.contains("DATABASE_URL is set") && !text.contains("mine.db"), "{text}");
    assert!(left(&shell, "").contains(&"mine.db".to_owned()));
    // That of a service, in its own file, is not this world's.
    let file = self::shell().file("rollcall.toml", "database_url = \"sqlite://production.db\"");
    Dev::start(&file, &[]).stop();
    assert!(!left(&file, "").contains(&"production.db".to_owned()));
    let refused = self::shell().set("DATABASE_URL", "mysql://root:hidden@x/y").run(&["dev", "--clerk-listen", "127.0.0.1:0"]);
    let refused = refused.ends_with(78).says(&["DATABASE_URL"]);
    assert!(!(refused.out() + &refused.err()).contains("hidden"));
}

#[test]
fn a_journal_that_is_typed_stays_and_its_url_is_not_repeated() {
    let shell = shell().set("DATABASE_URL", "sqlite://production.db");
    let dev = Dev::start(&shell, &["--database-url", "sqlite://mine.db"]);
    assert_eq!(dev.below(LOOK), None);
    let text = dev.guide.clone() + &dev.stop();
    assert!(!text.contains("mine.db") && !text.contains("production.db"), "{text}");
    let left = left(&shell, "");
    assert!(left.contains(&"mine.db".to_owned()) && !left.contains(&"production.db".to_owned()), "{left:?}");
    let refused = shell.run(&["dev", "--database-url", "mysql://root:hidden@x/y", "--clerk-listen", "127.0.0.1:0"]);
    let refused = refused.ends_with(78).says(&["--database-url"]);
    assert!(!(refused.out() + &refused.err()).contains("hidden"));
}

#[test]
fn what_a_killed_dev_left_is_not_found_by_the_next_one() {
    let shell = shell();
    let killed = Dev::start(&shell, &[]);
    drop(killed);
    assert_eq!(left(&shell, "it's temporary").len(), 2);
    let dev = Dev::start(&shell, &[]);
    assert_eq!(left(&shell, "it's temporary").len(), 3);
    dev.stop();
    assert_eq!(left(&shell, "it's temporary").len(), 2);
}

/// What a service beside it verifies tokens by is of another instance, wherever it is written.
#[test]
fn the_context_that_is_printed_is_answered_to_who_pastes_it() {
    let file = "clerk_jwt_key_file = \"absent\"\nclerk_authorized_parties = [\"https://app.example.test\"]";
    for shell in [shell(), shell().file("rollcall.toml", file).set("CLERK_JWT_KEY_FILE", "absent")] {
        let dev = Dev::start(&shell, &[]);
        let answered = pasted(&shell, dev.below("Who is she, by a session token?").expect("how to ask for a context"));
        let context: serde_json::Value = serde_json::from_slice(&answered.stdout).unwrap_or_else(|_| panic!("{answered:?}"));
        let told = (&context["userId"], &context["organization"]["role"]);
        assert_eq!(told, (&"user_ada".into(), &"org:member".into()), "{context}");
        dev.stop();
    }
}

/// A browser sends no key.
#[test]
fn the_description_of_a_dev_is_opened_without_a_key() {
    let shell = shell();
    let dev = Dev::start(&shell, &[]);
    let link = dev.guide.split_whitespace().find(|word| word.ends_with("/docs")).expect("where the page is");
    for link in [link, &link.replace("/docs", "/openapi.json")] {
        assert_eq!(status(&shell, link), "200", "{link}");
    }
    dev.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_a_service_takes_a_key() {
    let (rollcall, shell) = (Rollcall::serve().await, shell());
    for path in ["/docs", "/openapi.json"] {
        assert_eq!(status(&shell, &format!("{}{path}", rollcall.url)), "401", "{path}");
    }
}

/// What it is answered with, asked for without a key.
fn status(shell: &Shell, link: &str) -> String {
    let answered = pasted(shell, &format!("curl -s -o answer -w '%{{http_code}}' {link}"));
    String::from_utf8_lossy(&answered.stdout).into_owned()
}

/// Three ports side by side, for the nodes listen on those behind the two that are named; the first of them.
fn free_ports() -> u16 {
    let mut threes = std::iter::repeat_with(|| [(); 3].map(|()| free_port()));
    let [first, ..] = threes.find(|[first, second, third]| [first + 1, first + 2] == [*second, *third]).expect("there are many");
    first
}

#[test]
fn of_several_nodes_the_first_one_has_the_listener_for_metrics() {
    let (redis, port, metrics) = (RedisServer::start(), free_ports(), format!("127.0.0.1:{}", free_port()));
    let shell = shell().set("REDIS_URL", &redis.url()).set("ROLLCALL_METRICS_LISTEN", &metrics);
    let addresses = [port, port + 1].map(|port| format!("127.0.0.1:{port}"));
    let dev = Dev::start_at(&shell, [&addresses[0], &addresses[1]], &["--nodes", "2"]);
    assert!(dev.guide.contains(&format!("another node: http://127.0.0.1:{}", port + 2)), "{}", dev.guide);
    let told = pasted(&shell, &format!("curl -s http://{metrics}/metrics"));
    assert!(String::from_utf8_lossy(&told.stdout).contains("rollcall_redis"), "{told:?}");
    dev.stop();
}
