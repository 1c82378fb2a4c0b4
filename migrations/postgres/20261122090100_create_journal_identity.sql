create table journal_identity (
    only_row bigint not null primary key check (only_row = 1),
    journal_id text not null
);

comment on table journal_identity is 'Which journal this is: nodes that share a Redis must share a journal, and tell by this.';
comment on column journal_identity.only_row is 'always 1: there is one row';
comment on column journal_identity.journal_id is 'random, made once';

insert into journal_identity (only_row, journal_id) values (1, replace(gen_random_uuid()::text, '-', ''));
