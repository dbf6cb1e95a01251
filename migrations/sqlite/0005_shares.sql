-- What apps have taken of a level, over all workers. One process alone keeps its own, so nothing is ever in it; it is the
-- same table as in migrations/postgres.
CREATE TABLE ledger_share (
    level     TEXT NOT NULL,
    app       TEXT NOT NULL,
    served    INTEGER NOT NULL,
    contended INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (level, app)
) STRICT, WITHOUT ROWID;
