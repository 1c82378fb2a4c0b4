//! The exchange of service keys and webhook secrets while the service runs: both or neither. `serve` calls it at SIGHUP.
//!
//! A request or a delivery under way is judged by what was there when it was looked at.

use std::sync::Arc;

use actix_web::web;
use tracing::warn;

use super::App;
use crate::config::Rotating;
use crate::http::State;
use crate::http::auth::Keys;
use crate::webhook::{SecretError, Secrets};

/// The right to exchange them, for as long as the service runs.
#[derive(Clone)]
pub struct Rotation(web::Data<State>);

impl App {
    /// For whoever hears that they changed.
    pub fn rotation(&self) -> Rotation {
        Rotation(self.state.clone())
    }
}

impl Rotation {
    /// From now on these keys are known and these secrets sign. An error leaves what there was.
    pub fn exchange(&self, new: Rotating) -> Result<(), SecretError> {
        let secrets = Secrets::parse(&new.webhook_secrets)?;
        warn_of_short(&secrets);
        self.0.intake.exchange_secrets(secrets);
        self.0.keys.store(Arc::new(Keys::new(new.api_keys)));
        Ok(())
    }
}

pub(super) fn warn_of_short(secrets: &Secrets) {
    for number in secrets.short() {
        warn!(secret = number, "a webhook secret is short: 24 bytes are usual");
    }
}
