#!/usr/bin/env python3
"""Kills the service at its N-th write or sync of a small job, starts it again, and checks what comes out.

    python3 tests/faults/crash_points.py                              a sample of the points, a few minutes
    python3 tests/faults/crash_points.py --all                        every point
    python3 tests/faults/crash_points.py --only made:pwrite64:17      one of them
    python3 tests/faults/crash_points.py --binary PATH                another build than target/release/sluicegate

The job: upload a file, create a batch of it, run its items, read the output. `strace` strikes as a system call is
entered, so the N-th one does not happen and all before it did. It counts calls per thread, and making a store is many
calls of one thread: so there are points on a fresh store, most of them in its making, and on a store made before, most
of them in the job. Besides SIGKILL at every kind of call, a sync that fails with EIO must end the process with an exit
code other than 0: what the kernel has thrown away must never be acknowledged by a later sync.

After each: every item exactly once, with its own answer; no 2xx taken back; at most one more call of an item than
there were deaths; a sound database with dense positions.
"""

import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import shutil
import sqlite3
import sys
import tempfile
import time

from support import BINARY, ENDED, Service, Upstream, Wrong, create, http, lines, upload, wrong_in_store

STORES = ("fresh", "made")
CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "fallocate", "unlink", "rename")
ITEMS = 100
IN_FLIGHT = 8
ENDS_WITHIN = 60.0
SCRIPT = 'latency = "1ms..8ms"\n'
LIMITS = f"limits.max_concurrent = {IN_FLIGHT}"
INPUT = lines(ITEMS)


class Job:
    """One client that does not give up: what a service's death interrupts is asked again."""

    def __init__(self, service):
        self.service, self.until = service, time.monotonic() + ENDS_WITHIN
        self.on_death = None

    def ask(self, method, path, body=None, headers=None):
        while True:
            try:
                return http(method, self.service.root + path, body, headers)
            except OSError as error:
                self.check_time(f"{method} {path}: {error}")
            except Wrong as error:
                if ": 503 " not in str(error):
                    raise
                self.check_time(error)
            if self.service.has_died():
                self.service.deaths += 1
                self.on_death(self.service)
            time.sleep(0.02)

    def check_time(self, why):
        if time.monotonic() > self.until:
            raise Wrong(f"not done within {ENDS_WITHIN:.0f} s: {why}")

    def run(self):
        file = upload(self.ask, INPUT)
        batch = create(self.ask, file)
        while batch["status"] not in ENDED:
            self.check_time(batch)
            time.sleep(0.02)
            batch = json.loads(self.ask("GET", f"/v1/batches/{batch['id']}"))
        output = self.ask("GET", f"/v1/files/{batch['output_file_id']}/content") if batch["output_file_id"] else b""
        if self.ask("GET", f"/v1/files/{file}/content") != INPUT:
            raise Wrong("the input is not given back byte for byte")
        batches = json.loads(self.ask("GET", "/v1/batches"))["data"]
        if [found["id"] for found in batches] != [batch["id"]]:
            raise Wrong(f"the list has {len(batches)} batches")
        return batch, output


def check(batch, output, service, upstream):
    if batch["status"] != "completed" or batch["request_counts"] != {"total": ITEMS, "completed": ITEMS, "failed": 0}:
        raise Wrong(f"the batch ended as {batch['status']} with {batch['request_counts']}, errors {batch['errors']}")
    seen = collections.Counter()
    for line in map(json.loads, output.splitlines()):
        seen[line["custom_id"]] += 1
        answer = line["response"]["body"]["choices"][0]["message"]["content"]
        if answer != f"Answer to {line['custom_id'].removeprefix('item-')}.":
            raise Wrong(f"{line['custom_id']} has the answer {answer!r}")
    if seen != collections.Counter(f"item-{item}" for item in range(ITEMS)):
        raise Wrong(f"{len(seen)} different items in {seen.total()} lines")
    most, repeated = upstream.most_calls_of_an_item()
    if most > 1 + service.deaths or repeated > 2 * IN_FLIGHT * service.deaths:
        raise Wrong(f"{repeated} items called again, one {most} times, after {service.deaths} deaths")
    return repeated


def check_store(binary, path):
    if found := wrong_in_store(binary, f"sqlite:{path}"):
        raise Wrong(f"store check: {found}")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as store:
        # A result's key is its batch and, in the lower half, its position.
        position = "id & 0xffffffff"
        asked = f"SELECT count(*), count(DISTINCT line), min({position}), max({position}) FROM result"
        rows = store.execute(asked).fetchone()
        if rows != (ITEMS, ITEMS, 1, ITEMS):
            raise Wrong(f"result rows, lines, first and last position: {rows}")
        for table in ("retry", "batch_segment"):
            if left := store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                raise Wrong(f"{left} rows are left in {table}")
    store.close()


def restart(service):
    service.start()


def made(service):
    """Starts and ends it once, so that the store is there."""
    service.start()
    Job(service).ask("GET", "/readyz")
    service.stop()


def run_point(binary, store, call, number, error):
    """One life under strace and those after it; what it showed."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="crash-"))
    upstream = Upstream(binary, folder, SCRIPT)
    service = Service(binary, folder, upstream, LIMITS)
    if store == "made":
        made(service)
    fault = f"error={error}" if error else "signal=SIGKILL"
    strace = ["strace", "-f", "-qq", "-o", folder / "trace", "-e", f"trace={call}",
              "-e", f"inject={call}:{fault}:when={number}"]
    codes = []
    job = Job(service)
    job.on_death = lambda service: (codes.append(service.process.returncode), restart(service))
    sound = False
    try:
        service.start(strace)
        batch, output = job.run()
        repeated = check(batch, output, service, upstream)
        service.stop()
        check_store(binary, folder / "store.db")
        struck = "INJECTED" in (folder / "trace").read_text() or service.deaths > 0
        if service.deaths > 1:
            raise Wrong(f"it died {service.deaths} times, with {codes}")
        if error and struck and codes in ([], [0]):
            # A sync that failed while it was ending anyway still has to show.
            if service.process.returncode in (0, None) or codes == [0]:
                raise Wrong(f"{call} failed with {error} and it ended with {codes or service.process.returncode}")
        sound = True
        return struck, f"{'died ' + str(codes) if codes else 'no death'}, {repeated} called again"
    finally:
        if not service.has_died():
            service.process.kill()
            service.process.wait()
        upstream.close()
        if sound:
            shutil.rmtree(folder)
        else:
            print(f"kept {folder}", flush=True)


def count_calls(binary, store):
    """How often the busiest thread makes each call in an undisturbed job on a store."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="crash-"))
    upstream = Upstream(binary, folder, SCRIPT)
    service = Service(binary, folder, upstream, LIMITS)
    if store == "made":
        made(service)
    job = Job(service)

    def gone(service):
        raise Wrong(f"it ended with {service.process.returncode}: {(folder / 'log').read_text()[-500:]}")

    job.on_death = gone
    try:
        service.start(["strace", "-f", "-qq", "-o", folder / "trace", "-e", f"trace={','.join(CALLS)}"])
        batch, output = job.run()
        check(batch, output, service, upstream)
        service.stop()
        check_store(folder / "store.db")
        threads = collections.Counter(re.findall(r"^(\d+) +(\w+)\(", (folder / "trace").read_text(), re.MULTILINE))
    finally:
        if not service.has_died():
            service.process.kill()
            service.process.wait()
        upstream.close()
        shutil.rmtree(folder)
    counts = {}
    for (_, call), times in threads.items():
        counts[call] = max(times, counts.get(call, 0))
    return counts


def sample(count, most):
    """All of a few; of many the first ones, where the schema and the file are made, and evenly spread others."""
    if count <= most:
        return list(range(1, count + 1))
    first = most // 3
    rest = most - first
    return [*range(1, first + 1), *(first + round((count - first) * step / rest) for step in range(1, rest + 1))]


def points(arguments, counts):
    if arguments.only:
        store, call, number, *error = arguments.only.split(":")
        return [(store, call, int(number), error[0] if error else None)]
    most = 10**9 if arguments.all else arguments.sample
    chosen = []
    for store in STORES:
        for call in CALLS:
            chosen += [(store, call, number, None) for number in sample(counts[store].get(call, 0), most)]
        for call in ("fdatasync", "fsync"):
            failing = sample(counts[store].get(call, 0), max(2, most // 3))
            chosen += [(store, call, number, "EIO") for number in failing]
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=BINARY, type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="every point instead of a sample")
    parser.add_argument("--sample", type=int, default=24, help="points of each call in a sample")
    parser.add_argument("--only", metavar="STORE:CALL:N[:ERROR]", help="one point")
    parser.add_argument("--jobs", type=int, default=2, help="points at the same time")
    arguments = parser.parse_args()
    if not shutil.which("strace"):
        sys.exit("this needs strace")
    binary = arguments.binary.resolve()
    counts = {store: count_calls(binary, store) for store in STORES}
    for store, calls in counts.items():
        print(f"{store} store, calls of the busiest thread in an undisturbed job: {calls}", flush=True)
    chosen = points(arguments, counts)
    started, failures, struck_points = time.monotonic(), [], 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(run_point, binary, *point): point for point in chosen}
        for done in concurrent.futures.as_completed(running):
            name = ":".join(str(part) for part in running[done] if part is not None)
            try:
                struck, said = done.result()
                struck_points += struck
                print(f"ok    {name}: {said}{'' if struck else ' (the job needed fewer calls)'}", flush=True)
            except (Wrong, KeyError, TypeError, ValueError, sqlite3.Error) as wrong:
                failures.append(name)
                print(f"WRONG {name}: {wrong}", flush=True)
    print(f"{len(chosen)} points, {struck_points} struck, {len(failures)} wrong, {time.monotonic() - started:.0f} s")
    sys.exit(1 if failures or not struck_points else 0)


if __name__ == "__main__":
    main()
