//! JSON as a token holds it, read where serde would take more than Clerk's own libraries do.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};

/// An object. For a structure serde takes an array of its values too.
pub(super) fn object<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let is_object = text.trim_ascii_start().starts_with(b"{");
    is_object.then(|| serde_json::from_slice(text).ok()).flatten()
}

/// A member that may be missing, and is not null when it is there.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}
