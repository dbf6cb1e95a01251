"""Faults of the database and of the ways to it."""

import time

from checker import Blow, Checker, figures, wait_for_calls
from cluster import Cluster
from load import Load
from process_faults import MemoryWatch, limits, script, steady

BACK_WITHIN = 5.0
# What is held back while the server is away: a bounded number of replies for each call that may be in flight.
MEMORY_GROWTH = 64 * 1024 * 1024


def crashes(arguments):
    """The server crashes, is away for a while, and comes back."""
    cluster, load = begun(arguments)
    blows, back = [], []
    for cycle in range(arguments.cycles or 30):
        blow = Blow("database", None, time.time())
        memory = MemoryWatch(cluster)
        cluster.database.stop()
        time.sleep(2.0)
        held = cluster.upstream.ask("log")["arrived"]
        time.sleep(max(0.0, arguments.away - 2.0))
        while_away = cluster.upstream.ask("log")["arrived"] - held
        reds = [replica for replica in cluster.replicas if not replica.is_ready()]
        cluster.must(len(reds) == len(cluster.replicas), f"{len(reds)} replicas say that they are not ready")
        cluster.database.start()
        took = wait_for_calls(cluster.upstream)
        back.append(took)
        time.sleep(3.0)
        blow.rss, blow.until = memory.end(), time.time()
        blows.append(blow)
        died = [replica.caller for replica in cluster.replicas if not replica.runs()]
        cluster.must(not died, f"{died} ended")
        print(f"seed {arguments.seed}: crash {cycle + 1}: first call {took} s after it was back, {while_away} calls from 2 s "
              f"after the crash on, resident {blow.rss[0] / 1e6:.0f} MB before, {blow.rss[1] / 1e6:.0f} MB at most", flush=True)
        cluster.must(took is not None and took <= BACK_WITHIN, f"dispatched again after {took} s")
        cluster.must(blow.rss[1] - blow.rss[0] <= MEMORY_GROWTH, f"grew from {blow.rss[0]} to {blow.rss[1]} B")
        time.sleep(cluster.dice.uniform(2.0, 5.0))
    load.finish()
    checker = Checker(cluster, load, blows, arguments.seed)
    checker.check()
    checker.say(f"first call after the database was back, s: {figures(back)}; resident at most "
                f"{max(blow.rss[1] for blow in blows) / 1e6:.0f} MB")
    return cluster.close()


def begun(arguments, proxied=False, items=400):
    top = 'retry.min_delay = "50ms"'
    cluster = Cluster(arguments, script(arguments.rate), limits(arguments.rate), top, proxied)
    cluster.start()
    load = Load(cluster, items=items)
    load.start()
    steady(cluster)
    return cluster, load


def cuts(arguments):
    """Connections are reset once a COMMIT was sent: some when it was done, some at once."""
    cluster, load = begun(arguments, proxied=True)
    share = arguments.cuts // (2 * len(cluster.replicas)) + 1
    for replica in cluster.replicas:
        for number, where in enumerate(("answered", "sent")):
            seed = arguments.seed * 100 + replica.number * 2 + number
            replica.proxy.strike(word="commit", where=where, every=12, seed=seed, most=share)
    done, until = 0, time.monotonic() + 3_600
    while done < arguments.cuts and time.monotonic() < until:
        time.sleep(2.0)
        done = all_struck(cluster)
    by_kind = [struck(replica) for replica in cluster.replicas]
    for replica in cluster.replicas:
        replica.proxy.tell("calm")
    load.finish()
    checker = Checker(cluster, load, [], arguments.seed)
    checker.check()
    checker.say(f"{done} connections reset after COMMIT: {by_kind}")
    cluster.must(done >= arguments.cuts, f"only {done} COMMITs could be cut")
    return cluster.close()


def struck(replica):
    return replica.proxy.tell("counts")["struck"]


def all_struck(cluster):
    return sum(sum(struck(replica).values()) for replica in cluster.replicas)


def kinds(arguments):
    """Connections are reset in the middle of every kind of statement that the service makes, in each of three places."""
    # Small batches: what makes and ends them is asked often.
    cluster, load = begun(arguments, proxied=True, items=40)
    armed, hit, until = set(), {}, time.monotonic() + max(arguments.seconds, 60.0) * 4
    while time.monotonic() < until:
        for replica in cluster.replicas:
            counts = replica.proxy.tell("counts")
            hit.update((kind, hit.get(kind, 0)) for kind in counts["kinds"])
            for kind in set(counts["kinds"]) - {kind for number, kind in armed if number == replica.number}:
                armed.add((replica.number, kind))
                for place, where in enumerate(("half", "sent", "answered")):
                    # Not all at once: a transaction whose first statements fail never comes to its last ones.
                    seed = arguments.seed * 1_000 + len(armed) * 3 + place
                    replica.proxy.strike(word=kind, where=where, every=4, seed=seed, most=1)
        time.sleep(2.0)
    for replica in cluster.replicas:
        replica.proxy.tell("calm")
        for name, times in struck(replica).items():
            kind = name.partition(" ")[2]
            hit.update((known, met + times) for known, met in hit.items() if known.lower() == kind)
    load.finish()
    checker = Checker(cluster, load, [], arguments.seed)
    checker.check()
    for kind, times in sorted(hit.items()):
        checker.say(f"struck {times:>2}: {kind}")
    checker.say(f"{sum(1 for times in hit.values() if times)} of {len(hit)} kinds of statements struck, "
                f"{sum(hit.values())} times in all")
    return cluster.close()


def network(arguments):
    """One replica's way to the server fails for a while, in every way that ways do."""
    cluster, load = begun(arguments, proxied=True)
    blows = []
    ways = ["latency 0.3", "cut", "half-open up", "half-open down", "black-hole"]
    cycles = arguments.cycles or 20
    for cycle in range(cycles):
        replica, way = cluster.dice.choice(cluster.replicas), ways[cycle % len(ways)]
        seconds = cluster.dice.choice((4.0, arguments.away))
        blow = Blow(way, replica, time.time())
        memory = MemoryWatch(cluster)
        replica.proxy.tell(way)
        time.sleep(seconds)
        replica.proxy.tell("pass")
        back = time.time()
        # Until it has seen that it was replaced, or has got through again.
        time.sleep(5.0)
        blow.until, blow.rss, blow.started_at = time.time(), memory.end(), back
        blows.append(blow)
        print(f"seed {arguments.seed}: cycle {cycle + 1} of {cycles}: {way} at {replica.caller} for {seconds:.0f} s", flush=True)
        cluster.must(replica.runs(), f"{replica.caller} ended")
        time.sleep(cluster.dice.uniform(1.0, 3.0))
    load.finish()
    checker = Checker(cluster, load, blows, arguments.seed)
    checker.check()
    took = [checker.first_call(blow.started_at, {blow.replica.caller}) for blow in blows]
    checker.say(f"first call at a replica whose way was whole again, s: {figures(took)}")
    fenced = [late_calls(checker, blow) for blow in blows if blow.kind in ("black-hole", "cut", "half-open up")]
    checker.say(f"calls started more than 13 s after its way had failed: {fenced}")
    cluster.must(not any(fenced), "a replica that could not beat went on")
    return cluster.close()


def late_calls(checker, blow):
    """Calls that a replica started so long after its last beat that it may have been replaced."""
    rows = (row for row in checker.rows if row["caller"] == blow.replica.caller)
    return sum(1 for row in rows if blow.at + 13.5 <= row["at"] < blow.started_at)

