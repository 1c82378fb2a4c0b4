//! Signing a webhook as Svix does: the one place where the project makes a signature.
//!
//! Used by the stand-in's sender and by the replay verb; the service itself only verifies. Neither secret nor signature is
//! ever logged.

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use svix::webhooks::Webhook;

/// Names of the three headers, in the order in which they are answered.
pub const HEADER_NAMES: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];

/// Why a body could not be signed: for whoever configured the secret or chose the file.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The secret is not `whsec_` and padded base64.
    #[error("the webhook secret is not `whsec_` followed by base64")]
    Secret(#[source] svix::webhooks::WebhookError),
    /// Svix signs text only.
    #[error("the body is not UTF-8")]
    Body(#[source] svix::webhooks::WebhookError),
}

/// The value of `svix-signature`: `v1,<base64>` over id, timestamp (seconds) and the bare body.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, SignError> {
    // A secret read from a file ends in a newline, which strict base64 refuses.
    let webhook = Webhook::new(secret.trim()).map_err(SignError::Secret)?;
    webhook.sign(id, timestamp, body).map_err(SignError::Body)
}

/// The three headers of one delivery, as names and values. `timestamp` is in seconds.
pub fn signed_headers(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<[(&'static str, String); 3], SignError> {
    let values = [id.to_owned(), timestamp.to_string(), sign(secret, id, timestamp, body)?];
    let [id, timestamp, signature] = values;
    let [id_name, timestamp_name, signature_name] = HEADER_NAMES;
    Ok([(id_name, id), (timestamp_name, timestamp), (signature_name, signature)])
}

/// A message id nobody has used yet: `msg_` and 24 random characters.
pub fn fresh_message_id() -> String {
    format!("msg_{}", URL_SAFE_NO_PAD.encode(random::<18>()))
}

/// A webhook secret nobody has used yet: `whsec_` and 24 random bytes.
pub fn fresh_secret() -> String {
    format!("whsec_{}", STANDARD.encode(random::<24>()))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system's source of randomness never fails once it is seeded");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_published_one() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let headers =
            signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#).expect("signs");
        assert_eq!(headers[0], ("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned()));
        assert_eq!(headers[1], ("svix-timestamp", "1614265330".to_owned()));
        assert_eq!(headers[2], ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned()));
    }

    #[test]
    fn a_secret_with_a_newline_is_the_same_secret() {
        let secret = fresh_secret();
        let signed = |secret: &str| sign(secret, "msg_1", 1, b"{}").expect("signs");
        assert_eq!(signed(&secret), signed(&format!("{secret}\n")));
    }

    #[test]
    fn what_cannot_be_signed_says_whose_fault_it_is() {
        assert!(matches!(sign("whsec_#", "msg_1", 1, b"{}"), Err(SignError::Secret(_))));
        assert!(matches!(sign(&fresh_secret(), "msg_1", 1, &[0xff]), Err(SignError::Body(_))));
    }
}
