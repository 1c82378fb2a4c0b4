//! Tokens as Clerk makes them and as it never would: a valid one, and mostly one or two things changed about it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::KNOWN_PARTY;
use crate::world::dice::Dice;
use crate::world::token_keys::TokenKey;

/// Who can sign: two keys of the instance, and somebody else's under the first one's id.
pub struct Keys {
    pub first: TokenKey,
    pub second: TokenKey,
    pub foreign: TokenKey,
}

/// A token, and how it came to be.
pub struct Made {
    pub token: String,
    /// What was changed about a valid one.
    pub how: Vec<String>,
}

/// Which part is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Claims,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    First,
    Second,
    Foreign,
    /// With the public key as a shared secret.
    Hmac,
    /// By the first key, with a longer digest.
    Longer,
    Nobody,
    /// As many bytes as a signature on a curve has.
    Curve,
}

/// One thing that is changed.
#[derive(Clone)]
enum Change {
    /// Members that are set.
    Set(Part, Value),
    /// A member that is taken out.
    Drop(Part, &'static str),
    Sign(Signer),
    /// The JSON, before it is encoded.
    Write(Part, &'static str, fn(Vec<u8>) -> Vec<u8>),
    /// The base64, before it is signed.
    Encode(Part, &'static str, fn(String) -> String),
    /// The token, after it was signed.
    Spoil(&'static str, fn(&str, &mut Dice) -> String),
}

/// A token before it is signed.
struct Draft {
    header: Value,
    claims: Value,
    signer: Signer,
}

/// Makes tokens of this instance around this second.
pub struct Maker<'a> {
    pub keys: &'a Keys,
    issuer: &'a str,
    now: i64,
    changes: Vec<Change>,
}

impl<'a> Maker<'a> {
    pub fn new(keys: &'a Keys, issuer: &'a str, now: i64) -> Self {
        let changes = [of_headers(keys), of_claims(issuer), of_times(now), of_texts()].concat();
        Self { keys, issuer, now, changes }
    }

    /// The `n`-th token: every fourth is valid, and every change comes before any comes again.
    pub fn make(&self, n: usize, dice: &mut Dice) -> Made {
        let mut changes = Vec::new();
        if !n.is_multiple_of(4) {
            changes.push(self.changes[(n - n / 4 - 1) % self.changes.len()].clone());
            if dice.chance(15) {
                changes.push(dice.pick(&self.changes).clone());
            }
        }
        let mut draft = self.valid(dice);
        changes.iter().for_each(|change| draft.change(change));
        let [header, claims] = [(Part::Header, &draft.header), (Part::Claims, &draft.claims)].map(|(part, value)| {
            let written = changes.iter().fold(value.to_string().into_bytes(), |text, change| match change {
                Change::Write(of, _, write) if *of == part => write(text),
                _ => text,
            });
            changes.iter().fold(URL_SAFE_NO_PAD.encode(written), |text, change| match change {
                Change::Encode(of, _, encode) if *of == part => encode(text),
                _ => text,
            })
        });
        let signed = draft.signer.sign(self.keys, &header, &claims);
        let token = changes.iter().fold(signed, |token, change| match change {
            Change::Spoil(_, spoil) => spoil(&token, dice),
            _ => token,
        });
        Made { token, how: changes.iter().map(Change::name).collect() }
    }

    /// In its time for as long as any test takes.
    fn valid(&self, dice: &mut Dice) -> Draft {
        let issued_at = self.now - 20 - dice.below(20) as i64;
        let mut claims = json!({
            "iss": self.issuer, "sub": "user_ada", "sid": format!("sess_{}", dice.below(1_000)), "iat": issued_at,
            "nbf": issued_at - 10, "exp": self.now + 200 + dice.below(100) as i64, "jti": format!("{}", dice.below(1_000_000)),
        });
        let mut set = |members: Value| merge(&mut claims, &members);
        let organization = *dice.pick(&["org_harbour_works", "org_northfold_bakery", "org_copperline_rail"]);
        let has_organization = dice.chance(50);
        match (dice.chance(50), has_organization) {
            (true, true) => set(json!({
                "v": 2, "fea": "o:ledger,o:crew,u:beta", "pla": "o:pro",
                "o": {"id": organization, "slg": "harbour-works", "rol": "admin", "per": "view,edit", "fpm": "3,1,0"},
            })),
            (true, false) => set(json!({"v": 2, "fea": "u:beta", "pla": "u:free"})),
            (false, true) => set(json!({
                "org_id": organization, "org_slug": "harbour-works", "org_role": "org:admin",
                "org_permissions": ["org:ledger:view"],
            })),
            (false, false) => {}
        }
        let mut sometimes = |percent, members: Value| {
            if dice.chance(percent) {
                set(members);
            }
        };
        sometimes(20, json!({"act": {"iss": self.issuer, "sid": "sess_of_the_actor", "sub": "user_root"}}));
        sometimes(50, json!({"fva": [3, -1]}));
        sometimes(70, json!({"sts": "active"}));
        sometimes(70, json!({"azp": KNOWN_PARTY}));
        let (id, signer) = if dice.chance(80) { ("ins_1", Signer::First) } else { ("ins_2", Signer::Second) };
        let header = json!({"alg": "RS256", "kid": id, "typ": "JWT", "cat": "cl_B7d4PD111AAA"});
        Draft { header, claims, signer }
    }
}

impl Draft {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Set(part, members) => merge(self.part(*part), members),
            Change::Drop(part, member) => _ = self.part(*part).as_object_mut().expect("an object").remove(*member),
            Change::Sign(signer) => self.signer = *signer,
            Change::Write(..) | Change::Encode(..) | Change::Spoil(..) => {}
        }
    }

    fn part(&mut self, part: Part) -> &mut Value {
        match part {
            Part::Header => &mut self.header,
            Part::Claims => &mut self.claims,
        }
    }
}

impl Signer {
    fn sign(self, keys: &Keys, header: &str, claims: &str) -> String {
        match self {
            Self::First => keys.first.sign(header, claims),
            Self::Second => keys.second.sign(header, claims),
            Self::Foreign => keys.foreign.sign(header, claims),
            Self::Hmac => keys.first.authenticate(header, claims),
            Self::Longer => keys.first.sign_longer(header, claims),
            Self::Nobody => format!("{header}.{claims}."),
            Self::Curve => format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([7; 64])),
        }
    }
}

impl Change {
    fn name(&self) -> String {
        match self {
            Self::Set(part, members) => format!("{part:?} with {}", short(&members.to_string())),
            Self::Drop(part, member) => format!("{part:?} without {member}"),
            Self::Sign(signer) => format!("signed by {signer:?}"),
            Self::Write(part, what, _) | Self::Encode(part, what, _) => format!("{part:?} {what}"),
            Self::Spoil(what, _) => (*what).to_owned(),
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(120).collect()
}

fn merge(base: &mut Value, members: &Value) {
    let members: &Map<_, _> = members.as_object().expect("an object");
    base.as_object_mut().expect("an object").extend(members.clone());
}

fn set(part: Part, all: impl IntoIterator<Item = Value>) -> Vec<Change> {
    all.into_iter().map(|members| Change::Set(part, members)).collect()
}

fn without(part: Part, members: &[&'static str]) -> Vec<Change> {
    members.iter().map(|member| Change::Drop(part, member)).collect()
}

fn of_headers(keys: &Keys) -> Vec<Change> {
    let algorithms = ["none", "None", "", "HS256", "RS384", "RS512", "PS256", "ES256", "EdDSA", "rs256", "RS256 "];
    let ids = [json!("ins_9"), json!("ins_2"), json!("INS_1"), json!(""), json!(7), Value::Null, json!(["ins_1"])];
    let names = ["__proto__", "constructor", "toString", "../ins_1"].map(Value::from);
    let types = [json!("jwt"), json!("Jwt"), json!("JWS"), json!("at+jwt"), json!("application/at+jwt"), json!(""), json!(7)];
    let categories = ["cl_I7d4PD111III", "cl_B7d4PD222AAA", "cl_B7d4PD333AAA", "cl_later"].map(Value::from);
    let mut changes = set(Part::Header, algorithms.map(|alg| json!({ "alg": alg })));
    changes.extend(set(Part::Header, ids.into_iter().chain(names).map(|kid| json!({ "kid": kid }))));
    changes.extend(set(Part::Header, types.into_iter().chain([Value::Null]).map(|typ| json!({ "typ": typ }))));
    changes.extend(set(Part::Header, categories.into_iter().chain([Value::Null, json!(7)]).map(|cat| json!({ "cat": cat }))));
    changes.extend(set(
        Part::Header,
        [
            json!({"alg": null}),
            json!({"alg": ["RS256"]}),
            json!({"crit": ["exp"]}),
            json!({"crit": ["b64"], "b64": false}),
            json!({"jku": "https://keys.example.test/jwks.json"}),
            json!({"x5u": "https://keys.example.test/chain.pem"}),
            json!({"x5c": ["MIIB"]}),
            json!({"jwk": keys.foreign.jwk()}),
            json!({"cty": "JWT"}),
            json!({"b64": true, "later": {"deep": [1]}}),
        ],
    ));
    changes.extend(without(Part::Header, &["alg", "kid", "typ", "cat"]));
    changes
        .extend([Signer::Second, Signer::Foreign, Signer::Hmac, Signer::Longer, Signer::Nobody, Signer::Curve].map(Change::Sign));
    changes
}

fn of_claims(issuer: &str) -> Vec<Change> {
    let issuers = [json!("https://clerk.elsewhere.test"), json!(format!("{issuer}/")), json!(issuer.to_uppercase()), json!("")];
    let parties = [json!("https://evil.test"), json!(format!("{KNOWN_PARTY}/")), json!(""), json!([KNOWN_PARTY]), json!(7)];
    let users = [json!("user_noor"), json!("mch_1"), json!("mch_2"), json!("user/1"), json!("user ada"), json!(""), json!(7)];
    let sessions = [json!(""), json!("../1"), json!("sess 1"), json!(7), json!(["sess_1"])];
    let mut changes = set(Part::Claims, issuers.into_iter().chain([json!(7)]).map(|iss| json!({ "iss": iss })));
    changes.extend(set(Part::Claims, parties.map(|azp| json!({ "azp": azp }))));
    changes.extend(set(Part::Claims, users.map(|sub| json!({ "sub": sub }))));
    changes.extend(set(Part::Claims, sessions.map(|sid| json!({ "sid": sid }))));
    let members = ["iss", "sub", "sid", "azp", "iat", "nbf", "exp", "sts", "act", "fva", "o", "org_id"];
    changes.extend(set(Part::Claims, members.map(|member| json!({ member: null }))));
    changes.extend(without(Part::Claims, &["iss", "sub", "sid", "azp", "iat", "nbf", "exp", "sts", "jti"]));
    changes.extend(set(
        Part::Claims,
        [
            json!({"sub": "u".repeat(129)}),
            json!({"sub": ["user_ada"]}),
            json!({"sts": "pending"}),
            json!({"sts": "later"}),
            json!({"sts": true}),
            json!({"act": "user_root"}),
            json!({"act": {"sid": "sess_9"}}),
            json!({"v": "2"}),
            json!({"org_id": "acme"}),
            json!({"v": 2, "o": {"id": "../org"}}),
            json!({"aud": "https://elsewhere.test"}),
            json!({"aud": ["a", "b"]}),
            json!({"fva": "3"}),
            json!({"fea": 3, "pla": [1]}),
            json!({"jti": 7, "later": {"deep": [1, null]}}),
            json!({"metadata": {"sub": "user_root", "exp": 0}}),
            json!({"long": "x".repeat(8_000)}),
            json!({"longer": "x".repeat(20_000)}),
        ],
    ));
    changes
}

/// A minute and more from every edge, or on the side that time leads to.
fn of_times(now: i64) -> Vec<Change> {
    let past = [0, -1, now - 86_400].map(|exp| json!({ "exp": exp }));
    let ahead = [now + 3_600, now + 86_400 * 400].map(|exp| json!({ "exp": exp }));
    let odd = [
        json!(now as f64 + 100.5),
        json!(now as f64 + 100.0),
        json!(1e300),
        json!(-1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
        json!((now + 100).to_string()),
        json!(true),
        json!([now + 100]),
        json!({}),
    ];
    let mut changes = set(Part::Claims, past.into_iter().chain(ahead));
    for member in ["exp", "iat", "nbf"] {
        changes.extend(set(Part::Claims, odd.iter().map(|time| json!({ member: time }))));
    }
    changes.extend(set(
        Part::Claims,
        [
            json!({"iat": now - 120, "nbf": now - 130, "exp": now - 65}),
            json!({"iat": now - 660, "nbf": now - 670, "exp": now - 600}),
            json!({"iat": now - 700, "nbf": now - 710, "exp": now + 100}),
            json!({"iat": now - 300, "exp": now + 300}),
            json!({"iat": now - 300, "exp": now + 301}),
            json!({"iat": now + 3}),
            json!({"iat": now + 90}),
            json!({"iat": now + 3_600}),
            json!({"iat": -1}),
            json!({"iat": 0}),
            json!({"nbf": now + 3}),
            json!({"nbf": now + 90}),
            json!({"nbf": now + 3_600}),
            json!({"nbf": -5}),
            json!({"nbf": 0}),
            json!({"exp": now + 100, "iat": now + 90, "nbf": now - 10}),
        ],
    ));
    changes
}

fn of_texts() -> Vec<Change> {
    let mut changes = Vec::new();
    for part in [Part::Header, Part::Claims] {
        let write = |what, write| Change::Write(part, what, write);
        changes.extend([
            write("that is nothing", |_| Vec::new()),
            write("that is null", |_| b"null".to_vec()),
            write("that is a number", |_| b"7".to_vec()),
            write("that is a text", |_| br#""RS256""#.to_vec()),
            write("that is an empty array", |_| b"[]".to_vec()),
            write("that is an empty object", |_| b"{}".to_vec()),
            write("that is no JSON", |_| b"{sub:1}".to_vec()),
            write("that breaks off", |text| text[..text.len() - 1].to_vec()),
            write("with something behind it", |text| [&text, b"}".as_slice()].concat()),
            write("with a comma behind its last member", |text| [&text[..text.len() - 1], b",}"].concat()),
            write("with space around it", |text| [b" \r\n\t", text.as_slice(), b"\n "].concat()),
            write("with a mark of its byte order", |text| ["\u{feff}".as_bytes(), &text].concat()),
            write("in words of two bytes", |text| text.into_iter().flat_map(|byte| [byte, 0]).collect()),
            write("with an unknown member twice", |text| behind_brace(r#""later":1,"later":2,"#.as_bytes(), &text)),
            write("with a member that is no text", |text| behind_brace(b"\"later\":\"\xff\",", &text)),
        ]);
        let encode = |what, encode| Change::Encode(part, what, encode);
        changes.extend([
            encode("in padded base64", |text| text.clone() + &"=".repeat((4 - text.len() % 4) % 4)),
            encode("in padded base64 whether it needs it or not", |text| text + "="),
            encode("in the other alphabet of base64", |text| text.replace('-', "+").replace('_', "/")),
            encode("with bits that say nothing", with_idle_bits),
            encode("with a space in it", |text| format!("{} {}", &text[..text.len() / 2], &text[text.len() / 2..])),
            encode("with a space behind it", |text| text + " "),
            encode("with one character more", |text| text + "A"),
        ]);
    }
    changes.extend([
        // The names in the order of ours, for whoever takes an array for an object.
        Change::Write(Part::Header, "as an array", |_| br#"["RS256","ins_1","JWT","cl_B7d4PD111AAA"]"#.to_vec()),
        Change::Write(Part::Claims, "as an array", as_array),
        Change::Write(Part::Header, "with two algorithms", |text| behind_brace(br#""alg":"none","#, &text)),
        Change::Write(Part::Header, "with two key ids", |text| behind_brace(br#""kid":"ins_9","#, &text)),
        Change::Write(Part::Claims, "with two subjects", |text| behind_brace(br#""sub":"user_root","#, &text)),
        Change::Write(Part::Claims, "with two ends", |text| behind_brace(br#""exp":0,"#, &text)),
        Change::Write(Part::Claims, "with a party that is no text", |text| {
            behind_brace(b"\"azp\":\"\xff\",", &text_without_party(&text))
        }),
        Change::Write(Part::Claims, "with an end beyond every number", |text| {
            String::from_utf8(text).expect("UTF-8").replacen("\"exp\":", "\"exp\":1e999,\"was\":", 1).into_bytes()
        }),
    ]);
    changes.extend(of_signed());
    changes
}

fn of_signed() -> Vec<Change> {
    let spoil = |what, spoil| Change::Spoil(what, spoil);
    vec![
        spoil("cut short", |token, dice| token[..token.len() - 1 - dice.below(8)].to_owned()),
        spoil("cut anywhere", |token, dice| token[..dice.below(token.len())].to_owned()),
        spoil("made longer", |token, dice| token.to_owned() + &"A".repeat(1 + dice.below(8))),
        spoil("with a padded signature", |token, _| token.to_owned() + "=="),
        spoil("with idle bits in its signature", |token, _| with_idle_bits(token.to_owned())),
        spoil("with a bit of its signature turned", |token, dice| {
            let (signed, signature) = token.rsplit_once('.').unwrap_or((token, ""));
            let Ok(mut bytes) = URL_SAFE_NO_PAD.decode(signature) else { return token.to_owned() + "x" };
            match bytes.len() {
                0 => token.to_owned() + "AAAA",
                length => {
                    bytes[dice.below(length)] ^= 1 << dice.below(8);
                    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
                }
            }
        }),
        spoil("with another character anywhere", with_another_character),
        spoil("with another character anywhere, once more", with_another_character),
        spoil("with its parts in another order", |token, dice| {
            let mut parts: Vec<_> = token.split('.').collect();
            let turns = (1 + dice.below(2)) % parts.len();
            parts.rotate_left(turns);
            parts.join(".")
        }),
        spoil("without its signature", |token, _| token.rsplit_once('.').map_or("", |(signed, _)| signed).to_owned()),
        spoil("with a fourth part", |token, _| format!("{token}.AAAA")),
        spoil("with an empty part", |token, _| token.replacen('.', "..", 1)),
        spoil("with a space before its signature", |token, _| token.replacen('.', " .", 2)),
        spoil("of a machine by its prefix", |token, dice| format!("{}{token}", dice.pick(&["mt_", "m2m_", "oat_", "ak_"]))),
        spoil("a machine's", |_, dice| {
            format!("{}{}", dice.pick(&["mt_", "m2m_", "oat_", "ak_"]), STANDARD.encode(dice.below(1 << 40).to_string()))
        }),
        spoil("of dots", |_, dice| ".".repeat(dice.below(5))),
        spoil("a secret key", |_, _| "sk_test_0123456789".to_owned()),
    ]
}

fn behind_brace(members: &[u8], text: &[u8]) -> Vec<u8> {
    [b"{", members, text.get(1..).unwrap_or_default()].concat()
}

fn text_without_party(text: &[u8]) -> Vec<u8> {
    let Ok(mut claims) = serde_json::from_slice::<Value>(text) else { return text.to_vec() };
    claims.as_object_mut().and_then(|members| members.remove("azp"));
    claims.to_string().into_bytes()
}

/// Only the values, those that decide first.
fn as_array(text: Vec<u8>) -> Vec<u8> {
    let Ok(claims) = serde_json::from_slice::<Value>(&text) else { return text };
    let members = ["iss", "sub", "sid", "azp", "iat", "nbf", "exp", "sts", "act", "fva", "v", "o", "fea", "org_id"];
    let values: Vec<&Value> = members.iter().map(|member| &claims[*member]).collect();
    json!(values).to_string().into_bytes()
}

/// The last character stands for bits behind the last byte, where there are any.
fn with_idle_bits(text: String) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = text.into_bytes();
    if let Some(last) = bytes.last_mut() {
        let value = ALPHABET.iter().position(|character| character == last).unwrap_or_default();
        *last = ALPHABET[value | 1];
    }
    String::from_utf8(bytes).expect("ASCII")
}

fn with_another_character(token: &str, dice: &mut Dice) -> String {
    let mut bytes = token.as_bytes().to_vec();
    if !bytes.is_empty() {
        let at = dice.below(bytes.len());
        bytes[at] = *dice.pick(b"AZaz09-_.+/=~!");
    }
    String::from_utf8(bytes).expect("ASCII")
}
