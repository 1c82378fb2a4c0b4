-- Replays that an operator asked for, each with how far it came: one that was interrupted goes on where it stopped.
create table replays (
    -- counted up
    replay_id integer not null primary key,
    -- what was asked for, as JSON; asking for the same again goes on with the unfinished one
    selection text not null,
    -- when it was begun, by the database's clock, in milliseconds since the Unix epoch
    begun_at_ms integer not null,
    -- when its last message was seen to be applied; none while it is unfinished
    finished_at_ms integer,
    -- it reaches messages that were received before this moment
    until_ms integer not null,
    -- how many messages there were to replay when it was begun
    messages integer not null,
    -- how many were asked for so far
    requested integer not null,
    -- the last message that was asked for: when it was received
    cursor_received_at_ms integer not null,
    -- and its id
    cursor_message_id text not null
);

-- the replay that asked for the message last
alter table webhook_messages add column replay_id integer;

-- what of a replay is still to be applied
create index webhook_messages_replay on webhook_messages (replay_id) where state = 'pending' and replay_id is not null;
