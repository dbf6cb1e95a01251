-- The same as in migrations/postgres, where several processes share a schema. Here one process has the file for
-- itself, and the one row of `worker` is its own.
CREATE TABLE worker (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL UNIQUE,
    epoch      INTEGER NOT NULL, -- raised by each start
    version    TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    beat_at    INTEGER NOT NULL,
    ended_at   INTEGER,          -- it ended in order
    taken_at   INTEGER,
    running    INTEGER NOT NULL DEFAULT 0,
    leases     INTEGER NOT NULL DEFAULT 0,
    exchange   INTEGER NOT NULL DEFAULT 0,
    limits     TEXT NOT NULL DEFAULT '{}'
) STRICT;

ALTER TABLE boot ADD COLUMN worker INTEGER;

ALTER TABLE file ADD COLUMN worker INTEGER;

ALTER TABLE ledger ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN worker INTEGER NOT NULL DEFAULT 0;
