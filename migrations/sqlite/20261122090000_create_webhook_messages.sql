-- One row for every webhook message, keyed by the id that it keeps through all its deliveries. Nothing of a person: no names,
-- e-mails, pictures or addresses, unless whole bodies are asked for.
create table webhook_messages (
    -- Svix's id of the message, the same through every retry and resend
    message_id text not null primary key,
    -- Clerk's type, organizationMembership.deleted; at most 128 bytes; empty when the body has none
    event_type text not null,
    -- the Clerk instance that the body names; decides nothing
    instance_id text,
    -- whom it is about, as far as the body says
    user_id text,
    -- the organization it is about
    org_id text,
    -- the membership it is about
    membership_id text,
    -- the session it is about
    session_id text,
    -- when it happened, by Clerk's clock, in milliseconds since the Unix epoch
    occurred_at_ms integer,
    -- the entity's own updated_at, by Clerk's clock
    entity_updated_at_ms integer,
    -- when the first delivery was recorded, by the database's clock
    received_at_ms integer not null,
    -- when the latest delivery was recorded
    last_seen_at_ms integer not null,
    -- how often it was delivered
    deliveries integer not null,
    -- pending: to be applied; applied: confirmed on every node; ignored: changes no answer; buried: cannot be read, and
    -- everybody it names was evicted
    state text not null check (state in ('pending', 'applied', 'ignored', 'buried')),
    -- why it is still pending, or buried; a phrase without anything of the body
    reason text,
    -- how often applying it was begun
    attempts integer not null,
    -- since when it is open: its first delivery, or when it was asked for again
    opened_at_ms integer not null,
    -- when it is to be applied next, while pending; also keeps others from what one is applying right now
    next_attempt_at_ms integer,
    -- when its change was last confirmed
    applied_at_ms integer,
    -- who applied it: inline, worker, boot, replay, failover
    applied_by text,
    -- JSON: the change it makes true, and with whole bodies asked for the body too
    payload text
);

-- what is to be done, soonest first
create index webhook_messages_open on webhook_messages (next_attempt_at_ms, opened_at_ms) where state = 'pending';
-- the same by id, to walk through
create index webhook_messages_open_ids on webhook_messages (message_id) where state = 'pending';
-- what a lost history is put back from
create index webhook_messages_applied on webhook_messages (applied_at_ms) where applied_at_ms is not null;
-- counts by state, and what is to be pruned
create index webhook_messages_state on webhook_messages (state, last_seen_at_ms);
-- lists and replays, in order of arrival
create index webhook_messages_received on webhook_messages (received_at_ms, message_id);
