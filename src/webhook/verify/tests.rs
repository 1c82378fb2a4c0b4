//! The published vectors, every wrong form of a signature, and the rules of the headers.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
    wrong: Vec<String>,
}

#[derive(Deserialize, Clone)]
struct Vector {
    name: String,
    key: Option<String>,
    id: String,
    timestamp: u64,
    body: Body,
    signature: String,
}

#[derive(Deserialize, Clone)]
struct Body {
    text: String,
    times: usize,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../fixtures/signatures/vectors.json")).expect("the fixture is JSON")
}

fn vector(name: &str) -> Vector {
    vectors().vectors.into_iter().find(|vector| vector.name == name).expect("there is such a vector")
}

fn secrets(texts: &[&str]) -> Secrets {
    Secrets::parse(&texts.iter().map(|text| SecretString::from(*text)).collect::<Vec<_>>()).expect("good secrets")
}

fn pick(pairs: &[(&str, &str)]) -> Result<DeliveryHeaders, VerifyError> {
    headers(pairs.iter().map(|(name, value)| (*name, value.as_bytes())))
}

impl Vector {
    fn body(&self) -> Bytes {
        self.body.text.repeat(self.body.times).into()
    }

    fn headers(&self, signature: &str) -> DeliveryHeaders {
        let timestamp = self.timestamp.to_string();
        pick(&[("svix-id", &self.id), ("svix-timestamp", &timestamp), ("svix-signature", signature)]).expect("three good headers")
    }

    /// Verifies with this signature at the time it was made.
    fn verify(&self, secrets: &Secrets, signature: &str) -> Result<VerifiedDelivery, VerifyError> {
        secrets.verify(self.headers(signature), self.body(), Duration::from_secs(self.timestamp))
    }
}

const OTHER: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn every_published_vector_is_verified_and_what_is_held_is_what_was_signed() {
    for vector in vectors().vectors {
        let Some(key) = &vector.key else { continue };
        let delivery = vector.verify(&secrets(&[key]), &vector.signature).expect(&vector.name);
        assert_eq!(delivery.id().as_str(), vector.id);
        assert_eq!(delivery.sent_at(), Duration::from_secs(vector.timestamp));
        assert_eq!(delivery.body(), &vector.body());
        assert_eq!(delivery.secret(), 0);
    }
}

#[test]
fn a_signature_by_another_scheme_alone_is_refused_and_beside_a_good_one_ignored() {
    let (asymmetric, symmetric) = (vector("E"), vector("A"));
    let secrets = secrets(&[symmetric.key.as_deref().expect("a key")]);
    assert_eq!(asymmetric.verify(&secrets, &asymmetric.signature).err(), Some(VerifyError::SignatureInvalid));
    let both = format!("{} {}", asymmetric.signature, symmetric.signature);
    assert!(asymmetric.verify(&secrets, &both).is_ok());
}

#[test]
fn every_form_of_a_wrong_signature_is_refused() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    for wrong in vectors().wrong {
        assert_eq!(good.verify(&secrets, &wrong).err(), Some(VerifyError::SignatureInvalid), "{wrong}");
    }
}

#[test]
fn the_good_signature_may_stand_first_in_the_middle_or_last() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    let [a, b] = ["v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=", "v2,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="];
    let g = &good.signature;
    for list in
        [format!("{g} {a} {b}"), format!("{a} {g} {b}"), format!("{a} {b} {g}"), format!("nonsense  {g} "), format!("v1, {g}")]
    {
        assert!(good.verify(&secrets, &list).is_ok(), "{list}");
    }
}

#[test]
fn one_changed_byte_of_body_id_or_time_is_refused() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    let mut changed = [good.clone(), good.clone(), good.clone()];
    changed[0].body.text = good.body.text.replace(' ', "");
    changed[1].id.push('x');
    changed[2].timestamp += 1;
    for vector in changed {
        assert_eq!(vector.verify(&secrets, &good.signature).err(), Some(VerifyError::SignatureInvalid));
    }
}

#[test]
fn with_two_secrets_either_signs_and_the_delivery_knows_which() {
    let good = vector("A");
    let key = good.key.as_deref().expect("a key");
    assert_eq!(good.verify(&secrets(&[key, OTHER]), &good.signature).expect("signed").secret(), 0);
    assert_eq!(good.verify(&secrets(&[OTHER, key]), &good.signature).expect("signed").secret(), 1);
    assert_eq!(good.verify(&secrets(&[OTHER]), &good.signature).err(), Some(VerifyError::SignatureInvalid));
}

#[test]
fn secrets_are_trimmed_and_a_bad_one_is_named_by_its_place() {
    let good = vector("A");
    let key = good.key.as_deref().expect("a key");
    assert!(good.verify(&secrets(&[&format!(" {key}\n")]), &good.signature).is_ok());
    let parse = |texts: &[&str]| Secrets::parse(&texts.iter().map(|text| SecretString::from(*text)).collect::<Vec<_>>());
    for bad in ["whsec_not base64!", "whsec_", "", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"] {
        assert_eq!(parse(&[key, bad]).expect_err("a bad secret"), SecretError::Malformed { position: 2 });
    }
    assert_eq!(parse(&[]).expect_err("none"), SecretError::None);
    assert_eq!(secrets(&[key, vector("C").key.as_deref().expect("a key")]).short(), [2]);
}

#[test]
fn a_right_signature_five_minutes_away_is_told_apart_from_a_wrong_one() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    let at = |now: u64| secrets.verify(good.headers(&good.signature), good.body(), Duration::from_secs(now)).err();
    let by = Duration::from_secs(301);
    assert_eq!(at(good.timestamp + 300), None);
    assert_eq!(at(good.timestamp - 300), None);
    assert_eq!(at(good.timestamp + 301), Some(VerifyError::TooOld { by, is_ahead: false }));
    assert_eq!(at(good.timestamp - 301), Some(VerifyError::TooOld { by, is_ahead: true }));
    let wrong = secrets.verify(good.headers("v1,wrong"), good.body(), Duration::from_secs(good.timestamp + 9_999));
    assert_eq!(wrong.err(), Some(VerifyError::SignatureInvalid));
}

#[test]
fn a_body_that_is_not_utf8_is_refused() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    let now = Duration::from_secs(good.timestamp);
    let refused = secrets.verify(good.headers(&good.signature), Bytes::from_static(b"\xff"), now);
    assert_eq!(refused.err(), Some(VerifyError::SignatureInvalid));
}

#[test]
fn either_family_of_headers_is_taken_and_others_are_passed_over() {
    let good = vector("A");
    let secrets = secrets(&[good.key.as_deref().expect("a key")]);
    let timestamp = good.timestamp.to_string();
    let family = pick(&[
        ("content-type", "application/json"),
        ("webhook-id", &good.id),
        ("webhook-timestamp", &timestamp),
        ("webhook-signature", &good.signature),
        ("user-agent", "x"),
        ("user-agent", "y"),
    ]);
    let now = Duration::from_secs(good.timestamp);
    assert!(secrets.verify(family.expect("one family"), good.body(), now).is_ok());
}

#[test]
fn a_header_that_is_missing_doubled_or_of_a_second_family_is_named() {
    let [id, time, signature] = [("svix-id", "msg_1"), ("svix-timestamp", "1"), ("svix-signature", "v1,x")];
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[], "svix-id"),
        (&[time, signature], "svix-id"),
        (&[id, signature], "svix-timestamp"),
        (&[id, time], "svix-signature"),
        (&[id, time, signature, id], "svix-id"),
        (&[id, time, signature, ("svix-signature", "v1,y")], "svix-signature"),
        (&[id, time, signature, ("webhook-id", "msg_2")], "webhook-id"),
        (&[id, time, signature, ("webhook-signature", "v1,x")], "webhook-signature"),
        (&[("webhook-id", "msg_1"), time, signature], "webhook-id"),
    ];
    for (pairs, which) in cases {
        assert_eq!(pick(pairs).err(), Some(VerifyError::Malformed { which }), "{pairs:?}");
    }
}

#[test]
fn a_header_that_is_not_of_its_form_is_named() {
    let check = |position: usize, value: &[u8]| {
        let mut values: [&[u8]; 3] = [b"msg_1", b"1614265330", b"v1,x"];
        values[position] = value;
        headers(BRANDED.into_iter().zip(values)).err()
    };
    for id in ["", "msg.1", "msg 1", "msg_ü", &"x".repeat(129)] {
        assert_eq!(check(ID, id.as_bytes()), Some(VerifyError::Malformed { which: "svix-id" }), "{id}");
    }
    for time in ["", "+1", "-1", "1.0", "1a", "0x1", "99999999999999999999", &"0".repeat(21)] {
        assert_eq!(check(TIMESTAMP, time.as_bytes()), Some(VerifyError::Malformed { which: "svix-timestamp" }), "{time}");
    }
    for signature in [b"".as_slice(), b"v1,\xff", "v1,ü".as_bytes(), b"v1,x\ny", "v".repeat(2_049).as_bytes()] {
        assert_eq!(check(SIGNATURE, signature), Some(VerifyError::Malformed { which: "svix-signature" }), "{signature:?}");
    }
    assert_eq!(check(SIGNATURE, "v".repeat(2_048).as_bytes()), None);
}

#[test]
fn neither_body_nor_signature_shows_when_printed() {
    let good = vector("B");
    let delivery = good.verify(&secrets(&[good.key.as_deref().expect("a key")]), &good.signature).expect("signed");
    let printed = format!("{delivery:?}");
    assert!(printed.contains(&good.id) && !printed.contains("example.com"), "{printed}");
}
