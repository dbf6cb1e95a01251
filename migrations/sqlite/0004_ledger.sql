-- The ledger that workers share. One process alone keeps its own, so nothing is ever in these; they are the same tables
-- as in migrations/postgres.
CREATE TABLE ledger_budget (
    level       TEXT NOT NULL,
    dimension   TEXT NOT NULL,
    period      INTEGER NOT NULL,
    limit_units INTEGER NOT NULL DEFAULT 0,
    time        INTEGER NOT NULL DEFAULT 0,
    credit      INTEGER NOT NULL DEFAULT 0,
    held        INTEGER,
    grain       INTEGER NOT NULL DEFAULT 1,
    sum         INTEGER NOT NULL DEFAULT 0,
    part        INTEGER NOT NULL DEFAULT 0,
    parts       BLOB,
    PRIMARY KEY (level, dimension, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_slot (
    level     TEXT NOT NULL,
    dimension TEXT NOT NULL,
    period    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    units     INTEGER NOT NULL,
    PRIMARY KEY (level, dimension, period, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_places (
    level  TEXT NOT NULL,
    worker INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    held   INTEGER NOT NULL,
    want   INTEGER NOT NULL,
    used   INTEGER NOT NULL,
    PRIMARY KEY (level, worker)
) STRICT, WITHOUT ROWID;
