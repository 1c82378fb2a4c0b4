//! The README says what is: its tables are compared with the code they are about.

use std::collections::{BTreeMap, BTreeSet};

use clap::CommandFactory;
use rollcall::cli::Cli;
use rollcall::config;
use rollcall::http::problem::Code;

use crate::world::routes::routes;

const README: &str = include_str!("../../README.md");
const WIRE: &str = include_str!("../../src/webhook/wire.rs");
const HEADERS: &str = include_str!("../../src/http/headers.rs");
/// Every file that registers metrics.
const COUNTS: [&str; 8] = [
    include_str!("../../src/cache/counts.rs"),
    include_str!("../../src/clerk/counts.rs"),
    include_str!("../../src/ingest/intake.rs"),
    include_str!("../../src/ingest/sweep.rs"),
    include_str!("../../src/ingest/upkeep.rs"),
    include_str!("../../src/journal/counts.rs"),
    include_str!("../../src/redis/counts.rs"),
    include_str!("../../src/session/counts.rs"),
];

/// The rows of the first table under a heading: the cells of each, trimmed.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, section) = README.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let lines = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// What stands between the first pair of backticks.
fn code(cell: &'static str) -> &'static str {
    cell.split('`').nth(1).unwrap_or_else(|| panic!("no code in {cell}"))
}

#[test]
fn the_settings_are_those_of_the_configuration() {
    assert!(README.contains(&config::markdown()), "replace the README's table with this:\n{}", config::markdown());
}

#[test]
fn the_problems_are_those_of_the_code() {
    let told: Vec<(&str, &str)> = table("### Problems").iter().map(|row| (code(row[0]), row[1])).collect();
    let statuses: Vec<String> = Code::ALL.iter().map(|code| code.status().as_u16().to_string()).collect();
    let coded: Vec<(&str, &str)> = Code::ALL.iter().map(|code| code.slug()).zip(statuses.iter().map(String::as_str)).collect();
    assert_eq!(told, coded);
}

#[test]
fn the_routes_are_those_of_the_code() {
    let told: BTreeSet<String> =
        table("### Routes").iter().map(|row| code(row[0]).split('?').next().expect("a route").to_owned()).collect();
    assert_eq!(told, routes());
}

#[test]
fn the_decisions_are_those_of_the_code() {
    let (_, told) = README.split_once("\n| `Rollcall-Decision` |").expect("what it may say");
    let told = told.split(';').next().expect("the words").split('`').skip(1).step_by(2);
    let (_, coded) = HEADERS.split_once("pub fn as_str(self)").expect("every decision");
    let coded = coded.split("\n    }\n").next().expect("its words").split('"').skip(1).step_by(2);
    assert_eq!(told.collect::<BTreeSet<_>>(), coded.collect());
}

/// Whoever registers the endpoint ticks what the README lists, and hears of nothing else.
#[test]
fn the_events_are_those_that_are_read() {
    let (_, told) = README.split_once("- **Events**").expect("the events to tick");
    let told = told.split("- **").next().expect("one item").split('`').skip(1).step_by(2);
    let (_, read) = WIRE.split_once("match event_type {").expect("the types that are read");
    let read = read.split("_ => None").next().expect("every type").lines().flat_map(|line| line.split('"').skip(1).step_by(2));
    assert_eq!(told.collect::<BTreeSet<_>>(), read.collect());
}

#[test]
fn the_commands_are_those_of_the_binary() {
    let told: BTreeSet<&str> =
        table("## Commands").iter().map(|row| code(row[0]).split(' ').nth(1).expect("rollcall and a verb")).collect();
    let cli = Cli::command();
    assert_eq!(told, cli.get_subcommands().map(clap::Command::get_name).collect());
}

/// The names that are registered, with the places where. A counter's `_total` and a unit are added by the registry.
fn metrics() -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for registration in COUNTS.iter().flat_map(|file| file.split("registry.register").skip(1)) {
        let name = registration.split('"').nth(1).expect("a name");
        let unit = if registration.starts_with("_with_unit") { "_seconds" } else { "" };
        *names.entry(format!("{name}{unit}")).or_default() += 1;
    }
    names
}

#[test]
fn the_metrics_are_registered_and_each_once() {
    let metrics = metrics();
    assert!(metrics.len() > 30 && metrics.values().all(|count| *count == 1), "{metrics:?}");
    for told in README.split("`rollcall_").skip(1) {
        let name: String = told.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
        let name = format!("rollcall_{}", name.trim_end_matches("_total"));
        assert!(metrics.contains_key(&name), "{name} is not registered");
    }
}
