//! Facts in plain maps: what a node remembers, without its bounds.

use std::collections::HashMap;

use rollcall::domain::{Change, MembershipId, Moment, OrganizationId, UserId};
use rollcall::protocol::facts::{Fact, MembershipFact, OrganizationFact, Remembered, UserFact, facts_of};

/// What was heard.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Memory {
    memberships: HashMap<MembershipId, MembershipFact>,
    organizations: HashMap<OrganizationId, OrganizationFact>,
    users: HashMap<UserId, UserFact>,
}

impl Memory {
    /// Hears a change that passed at `at`.
    pub fn hear(&mut self, change: &Change, at: Moment) {
        for fact in facts_of(change, at) {
            match fact {
                Fact::Membership(id, fact) => self.memberships.entry(id).or_default().merge(fact),
                Fact::Organization(id, fact) => self.organizations.entry(id).or_default().merge(fact),
                Fact::User(id, fact) => self.users.entry(id).or_default().merge(fact),
                Fact::Session(..) => {}
            }
        }
    }

    /// Everything in `heard`, in that order.
    pub fn of(heard: &[(Change, Moment)]) -> Self {
        let mut memory = Self::default();
        for (change, at) in heard {
            memory.hear(change, *at);
        }
        memory
    }
}

impl Remembered for Memory {
    fn membership(&self, id: &MembershipId) -> Option<&MembershipFact> {
        self.memberships.get(id)
    }
    fn organization(&self, id: &OrganizationId) -> Option<&OrganizationFact> {
        self.organizations.get(id)
    }
    fn user(&self, id: &UserId) -> Option<&UserFact> {
        self.users.get(id)
    }
}
