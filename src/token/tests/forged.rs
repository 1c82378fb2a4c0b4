//! Tokens that nobody of the instance signed, and headers that would have us believe otherwise.

use proptest::prelude::*;

use super::*;

fn refused(token: &str) -> &'static str {
    match take(token, &policy(), NOW * 1_000) {
        Err(TokenError::Invalid { what }) => what,
        other => panic!("{token}: {other:?}"),
    }
}

fn token() -> String {
    OURS.sign(&header().to_string(), &claims().to_string())
}

#[test]
fn the_form_is_three_parts_of_strict_base64url() {
    let whole = token();
    let parts: Vec<&str> = whole.split('.').collect();
    let [header, payload, signature] = [parts[0], parts[1], parts[2]];
    for broken in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!(" {whole}"),
        format!("{whole}\n"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}=="),
        whole.replace('.', "%2E"),
    ] {
        refused(&broken);
    }
    assert_eq!(refused(&"x".repeat(TOKEN_BYTES_MAX + 1)), "longer than any token");
}

#[test]
fn the_last_character_of_a_signature_has_one_spelling() {
    // 256 bytes leave four bits over: fifteen other characters would decode to the same bytes.
    let whole = token();
    let (rest, last) = whole.split_at(whole.len() - 1);
    let spellings = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars();
    for other in spellings.filter(|c| !last.contains(*c)) {
        refused(&format!("{rest}{other}"));
    }
}

#[test]
fn the_algorithm_is_ours_to_choose() {
    for algorithm in ["none", "None", "NONE", "", "HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 "] {
        let forged = OURS.sign(&with(header(), json!({"alg": algorithm})).to_string(), &claims().to_string());
        assert_eq!(refused(&forged), "another algorithm than RS256", "{algorithm}");
    }
    for header in [with(header(), json!({"alg": null})), with(header(), json!({"alg": ["RS256"]}))] {
        refused(&OURS.sign(&header.to_string(), &claims().to_string()));
    }
    let unsigned = token();
    let (signed, _) = unsigned.rsplit_once('.').expect("three parts");
    assert_eq!(refused(&format!("{signed}.")), "the key did not sign this");
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let header = with(header(), json!({"alg": "HS256"})).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims().to_string()));
    for secret in [OURS.pem().into_bytes(), OURS.0.public_key().as_ref().to_vec()] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
        refused(&format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref())));
    }
}

#[test]
fn a_header_brings_no_key_and_demands_nothing() {
    for (member, value) in [
        ("jwk", THEIRS.jwk("ins_1")),
        ("jku", json!("https://evil.test/jwks.json")),
        ("x5u", json!("https://evil.test/x5u")),
        ("x5c", json!(["MII"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!("b64")),
    ] {
        let forged = OURS.sign(&with(header(), json!({ member: value })).to_string(), &claims().to_string());
        assert_eq!(refused(&forged), "a header we cannot take", "{member}");
    }
    for text in [
        r#"{"alg":"RS256","kid":"ins_1","crit":null}"#,
        r#"{"alg":"none","alg":"RS256","kid":"ins_1"}"#,
        r#"{"alg":"RS256","kid":"ins_2","kid":"ins_1"}"#,
        r#"{"alg":"RS256"} {}"#,
        "[]",
        "null",
        "",
    ] {
        assert_eq!(refused(&OURS.sign(text, &claims().to_string())), "a header we cannot take", "{text}");
    }
    let more = with(header(), json!({"oiat": 1, "x5t": "a", "later": {"a": 1}}));
    assert!(take(&OURS.sign(&more.to_string(), &claims().to_string()), &policy(), NOW * 1_000).is_ok());
}

#[test]
fn another_key_or_another_part_is_not_what_was_signed() {
    let (ours, theirs) = (token(), THEIRS.sign(&header().to_string(), &claims().to_string()));
    assert_eq!(refused(&theirs), "the key did not sign this");
    let other = OURS.sign(&header().to_string(), &with(claims(), json!({"sub": "user_root"})).to_string());
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (ours, other) = (parts(&ours), parts(&other));
    assert_eq!(refused(&format!("{}.{}.{}", ours[0], other[1], ours[2])), "the key did not sign this");
}

#[test]
fn the_signature_comes_before_everything_the_claims_say() {
    for members in [json!({"exp": 0, "iat": 0}), json!({"iss": "x"}), json!({"sub": "mch_1"}), json!({"sts": "pending"})] {
        let forged = THEIRS.sign(&header().to_string(), &with(claims(), members).to_string());
        assert_eq!(refused(&forged), "the key did not sign this");
    }
    let machine = with(header(), json!({"typ": "at+jwt"})).to_string();
    assert_eq!(refused(&THEIRS.sign(&machine, "no claims")), "the key did not sign this");
}

#[test]
fn what_was_signed_and_is_no_object_is_refused() {
    for payload in ["", "null", "[]", "7", "{}", "{\"sub\":", "\u{feff}{}"] {
        refused(&OURS.sign(&header().to_string(), payload));
    }
    // What serde would take for an object, and for a member that is not there.
    let values =
        json!([ISSUER, "user_ada", "sess_1", "https://app.test", NOW, NOW, NOW + 60, "active", null, null, 2, null, null, null]);
    refused(&OURS.sign(&header().to_string(), &values.to_string()));
    refused(&OURS.sign(r#"["RS256","ins_1","JWT","cl_B7d4PD111AAA"]"#, &claims().to_string()));
    let (mut header_of_null, mut claims_of_null) = (header(), claims());
    (header_of_null["typ"], claims_of_null["nbf"]) = (Value::Null, Value::Null);
    refused(&OURS.sign(&header_of_null.to_string(), &claims().to_string()));
    refused(&OURS.sign(&header().to_string(), &claims_of_null.to_string()));
    let twice = r#"{"sub":"user_root","#.to_owned() + &claims().to_string()[1..];
    assert_eq!(refused(&OURS.sign(&header().to_string(), &twice)), "claims that are not those of a session");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_token_changed_anywhere_is_never_taken(position: prop::sample::Index, byte in 0_u8..128) {
        let mut bytes = token().into_bytes();
        let position = position.index(bytes.len());
        prop_assume!(bytes[position] != byte);
        bytes[position] = byte;
        let changed = String::from_utf8(bytes).expect("ASCII");
        prop_assert!(take(&changed, &policy(), NOW * 1_000).is_err());
    }

    #[test]
    fn a_token_cut_or_doubled_anywhere_is_never_taken(from: prop::sample::Index, to: prop::sample::Index) {
        let whole = token();
        let (from, to) = (from.index(whole.len()), to.index(whole.len()));
        prop_assume!(from != to);
        let spliced = format!("{}{}", &whole[..from], &whole[to..]);
        prop_assert!(take(&spliced, &policy(), NOW * 1_000).is_err());
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in "[A-Za-z0-9._=-]{0,200}|\\PC{0,50}") {
        prop_assert!(take(&text, &policy(), NOW * 1_000).is_err());
    }
}
