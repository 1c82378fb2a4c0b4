//! The street: routes, and what HTTP words mean. Knows handles of the cache and the intake, never a store.

pub mod auth;
