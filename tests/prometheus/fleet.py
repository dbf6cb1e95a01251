"""Services under load, each in a state to be broken in its own way."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

from processes import NoAnswer, Program, Prometheus, Service, Upstream
from programs import Running

# More than can be sent while the test runs.
PLENTY = 6_000
# Files and connections that the service which is to run out of them may have open.
FEW_FILES = 256
GIB = 1 << 30


def provider(name: str, upstream: Upstream, limits: str, more: str = "") -> str:
    """A provider with one lane, the model of its own name."""
    return (
        f'[providers.{name}]\nbase_url = "{upstream.url}/v1"\nlimits = {{ {limits} }}\n{more}\n'
        f'lanes = [{{ match = "{name}" }}]\n'
    )


class Fleet(Running):
    """Every process; `groups` are the services' addresses by the label `deployment` that they are scraped with."""

    def __init__(self, binary: Path, folder: Path, postgres: str | None) -> None:
        self.binary, self.folder, self.postgres = binary, folder, postgres
        self.programs: list[Program] = []
        self.upstreams: dict[str, Upstream] = {}
        self.stopping = threading.Event()
        self.threads: list[threading.Thread] = []

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        ending = [threading.Thread(target=program.end) for program in reversed(self.programs)]
        for each in ending:
            each.start()
        for each in ending:
            each.join()

    @property
    def groups(self) -> dict[str, list[str]]:
        single = {each.name: [each.address] for each in (self.lanes, self.refusing, self.store, self.down, self.late)}
        replicas = {"replicas": [each.address for each in self.replicas]} if self.replicas else {}
        return {**single, **replicas}

    def _upstream(self, name: str, script: str = 'latency = "5ms..40ms"') -> Upstream:
        upstream = Upstream(self.binary, self.folder, name, script)
        self.upstreams[name] = upstream
        self.programs.append(upstream)
        return upstream

    def _service(self, name: str, config: str, **more: object) -> Service:
        service = Service(self.binary, self.folder, name, config, **more)
        self.programs.append(service)
        return service

    def _start(self) -> None:
        good = self._upstream("good")
        self.lanes = self._service("lanes", self._lanes(good))
        self.refusing = self._service("refusing", self._nearly_full() + provider("good", good, 'requests = "20/s"'))
        twenty = provider("good", good, 'requests = "20/s"')
        self.store = self._service("store", self._half_full() + twenty, environment=self._bad_disk())
        self.down = self._service("down", provider("good", good, 'requests = "20/s"'))
        self.late = self._service("late", provider("good", good, 'requests = "2/s"'), max_files=FEW_FILES)
        self.replicas = []
        if self.postgres:
            schema = f"metrics_{os.getpid()}"
            store = f'store.url = "{self.postgres}"\nstore.schema = "{schema}"\n'
            for name in ("replica-a", "replica-b"):
                shared = provider("good", good, 'requests = "1200/min"')
                self.replicas.append(self._service(name, store + shared))
        for model in ("good", "refused", "broken", "bounced", "failing", "flaky", "starved", "paused"):
            self.lanes.submit(model, PLENTY)
        self.refusing.submit("good", PLENTY)
        self.store.submit("good", PLENTY)
        self._keep(lambda: self.lanes.chat("good", "10s"))
        self.prometheus = Prometheus(self.folder)
        self.programs.append(self.prometheus)

    def _lanes(self, good: Upstream) -> str:
        self.key_file = self.folder / "key"
        self.key_file.write_text("sk-right\n")
        key = f'auth = "bearer"\napi_key_file = "{self.key_file}"'
        names = ("refused", "broken", "bounced", "failing", "flaky")
        scripts = {"refused": 'latency = "20ms"\nkeys = ["sk-right", "sk-new"]'}
        upstreams = {name: self._upstream(name, scripts.get(name, 'latency = "20ms"')) for name in names}
        slow = self._upstream("starved", 'latency = "10ms"')
        rate = 'requests = "20/s"'
        return (
            provider("good", good, 'requests = "20/s", tokens = "100000/s"')
            + provider("refused", upstreams["refused"], rate, key)
            + "".join(provider(name, upstreams[name], rate) for name in names[1:])
            + provider("starved", slow, 'requests = "10/s", max_concurrent = 1')
            + provider("paused", good, 'requests = "5/s"')
            + provider("tight", good, 'requests = "1/h"')
        )

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _nearly_full(self) -> str:
        """A reserve just below what is free. The service takes work again a sixteenth above it."""
        free = self._free()
        if free < 3 * GIB:
            raise NoAnswer(f"this test needs 3 GiB of free disk, and there are {free} bytes")
        # For what others write meanwhile.
        self.margin = free // 30
        reserve = (free - self.margin) * 16 // 17
        self.filler_bytes = free - reserve + self.margin
        return f"store.min_free = {reserve}\n"

    def _half_full(self) -> str:
        """A reserve of which twice is just below what is free."""
        return f"store.min_free = {(self._free() - self.margin) // 2}\n"

    def _bad_disk(self) -> dict[str, str]:
        """An environment in which syncs are slow, or hang, for as long as a file is there."""
        library, source = self.folder / "slow_sync.so", Path(__file__).with_name("slow_sync.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        self.slow_sync, self.hung_sync = self.folder / "slow", self.folder / "hung"
        return {"LD_PRELOAD": str(library), "SLOW_SYNC": str(self.slow_sync), "HUNG_SYNC": str(self.hung_sync)}

    def fill_disk(self) -> None:
        """Takes disk space without writing to it."""
        with (self.folder / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, self.filler_bytes)

    def free_disk(self) -> None:
        (self.folder / "filler").unlink()

    def _keep(self, act, pause: float = 0.1) -> None:
        """Does something again and again until the end, whatever comes of it."""
        def again() -> None:
            while not self.stopping.wait(pause):
                try:
                    act()
                except NoAnswer:
                    time.sleep(pause)

        self.threads.append(threading.Thread(target=again, daemon=True))
        self.threads[-1].start()
