-- What each app may use. A program that knows only 0001 would serve everyone without asking for a key, so
-- it may not open the file any more.
ALTER TABLE app ADD COLUMN weight INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 1);
ALTER TABLE app ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE app ADD COLUMN items_queued INTEGER;
ALTER TABLE app ADD COLUMN bytes_stored INTEGER;
ALTER TABLE app ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;

-- `hash` is SHA-256 of the key's text, which is stored nowhere. Revoked keys stay, so that it can be told
-- which there were; `last_used` is a day, counted from 1970, so that a key's use costs one write a day.
CREATE TABLE api_key (
    key        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    app        INTEGER NOT NULL,
    name       TEXT,
    scope      TEXT NOT NULL CHECK (scope IN ('app', 'read', 'admin')),
    hash       BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used  INTEGER,
    replaces   TEXT
) STRICT;

-- One small row per app and day; `day` is counted from 1970.
CREATE TABLE app_usage (
    app           INTEGER NOT NULL,
    day           INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    PRIMARY KEY (app, day)
) STRICT, WITHOUT ROWID;

-- Sums what an app stores from the index alone.
CREATE INDEX file_stored ON file (app, bytes) WHERE deleted_at IS NULL;
