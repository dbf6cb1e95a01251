-- What apps have taken of a level, over all workers: whose turn it is where several compete. The laws are written down in
-- src/domain/shared_ledger/shares.rs.

CREATE TABLE ledger_share (
    level     TEXT COLLATE "C" NOT NULL,
    app       TEXT COLLATE "C" NOT NULL, -- 'app/NAME', 'app' for calls without one, '' for the level's own time
    served    BIGINT NOT NULL,           -- virtual time; only ever grows
    contended BIGINT NOT NULL DEFAULT 0, -- of the level's own time: until when workers with one app tell, too
    PRIMARY KEY (level, app)
);
ALTER TABLE ledger_share SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Part of an exchange, after the budgets at `moment`: takes what is told, in the order of levels and apps, and answers for
-- the levels asked about that apps compete for.
CREATE FUNCTION ledger_shares(
    moment BIGINT, levels TEXT[], apps TEXT[], bases BIGINT[], taken BIGINT[], asked TEXT[],
    OUT heard_levels TEXT[], OUT heard_apps TEXT[], OUT heard_served BIGINT[]
) LANGUAGE plpgsql SECURITY INVOKER
SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
BEGIN
    FOR i IN 1 .. cardinality(levels) LOOP
        IF apps[i] = '' AND taken[i] > 0 THEN
            -- A worker joins. Where nobody competes at present, the common counters start anew with its time.
            UPDATE ledger_share AS row SET contended = moment + 10000000
                WHERE row.level = levels[i] AND row.app = '' AND row.contended > moment;
            CONTINUE WHEN FOUND;
            INSERT INTO ledger_share AS row (level, app, served, contended)
                VALUES (levels[i], '', bases[i], moment + 10000000)
                ON CONFLICT (level, app) DO UPDATE SET served = excluded.served, contended = excluded.contended
                WHERE row.contended <= moment;
            -- Not found: another one was quicker.
            IF FOUND THEN
                DELETE FROM ledger_share AS row WHERE row.level = levels[i] AND row.app <> '';
            END IF;
            CONTINUE;
        END IF;
        INSERT INTO ledger_share AS row (level, app, served, contended)
            VALUES (levels[i], apps[i], bases[i] + taken[i], CASE apps[i] WHEN '' THEN moment + 10000000 ELSE 0 END)
            ON CONFLICT (level, app) DO UPDATE
            SET served = greatest(row.served, bases[i]) + taken[i], contended = excluded.contended
            WHERE taken[i] > 0 OR row.served < bases[i] OR row.contended < excluded.contended - 1000000;
    END LOOP;
    SELECT coalesce(array_agg(row.level ORDER BY row.level, row.app), '{}'),
           coalesce(array_agg(row.app ORDER BY row.level, row.app), '{}'),
           coalesce(array_agg(row.served ORDER BY row.level, row.app), '{}')
        INTO heard_levels, heard_apps, heard_served
        FROM ledger_share AS row
        WHERE row.level = ANY (asked) AND EXISTS (
            SELECT 1 FROM ledger_share AS time WHERE time.level = row.level AND time.app = '' AND time.contended > moment);
END
$$;
