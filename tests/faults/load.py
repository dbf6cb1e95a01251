"""Clients that keep a cluster busy and look at everything that they get back."""

import collections
import json
import threading
import time

from cluster import KIND
from support import ENDED, Wrong, create, lines, upload

# Custom ids come back byte for byte, whatever is in them.
MARK = ' "é\u2713\\'


class Load:
    """Apps with batches under way at any time, until told to stop; and live calls beside them."""

    def __init__(self, cluster, apps=3, strands=2, items=400, live=True):
        self.cluster, self.items = cluster, items
        self.stopping = threading.Event()
        self.batches, self.done, self.lock = {}, 0, threading.Lock()
        self.live = collections.Counter()
        keys = cluster.make_apps([f"app-{number}" for number in range(apps)])
        self.threads = [
            threading.Thread(target=self._guarded, args=(self._strand, key, app * strands + strand), daemon=True)
            for app, key in enumerate(keys.values()) for strand in range(strands)
        ]
        if live:
            key = next(iter(keys.values()))
            self.threads.append(threading.Thread(target=self._guarded, args=(self._live, key, 0), daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def finish(self, patience=900.0):
        """Waits until every batch has ended that was begun."""
        self.stopping.set()
        until = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        hanging = [batch for batch, (_, _, is_done) in self.batches.items() if not is_done]
        self.cluster.must(not hanging, f"{len(hanging)} batches have not ended: {hanging[:3]}")

    def _guarded(self, run, key, strand):
        try:
            run(key, strand)
        except (Wrong, KeyError, ValueError) as wrong:
            self.cluster.faults.append(f"client {strand}: {wrong!r}")

    def _strand(self, key, strand):
        def ask(*what):
            return self.cluster.ask(*what, key=key)

        number = 0
        while not self.stopping.is_set():
            first = (strand * 10_000 + number) * self.items
            content = lines(self.items, first, MARK)
            batch = create(ask, upload(ask, content), f"strand-{strand}-batch-{number}")["id"]
            self.batches[batch] = (first, self.items, False)
            self._follow(ask, batch, first)
            self.batches[batch] = (first, self.items, True)
            number += 1

    def _follow(self, ask, batch, first):
        while True:
            found = json.loads(ask("GET", f"/v1/batches/{batch}"))
            if found["status"] in ENDED:
                break
            time.sleep(0.5)
        must = self.cluster.must
        counts = {"total": self.items, "completed": self.items, "failed": 0}
        must(found["status"] == "completed" and found["request_counts"] == counts,
             f"{batch} ended as {found['status']} with {found['request_counts']}")
        if found["error_file_id"]:
            errors = ask("GET", f"/v1/files/{found['error_file_id']}/content").splitlines()
            must(False, f"{batch} has {len(errors)} error lines, such as {errors[:1]}")
        output = ask("GET", f"/v1/files/{found['output_file_id']}/content") if found["output_file_id"] else b""
        seen = collections.Counter()
        for line in map(json.loads, output.splitlines()):
            seen[line["custom_id"]] += 1
            answer = line["response"]["body"]["choices"][0]["message"]["content"]
            own = line["custom_id"].removeprefix("item-").removesuffix(MARK)
            must(answer == f"Answer to {own}.", f"{line['custom_id']} has the answer {answer!r}")
        wanted = {f"item-{item}{MARK}" for item in range(first, first + self.items)}
        must(not wanted - set(seen), f"{batch}: {len(wanted - set(seen))} items are lost")
        must(set(seen) <= wanted, f"{batch} has items of others: {list(set(seen) - wanted)[:3]}")
        must(seen.total() == len(seen), f"{batch}: {seen.total() - len(seen)} lines are there twice")
        with self.lock:
            self.done += self.items

    def _live(self, key, _):
        """A call every half second; what fails is not tried again: it is only counted."""
        number = 0
        while not self.stopping.is_set():
            prompt = f"[[id=live-{number}]] How are the locks?"
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
            try:
                self.cluster.ask("POST", "/v1/chat/completions", body, KIND, key=key, patience=0.01)
                self.live["answered"] += 1
            except Wrong:
                self.live["failed"] += 1
            number += 1
            time.sleep(0.5)
