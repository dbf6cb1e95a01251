"""Holds what a cluster did against its promises: from the upstream's log, its laws and the database's rows."""

import collections
import dataclasses
import time

from cluster import SCHEMA
from load import MARK
from support import wrong_in_store

# A result is durable within this time of its call's end, while the database is there.
COMMITTED_WITHIN = 2.0
PAGE = 50_000


@dataclasses.dataclass
class Blow:
    """A fault: what it hit and when; moments in unix seconds."""

    kind: str
    replica: object  # None: all of them
    at: float
    until: float = 0.0
    # Items of the segments that the replica had leased, as the upstream knows them.
    leased: set = dataclasses.field(default_factory=set)
    # Calls it had started whose results were not in the database.
    undurable: set = dataclasses.field(default_factory=set)
    # Places of calls in flight that were its own.
    places: int = 0
    # When its process started again, and from when on it knew that it had been replaced.
    started_at: float = None
    rejoined_at: float = None
    # Resident bytes of all replicas before, and at most.
    rss: tuple = (0, 0)


def calls(upstream, first=0):
    """Rows of the upstream's log, from a call's number on."""
    found = []
    while page := upstream.ask(f"log?entries=1&from={first}&limit={PAGE}"):
        found += page
        first = page[-1]["number"] + 1
    return found


def arrived(upstream):
    return upstream.ask("log")["arrived"]


def leased_items(cluster, load, replica):
    """Items without a result of the segments that a replica has leased, by their names at the upstream."""
    asked = (f"SELECT b.id, item.line FROM {SCHEMA}.batch_segment g JOIN {SCHEMA}.worker w ON w.key = g.worker "
             f"JOIN {SCHEMA}.batch b ON b.key = g.batch JOIN {SCHEMA}.segment s ON s.id = (b.file << 32 | g.segment) "
             f"CROSS JOIN LATERAL generate_series(s.first_line, s.last_line) AS item(line) "
             f"WHERE w.name LIKE '%:{replica.service.port}' "
             f"AND NOT EXISTS (SELECT FROM {SCHEMA}.result r WHERE r.batch = b.key AND r.line = item.line)")
    found = cluster.database.rows(asked)
    # The first line of a file is 1.
    return {str(load.batches[batch][0] + int(line) - 1) for batch, line in found if batch in load.batches}


def places_held(cluster, replica):
    """Calls that a replica may have in flight, and that others must not have while it may live."""
    asked = (f"SELECT max(p.held) FROM {SCHEMA}.ledger_places p JOIN {SCHEMA}.worker w ON w.key = p.worker AND w.epoch = p.epoch "
             f"WHERE w.name LIKE '%:{replica.service.port}'")
    return int(cluster.database.number(asked))


def undurable_items(cluster, replica, recent=20_000):
    """Items that a replica which has just gone had called, and that have no result."""
    newest = arrived(cluster.upstream)
    rows = calls(cluster.upstream, max(0, newest - recent))
    called = {row["id"] for row in rows if row["caller"] == replica.caller and (row["id"] or "live").isdigit()}
    if not called:
        return set()
    names = ",".join("'" + f"item-{item}{MARK}".replace("'", "''") + "'" for item in called)
    asked = f"SELECT custom_id FROM {SCHEMA}.result WHERE custom_id IN ({names})"
    durable = {row[0].removeprefix("item-").removesuffix(MARK) for row in cluster.database.rows(asked)}
    return called - durable


class Checker:
    """What a run's log shows."""

    def __init__(self, cluster, load, blows, seed):
        self.cluster, self.load, self.blows, self.seed = cluster, load, blows, seed
        self.rows = calls(cluster.upstream)
        self.by_item = collections.defaultdict(list)
        for row in self.rows:
            self.by_item[row["id"]].append(row)

    def say(self, what):
        print(f"seed {self.seed}: {what}", flush=True)

    def check(self):
        self.check_laws()
        self.check_rows()
        self.check_repeats()

    def check_laws(self):
        for law in self.cluster.upstream.ask("oracle")["laws"]:
            self.say(f"{law['name']}: peak {law['peak']} of {law['limit']}, windows over {law['windows_over']}, "
                     f"calls over {law['over']}")
            self.cluster.must(law["over"] == 0, f"{law['name']} was exceeded by {law['over']} calls")
        log = self.cluster.upstream.ask("log")
        refused, by_caller = log["answered"].get("429", 0), collections.Counter(row["caller"] for row in self.rows)
        self.say(f"{log['arrived']} calls, {refused} 429s, {dict(sorted(by_caller.items(), key=str))}; "
                 f"{self.load.done} items came back in {len(self.load.batches)} batches; live calls {dict(self.load.live)}")

    def check_rows(self):
        """Counters are as many as rows, and positions dense."""
        asked = (f"SELECT b.id, b.total, b.succeeded, count(r.id), count(DISTINCT r.line), min(r.id & 4294967295), "
                 f"max(r.id & 4294967295) FROM {SCHEMA}.batch b LEFT JOIN {SCHEMA}.result r ON r.batch = b.key GROUP BY b.key")
        for batch, *numbers in self.cluster.database.rows(asked):
            total, succeeded, rows, different, least, most = (int(number or 0) for number in numbers)
            if batch in self.load.batches:
                self.cluster.must((succeeded, rows, different, least, most) == (total, total, total, 1, total),
                                  f"{batch} of {total}: counter {succeeded}, {rows} rows of {different} lines, "
                                  f"positions {least} to {most}")
        found = wrong_in_store(self.cluster.replicas[0].service.binary, self.cluster.database.url())
        self.cluster.must(not found, f"store check: {found}")
        for table in ("batch_segment", "retry"):
            left = self.cluster.database.number(f"SELECT count(*) FROM {SCHEMA}.{table}")
            self.cluster.must(left == 0, f"{left:.0f} rows are left in {table}")

    def check_repeats(self):
        """Every further call of an item is explained by a blow that its call before was open to."""
        extra, unexplained = collections.Counter(), []
        for item, rows in self.by_item.items():
            for before, after in zip(rows, rows[1:]):
                if before["ending"] == "429" or not (item or "").isdigit():
                    continue
                blow = self.blow_of(before)
                if blow is None:
                    unexplained.append((item, before, after))
                else:
                    extra[id(blow)] += 1
        open_calls = [len(self.open_at(blow)) for blow in self.blows]
        undurable = [len(blow.undurable) for blow in self.blows]
        self.say(f"extra calls {extra.total()}, most of one blow {max(extra.values(), default=0)}; calls open at the "
                 f"{len(self.blows)} blows {sum(open_calls)}; started and not durable at kills {sum(undurable)}; "
                 f"unexplained {len(unexplained)}")
        self.cluster.must(not unexplained, f"{len(unexplained)} calls of items that were called before, such as {unexplained[:2]}")
        for blow in self.blows:
            if blow.kind == "kill":
                self.cluster.must(extra[id(blow)] <= len(blow.undurable),
                                  f"{extra[id(blow)]} extra calls after a kill of {blow.replica.caller}, "
                                  f"{len(blow.undurable)} were started and not durable")

    def blow_of(self, row):
        hit = [blow for blow in self.blows if self.is_open(row, blow)]
        return hit[-1] if hit else None

    def is_open(self, row, blow):
        """Whether a call was under way, or not yet durable, while a blow lasted."""
        if blow.replica is not None and blow.replica.caller != row["caller"]:
            return False
        ended = row["ended_at"] + COMMITTED_WITHIN if row["ended_at"] else float("inf")
        return row["at"] <= blow.until and ended >= blow.at

    def open_at(self, blow):
        return [row for row in self.rows if self.is_open(row, blow)]

    def under_way(self, at, callers=None):
        """How many calls were under way at a moment, of some replicas or of all."""
        return sum(1 for row in self.rows if row["at"] <= at < (row["ended_at"] or float("inf"))
                   and (callers is None or row["caller"] in callers))

    def first_call(self, after, callers, items=None):
        """Seconds from a moment to the first call by some callers, of some items; `None` without one."""
        for row in self.rows:
            if row["at"] >= after and row["caller"] in callers and (items is None or row["id"] in items):
                return row["at"] - after
        return None

    def others_had(self, blow):
        """Items of batches under way at a blow that nobody had called and that were not left with the replica."""
        had = 0
        for first, items, _ in self.load.batches.values():
            called = [rows[0]["at"] for item in range(first, first + items) if (rows := self.by_item.get(str(item)))]
            if called and min(called) < blow.at:
                left = (str(item) for item in range(first, first + items) if str(item) not in blow.leased)
                had += sum(1 for item in left if (rows := self.by_item.get(item)) and rows[0]["at"] >= blow.at)
        return had

    def each_second(self, at, start, end, replicas):
        """Calls in each second around a moment, by replica."""
        seconds = collections.Counter((row["caller"], int((row["at"] - at) // 1)) for row in self.rows)
        counts = {replica.caller: [seconds[replica.caller, second] for second in range(start, end)] for replica in replicas}
        return "; ".join(f"{caller} {' '.join(map(str, calls))}" for caller, calls in counts.items())

    def pace(self, start, end, callers=None):
        """Calls per second between two moments, of some replicas or of all."""
        calls = sum(1 for row in self.rows if start <= row["at"] < end and (callers is None or row["caller"] in callers))
        return calls / max(end - start, 1e-9)


def figures(numbers):
    """Least, median and most of some numbers."""
    known = sorted(number for number in numbers if number is not None)
    if not known:
        return f"none of {len(list(numbers))}"
    return f"least {known[0]:.2f}, median {known[len(known) // 2]:.2f}, most {known[-1]:.2f} ({len(known)} of {len(numbers)})"


def wait_for_calls(upstream, more=1, patience=60.0):
    """Waits until so many further calls have arrived; seconds it took, `None` if they did not."""
    start, before = time.monotonic(), arrived(upstream)
    while time.monotonic() < start + patience:
        if arrived(upstream) >= before + more:
            return time.monotonic() - start
        time.sleep(0.02)
    return None
