//! Many users in some organizations, to whom things happen at random; and whether the service says of each what the origin
//! says.

use futures_util::StreamExt;
use rollcall::dev::{AsOf, Done, NewOrganization, NewUser, World as ClerkWorld, WorldHandle};

use super::dice::Dice;
use super::history::{Row, truth};
use super::rollcall::Rollcall;

const ROLES: [&str; 3] = ["org:admin", "org:member", "org:billing_manager"];
/// Asked at once.
const CALLERS: usize = 32;

/// Who they are.
#[derive(Debug, Clone)]
pub struct Crowd {
    pub users: Vec<String>,
    organizations: Vec<String>,
}

impl Crowd {
    /// So many users and organizations.
    pub fn of(users: usize, organizations: usize) -> Self {
        let names = |prefix: &str, count: usize| (0..count).map(|n| format!("{prefix}_{n:05}")).collect();
        Self { users: names("user", users), organizations: names("org", organizations) }
    }

    /// A world with them, in which everybody is in about a third of the organizations.
    pub fn world(&self, dice: &mut Dice) -> ClerkWorld {
        let mut world = ClerkWorld::new();
        world.set_cascades(dice.chance(50));
        world.seed(|world| {
            for id in &self.organizations {
                let (name, slug) = (format!("The {id}"), Some(id.replace('_', "-")));
                let new = NewOrganization { id: Some(id.clone()), name, slug, created_by: None };
                world.create_organization(new).expect("a new organization");
            }
            for user in &self.users {
                world.create_user(NewUser { id: Some(user.clone()), ..NewUser::default() }).expect("a new user");
                for organization in &self.organizations {
                    if dice.chance(33) {
                        let role = *dice.pick(&ROLES);
                        world.grant(user, organization, role).expect("a new member");
                    }
                }
            }
        });
        world
    }

    /// Something happens: somebody joins, leaves, or has another role; now and then an organization is renamed or deleted, or
    /// a user is deleted.
    pub fn change(&self, clerk: &WorldHandle, dice: &mut Dice) -> Done {
        let mut world = clerk.lock();
        loop {
            let (user, organization) = (dice.pick(&self.users), dice.pick(&self.organizations));
            if world.user(user, AsOf::Now).is_none() || world.organization(organization, AsOf::Now).is_none() {
                continue;
            }
            let (is_member, role) = (world.membership(user, organization).is_some(), *dice.pick(&ROLES));
            let done = match (dice.below(1_000), is_member) {
                (0..10, _) => world.rename(organization, Some(&format!("Renamed {}", dice.below(1_000_000))), None),
                (10..20, _) if self.living_users(&world) > self.users.len() / 2 => world.delete_user(user),
                (20..22, _) if self.living_organizations(&world) > self.organizations.len() / 2 => {
                    world.delete_organization(organization)
                }
                (_, false) => world.grant(user, organization, role),
                (0..500, true) => world.revoke(user, organization),
                (_, true) => world.change_role(user, organization, role),
            };
            return done.expect("the world allows it");
        }
    }

    fn living_users(&self, world: &ClerkWorld) -> usize {
        self.users.iter().filter(|user| world.user(user, AsOf::Now).is_some()).count()
    }

    fn living_organizations(&self, world: &ClerkWorld) -> usize {
        self.organizations.iter().filter(|id| world.organization(id, AsOf::Now).is_some()).count()
    }

    /// Asks for everybody's list once, so that there is something to be out of date.
    pub async fn warm(&self, rollcall: &Rollcall) {
        let asked = futures_util::stream::iter(&self.users).map(|user| said(rollcall, user));
        asked.buffer_unordered(CALLERS).collect::<Vec<_>>().await;
    }

    /// Everybody's list is the origin's.
    pub async fn expect_the_truth(&self, rollcall: &Rollcall) {
        let asked = futures_util::stream::iter(&self.users).map(async |user| {
            let told = said(rollcall, user).await;
            let expected = truth(&rollcall.clerk.world().lock(), user);
            (told != expected).then(|| format!("{user}: told {told:?}\n    instead of {expected:?}"))
        });
        let wrong: Vec<_> = asked.buffer_unordered(CALLERS).filter_map(async |wrong| wrong).collect().await;
        assert!(wrong.is_empty(), "{} of {} users are told wrongly, first {}", wrong.len(), self.users.len(), wrong[0]);
    }
}

/// A user's memberships as answered; none: no such user.
async fn said(rollcall: &Rollcall, user: &str) -> Option<Vec<Row>> {
    let answer = rollcall.get(&format!("/v1/users/{user}/orgs"), &[]).await.expect("an answer");
    match (answer.status, answer.header("rollcall-decision")) {
        (200, "list") => Some(serde_json::from_slice(&answer.body).expect("a list")),
        (404, "user-unknown") => None,
        _ => panic!("{user}: {answer:?}"),
    }
}
