//! `rollcall inspect USER [ORG]`: what every tier, what is remembered and Clerk say of a user, side by side, each with its age.
//!
//! Through a running service (`--server`), which tells its own memory too; or by itself, from Redis, the change stream and Clerk.
//! Either way nothing is stored, refreshed or promoted. It costs a read of Clerk.

mod by_itself;
mod table;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use tokio::runtime::Handle;

use super::caller::{self, Caller};
use super::{client, output};
use crate::domain::{Membership, MembershipId, OrganizationId, OrganizationRef, UserId};
use crate::http::{Inspection, Tier};

/// More than the service's own limit for it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Arguments of `inspect`.
#[derive(clap::Args)]
#[command(after_help = "Exit codes: 0 shown, 1 somebody could not be asked, or it failed, 2 typed wrongly, 78 bad configuration")]
pub(super) struct Args {
    /// The user
    #[arg(value_parser = UserId::parse)]
    user: UserId,
    /// Only this organization, by id or slug
    #[arg(value_parser = OrganizationRef::parse)]
    org: Option<OrganizationRef>,
    #[command(flatten)]
    caller: Caller,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: Args, io: &Handle) -> anyhow::Result<ExitCode> {
    let mut found = match &args.caller.server {
        Some(server) => io.block_on(through_server(&args, client::url(server)?))?,
        None => io.block_on(by_itself::look(&args.user, args.org.as_ref().and_then(OrganizationRef::id)))?,
    };
    if let Some(organization) = &args.org {
        only(&mut found, organization);
    }
    match args.json {
        true => output::json(&found)?,
        false => output::table(&table::of(&found, args.org.as_ref())).iter().try_for_each(|line| output::line(line))?,
    }
    let is_one_missing = tiers(&mut found).into_iter().any(|tier| matches!(tier, Tier::Unavailable { .. }));
    Ok(if is_one_missing || found.facts_error.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn through_server(args: &Args, server: Url) -> anyhow::Result<Inspection> {
    let url = format!("{}/v1/users/{}/inspection", server.as_str().trim_end_matches('/'), args.user);
    let request = client::client(&server, ANSWER_TIME_MAX)?.get(url).header(AUTHORIZATION, args.caller.authorization()?);
    let request = request.query(args.org.as_ref().map(|organization| ("org", organization.as_str())).as_slice());
    let answer = request.send().await.map_err(reqwest::Error::without_url).context("no answer")?;
    match answer.status() {
        StatusCode::OK => answer.json().await.map_err(reqwest::Error::without_url).context("an answer that cannot be read"),
        StatusCode::NOT_FOUND => anyhow::bail!("404: this is no rollcall, or one of an older release"),
        status => Err(caller::refusal(status, "admin")),
    }
}

/// Leaves what concerns this organization: by its id in every tier, for the slug may have changed between two readings.
fn only(found: &mut Inspection, organization: &OrganizationRef) {
    let is_meant = |membership: &&Membership| match organization {
        OrganizationRef::Id(id) => membership.organization_id == *id,
        OrganizationRef::Slug(slug) => membership.organization_slug.as_deref() == Some(slug.as_str()),
    };
    let named = tiers(found).into_iter().flat_map(|tier| tier.memberships()).filter(is_meant);
    let mut organizations: BTreeSet<OrganizationId> = named.map(|membership| membership.organization_id.clone()).collect();
    organizations.extend(organization.id().cloned());
    let mut memberships = BTreeSet::<MembershipId>::new();
    for tier in tiers(found) {
        if let Tier::List { memberships: rows, .. } = tier {
            rows.retain(|row| organizations.contains(&row.organization_id));
            memberships.extend(rows.iter().map(|row| row.membership_id.clone()));
        }
    }
    if let Some(facts) = &mut found.facts {
        facts.memberships.retain(|fact| memberships.contains(&fact.membership_id));
        facts.organizations.retain(|fact| organizations.contains(&fact.organization_id));
    }
}

fn tiers(found: &mut Inspection) -> [&mut Tier; 3] {
    [&mut found.local, &mut found.shared, &mut found.origin]
}
