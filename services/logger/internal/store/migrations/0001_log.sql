-- One row per stored message. The columns stand in the order in which a
-- person reads them: SELECT * FROM messages. Insertion order is not stream
-- order (a redelivery comes late): read with ORDER BY epoch, seq.
CREATE TABLE messages (
	message   TEXT    NOT NULL, -- a JSON string as its plain text, any other JSON as it is
	sender    TEXT    NOT NULL,
	timestamp TEXT    NOT NULL, -- RFC 3339, UTC, milliseconds
	channel   TEXT    NOT NULL,
	event     TEXT    NOT NULL,
	id        TEXT    NOT NULL, -- epoch-seq, as clients know it
	epoch     TEXT    NOT NULL,
	seq       INTEGER NOT NULL,
	source    TEXT    NOT NULL, -- the publisher's IP address
	PRIMARY KEY (epoch, seq)
);

-- One row per life of the stream, and how complete the log of it is: every
-- sequence from first to accounted is either in messages (or was, until
-- retention took it), or counted in holes.
CREATE TABLE epochs (
	epoch     TEXT    NOT NULL PRIMARY KEY,
	first     INTEGER NOT NULL,
	accounted INTEGER NOT NULL,
	holes     INTEGER NOT NULL
);

-- The search index: a segment covers the sequences first to last of one
-- epoch. What no segment covers is searched by reading the rows.
CREATE TABLE segments (
	segment INTEGER PRIMARY KEY,
	epoch   TEXT    NOT NULL,
	first   INTEGER NOT NULL,
	last    INTEGER NOT NULL,
	oldest  TEXT    NOT NULL, -- the lowest and the highest timestamp
	newest  TEXT    NOT NULL,
	UNIQUE (epoch, first)
);

-- The sorted terms of a segment in blocks of some KiB, each found by its
-- first term.
CREATE TABLE terms (
	segment INTEGER NOT NULL,
	first   BLOB    NOT NULL,
	entries BLOB    NOT NULL,
	PRIMARY KEY (segment, first)
);
