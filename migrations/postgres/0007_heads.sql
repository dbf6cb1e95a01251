-- New units of a head count from the first of them on. Before, they counted from the first slot that was handed out with
-- them, and could be used up to half a second later: within a limit per second more was used than it allows.

-- One exchange about one budget, whose row is there and locked. `spending`: how many microseconds a limit's worth of
-- units is spread over; 0 where it is spent within a rolling period, and below that by the day, -1 minus the seconds
-- after midnight at which days start. Told is what was not used, or else how much more or less a settled call used.
CREATE OR REPLACE FUNCTION ledger_budget_exchange(
    now BIGINT, named TEXT, counted TEXT, lasting BIGINT, asked_limit BIGINT, spending BIGINT, asked_need BIGINT,
    asked_want BIGINT, told_at BIGINT[], told_units BIGINT[], told_unused BOOLEAN[],
    OUT granted_at BIGINT[], OUT granted_units BIGINT[], OUT not_before BIGINT, OUT used BIGINT
) LANGUAGE plpgsql AS $$
<<mine>>
DECLARE
    -- The same constants, and the same order of things, as in src/domain/shared_ledger.
    horizon  CONSTANT BIGINT := 250000;
    jitter   CONSTANT BIGINT := 300000;
    late     CONSTANT BIGINT := 50000;
    reusable CONSTANT BIGINT := 200000;
    day      CONSTANT BIGINT := 86400000000;
    most     CONSTANT BIGINT := 1000000000000;
    fullest  CONSTANT BIGINT := 2147483647;
    weighs   CONSTANT BOOLEAN := counted <> 'requests';
    is_paced CONSTANT BOOLEAN := spending > 0;
    top      CONSTANT BIGINT := greatest(least(asked_limit, most), 1);
    pace     CONSTANT BIGINT := CASE WHEN spending > 0 THEN least(spending, 10000000000) ELSE 1 END;
    need     CONSTANT BIGINT := least(asked_need, most);
    want     CONSTANT BIGINT := greatest(least(asked_want, most), least(asked_need, most));
    fine     CONSTANT BIGINT := CASE WHEN spending < 0 THEN 0 WHEN spending > 0 AND counted <> 'requests' THEN 500 ELSE 64 END;
    span     CONSTANT BIGINT := lasting + jitter;
    width    CONSTANT BIGINT := CASE WHEN fine > 0 THEN (span + fine - 1) / fine ELSE day END;
    ring     CONSTANT BIGINT := CASE WHEN fine > 0 THEN fine + (horizon + width - 1) / width + 2 ELSE 0 END;
    per      CONSTANT BIGINT := CASE WHEN fine > 0 THEN 1 + top / 1073741824 ELSE 1 END;
    starts   CONSTANT BIGINT := CASE WHEN fine > 0 THEN 0 ELSE (-1 - spending) * 1000000 END;
    furthest CONSTANT BIGINT := now + least(120000000, 2 * lasting);
    latest   CONSTANT BIGINT := now + horizon;
    -- The row.
    due BIGINT; credit BIGINT; held BIGINT; grain BIGINT; total BIGINT; first BIGINT; parts INTEGER[];
    -- Slots given back.
    back_at BIGINT[]; back_units BIGINT[]; kept_at BIGINT[]; kept_units BIGINT[];
    is_changed BOOLEAN := FALSE;
    is_moved BOOLEAN := FALSE;
    carried BIGINT; change BIGINT; until BIGINT; remaining BIGINT; amount BIGINT; place BIGINT; last BIGINT; done BIGINT;
    fits BIGINT; start BIGINT; room BIGINT; reused BIGINT; rest BIGINT; fresh BIGINT := 0; behind BIGINT;
    past BIGINT; run BIGINT; saved RECORD;
BEGIN
    granted_at := '{}';
    granted_units := '{}';
    SELECT row.time, row.credit, row.held, row.grain, row.sum, row.part, row.parts
        INTO STRICT due, credit, held, grain, total, first, parts
        FROM ledger_budget AS row WHERE row.level = named AND row.dimension = counted AND row.period = lasting;

    -- What is over is forgotten.
    last := (now - starts) / width;
    IF parts IS NULL OR cardinality(parts) <> ring OR grain <> per OR ring > 0 AND first > last AND total > 0 THEN
        -- New, or spent in another way from now on, or the clock was set back by more than a span: what counted counts
        -- as charged now.
        is_changed := TRUE;
        carried := CASE WHEN parts IS NULL THEN NULL ELSE (total * grain + per - 1) / per END;
        total := 0;
        grain := per;
        first := CASE WHEN ring > 0 THEN (now - span) / width ELSE last END;
        parts := CASE WHEN ring > 0 THEN array_fill(0, ARRAY[ring::integer]) ELSE '{}' END;
        IF carried IS NULL THEN
            due := now;
            IF is_paced AND weighs THEN
                -- Nothing is known of the last period, so it is taken as evenly full. (The pace alone holds requests.)
                total := (top + grain - 1) / grain;
                FOR i IN 0 .. (last - first)::integer LOOP
                    parts[1 + (first + i) % ring] := total * (i + 1) / (last - first + 1) - total * i / (last - first + 1);
                END LOOP;
            ELSIF NOT is_paced THEN
                FOR saved IN SELECT * FROM ledger_saved(named, counted, lasting) LOOP
                    place := least((least(saved.at, now) - starts) / width, last);
                    IF ring = 0 THEN
                        total := total + CASE WHEN place = last THEN least(saved.units, most) ELSE 0 END;
                    ELSIF place >= first THEN
                        amount := least((saved.units + grain - 1) / grain, fullest - parts[1 + place % ring]);
                        parts[1 + place % ring] := parts[1 + place % ring] + amount;
                        total := total + amount;
                    END IF;
                END LOOP;
            END IF;
        ELSIF ring > 0 THEN
            total := least(carried, fullest);
            parts[1 + last % ring] := total;
        ELSE
            total := carried;
        END IF;
    ELSIF ring = 0 THEN
        -- A clock that was set back over midnight goes on with the later day's count.
        IF last <> first AND last + 1 <> first THEN
            is_changed := TRUE;
            first := last;
            total := 0;
        END IF;
    ELSE
        last := (now - span) / width;
        IF total = 0 THEN
            first := last;
        ELSIF last - first >= ring THEN
            parts := array_fill(0, ARRAY[ring::integer]);
            total := 0;
        ELSE
            FOR i IN 0 .. (last - first - 1)::integer LOOP
                place := 1 + (first + i) % ring;
                IF parts[place] <> 0 THEN
                    total := total - parts[place];
                    parts[place] := 0;
                END IF;
            END LOOP;
        END IF;
        is_changed := last > first;
        first := greatest(first, last);
    END IF;
    -- Moments from the future are of a clock that was set back.
    IF due > furthest OR held > now THEN
        is_changed := TRUE;
        due := least(due, furthest);
        held := CASE WHEN held > now THEN now ELSE held END;
    END IF;
    IF is_paced THEN
        SELECT array_agg(slot.at ORDER BY slot.at), array_agg(slot.units ORDER BY slot.at) INTO back_at, back_units
            FROM ledger_slot AS slot WHERE slot.level = named AND slot.dimension = counted AND slot.period = lasting;
        FOR i IN 1 .. coalesce(cardinality(back_at), 0) LOOP
            IF back_at[i] + ledger_up(back_units[i], pace, top) > now - reusable AND back_at[i] <= furthest THEN
                kept_at := kept_at || back_at[i];
                kept_units := kept_units || back_units[i];
            ELSE
                is_moved := TRUE;
            END IF;
        END LOOP;
        back_at := coalesce(kept_at, '{}');
        back_units := coalesce(kept_units, '{}');
    END IF;

    -- What was told: it comes in the order in which it is to be taken.
    FOR i IN 1 .. coalesce(cardinality(told_at), 0) LOOP
        change := least(abs(told_units[i]), most);
        CONTINUE WHEN change = 0;
        is_changed := TRUE;
        IF NOT told_unused[i] AND told_units[i] > 0 THEN
            -- Used beyond the charge: a debt.
            IF ring = 0 THEN
                total := total + change;
            ELSE
                place := 1 + least(now / width, first + ring - 1) % ring;
                amount := least((change + grain - 1) / grain, fullest - parts[place]);
                parts[place] := parts[place] + amount;
                total := total + amount;
            END IF;
            IF is_paced THEN
                change := ledger_up(change, pace, top);
                amount := least(change, credit);
                credit := credit - amount;
                due := due + amount;
                IF change > amount THEN
                    due := greatest(due, now) + change - amount;
                END IF;
            END IF;
            CONTINUE;
        END IF;
        until := told_at[i] + CASE WHEN NOT is_paced THEN 0
            WHEN told_unused[i] THEN ledger_up(change, pace, top) ELSE ledger_down(change, pace, top) END;
        -- It leaves the sum: from the earlier of its parts first, and beyond them from those before, so that what is
        -- left never counts for shorter than it should.
        IF ring = 0 THEN
            IF told_at[i] >= starts AND (told_at[i] - starts) / day = first THEN
                total := greatest(total - change, 0);
            END IF;
        ELSIF told_at[i] / width >= first THEN
            remaining := change / grain;
            last := first + ring - 1;
            start := told_at[i] / width;
            place := start;
            WHILE remaining > 0 AND place >= first LOOP
                IF place <= last THEN
                    amount := least(remaining, parts[1 + place % ring]);
                    parts[1 + place % ring] := parts[1 + place % ring] - amount;
                    total := total - amount;
                    remaining := remaining - amount;
                END IF;
                -- Onward to its end, and then backward from before its start.
                place := CASE WHEN place < start THEN place - 1
                    WHEN place < least(until / width, last) THEN place + 1 ELSE least(start, last + 1) - 1 END;
            END LOOP;
        END IF;
        IF NOT is_paced THEN
            CONTINUE;
        ELSIF NOT told_unused[i] THEN
            -- A request is over with its start: what is given back of it later is no room for another one.
            IF weighs THEN
                behind := greatest(now - due, 0);
                due := due - (until - told_at[i]);
                credit := least(credit + greatest(now - due, 0) - behind, lasting);
            END IF;
        ELSIF abs(until - due) <= 2 THEN
            due := told_at[i];
        ELSIF until > now - reusable THEN
            is_moved := TRUE;
            place := array_position(back_at, told_at[i]);
            IF place IS NULL THEN
                back_at := back_at || told_at[i];
                back_units := back_units || change;
            ELSE
                back_units[place] := back_units[place] + change;
            END IF;
        END IF;
    END LOOP;

    IF need > 0 AND ring = 0 THEN
        -- By the day. A call sent just before its end could arrive in the next.
        until := (first + 1) * day + starts;
        IF total <= top - least(need, top) AND now < until - jitter THEN
            granted_at := ARRAY[now];
            granted_units := ARRAY[greatest(least(want, top - total), need)];
            total := total + granted_units[1];
            is_changed := TRUE;
        ELSE
            not_before := until;
        END IF;
    ELSIF need > 0 THEN
        fits := now;
        remaining := total;
        place := first;
        start := greatest(due, now - late);
        IF weighs OR NOT is_paced THEN
            -- The sum: when it has room for the whole need.
            WHILE remaining > 0 AND remaining * grain > top - least(need, top) LOOP
                remaining := remaining - parts[1 + place % ring];
                place := place + 1;
                fits := place * width + span;
            END LOOP;
            IF NOT is_paced THEN
                start := fits;
            ELSIF fits > greatest(due, now) AND (held IS NULL OR held > greatest(due, now)) THEN
                held := greatest(due, now);
                is_changed := TRUE;
            END IF;
            start := greatest(start, CASE WHEN fits > now THEN fits ELSE start END);
            -- And how much it has then.
            WHILE remaining > 0 AND (place + 1) * width + span <= start LOOP
                remaining := remaining - parts[1 + place % ring];
                place := place + 1;
            END LOOP;
            room := top - remaining * grain;
        END IF;

        -- How many of the slots given back are due and usable.
        reused := 0;
        IF is_paced AND cardinality(back_at) > 0 THEN
            IF is_moved THEN
                SELECT array_agg(slot.at ORDER BY slot.at), array_agg(slot.units ORDER BY slot.at)
                    INTO back_at, back_units FROM unnest(back_at, back_units) AS slot (at, units);
            END IF;
            FOR i IN 1 .. cardinality(back_at) LOOP
                past := ledger_due(now - reusable - back_at[i], top, pace);
                run := back_at[i] + ledger_up(past, pace, top);
                reused := reused
                    + greatest(least(ledger_due(latest - run + 1, top, pace), back_units[i] - past), 0);
            END LOOP;
            reused := least(reused, want);
            IF weighs THEN
                reused := least(reused, CASE WHEN fits > now THEN 0 ELSE top - total * grain END);
            END IF;
        END IF;

        rest := greatest(need - reused, 0);
        IF rest > 0 AND start > latest THEN
            not_before := start - horizon;
        ELSE
            is_changed := TRUE;
            IF reused > 0 THEN
                is_moved := TRUE;
                remaining := reused;
                kept_at := '{}';
                kept_units := '{}';
                FOR i IN 1 .. cardinality(back_at) LOOP
                    past := least(ledger_due(now - reusable - back_at[i], top, pace), back_units[i]);
                    run := back_at[i] + ledger_up(past, pace, top);
                    amount := greatest(least(ledger_due(latest - run + 1, top, pace), back_units[i] - past, remaining), 0);
                    IF amount = 0 THEN
                        kept_at := kept_at || back_at[i];
                        kept_units := kept_units || back_units[i];
                        CONTINUE;
                    END IF;
                    remaining := remaining - amount;
                    granted_at := granted_at || run;
                    granted_units := granted_units || amount;
                    IF back_units[i] - past > amount THEN
                        kept_at := kept_at || run + ledger_up(amount, pace, top);
                        kept_units := kept_units || back_units[i] - past - amount;
                    END IF;
                END LOOP;
                back_at := kept_at;
                back_units := kept_units;
            END IF;
            -- New ones: as many as are due within the horizon and fit; all that is granted is looked at as if it were
            -- used with the first of it.
            fresh := want - reused;
            IF is_paced THEN
                fresh := least(fresh, ledger_due(latest - start + 1, top, pace));
            END IF;
            fresh := greatest(least(fresh, room - reused), rest);
            IF fresh > 0 THEN
                granted_at := granted_at || start;
                granted_units := granted_units || fresh;
            END IF;
            IF fresh > 0 AND is_paced THEN
                IF held IS NOT NULL THEN
                    -- Waiting for the sum is no reason to go slower afterwards: the sum is the limit.
                    credit := credit + greatest(least(start - held, lasting / 10), 0);
                    held := NULL;
                END IF;
                behind := greatest(start - due, 0);
                due := start + ledger_up(fresh, pace, top)
                    - CASE WHEN behind <= lasting THEN least(credit, behind) ELSE 0 END;
                -- A light call does not use it up.
                credit := least(credit, greatest(start - due, 0));
            END IF;
        END IF;

        -- The charges: new units of a head count together, the others not before they are due.
        last := first + ring - 1;
        FOR i IN 1 .. cardinality(granted_at) LOOP
            -- What may be used early, with the first of its call, must not count from a moment that is over as well.
            run := CASE WHEN weighs THEN greatest(granted_at[i], now) ELSE granted_at[i] END;
            change := granted_units[i];
            amount := CASE WHEN NOT is_paced THEN change
                WHEN weighs AND fresh > 0 AND i = cardinality(granted_at) THEN rest ELSE 0 END;
            IF amount > 0 THEN
                place := 1 + greatest(least(run / width, last), first) % ring;
                done := least((amount + grain - 1) / grain, fullest - parts[place]);
                parts[place] := parts[place] + done;
                total := total + done;
                run := run + ledger_up(amount, pace, top);
                change := change - amount;
            END IF;
            done := 0;
            place := run / width;
            WHILE done < change LOOP
                until := CASE WHEN place >= last THEN change
                    ELSE least(ledger_due((place + 1) * width - run, top, pace), change) END;
                past := 1 + greatest(least(place, last), first) % ring;
                amount := least((until - done + grain - 1) / grain, fullest - parts[past]);
                parts[past] := parts[past] + amount;
                total := total + amount;
                done := until;
                place := place + 1;
            END LOOP;
        END LOOP;
    END IF;

    used := total * grain;
    IF is_changed THEN
        UPDATE ledger_budget AS row SET limit_units = top, time = due, credit = mine.credit,
                held = mine.held, grain = per, sum = total, part = first,
                parts = mine.parts
            WHERE row.level = named AND row.dimension = counted AND row.period = lasting;
    END IF;
    IF is_moved THEN
        DELETE FROM ledger_slot AS slot
            WHERE slot.level = named AND slot.dimension = counted AND slot.period = lasting;
        INSERT INTO ledger_slot SELECT named, counted, lasting, slot.at, slot.units
            FROM unnest(back_at, back_units) AS slot (at, units);
    END IF;
END
$$;
