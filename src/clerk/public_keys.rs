//! The instance's public keys, for session tokens: with our key from the API, or, where the publishable key says where,
//! from the document that everybody may read. Clerk counts neither. Whoever asks bounds how often and how long.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::client::{self, Clerk, SettingsError};
use super::exchange::{self, Reply};
use super::jwks::BYTES_MAX;
use crate::ports::{KeySource, OriginError};
use crate::token::KeySet;

/// The document that everybody may read. Our secret key never goes there.
#[derive(Debug)]
pub struct WellKnown {
    http: reqwest::Client,
    url: String,
}

impl WellKnown {
    /// Of the instance whose frontend API is at this base. Connects to nothing yet.
    pub fn new(base: &str) -> Result<Self, SettingsError> {
        let base = base.trim_end_matches('/');
        let http = client::builder(base)?.build().map_err(SettingsError::Client)?;
        Ok(Self { http, url: format!("{base}/.well-known/jwks.json") })
    }
}

impl KeySource for WellKnown {
    fn key_set(&self) -> BoxFuture<'_, Result<KeySet, OriginError>> {
        fetch(&self.http, self.url.clone()).boxed()
    }
}

impl KeySource for Clerk {
    fn key_set(&self) -> BoxFuture<'_, Result<KeySet, OriginError>> {
        fetch(self.http(), self.url("jwks")).boxed()
    }
}

async fn fetch(http: &reqwest::Client, url: String) -> Result<KeySet, OriginError> {
    let malformed = |what: &str| OriginError::Malformed { what: what.to_owned() };
    match exchange::get(http, &url, BYTES_MAX).await {
        Ok(Reply::Body(body)) => KeySet::parse(&body).map_err(|error| malformed(&error.to_string())),
        Ok(Reply::NotFound) => Err(malformed("no key set")),
        Err(error) => Err(error.into_origin_error(Default::default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clerk::script::{Clerklike, json};
    use crate::token::tests::OURS;

    fn document() -> String {
        serde_json::json!({ "keys": [OURS.jwk("ins_1")] }).to_string()
    }

    #[tokio::test]
    async fn the_api_is_asked_with_our_key_and_the_public_document_without() {
        let origin = Clerklike::start(vec![json(200, &document()), json(200, &document())]).await;
        let keys = KeySource::key_set(&origin.clerk()).await.expect("keys");
        assert!(keys.find("ins_1").is_some());
        let keys = WellKnown::new(&origin.url()).expect("a client").key_set().await.expect("keys");
        assert!(keys.find("ins_1").is_some());
        let requests = origin.requests();
        assert!(requests[0].starts_with("GET /v1/jwks ") && requests[0].to_lowercase().contains("authorization: bearer"));
        assert!(requests[1].starts_with("GET /.well-known/jwks.json "), "{}", requests[1]);
        assert!(!requests[1].to_lowercase().contains("authorization"), "our key stays here");
    }

    #[tokio::test]
    async fn what_is_no_key_set_is_an_error() {
        for (status, body) in
            [(200, "{}"), (200, r#"{"keys":[]}"#), (500, "{}"), (404, r#"{"errors":[{"code":"resource_not_found"}]}"#)]
        {
            let origin = Clerklike::start(vec![json(status, body)]).await;
            assert!(KeySource::key_set(&origin.clerk()).await.is_err(), "{status} {body}");
        }
    }
}
