-- Keys are integers that are never reused; public ids are random texts beside them.
-- Times are microseconds since 1970 UTC. There are no foreign keys: the one writer keeps rows whole,
-- and checking them on every result would cost a lookup each.

-- One row: the newest migration applied, and the oldest program schema that may open the file.
CREATE TABLE schema (
    version        INTEGER NOT NULL,
    min_compatible INTEGER NOT NULL
) STRICT;

CREATE TABLE app (
    key  INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO app (key, name) VALUES (1, 'default');

-- Uploads, inline inputs, and the two views over an ended batch's results.
CREATE TABLE file (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app        INTEGER NOT NULL,
    source     TEXT NOT NULL CHECK (source IN ('upload', 'inline', 'output', 'errors')),
    status     TEXT NOT NULL CHECK (status IN ('uploading', 'processed')),
    batch      INTEGER,
    filename   TEXT NOT NULL,
    bytes      INTEGER NOT NULL DEFAULT 0,
    items      INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    deleted_at INTEGER,
    salt       INTEGER NOT NULL DEFAULT 0,
    CHECK ((source IN ('output', 'errors')) = (batch IS NOT NULL))
) STRICT;
CREATE INDEX file_listed ON file (app, key)
    WHERE deleted_at IS NULL AND status = 'processed' AND source <> 'inline';
CREATE INDEX file_deleted ON file (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX file_expiring ON file (expires_at) WHERE expires_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX file_aging ON file (created_at) WHERE source = 'upload' AND deleted_at IS NULL;
CREATE INDEX file_of_batch ON file (batch) WHERE batch IS NOT NULL;

-- What an upload found out, as JSON; apart, so that listing files doesn't read it.
CREATE TABLE file_summary (
    file    INTEGER PRIMARY KEY,
    summary TEXT NOT NULL
) STRICT;

-- id = file << 32 | no: rows lie in the order of writing. `data` is last, so that heads are read without it.
CREATE TABLE segment (
    id         INTEGER PRIMARY KEY,
    file       INTEGER NOT NULL,
    no         INTEGER NOT NULL,
    model      TEXT NOT NULL,
    item_count INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    last_line  INTEGER NOT NULL,
    endpoints  INTEGER NOT NULL,
    raw_bytes  INTEGER NOT NULL,
    chunks     INTEGER NOT NULL, -- 0: `data` holds it; else so many rows of segment_chunk do
    data       BLOB
) STRICT;
CREATE INDEX segment_of_model ON segment (file, model, no);

-- Pieces of at most 1 MiB, one transaction each, before their segment's row. id = segment id's file << 32 | no.
CREATE TABLE segment_chunk (
    segment INTEGER NOT NULL,
    no      INTEGER NOT NULL,
    data    BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX segment_chunk_no ON segment_chunk (segment, no);

-- Item keys sorted by hash within a chunk. Hashes are stored with their top bit flipped, so that
-- signed order is theirs.
CREATE TABLE item_key (
    file       INTEGER NOT NULL,
    chunk      INTEGER NOT NULL,
    no         INTEGER NOT NULL,
    first_hash INTEGER NOT NULL,
    last_hash  INTEGER NOT NULL,
    keys       BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX item_key_block ON item_key (file, chunk, no, first_hash, last_hash);

CREATE TABLE duplicate_line (
    file    INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    line    INTEGER NOT NULL,
    PRIMARY KEY (file, segment, line)
) STRICT, WITHOUT ROWID;

-- The row that every flush rewrites: small, its long texts are in batch_detail.
CREATE TABLE batch (
    key               INTEGER PRIMARY KEY AUTOINCREMENT,
    id                TEXT NOT NULL UNIQUE,
    app               INTEGER NOT NULL,
    file              INTEGER NOT NULL,
    input_file_id     TEXT,
    endpoint          TEXT,
    model             TEXT,
    completion_window TEXT NOT NULL,
    window            INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    status            TEXT NOT NULL CHECK (status IN ('failed', 'in_progress', 'expiring', 'completed',
                                                      'expired', 'cancelling', 'cancelled')),
    total             INTEGER NOT NULL,
    succeeded         INTEGER NOT NULL DEFAULT 0,
    failed            INTEGER NOT NULL DEFAULT 0,
    expired           INTEGER NOT NULL DEFAULT 0,
    cancelled         INTEGER NOT NULL DEFAULT 0,
    attempts          INTEGER NOT NULL DEFAULT 0,
    retries           INTEGER NOT NULL DEFAULT 0,
    output_bytes      INTEGER NOT NULL DEFAULT 0,
    error_bytes       INTEGER NOT NULL DEFAULT 0,
    input_tokens      INTEGER NOT NULL DEFAULT 0,
    cached_tokens     INTEGER NOT NULL DEFAULT 0,
    output_tokens     INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens  INTEGER NOT NULL DEFAULT 0,
    timed_items       INTEGER NOT NULL DEFAULT 0,
    item_micros       INTEGER NOT NULL DEFAULT 0,
    min_item_micros   INTEGER,
    max_item_micros   INTEGER,
    in_progress_at    INTEGER,
    finalizing_at     INTEGER,
    completed_at      INTEGER,
    failed_at         INTEGER,
    expired_at        INTEGER,
    cancelling_at     INTEGER,
    cancelled_at      INTEGER,
    started_at        INTEGER,
    last_result_at    INTEGER,
    ended_at          INTEGER,
    output_file_id    TEXT,
    error_file_id     TEXT,
    output_expires    INTEGER, -- seconds after the views are made
    idempotency_key   TEXT,
    fingerprint       BLOB NOT NULL,
    deleted_at        INTEGER,
    CHECK (succeeded + failed + expired + cancelled <= total),
    CHECK ((ended_at IS NOT NULL) = (status IN ('failed', 'completed', 'expired', 'cancelled'))),
    CHECK (ended_at IS NULL OR succeeded + failed + expired + cancelled = total)
) STRICT;
CREATE INDEX batch_listed ON batch (app, key) WHERE deleted_at IS NULL;
CREATE INDEX batch_active ON batch (key) WHERE ended_at IS NULL;
CREATE INDEX batch_ended ON batch (ended_at) WHERE ended_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX batch_deleted ON batch (key) WHERE deleted_at IS NOT NULL;
CREATE INDEX batch_of_file ON batch (file);
CREATE UNIQUE INDEX batch_named ON batch (app, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batch_asked ON batch (app, fingerprint, created_at) WHERE deleted_at IS NULL;

CREATE TABLE batch_detail (
    batch    INTEGER PRIMARY KEY,
    options  TEXT NOT NULL,
    metadata TEXT NOT NULL,
    errors   TEXT NOT NULL
) STRICT;

-- How far leasing has come; what is untouched lies beyond.
CREATE TABLE cursor (
    batch        INTEGER NOT NULL,
    model        TEXT NOT NULL,
    next_segment INTEGER NOT NULL,
    PRIMARY KEY (batch, model)
) STRICT, WITHOUT ROWID;

-- Only segments that are leased and unfinished.
CREATE TABLE batch_segment (
    batch   INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    worker  INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    PRIMARY KEY (batch, segment)
) STRICT, WITHOUT ROWID;

-- id = batch << 32 | position: inserts append to the table, and a page in completion order is one run
-- of neighbours. It is also the unique index on (batch, position).
CREATE TABLE result (
    id               INTEGER PRIMARY KEY,
    batch            INTEGER NOT NULL,
    line             INTEGER NOT NULL,
    custom_id        TEXT,
    status           TEXT NOT NULL CHECK (status IN ('succeeded', 'failed', 'cancelled', 'expired')),
    http_status      INTEGER,
    error_code       TEXT,
    request_id       TEXT,
    attempts         INTEGER NOT NULL,
    started_at       INTEGER,
    finished_at      INTEGER NOT NULL,
    input_tokens     INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    line_bytes       INTEGER NOT NULL,
    compressed       INTEGER NOT NULL, -- 1: `payload` is a zstd frame
    chunks           INTEGER NOT NULL, -- 0: `payload` holds it; else so many rows of result_chunk do
    payload          BLOB,             -- the response's body, or the error's message
    CHECK ((http_status IS NULL) = (error_code IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX result_line ON result (batch, line);
-- The error file in its two orders. Few rows in good batches; in bad ones they are small.
CREATE INDEX result_error_line ON result (batch, line) WHERE status <> 'succeeded';
CREATE INDEX result_error_position ON result (id) WHERE status <> 'succeeded';

CREATE TABLE result_chunk (
    batch      INTEGER NOT NULL,
    line       INTEGER NOT NULL,
    no         INTEGER NOT NULL,
    compressed INTEGER NOT NULL,
    data       BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX result_chunk_no ON result_chunk (batch, line, no);

-- Only items that failed at least once and have no result.
CREATE TABLE retry (
    batch      INTEGER NOT NULL,
    line       INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    name  TEXT PRIMARY KEY,
    state BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per start. `alone_*` names the item that runs by itself; `suspect_*` what boots before died with.
CREATE TABLE boot (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    started_at     INTEGER NOT NULL,
    ended_at       INTEGER,
    recorded       INTEGER NOT NULL DEFAULT 0,
    alone_batch    INTEGER,
    alone_line     INTEGER,
    suspect_batch  INTEGER,
    suspect_line   INTEGER,
    suspect_deaths INTEGER NOT NULL DEFAULT 0
) STRICT;
