//! The rooms of the source tree, held to the table in `src/ARCHITECTURE.md`: who may name whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Names = BTreeSet<String>;

/// Every room with what it may name; "all" is every room. A row names only rooms of earlier rows.
fn table() -> BTreeMap<String, Names> {
    let mut rooms = BTreeMap::new();
    for row in include_str!("../../src/ARCHITECTURE.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let quoted = |cell: usize| -> Names { cells[cell].split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let may_name = if cells[3].trim() == "all" { Names::from(["all".to_owned()]) } else { quoted(3) };
        assert!(may_name.iter().all(|name| name == "all" || rooms.contains_key(name)), "not downwards: {row}");
        rooms.extend(quoted(1).into_iter().map(|room| (room, may_name.clone())));
    }
    rooms
}

/// All code under a path, without its comments.
fn code(path: &Path) -> String {
    if path.is_dir() {
        return fs::read_dir(path).expect("a folder").map(|entry| code(&entry.expect("an entry").path())).collect();
    }
    let text =
        if path.extension().is_some_and(|kind| kind == "rs") { fs::read_to_string(path).expect("text") } else { String::new() };
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn imports_go_down_only() {
    let rooms = table();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).expect("src is a folder") {
        let path = entry.expect("an entry").path();
        let room = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if ["lib", "main", "ARCHITECTURE"].contains(&room.as_str()) {
            continue;
        }
        let may_name = rooms.get(&room).unwrap_or_else(|| panic!("`{room}` is not in the table"));
        for named in code(&path).split("crate::").skip(1) {
            // `crate::{…}` would hide names: the roof alone may, because it may name everybody.
            let named: String = named.chars().take_while(|c| c.is_ascii_alphanumeric() || "_{".contains(*c)).collect();
            let may = may_name.contains("all") || named == room || may_name.contains(&named);
            assert!(may, "`{room}` names `{named}`, and may name {may_name:?}");
        }
    }
}
