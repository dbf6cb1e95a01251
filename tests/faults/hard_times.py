#!/usr/bin/env python3
"""Whole batches under an upstream that fails, one that refuses by the minute, and a client that cancels.

    python3 tests/faults/hard_times.py random                        30 % of replies are 500, 503 or a reset
    python3 tests/faults/hard_times.py random --rate 3000/60s        the same within a rate
    python3 tests/faults/hard_times.py storm                         ten seconds of 429s every minute
    python3 tests/faults/hard_times.py cancel                        a running batch of 50,000 items is cancelled
    python3 tests/faults/hard_times.py random --binary PATH --items 20000

Each prints what it measured and ends with 1 if a promise did not hold.
"""

import argparse
import collections
import json
import pathlib
import shutil
import sys
import tempfile
import threading
import time

from support import BINARY, ENDED, Service, Upstream, create, http, lines, upload

ATTEMPTS = 5
FAILING = 0.3
FAULTS = f'latency = "10ms..90ms"\n[faults]\nprobability = {FAILING}\nkinds = ["500", "503", "reset"]\n'
STORM = 'latency = "50ms..450ms"\n[storm]\nevery = "60s"\nlasts = "10s"\noffset = "15s"\nstatus = 429\n'
SLOW = 'latency = "300ms..1500ms"\n'


class Run:
    """A service with its upstream and one batch."""

    def __init__(self, arguments, items, script, limits):
        self.items, self.folder = items, pathlib.Path(tempfile.mkdtemp(prefix="hard-times-"))
        self.upstream = Upstream(arguments.binary, self.folder, script)
        self.service = Service(arguments.binary, self.folder, self.upstream, limits)
        self.service.start()
        self.input = lines(items)
        self.started = time.monotonic()
        while True:
            try:
                self.ask("GET", "/readyz")
                break
            except OSError:
                if self.service.has_died() or time.monotonic() > self.started + 20:
                    sys.exit((self.folder / "log").read_text())
                time.sleep(0.02)
        self.batch_id = create(self.ask, upload(self.ask, self.input))["id"]
        self.started = time.monotonic()
        self.faults = []

    def ask(self, method, path, body=None, headers=None):
        return http(method, self.service.root + path, body, headers)

    def batch(self):
        return json.loads(self.ask("GET", f"/v1/batches/{self.batch_id}"))

    def ended(self, every=0.25):
        while (batch := self.batch())["status"] not in ENDED:
            time.sleep(every)
        return batch

    def lines_of(self, batch):
        """The lines of the output file and of the error file, by custom id."""
        found = []
        for name in ("output_file_id", "error_file_id"):
            content = self.ask("GET", f"/v1/files/{batch[name]}/content") if batch[name] else b""
            parsed = [json.loads(line) for line in content.splitlines()]
            by_id = {line["custom_id"]: line for line in parsed}
            self.must(len(by_id) == len(parsed), f"{name} has {len(parsed)} lines of {len(by_id)} items")
            found.append(by_id)
        both = set(found[0]) & set(found[1])
        self.must(not both, f"{len(both)} items are in both files")
        lost = {f"item-{item}" for item in range(self.items)} - set(found[0]) - set(found[1])
        self.must(not lost, f"{len(lost)} items are lost")
        wrong = [name for name, line in found[0].items() if line["response"]["body"]["choices"][0]["message"]["content"]
                 != f"Answer to {name.removeprefix('item-')}."]
        self.must(not wrong, f"{len(wrong)} items have another's answer")
        return found

    def attempts(self):
        """How many items took how many attempts."""
        counts, after = collections.Counter(), 0
        while True:
            page = self.ask("GET", f"/v1/batches/{self.batch_id}/results?after={after}&limit=10000").splitlines()
            if not page:
                return dict(sorted(counts.items()))
            ours = [json.loads(line)["sluicegate"] for line in page]
            counts.update(line["attempts"] for line in ours)
            after = ours[-1]["position"]

    def must(self, holds, what):
        if not holds:
            self.faults.append(what)

    def close(self):
        self.service.process.kill()
        self.service.process.wait()
        self.upstream.close()
        shutil.rmtree(self.folder)
        for fault in self.faults:
            print(f"WRONG {fault}")
        return 1 if self.faults else 0


def random_faults(arguments):
    items = arguments.items or 10_000
    script, limits = FAULTS, "limits.max_concurrent = 64"
    if arguments.rate:
        limit, period = arguments.rate.split("/")
        script += f'[[limits]]\nlaw = "sliding"\nlimit = {limit}\nperiod = "{period}"\nenforce = true\n'
        limits += f'\nlimits.requests = ["{arguments.rate}"]'
    run = Run(arguments, items, script, limits)
    batch = run.ended()
    took = time.monotonic() - run.started
    output, errors = run.lines_of(batch)
    arrived = run.upstream.ask("log")["arrived"]
    failing = FAILING**ATTEMPTS
    theory = items * (1 - failing) / (1 - FAILING)
    spread = (items * failing * (1 - failing)) ** 0.5
    print(f"{items} items in {took:.1f} s: {batch['status']}, {len(output)} succeeded, {len(errors)} failed = "
          f"{len(errors) / items:.3%} (five attempts predict {failing:.3%}, {items * failing:.1f} ± {spread:.1f})")
    print(f"upstream calls {arrived}, theory {theory:.0f}: {arrived / theory:.4f}×")
    attempts = run.attempts()
    print(f"items by attempts: {attempts}")
    for law in run.upstream.ask("oracle")["laws"]:
        print(f"{law['name']}: peak {law['peak']}, over {law['over']}; {arrived / took:.1f} calls/s")
        run.must(law["over"] == 0, f"{law['name']} was exceeded")
    run.must(batch["status"] == "completed", f"the batch ended as {batch['status']}")
    run.must(abs(len(errors) - items * failing) <= 4 * spread, "more or fewer items failed than chance explains")
    run.must(arrived <= 1.05 * theory, "more upstream calls than 1.05× theory")
    early = [line for line in errors.values() if (line["response"] or {}).get("status_code") not in (500, 503)
             and (line["error"] or {}).get("code") != "connection_error"]
    run.must(not early, f"{len(early)} items failed for another reason, such as {early[:1]}")
    run.must(max(attempts) == ATTEMPTS, f"an item had {max(attempts)} attempts")
    return run.close()


def storm(arguments):
    items = arguments.items or 3_600
    run = Run(arguments, items, STORM, 'limits.max_concurrent = 64\nlimits.requests = ["1200/min"]')
    batch = run.ended()
    took = time.monotonic() - run.started
    output, _ = run.lines_of(batch)
    log = run.upstream.ask("log")
    attempts = run.attempts()
    refused = log["answered"].get("429", 0)
    storms = int((took - 15) // 60) + 1
    print(f"{items} items in {took:.1f} s, {storms} storms of 10 s: {batch['status']}, {items - len(output)} failed; "
          f"{refused} 429s of {log['arrived']} calls; attempts counted: {attempts}; "
          f"batch says attempts {batch['sluicegate']['attempts']}, retries {batch['sluicegate']['retries']}")
    print(f"without storms {items / 20:.0f} s are needed at least")
    run.must(refused > 0, "no storm met the batch")
    run.must(len(output) == items, f"{items - len(output)} items failed")
    run.must(attempts == {1: items}, "attempts were burned")
    return run.close()


def cancel(arguments):
    items = arguments.items or 50_000
    run = Run(arguments, items, SLOW, "limits.max_concurrent = 64")
    time.sleep(10)
    last_running = [0.0]
    watching = threading.Event()

    def watch():
        while not watching.is_set():
            if run.upstream.ask("oracle")["in_flight"] > 0:
                last_running[0] = time.monotonic()
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    asked = time.monotonic()
    answer = json.loads(run.ask("POST", f"/v1/batches/{run.batch_id}/cancel"))
    batch = run.ended(every=0.005)
    ended = time.monotonic()
    watching.set()
    watcher.join()
    print(f"cancel answered {answer['status']}; {batch['status']} {ended - asked:.3f} s after it was asked for, "
          f"{ended - last_running[0]:.3f} s after the last running call ended")
    output, errors = run.lines_of(batch)
    counts = batch["sluicegate"]["counts"]
    cancelled = [line for line in errors.values() if (line["error"] or {}).get("code") == "batch_cancelled"]
    print(f"{len(output)} results, {len(errors)} error lines, {len(cancelled)} of them batch_cancelled; "
          f"{batch['request_counts']}, {counts}")
    run.must(batch["status"] == "cancelled", f"the batch ended as {batch['status']}")
    run.must(ended - last_running[0] <= 2.0, "more than 2 s after the last running call ended")
    run.must(sum(counts.values()) == items and counts["pending"] == counts["running"] == 0, "counts do not add up")
    run.must(counts["succeeded"] == len(output) == batch["request_counts"]["completed"], "results are not as counted")
    run.must(counts["cancelled"] == len(cancelled), "cancelled lines are not as counted")
    calls = run.upstream.ask("log")
    run.must(calls["arrived"] == len(output), f"{calls['arrived']} calls for {len(output)} results")
    return run.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["random", "storm", "cancel"])
    parser.add_argument("--binary", default=BINARY, type=pathlib.Path)
    parser.add_argument("--items", type=int)
    parser.add_argument("--rate", help="of `random`, such as 3000/60s")
    arguments = parser.parse_args()
    arguments.binary = arguments.binary.resolve()
    sys.exit({"random": random_faults, "storm": storm, "cancel": cancel}[arguments.what](arguments))


if __name__ == "__main__":
    main()
