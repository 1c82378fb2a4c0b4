create table replays (
    replay_id bigint generated always as identity primary key,
    selection text not null,
    begun_at_ms bigint not null,
    finished_at_ms bigint,
    until_ms bigint not null,
    messages bigint not null,
    requested bigint not null,
    cursor_received_at_ms bigint not null,
    cursor_message_id text not null
);

comment on table replays is 'Replays that an operator asked for, each with how far it came: one that was interrupted goes on where it stopped.';
comment on column replays.replay_id is 'counted up';
comment on column replays.selection is 'what was asked for, as JSON; asking for the same again goes on with the unfinished one';
comment on column replays.begun_at_ms is 'when it was begun, by the database''s clock, in milliseconds since the Unix epoch';
comment on column replays.finished_at_ms is 'when its last message was seen to be applied; none while it is unfinished';
comment on column replays.until_ms is 'it reaches messages that were received before this moment';
comment on column replays.messages is 'how many messages there were to replay when it was begun';
comment on column replays.requested is 'how many were asked for so far';
comment on column replays.cursor_received_at_ms is 'the last message that was asked for: when it was received';
comment on column replays.cursor_message_id is 'and its id';

alter table webhook_messages add column replay_id bigint;
comment on column webhook_messages.replay_id is 'the replay that asked for the message last';

create index webhook_messages_replay on webhook_messages (replay_id) where state = 'pending' and replay_id is not null;
comment on index webhook_messages_replay is 'what of a replay is still to be applied';
