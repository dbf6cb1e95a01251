"""The programs under test, each in a process of its own on loopback: services, scripted providers, Prometheus."""

import http.client
import json
import resource
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from programs import clean_environment, end, free_ports

START_SECONDS = 40


class NoAnswer(Exception):
    """A program that does not answer, or answers with an error."""


class NotInTime(NoAnswer):
    """What was waited for did not come."""


def call(method: str, url: str, body: object = None, headers: dict | None = None, seconds: float = 60) -> bytes:
    """The body of the answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **(headers or {})} if data is not None else headers or {}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=seconds) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise NoAnswer(f"{method} {url}: {error.code} {error.read()[:300]!r}") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{method} {url}: {error!r}") from error


def until(what: str, holds, seconds: float, pause: float = 0.1):
    """Asks again and again until something holds, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > deadline:
            raise NotInTime(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


def answers(url: str) -> bool:
    """Whether a GET is answered with success."""
    try:
        call("GET", url, seconds=2)
    except NoAnswer:
        return False
    return True


class Program:
    """One process, with what it says in a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir(parents=True)
        self.log = self.folder / "log"
        self.process: subprocess.Popen | None = None

    def run(self, command: list, ready: str, max_files: int | None = None, environment: dict | None = None) -> None:
        """Starts it, and waits until a URL of it answers."""
        def limit() -> None:
            if max_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command], cwd=self.folder, env={**clean_environment(), **(environment or {})},
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=limit,
            )
        until(f"{self.name} answers; it said: {self.tail()}", lambda: self.has_ended() or answers(ready), START_SECONDS)
        if self.has_ended():
            raise NoAnswer(f"{self.name} ended with {self.process.returncode}: {self.tail()}")

    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def end(self, how: int = signal.SIGTERM) -> int | None:
        """Its exit code; it is killed if it does not end by itself."""
        return None if self.process is None else end(self.process, how)


class Upstream(Program):
    """A scripted provider."""

    def __init__(self, binary: Path, folder: Path, name: str, script: str) -> None:
        super().__init__(folder, f"upstream-{name}")
        (self.folder / "script.toml").write_text(script)
        [self.port] = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        listen = f"127.0.0.1:{self.port}"
        self.run([binary, "upstream", "--listen", listen, "--script", "script.toml"], f"{self.url}/script/script")

    def set(self, **keys: object) -> None:
        """Changes its script."""
        call("POST", f"{self.url}/script/set", keys)


class Service(Program):
    """The service, on a data folder of its own unless the configuration names another store."""

    def __init__(
        self, binary: Path, folder: Path, name: str, config: str, max_files: int | None = None,
        environment: dict | None = None,
    ) -> None:
        super().__init__(folder, name)
        self.binary = binary
        [self.port] = free_ports(1)
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.max_files = max_files
        self.environment = environment
        (self.folder / "sluicegate.toml").write_text(
            f'server.listen = "{self.address}"\nserver.drain_timeout = "1s"\nlog.level = "warn"\n'
            f'retry.min_delay = "20ms"\nretry.max_delay = "100ms"\n{config}'
        )
        self.start()

    def start(self) -> None:
        self.run([self.binary, "serve", "--config", "sluicegate.toml"], f"{self.url}/livez", self.max_files,
                 self.environment)

    def submit(self, model: str, items: int, **options: object) -> str:
        """Creates a batch of short requests for a model; its id."""
        ask = {"messages": [{"role": "user", "content": "How deep is the lock?"}]}
        batch = {
            "endpoint": "/v1/chat/completions", "completion_window": "24h", "defaults": {"model": model},
            "requests": [{"custom_id": f"{model}-{item}", "body": ask} for item in range(items)], **options,
        }
        return json.loads(call("POST", f"{self.url}/v1/batches", batch))["id"]

    def batch(self, identity: str) -> dict:
        return json.loads(call("GET", f"{self.url}/v1/batches/{identity}"))

    def chat(self, model: str, max_wait: str) -> int:
        """Makes a live call; the status of its answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "How deep is the lock?"}]}
        try:
            call("POST", f"{self.url}/v1/chat/completions", body, {"sluicegate-max-wait": max_wait})
        except NoAnswer as refused:
            cause = refused.__cause__
            return cause.code if isinstance(cause, urllib.error.HTTPError) else 0
        return 200


class Prometheus(Program):
    """A real one, with the rules in its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "prometheus")
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        address = self.url.removeprefix("http://")
        command = ["prometheus", "--config.file=prometheus.yml", f"--web.listen-address={address}"]
        self.run([*command, "--storage.tsdb.path=data", "--log.level=warn"], f"{self.url}/-/ready")

    def ask(self, path: str, **parameters: str) -> object:
        """The data of an answer of its API."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        return json.loads(call("GET", f"{self.url}/api/v1/{path}{query}"))["data"]

    def query(self, expression: str) -> list[tuple[dict, float]]:
        """Labels and value of each series of an instant query."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in data["result"]]

    def query_range(self, expression: str, seconds: int) -> list[list[float]]:
        """The values of each series over the last seconds, as a panel draws them."""
        now = time.time()
        data = self.ask("query_range", query=expression, start=f"{now - seconds}", end=f"{now}", step="3")
        return [[float(value) for _, value in each["values"]] for each in data["result"]]
