//! The doors: an origin and a shared tier in which anybody may be stopped at any moment, and the fence.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rollcall::domain::{List, Membership, MembershipId, Moment, OrganizationId, UserId};
use rollcall::ports::{
    Landed, Lease, Origin, OriginAnswer, OriginError, OriginStanding, Priority, SharedError, SharedTier, SharedValue,
};
use rollcall::protocol::lease::Guard;

use super::sync::{AtomicU64, Mutex, Ordering};
use crate::clock::NOW;

/// How many changes are behind what a list says: it stands in the row's time.
pub fn truth(changes: u64) -> Vec<Membership> {
    vec![Membership {
        organization_id: OrganizationId::parse("org_1").expect("id"),
        organization_slug: None,
        organization_name: String::new(),
        role: String::new(),
        image_url: None,
        membership_id: MembershipId::parse("orgmem_1").expect("id"),
        created_at: 0,
        updated_at: changes as i64,
        organization_updated_at: 0,
    }]
}

/// When every reading of these scenes began: too long ago to be vouched for by itself.
pub fn begun() -> Moment {
    NOW - Duration::from_secs(10)
}

/// The origin: what is true now.
#[derive(Debug, Default)]
pub struct Clerk {
    pub changes: AtomicU64,
    /// It answers from a replica that never hears of anything.
    pub lags: bool,
}

impl Clerk {
    pub fn now(&self) -> u64 {
        if self.lags { 0 } else { self.changes.load(Ordering::SeqCst) }
    }
}

impl Origin for Clerk {
    fn read<'a>(&'a self, _: &'a UserId, _: Priority) -> BoxFuture<'a, Result<OriginAnswer, OriginError>> {
        async { Ok(OriginAnswer::Memberships(truth(self.now()))) }.boxed()
    }

    fn standing(&self) -> OriginStanding {
        unreachable!("nobody asks here")
    }
}

/// The shared tier: a value and its guard, each exchange with it in one piece.
#[derive(Default)]
pub struct Redis {
    kept: Mutex<(Guard, Option<List>)>,
    leases: AtomicU64,
}

impl Redis {
    fn fresh(&self) -> String {
        self.leases.fetch_add(1, Ordering::SeqCst).to_string()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Guard, &mut Option<List>) -> T) -> T {
        let (guard, value) = &mut *self.kept.lock().expect("nothing panics while it is held");
        act(guard, value)
    }

    /// A change passes.
    pub fn void(&self) {
        let fresh = self.fresh();
        self.with(|guard, value| {
            *value = None;
            guard.invalidate(&fresh);
        });
    }
}

impl SharedTier for Redis {
    fn get<'a>(&'a self, _: &'a UserId) -> BoxFuture<'a, Result<Option<SharedValue>, SharedError>> {
        let found = self.with(|guard, value| {
            let (list, token) = (value.clone()?, guard.lease.clone()?);
            Some(SharedValue { list, as_of: begun(), stamp: guard.as_of?, token: token.into() })
        });
        async { Ok(found) }.boxed()
    }

    fn begin<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Lease, SharedError>> {
        let fresh = self.fresh();
        let token: Arc<str> = self.with(|guard, _| guard.begin(&fresh)).into();
        async { Ok(Lease { user: user.clone(), token, stamp: 1 }) }.boxed()
    }

    fn land<'a>(&'a self, lease: Lease, list: &'a List, _: Option<Duration>) -> BoxFuture<'a, Result<Landed, SharedError>> {
        let landed = self.with(|guard, value| {
            let landed = guard.land(&lease.token, lease.stamp, "");
            if landed == Landed::Landed {
                *value = Some(list.clone());
            }
            landed
        });
        async move { Ok(landed) }.boxed()
    }

    fn release<'a>(&'a self, lease: Lease) -> BoxFuture<'a, ()> {
        self.with(|guard, _| guard.release(&lease.token));
        async {}.boxed()
    }

    fn invalidate<'a>(&'a self, _: &'a [UserId]) -> BoxFuture<'a, Result<(), SharedError>> {
        self.void();
        async { Ok(()) }.boxed()
    }

    fn is_reachable(&self) -> bool {
        true
    }
}

/// The fence itself, with a place to be stopped at.
#[derive(Debug)]
pub struct Fence {
    fence: rollcall::ports::Fence,
    point: AtomicU64,
}

impl Fence {
    pub fn asked() -> Self {
        Self { fence: rollcall::ports::Fence::asked(), point: AtomicU64::new(0) }
    }

    pub fn advance(&self, to: Moment) {
        self.point.fetch_add(1, Ordering::SeqCst);
        self.fence.advance(to);
    }

    pub fn is_unreached(&self) -> bool {
        self.point.load(Ordering::SeqCst);
        self.fence.is_unreached()
    }

    pub fn load(&self, now: Moment) -> Moment {
        self.point.load(Ordering::SeqCst);
        self.fence.load(now)
    }
}
