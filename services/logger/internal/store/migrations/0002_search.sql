-- SQLite's own full-text index takes the place of tables that Herald filled.
DROP TABLE terms;
DROP TABLE segments;

-- number stands for the epoch in the rowids of words (number << 48 | seq).
-- unindexed is the highest sequence of the rows that are older than this index
-- and not in it yet; 0: none.
ALTER TABLE epochs ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE epochs ADD COLUMN unindexed INTEGER NOT NULL DEFAULT 0;
UPDATE epochs SET
	number = (SELECT count(*) FROM epochs o WHERE (length(o.epoch), o.epoch) <= (length(epochs.epoch), epochs.epoch)),
	unindexed = coalesce((SELECT max(seq) FROM messages m WHERE m.epoch = epochs.epoch), 0);
CREATE UNIQUE INDEX epochs_number ON epochs (number);

-- One document per row: the terms of its channel, sender, event and message.
CREATE VIRTUAL TABLE words USING fts5(terms, content='', contentless_delete=1, detail=none, tokenize='ascii');

-- For retention by age and for queries with a time.
CREATE INDEX messages_timestamp ON messages (timestamp, epoch, seq);
