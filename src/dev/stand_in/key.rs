//! The instance's signing key: made when first asked for, published as a JWKS, and able to sign a session token.
//!
//! The private half never leaves this value.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::dev::world::INSTANCE_ID;

/// DER of a 2048-bit public key: SEQUENCE, INTEGER of 257 bytes with a leading zero, INTEGER of 3 bytes.
const MODULUS: std::ops::Range<usize> = 9..265;
const EXPONENT: std::ops::Range<usize> = 267..270;

/// An RSA key of 2048 bits. Making one takes a moment, so it waits until somebody asks.
#[derive(Debug, Default)]
pub(super) struct SigningKey(OnceLock<RsaKeyPair>);

impl SigningKey {
    /// The public half, as Clerk publishes it.
    pub(super) fn jwks(&self) -> Value {
        let pair = self.pair();
        let der = pair.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(der.get(range).unwrap_or_default());
        let key = json!({
            "use": "sig", "kty": "RSA", "kid": INSTANCE_ID, "alg": "RS256", "n": part(MODULUS), "e": part(EXPONENT),
        });
        json!({ "keys": [key] })
    }

    /// A token with these claims, signed.
    pub(super) fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "RS256", "kid": INSTANCE_ID, "typ": "JWT", "cat": "cl_B7d4PD111AAA"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let pair = self.pair();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .expect("the buffer is as long as the modulus");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn pair(&self) -> &RsaKeyPair {
        self.0.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("2048 bits is a size that can be made"))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};

    use super::*;

    #[test]
    fn the_published_key_verifies_what_the_private_one_signed() {
        let key = SigningKey::default();
        let token = key.sign(&json!({"sub": "user_ada"}));
        let jwks = key.jwks();
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let part = |name: &str| bytes(jwks["keys"][0][name].as_str().expect("text"));
        let components = RsaPublicKeyComponents { n: part("n"), e: part("e") };
        assert_eq!((components.n.len(), components.e.as_slice()), (256, [1, 0, 1].as_slice()));
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let verify = |text: &str| components.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &bytes(signature));
        assert!(verify(signed).is_ok());
        assert!(verify(&signed.to_uppercase()).is_err());
    }
}
