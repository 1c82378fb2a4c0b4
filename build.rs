//! Tells the binary which commit it was built from: `ROLLCALL_COMMIT` if given, else what git says, else `unknown`. Refuses
//! a release whose protocol could be switched off.

use std::path::Path;
use std::process::Command;

fn main() {
    let has_switches = std::env::var_os("CARGO_FEATURE_RULE_SWITCHES").is_some();
    if has_switches && std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::error=the feature rule-switches takes rules of the protocol out: it is for tests, never for a release");
        std::process::exit(1);
    }
    println!("cargo::rerun-if-env-changed=ROLLCALL_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    // Embedded by a macro that does not watch them.
    println!("cargo::rerun-if-changed=migrations");
    let given = std::env::var("ROLLCALL_COMMIT").ok().map(|commit| commit.trim().to_owned()).filter(|commit| !commit.is_empty());
    if given.is_none() {
        watch_head();
    }
    let commit = given.or_else(|| git(&["rev-parse", "--short", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=ROLLCALL_COMMIT={commit}");
}

/// Builds again when HEAD moves. Only paths that exist: Cargo takes a missing one as always changed.
fn watch_head() {
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(path) = path {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What git prints, if there is a git, a repository and an answer.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!text.is_empty()).then_some(text)
}
