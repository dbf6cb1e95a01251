"""What the database is asked when little or nothing goes on, and what is left in it at the end."""

import asyncio
import json
import time
import typing

from cluster import SCHEMA, Cluster
from support import ENDED, create, lines, upload

IDLE_STATEMENTS, POLLS = 8.0, 8.0
SLOTS_PER_ITEM, SLOTS_LEFT = 0.08, 1_000


def followers(arguments):
    """Statements per second of an idle cluster, of one with a batch under way, and what following it adds."""
    cluster = Cluster(arguments, 'latency = "100ms"\nlog = "off"\n', 'limits.requests = ["600/min"]')
    cluster.start()
    time.sleep(20.0)
    idle = rates(cluster, arguments.seconds)
    show(cluster, arguments, "idle", idle)
    all_idle = sum(all_of_them for all_of_them, _ in idle.values())
    cluster.must(all_idle <= IDLE_STATEMENTS, f"an idle cluster makes {all_idle:.1f} statements/s")

    batch = create(cluster.ask, upload(cluster.ask, lines(int(10 * (4 * arguments.seconds + 120)))))["id"]
    time.sleep(10.0)
    alone = rates(cluster, arguments.seconds)
    show(cluster, arguments, "a batch under way, nobody follows", alone)
    for reads, what in ((read_events, "events"), (wait_for_results, "pages of results")):
        followed, answers = asyncio.run(follow(cluster, batch, arguments, reads))
        show(cluster, arguments, f"the same with {arguments.followers} followers that read {what}, {answers:.0f}/s", followed)
        # A page that is given out has to be read; what counts is the asking whether there is one.
        pages = answers / len(cluster.replicas) if reads is wait_for_results else 0.0
        added = {role: followed[role][1] - alone.get(role, (0, 0))[1] - pages for role in followed}
        print(f"seed {arguments.seed}: following {what} adds queries "
              f"{', '.join(f'{role} {rate:.2f}/s' for role, rate in sorted(added.items()))}, beside {pages:.0f}/s for the pages", flush=True)
        for role, rate in added.items():
            cluster.must(rate <= POLLS, f"following {what} adds {rate:.1f} queries/s at {role}")
        cluster.must(answers > 0, f"no {what} came")
    return cluster.close()


def rates(cluster, seconds):
    """Statements and queries per second of each replica, for a while."""
    cluster.database.rows("SELECT pg_stat_statements_reset()")
    start = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - start
    return {role: (calls / took, queries / took) for role, (calls, queries) in cluster.database.statements().items()}


def show(cluster, arguments, what, found):
    each = ", ".join(f"{role} {rate:.2f} of them queries {queries:.2f}" for role, (rate, queries) in sorted(found.items()))
    print(f"seed {arguments.seed}: {what}: {sum(rate for rate, _ in found.values()):.2f} statements/s ({each})", flush=True)
    asked = ("SELECT sum(calls), left(regexp_replace(query, '\\s+', ' ', 'g'), 100) FROM pg_stat_statements JOIN pg_roles "
             "ON pg_roles.oid = userid WHERE rolname LIKE 'replica%' GROUP BY 2 ORDER BY 1 DESC LIMIT 14")
    for calls, text in cluster.database.rows(asked):
        print(f"    {int(calls):>6}  {text}")


async def follow(cluster, batch, arguments, reads):
    """All begin at once and are spread over the replicas; the rates, and answers per second."""
    counts = {"answers": 0}
    ports = [replica.service.port for replica in cluster.replicas]
    tasks = [asyncio.ensure_future(reads(ports[number % len(ports)], batch, counts)) for number in range(arguments.followers)]
    await asyncio.sleep(5.0)
    before = counts["answers"]
    found = await asyncio.to_thread(rates, cluster, arguments.seconds)
    answers = (counts["answers"] - before) / arguments.seconds
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        cluster.must(isinstance(result, asyncio.CancelledError), f"a follower was let down: {result!r}")
    return found, answers


async def read_events(port, batch, counts):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/batches/{batch}/events HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    while line := await reader.readline():
        counts["answers"] += line.startswith(b"data:")
    raise ConnectionError("the events ended")


async def wait_for_results(port, batch, counts):
    """Pages of results, each asked for from where the last one ended."""
    after = "0"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        path = f"/v1/batches/{batch}/results?order=completion&limit=1000&wait=20s&after={after}"
        writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        headers, status = {}, (await reader.readline()).split()
        if status[1:2] != [b"200"]:
            raise ConnectionError(f"a page was answered with {status}")
        while (line := await reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().strip().partition(":")
            headers[name.lower()] = value.strip()
        if not headers:
            raise ConnectionError("the connection ended")
        await body(reader, headers)
        counts["answers"] += 1
        after = headers.get("sluicegate-next-after", after)


async def body(reader, headers):
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
        return
    while line := await reader.readline():
        size = int(line, 16)
        if size == 0:
            break
        await reader.readexactly(size + 2)
    else:
        raise ConnectionError("an answer was cut short")
    await reader.readline()


# A table with what is kept out of line, and its indexes: their empty pages are used again, but never given back.
TABLES = ("SELECT relname, n_dead_tup, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables "
          f"WHERE schemaname = '{SCHEMA}' ORDER BY pg_total_relation_size(relid) DESC")
TABLES_GROWN, INDEXES_GROWN = 4e6, 1.1


def cleanup(arguments):
    """Runs many items and has them erased, again and again, and looks at what is left in the tables.

    Indexes never shrink, and what a round empties may be found free only after the next one began: they may grow in the
    second round, and not in later ones.
    """
    limits = 'limits.max_concurrent = 256\nlimits.requests = ["1000000/min"]'
    top = "retention.files = \"1h\"\nretention.results = \"1h\""
    cluster = Cluster(arguments, 'latency = "0ms"\nlog = "counts"\n', limits, top)
    cluster.start()
    baseline = tables(cluster)
    indexes = [fill_and_erase(cluster, arguments, baseline) for _ in range(arguments.rounds)]
    shown = ", ".join(f"{size / 1e6:.1f}" for size in indexes)
    cluster.must(indexes[-1] <= max(indexes[:2]) * INDEXES_GROWN, f"indexes came to {shown} MB, round by round")
    return cluster.close()


def fill_and_erase(cluster, arguments, baseline):
    """One round; the bytes of the indexes after it."""
    size, batches, started = 50_000, [], time.monotonic()
    for number in range(max(1, arguments.items // size)):
        count = min(size, arguments.items)
        file = upload(cluster.ask, lines(count, number * count))
        batches.append((create(cluster.ask, file, f"job-{number}")["id"], file))
    most_slots = 0.0
    for batch, _ in batches:
        while json.loads(cluster.ask("GET", f"/v1/batches/{batch}"))["status"] not in ENDED:
            most_slots = max(most_slots, slots(cluster))
            time.sleep(1.0)
    items = len(batches) * count
    took = time.monotonic() - started
    print(f"seed {arguments.seed}: {items} items in {took:.0f} s, {items / took:.0f}/s; ledger slots at most {most_slots:.0f}, "
          f"{most_slots / items:.4f} an item", flush=True)
    show_tables(arguments, "full", tables(cluster))
    for batch, file in batches:
        cluster.ask("DELETE", f"/v1/batches/{batch}")
        cluster.ask("DELETE", f"/v1/files/{file}")
    until = time.monotonic() + 1_200
    # A batch's row goes last. Counting results would hold the lock that the server needs to give pages back.
    while cluster.database.number(f"SELECT count(*) FROM {SCHEMA}.batch") and time.monotonic() < until:
        time.sleep(2.0)
    erased_after = time.monotonic() - until + 1_200
    time.sleep(120.0)
    left_slots = slots(cluster)
    print(f"seed {arguments.seed}: erased {erased_after:.0f} s after it was asked for; {left_slots:.0f} ledger slots 2 min later")
    end = tables(cluster)
    show_tables(arguments, "erased", end)
    cluster.must(most_slots <= SLOTS_PER_ITEM * items, f"{most_slots:.0f} ledger slots for {items} items")
    cluster.must(left_slots < SLOTS_LEFT, f"{left_slots:.0f} ledger slots are left")
    for name, found in end.items():
        cluster.must(found.dead <= 20_000, f"{found.dead} dead rows in {name}")
    live = sum(end[name].live for name in ("result", "segment", "item_key", "batch_segment"))
    cluster.must(live <= 1_000, f"{live} rows are left")
    grown, indexes = (sum(getattr(found, kind) for found in end.values())
                      - sum(getattr(found, kind) for found in baseline.values()) for kind in ("table", "indexes"))
    print(f"seed {arguments.seed}: tables {grown / 1e6:.1f} MB above the start, indexes {indexes / 1e6:.1f} MB", flush=True)
    cluster.must(grown <= TABLES_GROWN, f"tables are {grown / 1e6:.1f} MB larger than at the start")
    return indexes


def slots(cluster):
    there = cluster.database.rows(f"SELECT to_regclass('{SCHEMA}.ledger_slot') IS NOT NULL")
    return cluster.database.number(f"SELECT count(*) FROM {SCHEMA}.ledger_slot") if there == [["t"]] else 0.0


class Table(typing.NamedTuple):
    """A table's rows and bytes, as the server counts them."""

    dead: int
    live: int
    table: int
    indexes: int


def tables(cluster):
    cluster.database.rows("SELECT pg_stat_clear_snapshot()")
    return {name: Table(*map(int, counts)) for name, *counts in cluster.database.rows(TABLES)}


def show_tables(arguments, what, found):
    for name, (dead, live, table, indexes) in found.items():
        if table + indexes > 100_000 or dead:
            print(f"seed {arguments.seed}: {what}: {name:<16} {live:>9} rows, {dead:>8} dead, {table / 1e6:>9.2f} MB, "
                  f"indexes {indexes / 1e6:>8.2f} MB", flush=True)
