-- The ledger that workers share: each budget of a level is one row, from which they lease slots in time; and of the
-- calls that may be in flight each worker holds some. All of it changes in `ledger_exchange` and nowhere else; its
-- laws are written down, and tested, in src/domain/shared_ledger. What it does about one budget is in 0007_heads.sql, which
-- replaced it.

CREATE TABLE ledger_budget (
    level       TEXT COLLATE "C" NOT NULL,
    dimension   TEXT COLLATE "C" NOT NULL,
    period      BIGINT NOT NULL,             -- microseconds
    limit_units BIGINT NOT NULL DEFAULT 0,   -- as the last one to ask knew it
    time        BIGINT NOT NULL DEFAULT 0,   -- when the next new slot is due
    credit      BIGINT NOT NULL DEFAULT 0,   -- how far behind that may be and be made up for, in microseconds
    held        BIGINT,                      -- since when only the sum keeps a grant back
    grain       BIGINT NOT NULL DEFAULT 1,   -- units that one count of `sum` and `parts` stands for
    sum         BIGINT NOT NULL DEFAULT 0,   -- of `parts`; of a budget by the day, all there is
    part        BIGINT NOT NULL DEFAULT 0,   -- the number of the oldest part that counts, or of the day
    parts       INTEGER[],                   -- a ring of charges by time; null before the first exchange
    PRIMARY KEY (level, dimension, period)
);

-- Slots that were given back before their time: handed out first, erased when they are past.
CREATE TABLE ledger_slot (
    level     TEXT COLLATE "C" NOT NULL,
    dimension TEXT COLLATE "C" NOT NULL,
    period    BIGINT NOT NULL,
    at        BIGINT NOT NULL, -- when the first of them is due
    units     BIGINT NOT NULL,
    PRIMARY KEY (level, dimension, period, at)
);

-- A level's row of worker 0 is nobody's: who holds its lock may change the others.
CREATE TABLE ledger_places (
    level  TEXT COLLATE "C" NOT NULL,
    worker BIGINT NOT NULL,
    epoch  BIGINT NOT NULL, -- of the worker; under another one its row counts no more
    held   BIGINT NOT NULL,
    want   BIGINT NOT NULL,
    used   BIGINT NOT NULL,
    PRIMARY KEY (level, worker)
);

-- A row of 2 KB that every exchange rewrites: kept inline, alone on its page, with room for its next versions there.
ALTER TABLE ledger_budget ALTER COLUMN parts SET STORAGE PLAIN;
ALTER TABLE ledger_budget SET (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE ledger_slot SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE ledger_places SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- `amount × numerator ÷ denominator`, rounded up, and at most far away. The short way holds all but absurd numbers.
CREATE FUNCTION ledger_up(amount BIGINT, numerator BIGINT, denominator BIGINT) RETURNS BIGINT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN amount <= 4000000000 AND numerator <= 2000000000
        THEN (amount * numerator + denominator - 1) / denominator
        ELSE least(div(amount::numeric * numerator + denominator - 1, denominator), 4000000000000000000)::bigint
    END
$$;

-- The same, rounded down.
CREATE FUNCTION ledger_down(amount BIGINT, numerator BIGINT, denominator BIGINT) RETURNS BIGINT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN amount <= 4000000000 AND numerator <= 2000000000
        THEN amount * numerator / denominator
        ELSE least(div(amount::numeric * numerator, denominator), 4000000000000000000)::bigint
    END
$$;

-- How many units of a run, at `units` per `stretched` microseconds, are due less than so long after its first.
CREATE FUNCTION ledger_due(microseconds BIGINT, units BIGINT, stretched BIGINT) RETURNS BIGINT
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN microseconds <= 0 THEN 0
        WHEN microseconds <= 4000000000 AND units <= 2000000000
        THEN (microseconds - 1) * units / stretched + 1
        ELSE least(div((microseconds - 1)::numeric * units, stretched), 4000000000000000000)::bigint + 1
    END
$$;

-- What one process alone saved of a budget that is counted, before there was a row of it here.
CREATE FUNCTION ledger_saved(named TEXT, counted TEXT, lasting BIGINT) RETURNS TABLE (at BIGINT, units BIGINT)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT (kept ->> 0)::bigint, (kept ->> 1)::bigint
        FROM ledger,
             jsonb_array_elements(convert_from(state, 'UTF8')::jsonb -> 'budgets') AS budget,
             jsonb_array_elements(budget -> 'parts') AS kept
        WHERE ledger.name = named AND budget ->> 'dimension' = counted AND (budget ->> 'period_us')::bigint = lasting;
EXCEPTION WHEN data_exception THEN
    -- Saved in words that are not known here: nothing is known.
    RETURN;
END
$$;

-- One exchange about one level's calls in flight; the level's row of worker 0 is locked. Tells how many may be.
CREATE FUNCTION ledger_places_exchange(
    named TEXT, me BIGINT, my_epoch BIGINT, top BIGINT, my_used BIGINT, asked_want BIGINT
) RETURNS BIGINT LANGUAGE plpgsql AS $$
DECLARE
    my_want CONSTANT BIGINT := greatest(asked_want, my_used);
    spread  BIGINT := top; -- not shared out yet
    others  BIGINT := 0;
    fair    BIGINT := 0;
    mine    BIGINT;
    other   RECORD;
BEGIN
    IF my_want = 0 THEN
        -- And what the dead left, which counts no more.
        DELETE FROM ledger_places AS row WHERE row.level = named AND row.worker <> 0 AND (row.worker = me OR NOT EXISTS (
            SELECT 1 FROM worker WHERE worker.key = row.worker AND worker.epoch = row.epoch AND worker.ended_at IS NULL
        ));
        RETURN 0;
    END IF;
    -- If all was shared out anew: who wants little gets that, the others get the same.
    FOR other IN
        SELECT sharer.*, count(*) OVER (ORDER BY sharer.want DESC, sharer.worker DESC) AS sharers
        FROM (
            SELECT row.worker, row.held, row.want FROM ledger_places AS row
                JOIN worker ON worker.key = row.worker AND worker.epoch = row.epoch AND worker.ended_at IS NULL
                WHERE row.level = named AND row.worker <> me
            UNION ALL SELECT me, 0, my_want
        ) AS sharer
        ORDER BY sharer.want, sharer.worker
    LOOP
        others := others + other.held;
        IF other.worker = me THEN
            fair := least(other.want, spread / other.sharers);
        END IF;
        spread := spread - least(other.want, spread / other.sharers);
    END LOOP;
    mine := greatest(least(my_want, fair, top - others), 0);
    -- What is in flight already can't be taken back, but whoever has more than its share starts nothing until it has not.
    INSERT INTO ledger_places AS row (level, worker, epoch, held, want, used)
        VALUES (named, me, my_epoch, greatest(mine, my_used), my_want, my_used)
        ON CONFLICT (level, worker) DO UPDATE
            SET epoch = excluded.epoch, held = excluded.held, want = excluded.want, used = excluded.used
            WHERE (row.epoch, row.held, row.want, row.used)
                IS DISTINCT FROM (excluded.epoch, excluded.held, excluded.want, excluded.used);
    RETURN mine;
END
$$;

-- One exchange of a worker, as src/domain/exchange.rs has it: the budgets in the order of their names, what is told
-- of each in one run behind the one before (`told_of` is its budget's number, from 1), then the places in the order of
-- their levels. A negative `told_units` of a settled call was not used. `not_before` is 0 where there is none.
-- `moment` is the present for tests; the service leaves it to the clock, once everything is locked.
CREATE FUNCTION ledger_exchange(
    worker_key BIGINT, worker_epoch BIGINT, number BIGINT,
    levels TEXT[], dimensions TEXT[], periods BIGINT[], limits BIGINT[], spendings BIGINT[], needs BIGINT[], wants BIGINT[],
    told_of BIGINT[], told_at BIGINT[], told_units BIGINT[], told_unused BOOLEAN[],
    place_levels TEXT[], place_limits BIGINT[], place_used BIGINT[], place_wants BIGINT[],
    moment BIGINT DEFAULT NULL,
    OUT now BIGINT, OUT used BIGINT[], OUT not_before BIGINT[],
    OUT slot_of BIGINT[], OUT slot_at BIGINT[], OUT slot_units BIGINT[], OUT places BIGINT[]
) LANGUAGE plpgsql SECURITY INVOKER
SET search_path FROM CURRENT SET lock_timeout = '2s' AS $$
DECLARE
    is_new BOOLEAN := FALSE;
    told   BIGINT := 1;
    behind BIGINT;
    answer RECORD;
BEGIN
    -- A slot that was granted must stay granted when the server fails.
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', TRUE);
    END IF;
    -- What is told is taken once, however often it is sent.
    IF cardinality(told_of) > 0 THEN
        UPDATE worker SET exchange = number
            WHERE key = worker_key AND epoch = worker_epoch AND exchange < number;
        is_new := FOUND;
    END IF;
    IF NOT is_new THEN
        PERFORM 1 FROM worker WHERE key = worker_key AND epoch = worker_epoch;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'worker % is not in epoch % any more', worker_key, worker_epoch
                USING ERRCODE = 'SG001';
        END IF;
    END IF;
    FOR i IN 1 .. cardinality(levels) LOOP
        LOOP
            PERFORM 1 FROM ledger_budget AS row
                WHERE row.level = levels[i] AND row.dimension = dimensions[i] AND row.period = periods[i]
                FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO ledger_budget (level, dimension, period) VALUES (levels[i], dimensions[i], periods[i])
                ON CONFLICT DO NOTHING;
        END LOOP;
    END LOOP;
    FOR i IN 1 .. cardinality(place_levels) LOOP
        LOOP
            PERFORM 1 FROM ledger_places AS row WHERE row.level = place_levels[i] AND row.worker = 0 FOR NO KEY UPDATE;
            EXIT WHEN FOUND;
            INSERT INTO ledger_places VALUES (place_levels[i], 0, 0, 0, 0, 0) ON CONFLICT DO NOTHING;
        END LOOP;
    END LOOP;
    now := coalesce(moment, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);

    used := '{}';
    not_before := '{}';
    slot_of := '{}';
    slot_at := '{}';
    slot_units := '{}';
    places := '{}';
    FOR i IN 1 .. cardinality(levels) LOOP
        behind := told;
        WHILE told_of[behind] = i LOOP
            behind := behind + 1;
        END LOOP;
        SELECT * INTO STRICT answer FROM ledger_budget_exchange(
            now, levels[i], dimensions[i], periods[i], limits[i], spendings[i], needs[i], wants[i],
            CASE WHEN is_new THEN told_at[told:behind - 1] END,
            CASE WHEN is_new THEN told_units[told:behind - 1] END,
            CASE WHEN is_new THEN told_unused[told:behind - 1] END
        );
        told := behind;
        used := used || answer.used;
        not_before := not_before || coalesce(answer.not_before, 0);
        slot_of := slot_of || array_fill(i::bigint, ARRAY[cardinality(answer.granted_at)]);
        slot_at := slot_at || answer.granted_at;
        slot_units := slot_units || answer.granted_units;
    END LOOP;
    FOR i IN 1 .. cardinality(place_levels) LOOP
        places := places || ledger_places_exchange(
            place_levels[i], worker_key, worker_epoch, place_limits[i], place_used[i], place_wants[i]
        );
    END LOOP;
END
$$;
