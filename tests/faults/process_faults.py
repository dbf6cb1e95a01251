"""Faults of the replicas' processes: killed, or frozen and woken."""

import datetime
import threading
import time

from checker import Blow, Checker, arrived, figures, leased_items, places_held, undurable_items
from cluster import Cluster
from load import Load

IN_FLIGHT = 128
DEAD_AFTER, TAKEN_WITHIN, RESUMED_WITHIN = 15.0, 20.0, 10.0


def script(rate, latency="300ms..1900ms"):
    """An upstream that keeps every call and counts against laws of each kind."""
    laws = "".join(
        f'[[limits]]\nlaw = "{law}"\nlimit = {limit}\nperiod = "{period}"\nname = "{law} {limit}/{period}"\n'
        for limit, period in ((rate, "60s"), (rate // 6, "10s")) for law in ("bucket", "fixed", "sliding")
    )
    return f'latency = "{latency}"\nlog = "full"\n{laws}'


def limits(rate):
    return f'limits.max_concurrent = {IN_FLIGHT}\nlimits.requests = ["{rate}/60s", "{rate // 6}/10s"]'


def steady(cluster, seconds=8.0):
    """Until calls come as fast as they may."""
    time.sleep(seconds)
    cluster.must(arrived(cluster.upstream) > 0, "nothing is called at the start")


def kills(arguments):
    cycles = arguments.cycles or 60
    cluster = Cluster(arguments, script(arguments.rate), limits(arguments.rate), 'retry.min_delay = "50ms"')
    cluster.start()
    # Big ones: whoever starts again must find something that nobody has claimed.
    load = Load(cluster, items=2_500)
    load.start()
    steady(cluster)
    blows = []
    for cycle in range(cycles):
        replica = cluster.dice.choice(cluster.replicas)
        if cluster.dice.random() < 0.5:
            blow = killed(cluster, load, replica)
        else:
            blow = frozen(cluster, load, replica, arguments.away)
        blows.append(blow)
        print(f"seed {arguments.seed}: cycle {cycle + 1} of {cycles}: {blow.kind} of {replica.caller}, "
              f"{blow.until - blow.at:.1f} s, {len(blow.leased)} items leased", flush=True)
        time.sleep(cluster.dice.uniform(2.0, 6.0))
    load.finish()
    report(Checker(cluster, load, blows, arguments.seed), arguments)
    return cluster.close()


def killed(cluster, load, replica):
    """Kills a replica; it is started again at once, or long after its work was taken over."""
    blow = Blow("kill", replica, time.time())
    replica.kill()
    blow.until = time.time()
    time.sleep(0.3)
    # Not those of before as well: what it recorded in its last moments waits for nobody.
    blow.leased, blow.places = leased_items(cluster, load, replica), places_held(cluster, replica)
    blow.undurable = undurable_items(cluster, replica)
    away = cluster.dice.choice((cluster.dice.uniform(0.0, 4.0), cluster.dice.uniform(21.0, 24.0)))
    time.sleep(away if len(cluster.replicas) > 1 else 0.1)
    blow.started_at = time.time()
    replica.start()
    replica.until_ready()
    return blow


def frozen(cluster, load, replica, seconds):
    """Freezes a replica until it has been replaced, and wakes it."""
    blow = Blow("freeze", replica, time.time())
    replica.freeze()
    time.sleep(0.2)
    blow.leased, blow.places = leased_items(cluster, load, replica), places_held(cluster, replica)
    time.sleep(seconds)
    before = cluster.worker(replica)
    blow.until = time.time()
    replica.wake()
    until = time.monotonic() + 20.0
    while before is not None and time.monotonic() < until:
        if cluster.worker(replica) != before:
            blow.rejoined_at = time.time()
            break
        time.sleep(0.02)
    return blow


def report(checker, arguments):
    checker.check()
    must, replicas = checker.cluster.must, checker.cluster.replicas
    takeovers, called, resumed, first, woken, paces, shares = [], [], [], [], [], [], []
    for blow in checker.blows:
        others = {replica.caller for replica in replicas if replica is not blow.replica}
        own = {blow.replica.caller}
        was_away = (blow.started_at or blow.until) - blow.at
        if was_away > DEAD_AFTER and others and blow.leased:
            takeovers.append(taken_over(replicas, blow))
            called.append(checker.first_call(blow.at, others, blow.leased))
            before, had = checker.pace(blow.at - 5.0, blow.at), checker.others_had(blow)
            pace = checker.pace(blow.at + 1.0, blow.at + DEAD_AFTER)
            # Its calls may still run, so their places are not the others' before its work is.
            share = checker.under_way(blow.at, own) / max(checker.under_way(blow.at), 1)
            checker.say(f"{blow.kind} of {blow.replica.caller}: {len(blow.leased)} items left, the first called again after "
                        f"{called[-1] or float('inf'):.1f} s; {before:.0f} calls/s before, {share:.2f} of those under way its "
                        f"own, {blow.places} of {IN_FLIGHT} places, then {pace:.0f}; {had} items were at hand for the others")
            # Where clients wait for what was left, the others run out of items: that is no pace of theirs.
            if had >= before * DEAD_AFTER:
                paces.append(pace / max(before, 1e-9))
                if paces[-1] < 1 - share - 0.1:
                    checker.say(f"calls a second from 5 s before it: {checker.each_second(blow.at, -5, 20, replicas)}")
                # Work goes to whoever is free, so a replica's share is not a quarter at every moment.
                shares.append(share)
        if blow.kind == "kill":
            first.append(checker.first_call(blow.started_at, own))
            if was_away < DEAD_AFTER and blow.leased:
                resumed.append(checker.first_call(blow.started_at, own | others, blow.leased))
        elif blow.rejoined_at:
            early = [row for row in checker.rows if row["caller"] in own and blow.until <= row["at"] < blow.rejoined_at]
            woken.append(len(early))
    checker.say(f"takeover, s after the blow: {figures(takeovers)}; to the first call of an item that was left: "
                f"{figures(called)}")
    checker.say(f"own restart to the first call, s: {figures(first)}; to one of its own leased items: {figures(resumed)}")
    checker.say(f"calls of a woken one before it knew: {woken}, rejoined in s "
                f"{figures([blow.rejoined_at - blow.until for blow in checker.blows if blow.rejoined_at])}")
    checker.say(f"pace while one is away, to that before: {figures(paces)}; with its own share of that before added: "
                f"{figures([pace + share for pace, share in zip(paces, shares)])}")
    for took in takeovers:
        must(took is not None and took <= TAKEN_WITHIN, f"work was taken over after {took} s")
        must(took is None or took >= DEAD_AFTER - 3.0, f"work was taken over after {took} s, which is too soon")
    for took in called:
        must(took is not None and took <= TAKEN_WITHIN, f"what was left was called again after {took} s")
    for took in first + resumed:
        must(took is not None and took < RESUMED_WITHIN, f"after its own restart it went on after {took} s")
    # One dispatcher thread.
    must(all(calls <= 1 for calls in woken), f"woken replicas started {woken} calls before they knew")
    lost = [(round(pace, 2), round(share, 2)) for pace, share in zip(paces, shares) if pace < 1 - share - 0.1]
    must(not lost, f"more throughput was lost than the replica's own share (pace, share): {lost}")


def taken_over(replicas, blow):
    """Seconds from a blow until another replica said that the work was taken over; `None` if none did while it lasted."""
    said = f':{blow.replica.service.port}"'
    for replica in replicas:
        for line in replica.log().splitlines():
            if "its work was taken over worker=" in line and line.endswith(said):
                # Nanoseconds are more than it reads.
                at = datetime.datetime.fromisoformat(line[:26].rstrip("Z") + "+00:00").timestamp()
                if blow.at < at < (blow.started_at or blow.until) + 1.0:
                    return at - blow.at
    return None


class MemoryWatch:
    """The most that all replicas together have resident, looked at twice a second."""

    def __init__(self, cluster):
        self.cluster, self.stop = cluster, threading.Event()
        self.first = [replica.rss() for replica in cluster.replicas]
        self.most = list(self.first)
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        while not self.stop.wait(0.5):
            self.most = [max(most, replica.rss()) for most, replica in zip(self.most, self.cluster.replicas)]

    def end(self):
        self.stop.set()
        self.thread.join()
        return max(self.first), max(self.most)
