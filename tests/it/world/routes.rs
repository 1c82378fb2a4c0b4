//! The routes that the code registers.

use std::collections::BTreeSet;

const ROUTES: &str = include_str!("../../../src/http/routes.rs");

/// Every route of the service, as `GET /v1/users/{userId}/orgs`. The listener for metrics has none that is not among them.
pub fn routes() -> BTreeSet<String> {
    let resources = ROUTES.split("resource(\"").skip(1);
    let routes = resources.flat_map(|resource| {
        let mut texts = resource.split('"');
        let (path, methods) = (texts.next().expect("a path"), texts.nth(1).expect("its methods"));
        methods.split(", ").map(move |method| format!("{method} {path}"))
    });
    routes.collect()
}
