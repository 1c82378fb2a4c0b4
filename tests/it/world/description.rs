//! The description that the service serves of itself, and answers held against it: status, headers and body, and which of what
//! is described was seen.
//!
//! Clients must ignore members that they do not know, so the description leaves room for more. Here there is none: a body
//! with a member that is not described is a drift.

use std::collections::BTreeSet;
use std::sync::Mutex;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};

use super::answer::Answer;

/// What HTTP itself carries, and what says to a browser what the page may do.
const UNDESCRIBED: [&str; 6] =
    ["content-type", "content-length", "date", "connection", "referrer-policy", "x-content-type-options"];
const PROBLEM: &str = "application/problem+json";

/// An answer by its kind: `GET /v1/users/{userId}/orgs 404 user-unknown`, without a code where it is no problem.
pub type Kind = String;

/// The description, and the kinds of answers that were held against it.
pub struct Description {
    document: Value,
    /// With every object closed.
    components: Value,
    seen: Mutex<BTreeSet<Kind>>,
}

impl Description {
    /// Of a served document.
    pub fn of(document: Value) -> Self {
        let mut components = document["components"].clone();
        close(&mut components["schemas"]);
        Self { document, components, seen: Mutex::default() }
    }

    /// Every operation, as `GET /v1/users/{userId}/orgs`.
    pub fn operations(&self) -> BTreeSet<String> {
        let paths = self.document["paths"].as_object().expect("paths").iter();
        let operation = |path: &str, method: &String| format!("{} {path}", method.to_uppercase());
        paths
            .flat_map(|(path, item)| item.as_object().expect("methods").keys().map(move |method| operation(path, method)))
            .collect()
    }

    /// Every kind of answer that is described.
    pub fn kinds(&self) -> BTreeSet<Kind> {
        let mut kinds = BTreeSet::new();
        for operation in self.operations() {
            let (method, path) = operation.split_once(' ').expect("a method and a path");
            let answers = self.document["paths"][path][method.to_lowercase()]["responses"].as_object().expect("answers");
            for (status, answer) in answers {
                let codes = codes(answer);
                kinds.extend(codes.iter().map(|code| format!("{operation} {status} {code}").trim_end().to_owned()));
            }
        }
        kinds
    }

    /// The kinds that were seen so far.
    pub fn seen(&self) -> BTreeSet<Kind> {
        self.seen.lock().expect("nobody panicked with it").clone()
    }

    /// Holds an answer to this request against what is described of it.
    #[track_caller]
    pub fn hold(&self, method: &str, target: &str, answer: Answer) -> Answer {
        let path = target.split('?').next().expect("a path");
        let (operation, described) = self.described(method, path, answer.status);
        let described = described.unwrap_or_else(|| panic!("{operation}: not described: {answer:?}"));
        self.hold_headers(&operation, described, &answer);
        let code = self.hold_body(&operation, described, &answer);
        let kind = format!("{operation} {} {code}", answer.status).trim_end().to_owned();
        self.seen.lock().expect("nobody panicked with it").insert(kind);
        answer
    }

    /// The operation, and its answer of this status; what is answered where there is none belongs to no operation.
    fn described(&self, method: &str, path: &str, status: u16) -> (String, Option<&Value>) {
        let paths = self.document["paths"].as_object().expect("paths");
        let Some((template, item)) = paths.iter().find(|(template, _)| fits(template, path)) else {
            return ("no route".to_owned(), self.elsewhere("RouteUnknown", "404", status));
        };
        match item.get(method.to_lowercase()) {
            Some(operation) => (format!("{method} {template}"), operation["responses"].get(status.to_string())),
            None => ("no method".to_owned(), self.elsewhere("MethodNotAllowed", "405", status)),
        }
    }

    fn elsewhere(&self, name: &str, described: &str, status: u16) -> Option<&Value> {
        (status.to_string() == described).then(|| &self.document["components"]["responses"][name])
    }

    #[track_caller]
    fn hold_headers(&self, operation: &str, described: &Value, answer: &Answer) {
        let headers = described["headers"].as_object().expect("every answer has headers");
        for (name, header) in headers {
            let header =
                header["$ref"].as_str().map_or(header, |reference| self.document.pointer(&reference[1..]).expect("there"));
            let values: Vec<&HeaderValue> = answer.headers.get_all(name).iter().collect();
            assert!(values.len() == 1 || values.is_empty() && header["required"] == false, "{operation}: {name}: {answer:?}");
            for value in values {
                let text = value.to_str().expect("ASCII");
                let is_number = header["schema"]["type"] == "integer";
                let value = if is_number { json!(text.parse::<u64>().expect("a number")) } else { json!(text) };
                self.hold_value(operation, &header["schema"], &value);
            }
        }
        let is_described =
            |name: &str| UNDESCRIBED.contains(&name) || headers.keys().any(|known| known.eq_ignore_ascii_case(name));
        let odd: Vec<_> = answer.headers.keys().filter(|name| !is_described(name.as_str())).collect();
        assert!(odd.is_empty(), "{operation}: not described: {odd:?} of {answer:?}");
    }

    /// Answers the code, where it is a problem.
    #[track_caller]
    fn hold_body(&self, operation: &str, described: &Value, answer: &Answer) -> String {
        let Some(content) = described["content"].as_object() else {
            assert!(answer.body.is_empty(), "{operation}: a body is not described: {answer:?}");
            return String::new();
        };
        let media_type = answer.header("content-type").split(';').next().expect("a media type");
        let content = content.get(media_type).unwrap_or_else(|| panic!("{operation}: {media_type} is not described: {answer:?}"));
        let is_json = media_type.ends_with("json");
        let body = if is_json { answer.json() } else { json!(String::from_utf8(answer.body.clone()).expect("text")) };
        self.hold_value(operation, &content["schema"], &body);
        if media_type == PROBLEM { body["code"].as_str().expect("a code").to_owned() } else { String::new() }
    }

    #[track_caller]
    fn hold_value(&self, operation: &str, schema: &Value, value: &Value) {
        let mut schema = schema.clone();
        schema["components"] = self.components.clone();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let wrong: Vec<_> = validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{operation}: {wrong:?} in {value}");
    }
}

/// The codes that an answer may carry; of what is no problem an empty one.
fn codes(answer: &Value) -> Vec<&str> {
    let narrowed = &answer["content"][PROBLEM]["schema"]["allOf"][1]["properties"]["code"]["enum"];
    narrowed.as_array().map_or(vec![""], |codes| codes.iter().map(|code| code.as_str().expect("a code")).collect())
}

/// Whether a path is one of this template.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(wanted, given): (&&str, &&str)| if wanted.starts_with('{') { !given.is_empty() } else { wanted == given };
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

/// Objects with described members take no others, except where a description is put together of several.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && members.get("type") == Some(&json!("object")) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
            members.iter_mut().filter(|(name, _)| *name != "allOf").for_each(|(_, member)| close(member));
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}
