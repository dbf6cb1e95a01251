#!/usr/bin/env python3
"""The configuration is replaced 100 times, good and bad in turn, while batches and live calls use the whole limit.

    python3 tests/faults/reload.py                          100 files, three ways of having them read
    python3 tests/faults/reload.py --binary PATH --files 20 --rate 1200

The good ones change the lane, another lane, retries, timeouts and the level of the log, and once each way the limit that
binds; the bad ones are cut short, name keys that there are not, or a key file that is not there. Counted are calls that failed,
windows of the provider that held more than the limit in force, and how much of it was used. It ends with 1 if a
promise did not hold.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from support import BINARY, ENDED, Service, Upstream, create, http, lines, upload

PERIOD = 10.0
LIVE = {"content-type": "application/json"}


class Run:
    """A service under load and its configuration file."""

    def __init__(self, arguments):
        self.rate, self.files = arguments.rate, arguments.files
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="reload-"))
        self.upstream = Upstream(arguments.binary, self.folder, 'latency = "20ms..80ms"\nlog = "full"\n')
        self.service = Service(arguments.binary, self.folder, self.upstream, self.limits(self.rate))
        self.path = self.folder / "sluicegate.toml"
        self.base = self.path.read_text().removesuffix(self.limits(self.rate) + "\n").replace('"warn"', '"info"')
        self.path.write_text(self.base + self.limits(self.rate))
        self.service.start()
        self.stopping, self.faults, self.live = threading.Event(), [], {}
        self.in_force = []

    def limits(self, rate, more=""):
        """The provider's keys: a rate in units of the period, and whatever else."""
        return f'limits.requests = "{rate}/{int(PERIOD)}s"\n{more}'

    def ask(self, method, path, body=None, headers=None):
        return http(method, self.service.root + path, body, headers)

    def metric(self, name):
        found = [line for line in self.ask("GET", "/metrics").decode().splitlines() if line.startswith(name)]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in found}

    def wait_until_ready(self):
        until = time.monotonic() + 20
        while True:
            try:
                return self.ask("GET", "/readyz")
            except OSError:
                if self.service.has_died() or time.monotonic() > until:
                    sys.exit((self.folder / "log").read_text())
                time.sleep(0.02)

    def calls(self, number):
        """Live calls, one after another, until it is over."""
        content = {"model": "m", "messages": [{"role": "user", "content": "How deep is the lock?"}]}
        while not self.stopping.is_set():
            try:
                request = urllib.request.Request(self.service.root + "/v1/chat/completions",
                                                 data=json.dumps(content).encode(), headers=LIVE)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    answer.read()
                    status = answer.status
            except urllib.error.HTTPError as error:
                status = f"{error.code} {error.read()[:200]}"
            except OSError as error:
                status = repr(error)
            self.live[status] = self.live.get(status, 0) + 1
            time.sleep(0.05)

    def good(self, number):
        """The configuration of a good file, and the rate that it has."""
        is_lowered = self.files <= 3 * number < 2 * self.files
        rate = self.rate * 3 // 4 if is_lowered else self.rate
        more = (f'retry.max_attempts = {3 + number % 3}\ntimeouts.idle = "{60 + number}s"\n'
                f'[[providers.p.lanes]]\nmatch = "m"\nlimits.max_concurrent = {400 + number}\n')
        if number % 3 == 0:
            more += '[[providers.p.lanes]]\nmatch = "another"\nlimits.requests = "5/s"\n'
        level = ["info", "warn", "debug"][number % 3]
        return self.base.replace('log.level = "info"', f'log.level = "{level}"') + self.limits(rate, more), rate

    def bad(self, number):
        text, _ = self.good(number)
        return [text[: len(text) // 2] + "[[", text + "\nlimit = 3\n", text.replace("limits.requests", "limits.request"),
                text.replace('[[providers.p.lanes]]\nmatch = "m"', 'api_key_file = "/nowhere"\n[[providers.p.lanes]]\nmatch = "m"', 1)
                ][number // 2 % 4]

    def replace(self, text):
        beside = self.folder / "next.toml"
        beside.write_text(text)
        os.replace(beside, self.path)

    def reloads(self):
        """How many readings there were, by outcome."""
        counts = self.metric("sluicegate_config_reloads_total")
        return {key.split('"')[1]: int(value) for key, value in counts.items()}

    def load(self, number, text, is_good, before):
        """Has a file taken over, by one of the three ways; waits until it was looked at."""
        self.replace(text)
        way = ("call", "signal", "file")[number % 3]
        if way == "call":
            try:
                self.ask("POST", "/admin/v1/reload", b"{}")
            except Exception as error:  # a refusal, which is counted below
                if is_good:
                    self.faults.append(f"file {number}: {error}")
        elif way == "signal":
            os.kill(self.service.process.pid, signal.SIGHUP)
        until = time.monotonic() + 20
        while (counts := self.reloads()) == before and time.monotonic() < until:
            time.sleep(0.05)
        outcome = [key for key in counts if counts[key] > before[key]]
        if outcome != (["applied"] if is_good else ["refused"]):
            self.faults.append(f"file {number} by {way}: {outcome or 'nothing'}")
        return counts

    def close(self):
        self.service.stop()
        self.upstream.close()
        shutil.rmtree(self.folder)
        for fault in self.faults:
            print(f"WRONG {fault}")
        return 1 if self.faults else 0


def windows(run, entries):
    """The windows that held more than the highest limit within them: how much more, and when they ended."""
    moments, over, first = [entry["at"] for entry in entries], [], 0
    for last, at in enumerate(moments):
        while at - moments[first] >= PERIOD:
            first += 1
        most = max(rate for start, end, rate in run.in_force if start <= at and end > moments[first])
        if last + 1 - first > most:
            over.append((last + 1 - first - most, at))
    return over


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rate", type=int, default=600, help="requests in ten seconds")
    arguments = parser.parse_args()
    run = Run(arguments)
    run.wait_until_ready()
    pid = run.service.process.pid
    items = int(arguments.rate / PERIOD * (arguments.files * 1.2 + 90))
    batch = create(run.ask, upload(run.ask, lines(items)))["id"]
    threads = [threading.Thread(target=run.calls, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(PERIOD)
    settled = time.time()
    time.sleep(2 * PERIOD)
    rate, since, counts = arguments.rate, 0.0, run.reloads()
    began = time.time()
    for number in range(arguments.files):
        is_good = number % 2 == 0
        text, next_rate = run.good(number) if is_good else (run.bad(number), rate)
        asked = time.time()
        counts = run.load(number, text, is_good, counts)
        if is_good and next_rate != rate:
            # Between the two moments either may hold.
            run.in_force.append((since, time.time(), rate))
            rate, since = next_rate, asked
    took = time.time() - began
    time.sleep(PERIOD)
    ended = time.time()
    run.in_force.append((since, float("inf"), rate))
    run.stopping.set()
    for thread in threads:
        thread.join()
    run.ask("POST", f"/v1/batches/{batch}/cancel", b"{}", LIVE)
    while (found := json.loads(run.ask("GET", f"/v1/batches/{batch}")))["status"] not in ENDED:
        time.sleep(0.25)
    entries = run.upstream.ask("log?from=0&limit=1000000&entries=1")
    report(run, entries, found, (settled, began, ended, took, counts, pid))
    sys.exit(run.close())


def report(run, entries, batch, measured):
    settled, began, ended, took, counts, pid = measured
    done = batch["request_counts"]
    print(f"{run.files} files in {took:.0f} s: {counts}; process {'the same' if pid == run.service.process.pid else 'another'}")
    print(f"live calls: {run.live}; batch: {done['completed']} completed, {done['failed']} failed, "
          f"{batch['sluicegate']['attempts']} attempts, {batch['sluicegate']['retries']} retries")
    over = windows(run, entries)
    # While a file is taken over, the rate before counts.
    starts = [began, *[end for _, end, _ in run.in_force]]
    phases = [(start, min(end, ended), rate) for start, (_, end, rate) in zip(starts, run.in_force)]
    allowed = sum(rate / PERIOD * (end - start) for start, end, rate in phases)
    # What was sent at a higher rate counts against the lower one for a period.
    rates = [rate for _, _, rate in run.in_force]
    allowed -= sum(max(0, before - after) for before, after in zip(rates, rates[1:]))
    used = sum(began <= entry["at"] < ended for entry in entries)
    before = sum(settled <= entry["at"] < began for entry in entries) / (run.rate / PERIOD * (began - settled))
    print(f"windows over the limit: {len(over)} of {len(entries)}; used {used / allowed:.4f} of the budget ({used} of {allowed:.0f}), "
          f"{before:.4f} in the {began - settled:.0f} s before the first file")
    for more, at in over[:10]:
        print(f"  {more} more than the limit {at - began:.3f} s after the first file")
    for start, end, rate in phases:
        sent = sum(start <= entry["at"] < end for entry in entries)
        print(f"  {rate} in {PERIOD:.0f} s, {start - began:.1f} to {end - began:.1f} s: {sent / (rate / PERIOD * (end - start)):.4f}")
    log = (run.folder / "log").read_text()
    refused = sum("was refused and nothing changed" in line for line in log.splitlines())
    print(f"refusals logged: {refused}")
    if set(run.live) != {200}:
        run.faults.append(f"live calls failed: {run.live}")
    if done["failed"] or batch["sluicegate"]["retries"]:
        run.faults.append("items failed or were sent again")
    if over:
        run.faults.append("a window held more than the limit")
    if used < min(0.97, 0.98 * before) * allowed:
        run.faults.append("the budget was not used")
    if run.service.has_died() or refused != counts["refused"]:
        run.faults.append(f"{counts['refused']} refusals, {refused} lines")


if __name__ == "__main__":
    main()
