"""Real services on loopback in front of the scripted upstream, with data folders of their own: one that is open,
and one that asks for keys."""

import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from programs import Running, clean_environment, end, free_ports

ADMIN_KEY = "an-admin-key-for-the-tests-0123456789"
START_SECONDS = 30

CONFIG = """\
[server]
listen = "127.0.0.1:{port}"

[store]
url = "sqlite:{folder}/{name}/store.db"
min_free = "16MiB"

# Small, so that the tests can send more without sending much.
[batches]
max_file = "4MiB"
max_line = "1MiB"

[retry]
min_delay = "20ms"
max_delay = "100ms"

[providers.scripted]
kind = "openai"
base_url = "http://127.0.0.1:{upstream_port}/v1"
auth = "none"
# More than any test takes: tokens are counted, so that streams are asked for their usage.
limits = {{ tokens = "1000000000/min" }}
"""


class Service(Running):
    """All processes, from entering the `with` block to leaving it."""

    def __init__(self, binary: Path, log: Path) -> None:
        self.binary = binary
        self.log = log
        self.ended_cleanly = False
        self.processes: list[subprocess.Popen] = []

    def __exit__(self, *_: object) -> None:
        codes = [end(process) for process in reversed(self.processes)]
        # The upstream was started first, and how it ends is no matter.
        self.ended_cleanly = len(codes) == 3 and codes[:-1] == [0, 0]
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What the suites and the examples are told."""
        return {
            **clean_environment(),
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "OPENAI_API_KEY": "unused",
            "SLUICEGATE_URL": self.url,
            "SLUICEGATE_TEST_UPSTREAM": self.upstream,
            "SLUICEGATE_TEST_KEYED": self.keyed_url,
            "SLUICEGATE_TEST_ADMIN_KEY": ADMIN_KEY,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sluicegate-tests-"))
        self.output = self.log.open("w")
        port, keyed_port, upstream_port = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.keyed_url = f"http://127.0.0.1:{keyed_port}"
        self.upstream = f"http://127.0.0.1:{upstream_port}"
        self._run("upstream", "--listen", f"127.0.0.1:{upstream_port}")
        self._wait_for(f"{self.upstream}/v1/models")
        self._serve("open", port, upstream_port)
        self._wait_for(f"{self.url}/readyz")
        self._serve("keyed", keyed_port, upstream_port, SLUICEGATE_ADMIN_KEY=ADMIN_KEY)
        self._wait_for(f"{self.keyed_url}/readyz")

    def _serve(self, name: str, port: int, upstream_port: int, **environment: str) -> None:
        config = self.folder / f"{name}.toml"
        config.write_text(CONFIG.format(name=name, port=port, upstream_port=upstream_port, folder=self.folder))
        self._run("serve", "--config", str(config), **environment)

    def _run(self, *arguments: str, **environment: str) -> None:
        # A session of its own: Ctrl-C in the terminal then reaches it through `end`, in order.
        process = subprocess.Popen(
            [str(self.binary), *arguments], cwd=self.folder, env={**clean_environment(), **environment},
            start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT,
        )
        self.processes.append(process)

    def _wait_for(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.processes[-1].poll() is not None:
                break
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"{url} does not answer; see {self.log}:\n{self.log.read_text()[-4000:]}")
