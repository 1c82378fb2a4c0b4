//! One user's life as a history of steps: the truth after each, and the message that each sends.

use proptest::prelude::*;
use rollcall::domain::{Change, Membership, MembershipId, Moment, OrganizationId, UserId};

/// What may happen to the user in one of a few organizations.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Join(u8),
    Leave(u8),
    ChangeRole(u8),
    Rename(u8),
    Delete(u8),
}

/// The truth and the messages of a whole life. Step `n` happens in the moment `n + 1`.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The memberships after each number of steps.
    pub truths: Vec<Vec<Membership>>,
    /// What each step sends, if anything.
    pub messages: Vec<Option<Change>>,
}

pub fn user() -> UserId {
    UserId::parse("user_sim").expect("id")
}

/// The moment in which step `n` happens.
pub fn at(n: usize) -> Moment {
    Moment::from_micros(n as u64 + 1)
}

/// Any life of at most `steps` steps.
pub fn histories(steps: usize) -> impl Strategy<Value = History> {
    let organization = 0..4u8;
    let step = prop_oneof![
        4 => organization.clone().prop_map(Step::Join),
        3 => organization.clone().prop_map(Step::Leave),
        2 => organization.clone().prop_map(Step::ChangeRole),
        2 => organization.clone().prop_map(Step::Rename),
        1 => organization.prop_map(Step::Delete),
    ];
    prop::collection::vec(step, 1..=steps).prop_map(|steps| History::of(&steps))
}

impl History {
    /// The life of these steps.
    pub fn of(steps: &[Step]) -> Self {
        let mut history = Self { truths: vec![vec![]], messages: vec![] };
        let mut names: Vec<(String, i64)> = (0..4).map(|n| (format!("N{n}"), 0)).collect();
        let mut deleted = [false; 4];
        for (n, step) in steps.iter().enumerate() {
            let mut truth = history.truths[n].clone();
            let message = live(&mut truth, &mut names, &mut deleted, *step, n);
            history.truths.push(truth);
            history.messages.push(message);
        }
        history
    }

    /// The last truth.
    pub fn end(&self) -> &[Membership] {
        self.truths.last().expect("there is a beginning")
    }

    /// Every message with the moment in which it passes when nothing delays it.
    pub fn delivered(&self) -> Vec<(Change, Moment)> {
        self.messages.iter().enumerate().filter_map(|(n, message)| Some((message.clone()?, at(n)))).collect()
    }
}

fn live(truth: &mut Vec<Membership>, names: &mut [(String, i64)], deleted: &mut [bool], step: Step, n: usize) -> Option<Change> {
    let (Step::Join(o) | Step::Leave(o) | Step::ChangeRole(o) | Step::Rename(o) | Step::Delete(o)) = step;
    let organization = OrganizationId::parse(&format!("org_{o}")).expect("id");
    let row = truth.iter().position(|membership| membership.organization_id == organization);
    let time = n as i64 + 1;
    match (step, row) {
        _ if deleted[o as usize] => None,
        (Step::Join(o), None) => {
            let (name, organization_updated_at) = names[o as usize].clone();
            let membership = MembershipId::parse(&format!("orgmem_{n}")).expect("id");
            truth.push(Membership {
                organization_id: organization,
                organization_slug: Some(name.to_lowercase()),
                organization_name: name,
                role: "org:member".into(),
                image_url: None,
                membership_id: membership.clone(),
                created_at: time,
                updated_at: time,
                organization_updated_at,
            });
            Some(Change::MembershipCreated { membership, user: Some(user()) })
        }
        (Step::Leave(_), Some(row)) => {
            Some(Change::MembershipDeleted { membership: truth.remove(row).membership_id, user: Some(user()) })
        }
        (Step::ChangeRole(_), Some(row)) => {
            let membership = &mut truth[row];
            membership.role = format!("org:role{n}");
            membership.updated_at = time;
            Some(Change::MembershipUpdated {
                membership: membership.membership_id.clone(),
                user: Some(user()),
                role: membership.role.clone(),
                updated_at: time,
            })
        }
        (Step::Rename(o), row) => {
            let name = format!("N{o}-{n}");
            names[o as usize] = (name.clone(), time);
            if let Some(row) = row {
                truth[row].organization_name = name.clone();
                truth[row].organization_slug = Some(name.to_lowercase());
                truth[row].organization_updated_at = time;
            }
            let slug = Some(name.to_lowercase());
            Some(Change::OrganizationUpdated { organization, name, slug, image_url: None, updated_at: time })
        }
        (Step::Delete(o), row) => {
            deleted[o as usize] = true;
            if let Some(row) = row {
                truth.remove(row);
            }
            Some(Change::OrganizationDeleted { organization })
        }
        (Step::Join(_), Some(_)) | (Step::Leave(_) | Step::ChangeRole(_), None) => None,
    }
}
