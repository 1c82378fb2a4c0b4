//! An answer of the service, taken apart, with the words that tests judge it by.

use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
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

    /// A header's text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
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
