create table webhook_messages (
    message_id text collate "C" not null primary key,
    event_type text not null,
    instance_id text,
    user_id text,
    org_id text,
    membership_id text,
    session_id text,
    occurred_at_ms bigint,
    entity_updated_at_ms bigint,
    received_at_ms bigint not null,
    last_seen_at_ms bigint not null,
    deliveries bigint not null,
    state text not null check (state in ('pending', 'applied', 'ignored', 'buried')),
    reason text,
    attempts bigint not null,
    opened_at_ms bigint not null,
    next_attempt_at_ms bigint,
    applied_at_ms bigint,
    applied_by text,
    payload text
);

comment on table webhook_messages is 'One row for every webhook message, keyed by the id that it keeps through all its deliveries. Nothing of a person: no names, e-mails, pictures or addresses, unless whole bodies are asked for.';
comment on column webhook_messages.message_id is 'Svix''s id of the message, the same through every retry and resend';
comment on column webhook_messages.event_type is 'Clerk''s type, organizationMembership.deleted; at most 128 bytes; empty when the body has none';
comment on column webhook_messages.instance_id is 'the Clerk instance that the body names; decides nothing';
comment on column webhook_messages.user_id is 'whom it is about, as far as the body says';
comment on column webhook_messages.org_id is 'the organization it is about';
comment on column webhook_messages.membership_id is 'the membership it is about';
comment on column webhook_messages.session_id is 'the session it is about';
comment on column webhook_messages.occurred_at_ms is 'when it happened, by Clerk''s clock, in milliseconds since the Unix epoch';
comment on column webhook_messages.entity_updated_at_ms is 'the entity''s own updated_at, by Clerk''s clock';
comment on column webhook_messages.received_at_ms is 'when the first delivery was recorded, by the database''s clock';
comment on column webhook_messages.last_seen_at_ms is 'when the latest delivery was recorded';
comment on column webhook_messages.deliveries is 'how often it was delivered';
comment on column webhook_messages.state is 'pending: to be applied; applied: confirmed on every node; ignored: changes no answer; buried: cannot be read, and everybody it names was evicted';
comment on column webhook_messages.reason is 'why it is still pending, or buried; a phrase without anything of the body';
comment on column webhook_messages.attempts is 'how often applying it was begun';
comment on column webhook_messages.opened_at_ms is 'since when it is open: its first delivery, or when it was asked for again';
comment on column webhook_messages.next_attempt_at_ms is 'when it is to be applied next, while pending; also keeps others from what one is applying right now';
comment on column webhook_messages.applied_at_ms is 'when its change was last confirmed';
comment on column webhook_messages.applied_by is 'who applied it: inline, worker, boot, replay, failover';
comment on column webhook_messages.payload is 'JSON: the change it makes true, and with whole bodies asked for the body too';

create index webhook_messages_open on webhook_messages (next_attempt_at_ms, opened_at_ms) where state = 'pending';
comment on index webhook_messages_open is 'what is to be done, soonest first';
create index webhook_messages_open_ids on webhook_messages (message_id) where state = 'pending';
comment on index webhook_messages_open_ids is 'the same by id, to walk through';
create index webhook_messages_applied on webhook_messages (applied_at_ms) where applied_at_ms is not null;
comment on index webhook_messages_applied is 'what a lost history is put back from';
create index webhook_messages_state on webhook_messages (state, last_seen_at_ms);
comment on index webhook_messages_state is 'counts by state, and what is to be pruned';
create index webhook_messages_received on webhook_messages (received_at_ms, message_id);
comment on index webhook_messages_received is 'lists and replays, in order of arrival';
