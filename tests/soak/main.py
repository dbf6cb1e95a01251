#!/usr/bin/env python3
"""One service under load and seeded faults for an hour, retention on: what it keeps, and what it forgets.

    python3 tests/soak/main.py                         an hour with the release build
    python3 tests/soak/main.py --minutes 10 --seed 7   shorter, with other dice
    python3 tests/soak/main.py --binary PATH           another build than target/release/sluicegate

In the first sixth and at the end of the run the service is killed (`kill -9`) or drained, again and again. In between
one process lives through everything else: upstreams that fail, refuse, reset or hang, and clients that break off. Its
memory and its open files are looked at every two seconds, and judged after its first quarter of an hour. At the end all
calls that the upstream got are held against the promises: every item once with its own answer, no window above its
limit, no call of an item that was called before unless a fault hit that call. The exit code is 1 if anything did not
hold.
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "faults"))

from checker import Blow, Checker, undurable_items  # noqa: E402
from cluster import SCHEMA, Cluster, Replica  # noqa: E402
from load import Load  # noqa: E402
from process_faults import IN_FLIGHT, limits, script  # noqa: E402
from support import BINARY, Service, Upstream, http  # noqa: E402

from breaking_off import break_off  # noqa: E402
from watch import Watch, judge  # noqa: E402

KEPT = "3m"
# How often an attempt may fail: no item shall fail for good while the upstream is away.
TOP = f"""\
retry.min_delay = "50ms"
retry.max_delay = "5s"
retry.max_attempts = 40
timeouts.idle = "4s"
timeouts.first_byte = "6s"
retention.files = "{KEPT}"
retention.results = "{KEPT}"
"""
# What the upstream does in a fault: the share of calls, and what they meet.
UPSTREAM = {
    "failing": (0.3, ["500", "503", "reset"]),
    "refusing": (1.0, ["429 retry-after=2"]),
    "cut": (1.0, ["reset", "close"]),
    "cut-short": (0.5, ["reset-mid", "truncated"]),
    "garbage": (0.2, ["invalid-json", "not-json", "empty", "200-error=503"]),
    "hanging": (0.2, ["hang", "stall"]),
}


class File:
    """The store's file, read beside the service as a schema of that name; of a dead one a copy is read."""

    def __init__(self, path, runs):
        self.path, self.runs = path, runs

    def rows(self, sql):
        with tempfile.TemporaryDirectory() as folder:
            path = self.path
            if not self.runs():
                for suffix in ("", "-wal"):
                    if (part := self.path.with_name(self.path.name + suffix)).exists():
                        shutil.copy(part, folder)
                path = pathlib.Path(folder) / self.path.name
            connection = sqlite3.connect(":memory:", uri=True, timeout=30)
            try:
                connection.execute(f"ATTACH 'file:{path}?mode={'ro' if path == self.path else 'rw'}' AS {SCHEMA}")
                return connection.execute(sql).fetchall()
            finally:
                connection.close()

    def number(self, sql):
        return float(self.rows(sql)[0][0] or 0)

    def url(self):
        return f"sqlite:{self.path}"


class Single(Replica):
    """The one process, as often as it is started."""

    def __init__(self, binary, folder, upstream, rate):
        self.number, self.caller, self.proxy = 1, "r1", None
        keys = f'headers = {{ "x-caller" = "{self.caller}" }}\n{limits(rate)}'
        store = f'store.url = "sqlite:{folder}/store.db"\nstore.min_free = "16MiB"\n{TOP}'
        self.service = Service(binary, folder, upstream, keys, store)
        self.root, self.folder, self.stopped = self.service.root, folder, False


class Soak(Cluster):
    """Everything that a run has; what a cluster of replicas has, with a file for a database."""

    def __init__(self, arguments):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
        self.upstream = Upstream(arguments.binary, self.folder, script(arguments.rate))
        self.replica = Single(arguments.binary, self.folder, self.upstream, arguments.rate)
        self.replicas = [self.replica]
        self.database = File(self.folder / "store.db", self.replica.runs)
        self.faults, self.key, self.app_keys, self.blows = [], None, [], []
        self.dice, self.choice = random.Random(arguments.seed), random.Random(0)

    def make_apps(self, names):
        keys = super().make_apps(names)
        self.app_keys = list(keys.values())
        return keys

    def end(self):
        if self.replica.runs():
            self.replica.kill()
        self.upstream.close()

    def set_upstream(self, faults):
        http("POST", f"{self.upstream.base_url.removesuffix('/v1')}/script/set", json.dumps({"faults": faults}).encode())

    def hit_upstream(self, kind):
        probability, kinds = UPSTREAM[kind]
        blow = Blow(kind, None, time.time())
        self.set_upstream({"probability": probability, "kinds": kinds})
        time.sleep(self.dice.uniform(2.0, 12.0))
        self.set_upstream(None)
        # What hangs is given up after the longest of the timeouts.
        blow.until = time.time() + (6.0 if kind == "hanging" else 0.0)
        time.sleep(max(0.0, blow.until - time.time()))
        self.blows.append(blow)

    def hit_process(self, kind):
        blow = Blow(kind, self.replica, time.time())
        if kind == "kill":
            self.replica.kill()
            # Of the last calls alone: older ones' results are durable, or erased by retention.
            blow.undurable = undurable_items(self, self.replica, recent=4 * IN_FLIGHT)
        else:
            self.replica.service.stop()
            self.must(self.replica.service.process.returncode == 0, "a drain did not end with 0")
        blow.until = time.time()
        time.sleep(self.dice.uniform(0.0, 3.0))
        self.replica.start()
        self.replica.until_ready()
        self.blows.append(blow)


def run(soak, arguments, load):
    """Faults at random until the time is over; the watch over the process that lives longest."""
    start, length = time.monotonic(), arguments.minutes * 60.0
    is_early = lambda: time.monotonic() < start + length / 6  # noqa: E731
    is_late = lambda: time.monotonic() > start + length * 0.92  # noqa: E731
    watch = None
    while time.monotonic() < start + length:
        time.sleep(soak.dice.uniform(4.0, 12.0))
        if is_early() or is_late():
            if watch is not None:
                watch.end()
            kind = soak.dice.choice(("kill", "kill", "drain"))
            soak.hit_process(kind)
        else:
            watch = watch or Watch(soak.replica.pid, soak.folder)
            kind = soak.dice.choice((*UPSTREAM, "clients"))
            if kind == "clients":
                break_off(soak)
            else:
                soak.hit_upstream(kind)
        minute = (time.monotonic() - start) / 60
        print(f"seed {arguments.seed}: minute {minute:.1f}: {kind}, {load.done} items so far"
              f"{f', {watch.latest()}' if watch else ''}", flush=True)
    return watch


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=BINARY, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=int, default=1_800, help="requests a minute")
    arguments = parser.parse_args()
    arguments.binary = arguments.binary.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    soak = Soak(arguments)
    try:
        soak.start()
        load = Load(soak, items=300)
        load.start()
        watch = run(soak, arguments, load)
        load.finish()
        Checker(soak, load, soak.blows, arguments.seed).check()
        judge(soak, watch, arguments.seed)
    except BaseException:
        soak.end()
        raise
    return soak.close()


if __name__ == "__main__":
    sys.exit(main())
