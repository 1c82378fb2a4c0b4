//! Keys in PEM and in a JWKS.

use super::*;

fn signs_for(key: &Key, pair: &Pair) -> bool {
    let token = pair.sign(&header().to_string(), &claims().to_string());
    Jws::parse(&token).expect("a token").verify(key).is_ok()
}

#[test]
fn a_key_in_pem_is_read_however_it_was_pasted() {
    let pem = OURS.pem();
    let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let indented: String = pem.lines().map(|line| format!("  {line}\r\n")).collect();
    for text in [pem.clone(), pem.replace('\n', "\\n"), bare, indented, format!("\n{pem}\n\n")] {
        let key = Key::from_pem(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(signs_for(&key, &OURS) && !signs_for(&key, &THEIRS), "{text}");
    }
    for text in ["", "-----BEGIN PUBLIC KEY-----", "AAAA", "sk_test_1", &pem[..200]] {
        assert_eq!(Key::from_pem(text).map(|_| ()), Err(KeyError::NotPem), "{text}");
    }
}

#[test]
fn a_key_set_is_looked_up_by_key_id() {
    let document = json!({"keys": [THEIRS.jwk("ins_2"), OURS.jwk("ins_1")], "later": 1}).to_string();
    let keys = KeySet::parse(document.as_bytes()).expect("keys");
    assert!(signs_for(keys.find("ins_1").expect("there"), &OURS));
    assert!(signs_for(keys.find("ins_2").expect("there"), &THEIRS));
    assert!(keys.find("ins_3").is_none() && keys.find("").is_none());
    let of_pem = |pair: &Pair| Key::from_pem(&pair.pem()).expect("a key");
    let ours = KeySet::parse(json!({"keys": [OURS.jwk("ins_1")]}).to_string().as_bytes()).expect("a key");
    assert!(keys.holds(&of_pem(&OURS)) && keys.holds(&of_pem(&THEIRS)));
    assert!(ours.holds(&of_pem(&OURS)) && !ours.holds(&of_pem(&THEIRS)));
}

#[test]
fn keys_that_are_not_for_us_are_passed_over() {
    let ours = || OURS.jwk("ins_1");
    for members in [
        json!({"kty": "EC"}),
        json!({"kty": null}),
        json!({"use": "enc"}),
        json!({"alg": "RS512"}),
        json!({"kid": null}),
        json!({"n": null}),
        json!({"e": null}),
        json!({"n": "AQAB"}),
        json!({"n": "!"}),
        json!({"e": "AA"}),
        json!({"e": ""}),
    ] {
        let odd = with(ours(), members.clone());
        let alone = json!({ "keys": [odd] }).to_string();
        assert_eq!(KeySet::parse(alone.as_bytes()).map(|_| ()), Err(KeyError::NoKey), "{members}");
        let beside = json!({ "keys": [odd, THEIRS.jwk("ins_2")] }).to_string();
        assert!(KeySet::parse(beside.as_bytes()).expect("one key").find("ins_2").is_some(), "{members}");
    }
    for members in [json!({"use": null}), json!({"alg": null}), json!({"x5c": ["MII"]})] {
        let document = json!({ "keys": [with(ours(), members)] }).to_string();
        assert!(KeySet::parse(document.as_bytes()).expect("a key").find("ins_1").is_some());
    }
    for (document, error) in [("{}", KeyError::NotAKeySet), ("null", KeyError::NotAKeySet), (r#"{"keys":[]}"#, KeyError::NoKey)] {
        assert_eq!(KeySet::parse(document.as_bytes()).map(|_| ()), Err(error), "{document}");
    }
}
