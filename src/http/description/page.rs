//! `GET /docs`: the description as a page, with requests to try. One file that holds everything it shows, so that it loads
//! nothing, and is whole when it was fetched with a key and is opened from a disk. Made once.

use std::sync::LazyLock;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse};
use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{DESCRIPTION, Refusals, authorize};
use crate::http::call::Call;
use crate::http::headers::plain;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page, as it is served.
static HTML: LazyLock<Bytes> = LazyLock::new(|| {
    let description = std::str::from_utf8(&DESCRIPTION).expect("JSON is UTF-8");
    // Inside an element of a script `<` could end it; in JSON it may be escaped.
    let description = description.replace('<', "\\u003c");
    let parts = [("{style}", STYLE), ("{script}", SCRIPT), ("{description}", &description)];
    parts.into_iter().fold(PAGE.to_owned(), |page, (place, part)| page.replacen(place, part, 1)).into()
});

/// What the page may do: run its own script, have its own style, and ask this service.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'",
        source(SCRIPT),
        source(STYLE)
    );
    HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
});

fn source(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes())))
}

/// `GET /docs`
#[utoipa::path(
    get,
    path = "/docs",
    tag = "operations",
    summary = "This description as a page",
    description = "Without a key only in `rollcall dev`.",
    security(("serviceKey" = ["admin"])),
    responses((status = 200, description = "A page that loads nothing.", body = String, content_type = "text/html"), Refusals)
)]
pub async fn docs(request: HttpRequest) -> HttpResponse {
    let call = Call::begin(&request);
    match authorize(&call) {
        Ok(()) => plain(&call, StatusCode::OK)
            .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
            .insert_header((CONTENT_SECURITY_POLICY, POLICY.clone()))
            .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((REFERRER_POLICY, "no-referrer"))
            .body(HTML.clone()),
        Err(problem) => problem.respond(&call.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_loads_nothing() {
        let page = std::str::from_utf8(&HTML).expect("UTF-8");
        assert!(!["{style}", "{script}", "{description}"].iter().any(|place| page.contains(place)));
        assert_eq!(page.matches("</script>").count(), 2, "nothing of the description ends its element");
        assert!(![" src=", " href=", "@import", "url(", "import("].iter().any(|load| page.contains(load)));
        assert!(!SCRIPT.contains("cache:"), "a fetch past the browser's cache would ask Clerk");
        assert!(page.contains(&format!("<script>{SCRIPT}</script>")) && page.contains(&format!("<style>{STYLE}</style>")));
    }
}
