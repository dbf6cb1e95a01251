"""What the fault scripts share: the real binary as the service and as the scripted upstream, and its HTTP API."""

import json
import os
import pathlib
import socket
import subprocess
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/sluicegate"
ENDED = ("completed", "failed", "expired", "cancelled")


class Wrong(Exception):
    """What a point showed that must not be."""


def http(method, url, body=None, headers=None, timeout=60):
    """The answer's bytes; raises OSError where no whole answer came, and Wrong where it is an error."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise Wrong(f"{method} {url}: {error.code} {error.read()[:300]}") from error
    except urllib.error.URLError as error:
        raise OSError(str(error)) from error
    except Exception as error:  # http.client's own kinds: an answer cut short
        raise OSError(repr(error)) from error


class Upstream:
    """The scripted upstream, in a process of its own."""

    def __init__(self, binary, folder, text):
        script = folder / "script.toml"
        script.write_text(text)
        self.process = subprocess.Popen(
            [binary, "upstream", "--script", script], stdout=subprocess.PIPE, text=True, env={}
        )
        self.base_url = self.process.stdout.readline().strip()

    def ask(self, what):
        """`GET /script/{what}`."""
        return json.loads(http("GET", f"{self.base_url.removesuffix('/v1')}/script/{what}"))

    def most_calls_of_an_item(self):
        repeated = self.ask("log?repeated=1&limit=1000")
        return max([entry["calls"] for entry in repeated], default=1), len(repeated)

    def close(self):
        self.process.kill()
        self.process.wait()


class Service:
    """The service on a store in a folder; started as often as a point needs.

    `limits` are keys of its provider; `store` the keys of a store elsewhere, and whatever else is not the provider's.
    """

    def __init__(self, binary, folder, upstream, limits, store=None):
        self.binary, self.folder, self.deaths = binary, folder, 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.port, self.root = port, f"http://127.0.0.1:{port}"
        store = store or f'store.url = "sqlite:{folder}/store.db"\nstore.min_free = "1MiB"'
        (folder / "sluicegate.toml").write_text(
            f'server.listen = "127.0.0.1:{port}"\n{store}\n'
            f'log.level = "warn"\n[providers.p]\nbase_url = "{upstream.base_url}"\n'
            f"{limits}\n"
        )
        self.process = None

    def start(self, strace=()):
        command = [*strace, self.binary, "serve", "--config", self.folder / "sluicegate.toml"]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(command, env={"PATH": os.environ["PATH"]}, cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def has_died(self):
        return self.process.poll() is not None

    def stop(self):
        """Ends it as an operator does; under strace the signal must go to the service itself."""
        if self.has_died():
            return
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pid = int(children[0]) if children else self.process.pid
        os.kill(pid, 15)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired as error:
            os.kill(pid, 9)
            self.process.wait()
            raise Wrong("it does not end within 20 s of SIGTERM") from error


def wrong_in_store(binary, store):
    """What the program's own check finds wrong in a store that it is given the URL of; empty: nothing."""
    command = [binary, "store", "check", "--quiet", "--store", store]
    # Nothing of the caller's: neither its environment nor a configuration where it stands.
    checked = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/")
    return "" if checked.returncode == 0 else f"{checked.stdout}{checked.stderr}".strip()


def lines(items, first=0, mark=""):
    """A batch's input: line n names itself to the upstream, which answers `Answer to n.`; its id ends with the mark."""
    return "".join(
        json.dumps({
            "custom_id": f"item-{item}{mark}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"model": "m", "messages": [{"role": "user", "content": f"[[id={item}]] How deep is lock {item}?"}]},
        }) + "\n"
        for item in range(first, first + items)
    ).encode()


def upload(ask, content):
    """Uploads a batch's input with a function like `http` that takes a path; the file's id."""
    head = (b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--B\r\ncontent-disposition: '
            b'form-data; name="file"; filename="in.jsonl"\r\n\r\n')
    kind = {"content-type": "multipart/form-data; boundary=B"}
    return json.loads(ask("POST", "/v1/files", head + content + b"\r\n--B--\r\n", kind))["id"]


def create(ask, file, key="job"):
    """Creates a batch of a file; the same one however often it is asked for with the same key."""
    options = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    kind = {"content-type": "application/json", "idempotency-key": key}
    return json.loads(ask("POST", "/v1/batches", json.dumps(options).encode(), kind))
