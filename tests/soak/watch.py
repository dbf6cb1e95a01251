"""Memory, open files and the store's size of one process while it lives, and whether they grow."""

import os
import pathlib
import statistics
import threading
import time

EVERY = 2.0
# Minutes in which caches fill, the allocator finds its size and retention has nothing to erase yet: memory goes from
# 28 to 34 MB in ten of them and stays there. Of a short run, the fifth part of its life.
WARM_UP, LEAST_WARM_UP = 15.0, 0.2
RSS_SLOPE, MORE_FILES = 1.0, 8
# A slope needs points; a minute of them is a smoke test.
MEANINGFUL_MINUTES = 20.0


class Watch:
    """Samples of one process until it is gone."""

    def __init__(self, pid, folder):
        self.pid, self.folder, self.samples = pid, folder, []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self):
        started = time.monotonic()
        while True:
            try:
                status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
                rss, own = (int(status.split(f"{name}:")[1].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
                files = len(os.listdir(f"/proc/{self.pid}/fd"))
                store = sum(part.stat().st_size for part in self.folder.glob("store.db*")) / 1e6
                self.samples.append(((time.monotonic() - started) / 3600, rss, files, store, own))
            except (OSError, IndexError):
                return
            if self.stop.wait(EVERY):
                return

    def latest(self):
        if not self.samples:
            return "no sample yet"
        _, rss, files, store, own = self.samples[-1]
        return f"{rss:.1f} MB resident ({own:.1f} anonymous), {files} files, store {store:.1f} MB"

    def end(self):
        self.stop.set()
        self.thread.join()


def slope(points):
    """The median of the slopes between points far apart (Theil and Sen): one outlier moves nothing."""
    half = len(points) // 2
    return statistics.median((later[1] - earlier[1]) / (later[0] - earlier[0])
                             for earlier, later in zip(points, points[half:]))


def judge(soak, watch, seed):
    """Says how memory, files and the store went after the warm-up, and holds the first two against their bounds."""
    if watch is None or len(watch.samples) < 8:
        soak.must(False, "the run was too short for a look at memory")
        return
    hours = watch.samples[-1][0]
    cold = max(hours * LEAST_WARM_UP, min(WARM_UP / 60, hours / 3))
    warm = [sample for sample in watch.samples if sample[0] >= cold]
    quarter = max(1, len(warm) // 4)
    found = {}
    for index, name in ((1, "resident MB"), (4, "of it anonymous MB"), (2, "open files"), (3, "store MB")):
        values = [sample[index] for sample in warm]
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        found[name] = (slope([(sample[0], sample[index]) for sample in warm]), first, last)
        print(f"seed {seed}: {name}: {found[name][0]:+.2f} an hour, median of the first quarter {first:.1f}, of the last "
              f"{last:.1f}, most {max(values):.1f} ({len(values)} samples in {(hours - warm[0][0]) * 60:.0f} min)", flush=True)
    if hours * 60 < MEANINGFUL_MINUTES:
        print(f"seed {seed}: {hours * 60:.0f} min are too short to judge slopes", flush=True)
        return
    soak.must(found["resident MB"][0] < RSS_SLOPE, f"memory grows by {found['resident MB'][0]:.2f} MB an hour")
    _, first, last = found["open files"]
    soak.must(last <= first + MORE_FILES, f"open files went from {first:.0f} to {last:.0f}")
