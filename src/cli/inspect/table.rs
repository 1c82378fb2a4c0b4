//! An inspection as a table: a column for each tier and one for what is remembered, a row for each organization. Pure.

use std::collections::BTreeMap;

use crate::cli::journal::span;
use crate::cli::output::Colour;
use crate::domain::{OrganizationId, OrganizationRef};
use crate::http::{Facts, Inspection, Tier};

type Cell = (String, Option<Colour>);

/// The rows: who it is, how old each reading is, then the organizations; the one that was asked about also if nobody names it.
pub(super) fn of(found: &Inspection, asked: Option<&OrganizationRef>) -> Vec<Vec<Cell>> {
    let tiers = [&found.local, &found.shared, &found.origin];
    let mut rows = vec![["", "local", "shared", "origin", "remembered"].map(|title| (title.to_owned(), None)).to_vec()];
    let mut first = vec![(found.user_id.to_string(), None)];
    first.extend(tiers.map(standing));
    first.push(of_user(found));
    rows.push(first);
    for (organization, slug) in organizations(tiers, asked.and_then(OrganizationRef::id)) {
        let mut row = vec![(slug.map_or(organization.to_string(), |slug| format!("{organization} ({slug})")), None)];
        row.extend(tiers.map(|tier| (role(tier, &organization), None)));
        row.push((found.facts.as_ref().map(|facts| of_organization(facts, tiers, &organization)).unwrap_or_default(), None));
        rows.push(row);
    }
    if let Some(asked) = asked.filter(|_| rows.len() == 2) {
        let mut row = vec![(asked.as_str().to_owned(), None)];
        row.extend(tiers.map(|tier| (if is_reading(tier) { "-" } else { "" }.to_owned(), None)));
        rows.push(row);
    }
    rows
}

/// Whether it says anything of the user.
fn is_reading(tier: &Tier) -> bool {
    matches!(tier, Tier::List { .. } | Tier::UserUnknown { .. })
}

/// Every organization that any of them names, with its slug as the first of them has it; and the one that was asked about by id.
fn organizations(tiers: [&Tier; 3], asked: Option<&OrganizationId>) -> BTreeMap<OrganizationId, Option<String>> {
    let mut found = BTreeMap::new();
    for membership in tiers.into_iter().flat_map(Tier::memberships) {
        found.entry(membership.organization_id.clone()).or_insert_with(|| membership.organization_slug.clone());
    }
    if let Some(asked) = asked {
        found.entry(asked.clone()).or_insert(None);
    }
    found
}

fn standing(tier: &Tier) -> Cell {
    match tier {
        Tier::List { age_ms, .. } => (format!("read {}", ago(*age_ms)), None),
        Tier::UserUnknown { age_ms } => (format!("user unknown, read {}", ago(*age_ms)), None),
        Tier::Nothing => ("nothing".to_owned(), None),
        Tier::Absent => ("no Redis".to_owned(), None),
        Tier::NotAsked => ("ask with --server".to_owned(), Some(Colour::Yellow)),
        Tier::Unavailable { error } => (error.clone(), Some(Colour::Red)),
    }
}

fn of_user(found: &Inspection) -> Cell {
    let facts = match (&found.facts, &found.facts_error) {
        (Some(facts), _) => facts,
        (None, Some(error)) => return (error.clone(), Some(Colour::Red)),
        (None, None) => return ("ask with --server".to_owned(), Some(Colour::Yellow)),
    };
    let told = [
        facts.user_deleted_ms_ago.map(|ms| format!("deleted {}", ago(ms))),
        facts.user_changed_ms_ago.map(|ms| format!("changed {}", ago(ms))),
        (!facts.announced.is_empty()).then(|| format!("{} announced", facts.announced.len())),
        facts.doubted_ms_ago.map(|ms| format!("in doubt if read before {}", ago(ms))),
        found.lag_ms.map(|ms| format!("{ms} ms behind the change stream")),
    ];
    (joined(told), None)
}

fn role(tier: &Tier, organization: &OrganizationId) -> String {
    let row = tier.memberships().iter().find(|membership| membership.organization_id == *organization);
    match row {
        Some(membership) => membership.role.clone(),
        None if is_reading(tier) => "-".to_owned(),
        None => String::new(),
    }
}

/// What is remembered of an organization, and of every membership of it that somebody names.
fn of_organization(facts: &Facts, tiers: [&Tier; 3], organization: &OrganizationId) -> String {
    let rows = || tiers.into_iter().flat_map(Tier::memberships).filter(|row| row.organization_id == *organization);
    let ended = facts.memberships.iter().filter(|fact| rows().any(|row| row.membership_id == fact.membership_id));
    let fact = facts.organizations.iter().find(|fact| fact.organization_id == *organization);
    let of_memberships = ended.flat_map(|fact| {
        [fact.ended_ms_ago.map(|ms| format!("ended {}", ago(ms))), fact.role.as_ref().map(|role| format!("role {role}"))]
    });
    let of_itself = fact.into_iter().flat_map(|fact| {
        [
            fact.deleted_ms_ago.map(|ms| format!("organization deleted {}", ago(ms))),
            fact.doubted_ms_ago.map(|ms| format!("evicted {}", ago(ms))),
            fact.slug.as_ref().map(|slug| format!("slug {slug}")),
        ]
    });
    joined(of_memberships.chain(of_itself))
}

fn joined(told: impl IntoIterator<Item = Option<String>>) -> String {
    told.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Below two seconds milliseconds matter: that is where a revocation shows.
fn ago(ms: u64) -> String {
    match ms {
        0..2_000 => format!("{ms} ms ago"),
        _ => format!("{} ago", span(i64::try_from(ms).unwrap_or(i64::MAX))),
    }
}
