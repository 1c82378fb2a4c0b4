//! An answer of the service, taken apart, with the words that tests judge it by.

use std::fmt;

use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// As a person reads it: a failed test shows the whole.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    /// Reads the whole response.
    pub async fn of(response: reqwest::Response) -> anyhow::Result<Self> {
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    /// What the contract says of every answer: nobody in between may keep it, it names its request, and no browser is
    /// invited.
    #[track_caller]
    pub fn lawful(self) -> Self {
        let kept: Vec<_> = self.headers.get_all("cache-control").iter().collect();
        assert_eq!(kept, ["private, no-store"], "{self:?}");
        let ids = self.headers.get_all("x-request-id").iter().count();
        assert!(ids == 1 && !self.header("x-request-id").is_empty(), "{self:?}");
        assert!(!self.headers.keys().any(|name| name.as_str().starts_with("access-control-")), "{self:?}");
        self
    }

    /// A header's text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A header's number.
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("{name} is no number: {self:?}"))
    }

    /// It came this way, as `Cache-Status` says.
    #[track_caller]
    pub fn came(&self, way: &str) {
        assert_eq!(self.header("cache-status"), format!("rollcall; {way}"), "{self:?}");
    }

    /// The results of a batch, each as `true member`, `false role-missing`, `null unavailable`.
    #[track_caller]
    pub fn results(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let body = self.json();
        let result = |row: &Value| {
            assert_eq!(row["allowed"] == true, row["membership"].is_object(), "{row}");
            assert_eq!(row["allowed"].is_boolean(), row["ageMs"].is_u64(), "{row}");
            format!("{} {}", row["allowed"], row["reason"].as_str().expect("a reason"))
        };
        body["results"].as_array().expect("results").iter().map(result).collect()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// The slugs of a list (or ids, where there is no slug), in its order.
    #[track_caller]
    pub fn slugs(&self) -> Vec<String> {
        assert_eq!(self.status, 200, "{self:?}");
        let list = self.json();
        let name = |row: &Value| {
            row["organizationSlug"].as_str().or(row["organizationId"].as_str()).expect("an organization").to_owned()
        };
        list.as_array().expect("a list").iter().map(name).collect()
    }

    /// A member; the answer is the membership.
    #[track_caller]
    pub fn is_member(&self) -> Value {
        assert_eq!((self.status, self.header("rollcall-decision")), (200, "member"), "{self:?}");
        self.json()
    }

    /// Not a member, by decision.
    #[track_caller]
    pub fn is_not_a_member(&self) {
        self.is_problem(404, "not-a-member");
        assert_eq!(self.header("rollcall-decision"), "not-a-member", "{self:?}");
    }

    /// No such user, by decision.
    #[track_caller]
    pub fn is_user_unknown(&self) {
        self.is_problem(404, "user-unknown");
        assert_eq!(self.header("rollcall-decision"), "user-unknown", "{self:?}");
    }

    /// A problem that names the one thing that was wrong, and what is accepted there.
    #[track_caller]
    pub fn is_problem_of(&self, code: &str, field: &str) {
        self.is_problem(400, code);
        let problem = self.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["accepted"].is_string(), "{problem}");
        assert_eq!(self.header("rollcall-decision"), "", "{self:?}");
    }

    /// A problem of this status and code, in the problem's own media type.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:rollcall:problem:{code}"));
        assert_eq!(problem["requestId"], self.header("x-request-id"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
    }

    /// "Could not find out": 503 with a time to retry and no decision.
    #[track_caller]
    pub fn could_not_find_out(&self, code: &str) {
        self.is_problem(503, code);
        assert!(self.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1), "{self:?}");
        assert_eq!(self.header("rollcall-decision"), "", "{self:?}");
    }
}
