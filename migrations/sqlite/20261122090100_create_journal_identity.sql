-- Which journal this is: nodes that share a Redis must share a journal, and tell by this.
create table journal_identity (
    -- always 1: there is one row
    only_row integer not null primary key check (only_row = 1),
    -- random, made once
    journal_id text not null
);

insert into journal_identity (only_row, journal_id) values (1, lower(hex(randomblob(16))));
