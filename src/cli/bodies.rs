//! Which files a replay sends: those named, and the `.json` files in the folders named, sorted. The body is the file, byte
//! for byte.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Usage;

/// Far above what the service takes (1.25 MiB), so that its refusal can be tried; far below what would fill the memory.
const BODY_BYTES_MAX: u64 = 16 << 20;
/// A table about the fixtures, beside them: not a body.
const NOT_A_BODY: &str = "effects.json";

/// All files that the paths stand for, in the order typed, a folder's own files in the order of their paths.
pub(super) fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let kind = fs::metadata(path).map_err(|error| Usage(format!("{}: {error}", path.display())))?;
        match kind.is_dir() {
            true => found.extend(find_in(path)?),
            false => found.push(path.clone()),
        }
    }
    match found.is_empty() {
        true => Err(Usage("no .json file in there".to_owned()).into()),
        false => Ok(found),
    }
}

/// A link to a folder is not entered: it may lead back up.
fn find_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        let is_body = path.extension().is_some_and(|extension| extension == "json") && !path.ends_with(NOT_A_BODY);
        if entry.file_type()?.is_dir() {
            found.extend(find_in(&path)?);
        } else if is_body && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The body in a file.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let size = fs::metadata(path).context("cannot be read")?.len();
    anyhow::ensure!(size <= BODY_BYTES_MAX, "has {size} bytes; at most {BODY_BYTES_MAX} are sent");
    fs::read(path).context("cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_its_json_files_at_any_depth_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("more")).unwrap();
        for name in ["b.json", "a.json", "effects.json", "README.md", "more/c.json"] {
            fs::write(folder.path().join(name), "{}").unwrap();
        }
        let names = |paths: &[PathBuf]| -> Vec<String> {
            let name = |path: &PathBuf| path.strip_prefix(folder.path()).unwrap().display().to_string();
            find(paths).unwrap().iter().map(name).collect()
        };
        assert_eq!(names(&[folder.path().to_owned()]), ["a.json", "b.json", "more/c.json"]);
        assert_eq!(names(&[folder.path().join("b.json"), folder.path().join("more")]), ["b.json", "more/c.json"]);
        assert_eq!(names(&[folder.path().join("effects.json")]), ["effects.json"], "a file that is named is meant");
        assert!(find(&[folder.path().join("absent")]).unwrap_err().is::<Usage>());
    }
}
