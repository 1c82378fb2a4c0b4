//! The client against a scripted origin: what is an answer, what is none, and what either costs.

use serde_json::{Value, json};

use super::*;
use crate::clerk::gather::BYTES_MAX;
use crate::clerk::script::{Act, Clerklike, answer, json as reply};

fn user() -> UserId {
    UserId::parse("user_1").expect("id")
}

fn row(n: usize) -> Value {
    json!({
        "id": format!("orgmem_{n}"), "role": "org:member", "created_at": 1, "updated_at": 2,
        "organization": {"id": format!("org_{n}"), "name": format!("Works {n}"), "slug": null, "updated_at": 3},
        "public_user_data": {"user_id": "user_1"},
    })
}

fn page(rows: impl IntoIterator<Item = usize>, total: i64) -> Act {
    let rows: Vec<Value> = rows.into_iter().map(row).collect();
    reply(200, &json!({"data": rows, "total_count": total}).to_string())
}

async fn read(clerk: &Clerk) -> Result<OriginAnswer, OriginError> {
    clerk.read(&user(), Priority::Cold).await
}

/// Reads against a script; the answer and how many requests it took.
async fn run(script: Vec<Act>) -> (Result<OriginAnswer, OriginError>, usize) {
    let origin = Clerklike::start(script).await;
    let answer = read(&origin.clerk()).await;
    (answer, origin.requests().len())
}

fn ids(answer: Result<OriginAnswer, OriginError>) -> Vec<String> {
    match answer.expect("an answer") {
        OriginAnswer::Memberships(list) => list.iter().map(|row| row.membership_id.as_str().to_owned()).collect(),
        OriginAnswer::UserUnknown => panic!("the user is known"),
    }
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("orgmem_{n}")).collect()
}

#[tokio::test]
async fn i9_every_page_is_gathered_in_the_origins_order() {
    let cases: [(usize, Vec<Act>, usize); 5] = [
        (0, vec![page(0..0, 0)], 1),
        (1, vec![page(0..1, 1)], 1),
        (500, vec![page(0..500, 500)], 1),
        (501, vec![page(0..500, 501), page(500..501, 501)], 2),
        (1000, vec![page(0..500, 1000), page(500..1000, 1000)], 2),
    ];
    for (count, script, requests) in cases {
        let (answer, sent) = run(script).await;
        assert_eq!(ids(answer), expected(0..count));
        assert_eq!(sent, requests);
    }
}

#[tokio::test]
async fn a_request_carries_the_key_the_version_and_its_place_in_the_list() {
    let origin = Clerklike::start(vec![page(0..500, 501), page(500..501, 501)]).await;
    read(&origin.clerk()).await.expect("a list");
    let requests = origin.requests();
    assert!(requests[0].starts_with("GET /v1/users/user_1/organization_memberships?limit=500&offset=0 HTTP/1.1\r\n"));
    assert!(requests[1].starts_with("GET /v1/users/user_1/organization_memberships?limit=500&offset=500 HTTP/1.1\r\n"));
    for header in ["authorization: Bearer sk_test_x\r\n", "clerk-api-version: 2026-05-12\r\n", "user-agent: rollcall/"] {
        assert!(requests.iter().all(|request| request.contains(header)), "{header}");
    }
}

#[tokio::test]
async fn i9_a_list_that_changed_between_its_pages_is_gathered_again() {
    // The count grew on the second page; a row of the first page ended, so that one was skipped though the rows are as many
    // as the second page says; a row came twice, so another one was skipped; a page came up empty.
    let torn: [Vec<Act>; 4] = [
        vec![page(0..500, 501), page(499..501, 502)],
        vec![page(0..500, 502), page(501..502, 501)],
        vec![page(0..500, 501), page(499..500, 501)],
        vec![page(0..500, 501), page(0..0, 501)],
    ];
    for mut script in torn {
        script.extend([page(0..500, 501), page(500..501, 501)]);
        let (answer, sent) = run(script).await;
        assert_eq!(ids(answer), expected(0..501));
        assert_eq!(sent, 4);
    }
}

#[tokio::test]
async fn i9_pages_that_never_add_up_are_no_answer() {
    let origin = Clerklike::start([page(0..2, 3), page(0..0, 3)].iter().cycle().take(8).cloned().collect()).await;
    let clerk = origin.clerk();
    assert!(matches!(read(&clerk).await, Err(OriginError::Malformed { .. })));
    assert_eq!(origin.requests().len(), 6);
    assert_eq!(clerk.counts.incomplete.get(), 3);
}

#[tokio::test]
async fn a_row_that_comes_twice_with_the_count_right_is_kept_once() {
    let (answer, _) = run(vec![page([0, 1, 1, 2], 3)]).await;
    assert_eq!(ids(answer), expected(0..3));
}

#[tokio::test]
async fn shorter_pages_than_asked_for_are_followed_to_the_end() {
    let (answer, sent) = run(vec![page(0..100, 250), page(100..200, 250), page(200..250, 250)]).await;
    assert_eq!(ids(answer), expected(0..250));
    assert_eq!(sent, 3);
}

#[tokio::test]
async fn i8_only_clerks_own_404_is_about_a_user() {
    let errors = |code: &str| json!({"errors": [{"message": "m", "long_message": "l", "code": code}]}).to_string();
    let (answer, _) = run(vec![reply(404, &errors("resource_not_found"))]).await;
    assert_eq!(answer.expect("an answer"), OriginAnswer::UserUnknown);
    for act in [
        answer_html(404),
        reply(404, "{}"),
        reply(404, "null"),
        reply(404, &errors("organization_not_found_or_unauthorized")),
        reply(403, &errors("resource_not_found")),
        reply(410, &errors("resource_not_found")),
    ] {
        let (answer, sent) = run(vec![act]).await;
        assert!(answer.is_err());
        assert_eq!(sent, 1);
    }
}

fn answer_html(status: u16) -> Act {
    answer(status, "Content-Type: text/html\r\n", "<html>not found: resource_not_found</html>")
}

#[tokio::test]
async fn i8_what_is_not_a_page_is_never_a_list() {
    let list = r#"{"data":[],"total_count":0}"#;
    for act in [
        reply(200, r#"{"data":null,"total_count":0}"#),
        reply(200, r#"{"data":[],"total_count":-1}"#),
        reply(200, r#"{"data":[]}"#),
        reply(200, "[]"),
        reply(200, "null"),
        reply(200, ""),
        reply(200, r#"{"data":[],"total_cou"#),
        reply(204, ""),
        reply(206, list),
        reply(302, list),
        answer_html(200),
        answer(200, "Content-Type: text/plain\r\n", list),
    ] {
        let (answer, sent) = run(vec![act.clone()]).await;
        assert!(matches!(answer, Err(OriginError::Malformed { .. })), "{act:?}: {answer:?}");
        assert_eq!(sent, 1, "{act:?}");
    }
    assert!(ids(run(vec![answer(200, "Content-Type: application/json; charset=utf-8\r\n", list)]).await.0).is_empty());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (answer, sent) = run(vec![answer(307, "Location: /elsewhere\r\n", ""), page(0..0, 0)]).await;
    assert!(matches!(answer, Err(OriginError::Malformed { .. })));
    assert_eq!(sent, 1);
}

#[tokio::test]
async fn another_users_page_is_no_answer() {
    let mut foreign = row(1);
    foreign["public_user_data"]["user_id"] = json!("user_2");
    let (answer, _) = run(vec![reply(200, &json!({"data": [foreign], "total_count": 1}).to_string())]).await;
    assert!(matches!(answer, Err(OriginError::Malformed { .. })));
}

#[tokio::test]
async fn a_failure_is_tried_again_and_a_lasting_one_ends_after_three_tries() {
    let cut = Act::Send(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"data\":[".to_vec());
    for failure in [reply(500, "{}"), reply(503, "<html>"), Act::Close, cut] {
        let (answer, sent) = run(vec![failure.clone(), page(0..1, 1)]).await;
        assert_eq!((ids(answer), sent), (expected(0..1), 2), "{failure:?}");
        let (answer, sent) = run(vec![failure.clone()]).await;
        assert!(matches!(answer, Err(OriginError::Unavailable { .. })), "{failure:?}");
        assert_eq!(sent, 3, "{failure:?}");
    }
}

#[tokio::test]
async fn a_429_is_obeyed_by_everyone() {
    let origin = Clerklike::start(vec![answer(429, "Retry-After: 7\r\n", "{}"), page(0..0, 0)]).await;
    let clerk = origin.clerk();
    let Err(OriginError::RateLimited { retry_after }) = read(&clerk).await else { panic!("a rate limit") };
    assert!((4..=9).contains(&retry_after.as_secs()), "{retry_after:?}");
    assert!(clerk.standing().is_paused && clerk.standing().is_budget_spent);
    assert!(clerk.standing().budget_factor < 0.51);
    // Nothing more is sent.
    for priority in [Priority::Cold, Priority::NoCache, Priority::Refresh] {
        assert!(matches!(clerk.read(&user(), priority).await, Err(OriginError::RateLimited { .. })));
    }
    assert_eq!(origin.requests().len(), 1);
    assert!(!clerk.standing().is_breaker_open);
}

#[tokio::test]
async fn a_refused_key_is_told_apart_and_tried_once() {
    let (answer, sent) = run(vec![reply(401, r#"{"errors":[{"code":"clerk_key_invalid"}]}"#)]).await;
    assert!(matches!(answer, Err(OriginError::Unauthorized)));
    assert_eq!(sent, 1);
    let (answer, _) = run(vec![reply(403, r#"{"errors":[{"code":"organization_not_enabled_in_instance"}]}"#)]).await;
    let Err(OriginError::Unavailable { what }) = answer else { panic!("refused") };
    assert_eq!(what, "status 403, organization_not_enabled_in_instance");
}

#[tokio::test]
async fn a_silent_origin_ends_the_read_at_its_limit() {
    let origin = Clerklike::start(vec![Act::Hang]).await;
    let clerk = origin.clerk_with(1_000_000, Duration::from_millis(150));
    let began = Instant::now();
    assert!(matches!(read(&clerk).await, Err(OriginError::TimedOut)));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(clerk.counts.requests_with("timed_out"), 1);
}

#[tokio::test]
async fn i12_an_answer_beyond_the_limits_is_an_error_and_counted() {
    let origin = Clerklike::start(vec![page(0..500, 10_001)]).await;
    let clerk = origin.clerk();
    assert!(matches!(read(&clerk).await, Err(OriginError::Malformed { .. })));
    assert_eq!((origin.requests().len(), clerk.counts.oversized.get()), (1, 1));

    let long = format!(r#"{{"data":[],"total_count":0,"later":"{}"}}"#, "x".repeat(BYTES_MAX));
    let origin = Clerklike::start(vec![reply(200, &long)]).await;
    let clerk = origin.clerk();
    assert!(matches!(read(&clerk).await, Err(OriginError::Malformed { .. })));
    assert_eq!((origin.requests().len(), clerk.counts.oversized.get()), (1, 1));
}

#[tokio::test]
async fn after_five_failures_the_breaker_answers_without_asking() {
    let origin = Clerklike::start(vec![reply(200, "null")]).await;
    let clerk = origin.clerk();
    for _ in 0..5 {
        assert!(matches!(read(&clerk).await, Err(OriginError::Malformed { .. })));
    }
    assert!(clerk.standing().is_breaker_open);
    assert!(matches!(read(&clerk).await, Err(OriginError::Unavailable { .. })));
    assert_eq!((origin.requests().len(), clerk.counts.breaker_opened.get()), (5, 1));
}

#[tokio::test]
async fn a_spent_budget_sends_nothing_and_names_a_time() {
    let origin = Clerklike::start(vec![page(0..0, 0)]).await;
    let clerk = origin.clerk_with(1, Duration::from_secs(4));
    assert!(read(&clerk).await.is_ok());
    let Err(OriginError::RateLimited { retry_after }) = clerk.read(&user(), Priority::NoCache).await else { panic!("spent") };
    assert!((10..=24).contains(&retry_after.as_secs()), "{retry_after:?}");
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_read_that_is_dropped_leaves_nothing_behind() {
    let origin = Clerklike::start(vec![Act::Hang, page(0..1, 1)]).await;
    let clerk = origin.clerk();
    let dropped = tokio::time::timeout(Duration::from_millis(100), read(&clerk)).await;
    assert!(dropped.is_err());
    assert_eq!(ids(read(&clerk).await), expected(0..1));
    assert_eq!(clerk.standing().waiting, 0);
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let make =
        |key: &str, url: &str| Clerk::new(Settings { secret_key: SecretString::from(key), api_url: url.to_owned(), rate: 80 });
    assert!(matches!(make("sk_\u{7}", "https://api.example.test"), Err(SettingsError::SecretKey)));
    for url in ["", "api.example.test", "ftp://api.example.test"] {
        assert!(matches!(make("sk_test_x", url), Err(SettingsError::ApiUrl)), "{url}");
    }
    assert_eq!(make("sk_test_x\n", "https://api.example.test/").expect("good").base, "https://api.example.test/v1");
}
