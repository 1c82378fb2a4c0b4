//! What a signed payload must say to be taken: kind, issuer, times, party, status, in this order.
//!
//! A machine's token is named as such before anything else is held against it, because a fresh one would not help its caller;
//! an issuer of somebody else's is never told more than "invalid".

use std::time::Duration;

use super::claims::{Claims, Wire, has_passed, lies_ahead};
use super::error::TokenError;
use super::jws::Signed;

/// How far Clerk's clock may be from ours, in both directions; Clerk's own tolerance.
pub const SKEW: Duration = Duration::from_secs(5);
/// Session tokens live for a minute. One of more than this was not minted for a session, and would outlive what is
/// remembered of dead ones.
pub const LIFE_MAX: Duration = Duration::from_secs(10 * 60);
const STATUS_PENDING: &str = "pending";

/// What this deployment takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The instance's `iss`, compared exactly. None: the keys alone say whose tokens are taken.
    pub issuer: Option<String>,
    /// Origins that tokens may be minted for; empty: any, and none.
    pub authorized_parties: Vec<String>,
    /// Whether a pending session counts as signed in.
    pub allows_pending: bool,
}

impl Policy {
    /// Judges what a key of the instance signed. `now` is the time since the Unix epoch.
    pub fn admit(&self, signed: &Signed, now: Duration) -> Result<Claims, TokenError> {
        let claims = match Wire::read(&signed.payload) {
            Ok(claims) if signed.is_of_session && claims.is_of_session() => claims,
            // A template may name its claims as it likes; its header says what it is.
            Ok(_) => return Err(TokenError::KindRefused),
            Err(_) if !signed.is_of_session => return Err(TokenError::KindRefused),
            Err(error) => return Err(error),
        };
        self.check_issuer(&claims)?;
        check_times(&claims, now)?;
        self.check_party(&claims)?;
        if claims.sts.as_deref() == Some(STATUS_PENDING) && !self.allows_pending {
            return Err(TokenError::SessionPending);
        }
        claims.into_claims()
    }

    fn check_issuer(&self, claims: &Wire) -> Result<(), TokenError> {
        match &self.issuer {
            Some(issuer) if claims.iss.as_ref() != Some(issuer) => Err(TokenError::invalid("another issuer")),
            _ => Ok(()),
        }
    }

    fn check_party(&self, claims: &Wire) -> Result<(), TokenError> {
        let is_among = |party: &str| self.authorized_parties.iter().any(|known| known == party);
        match self.authorized_parties.is_empty() || claims.party().is_some_and(is_among) {
            true => Ok(()),
            false => Err(TokenError::PartyUnauthorized),
        }
    }
}

fn check_times(claims: &Wire, now: Duration) -> Result<(), TokenError> {
    if claims.exp.saturating_sub(claims.iat) > LIFE_MAX.as_secs() as i64 {
        return Err(TokenError::invalid("a longer life than a session token has"));
    }
    if has_passed(claims.exp, now, SKEW) {
        return Err(TokenError::Expired);
    }
    let begins = [Some(claims.iat), claims.nbf];
    match begins.into_iter().flatten().any(|at| lies_ahead(at, now, SKEW)) {
        true => Err(TokenError::NotYetValid),
        false => Ok(()),
    }
}
