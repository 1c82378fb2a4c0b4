//! What is true at the origin: a few users and organizations, what happens to them, and the message that each step sends.

use proptest::prelude::*;
use rollcall::domain::{Change, Membership, MembershipId, Moment, OrganizationId, UserId};

/// Users of a town.
pub const USERS: usize = 2;
/// Organizations of a town.
pub const ORGANIZATIONS: usize = 3;

/// What may happen to whom.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A user joins an organization; whoever left it joins anew, under another id.
    Join(usize, usize),
    Leave(usize, usize),
    ChangeRole(usize, usize),
    Rename(usize),
    DeleteOrganization(usize),
    DeleteUser(usize),
}

/// What is true of a user: nothing, once he is gone.
pub type Truth = Option<Vec<Membership>>;

/// All that was ever true, and since when.
#[derive(Debug)]
pub struct Town {
    truths: Vec<(Moment, [Truth; USERS])>,
    names: [(String, i64); ORGANIZATIONS],
    is_deleted: [bool; ORGANIZATIONS],
}

pub fn user(n: usize) -> UserId {
    UserId::parse(&format!("user_{n}")).expect("id")
}

pub fn organization(n: usize) -> OrganizationId {
    OrganizationId::parse(&format!("org_{n}")).expect("id")
}

/// Any step.
pub fn steps() -> impl Strategy<Value = Step> {
    let (user, organization) = (0..USERS, 0..ORGANIZATIONS);
    let both = (user.clone(), organization.clone());
    prop_oneof![
        8 => both.clone().prop_map(|(user, organization)| Step::Join(user, organization)),
        6 => both.clone().prop_map(|(user, organization)| Step::Leave(user, organization)),
        4 => both.prop_map(|(user, organization)| Step::ChangeRole(user, organization)),
        3 => organization.clone().prop_map(Step::Rename),
        2 => organization.prop_map(Step::DeleteOrganization),
        1 => user.prop_map(Step::DeleteUser),
    ]
}

impl Town {
    /// A town in which everybody is in the first organization.
    pub fn new(now: Moment) -> Self {
        let names = std::array::from_fn(|n| (format!("N{n}"), 0));
        let mut town = Self { truths: vec![(now, std::array::from_fn(|_| Some(vec![])))], names, is_deleted: Default::default() };
        for n in 0..USERS {
            town.live(Step::Join(n, 0), now);
        }
        town
    }

    /// What was true of a user at `at`.
    pub fn truth(&self, n: usize, at: Moment) -> &Truth {
        let (first, later) = self.truths.split_first().expect("there is a beginning");
        let (_, truths) = later.iter().rev().find(|(since, _)| *since <= at).unwrap_or(first);
        &truths[n]
    }

    /// Lets the step happen at `now`; answers what is told of it, if it changes anything.
    pub fn live(&mut self, step: Step, now: Moment) -> Option<Change> {
        let number = self.truths.len() as i64;
        let mut truths = self.truths.last().expect("there is a beginning").1.clone();
        let told = self.change(&mut truths, step, number)?;
        self.truths.push((now, truths));
        Some(told)
    }

    fn change(&mut self, truths: &mut [Truth; USERS], step: Step, number: i64) -> Option<Change> {
        match step {
            Step::Join(n, o) if !self.is_deleted[o] && row(truths, n, o).is_none() => {
                let membership = MembershipId::parse(&format!("orgmem_{number}")).expect("id");
                let (name, organization_updated_at) = self.names[o].clone();
                truths[n].as_mut()?.push(Membership {
                    organization_id: organization(o),
                    organization_slug: Some(name.to_lowercase()),
                    organization_name: name,
                    role: "org:member".into(),
                    image_url: None,
                    membership_id: membership.clone(),
                    created_at: number,
                    updated_at: number,
                    organization_updated_at,
                });
                Some(Change::MembershipCreated { membership, user: Some(user(n)) })
            }
            Step::Leave(n, o) => {
                let place = row(truths, n, o)?;
                let membership = truths[n].as_mut()?.remove(place).membership_id;
                Some(Change::MembershipDeleted { membership, user: Some(user(n)) })
            }
            Step::ChangeRole(n, o) => {
                let place = row(truths, n, o)?;
                let row = &mut truths[n].as_mut()?[place];
                (row.role, row.updated_at) = (format!("org:role{number}"), number);
                let (membership, role) = (row.membership_id.clone(), row.role.clone());
                Some(Change::MembershipUpdated { membership, user: Some(user(n)), role, updated_at: number })
            }
            Step::Rename(o) if !self.is_deleted[o] => {
                let name = format!("N{o}-{number}");
                let slug = Some(name.to_lowercase());
                self.names[o] = (name.clone(), number);
                for row in truths.iter_mut().flatten().flatten().filter(|row| row.organization_id == organization(o)) {
                    row.organization_name = name.clone();
                    row.organization_slug = slug.clone();
                    row.organization_updated_at = number;
                }
                let organization = organization(o);
                Some(Change::OrganizationUpdated { organization, name, slug, image_url: None, updated_at: number })
            }
            Step::DeleteOrganization(o) if !self.is_deleted[o] => {
                self.is_deleted[o] = true;
                truths.iter_mut().flatten().for_each(|rows| rows.retain(|row| row.organization_id != organization(o)));
                Some(Change::OrganizationDeleted { organization: organization(o) })
            }
            Step::DeleteUser(n) => truths[n].take().map(|_| Change::UserDeleted { user: user(n) }),
            Step::Join(..) | Step::Rename(_) | Step::DeleteOrganization(_) => None,
        }
    }
}

fn row(truths: &[Truth; USERS], n: usize, o: usize) -> Option<usize> {
    truths[n].as_ref()?.iter().position(|row| row.organization_id == organization(o))
}
