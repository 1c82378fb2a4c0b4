//! The world around the service: real servers started for a test, with their faults at hand.

pub mod answer;
pub mod asking;
pub mod changes;
pub mod crowd;
pub mod dice;
pub mod effect;
pub mod faulty_link;
pub mod fleet;
pub mod history;
pub mod mail;
pub mod operator;
pub mod postgres;
pub mod redis_node;
pub mod redis_proxy;
pub mod redis_server;
pub mod rollcall;
pub mod served;
pub mod service;
pub mod shell;
pub mod silent_proxy;
pub mod sqlite_lock;
pub mod street;
pub mod under_way;
pub mod wait;
pub mod webhooks;
pub mod wire;
