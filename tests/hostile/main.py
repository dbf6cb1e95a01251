#!/usr/bin/env python3
"""Calls of every kind that `openapi.yaml` allows, and of every kind that it forbids, against the real binary.

    python3 tests/hostile/main.py --binary target/debug/sluicegate --folder target/hostile           a short run
    python3 tests/hostile/main.py --binary target/release/sluicegate --folder target/hostile --full  20,000 cases and more

schemathesis makes the calls out of the description, good ones and broken ones, alone and in sequences, and holds each
answer against it: with `--full` more of the same. No answer may be a 5xx, none may differ from the description, what
the description forbids must be refused and what it allows accepted. `schemathesis.toml` beside this file says which
checks are left out, and why. The closing line is `suite-total PASSED FAILED`, by operations.
"""

import argparse
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "sdk"))

import arguments  # noqa: E402
import environments  # noqa: E402
from service import ADMIN_KEY, Service  # noqa: E402

FULL_CASES = 20_000
LINES = b"".join(
    json.dumps({"custom_id": f"item-{number}", "method": "POST", "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}}).encode() + b"\n"
    for number in range(3)
)


def main() -> int:
    parser = arguments.parser(__doc__, "the environment and reports")
    parser.add_argument("--full", action="store_true", help=f"at least {FULL_CASES} cases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("rest", nargs="*", help="further arguments of `schemathesis run`, after `--`")
    given = parser.parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    interpreter = environments.python(folder / "schemathesis", environments.SCHEMATHESIS)
    with Impatient(given.binary, folder / "service.log") as service:
        known = Known(service.keyed_url)
        tidying = Tidying(known)
        output, code = run(interpreter, service, known, given, folder)
        tidying.end()
    return judge(output, code, service, folder, given)


class Impatient(Service):
    """What waits in the gate is refused soon: calls of paused lanes would take their whole time."""

    def _run(self, *arguments: str, **environment: str) -> None:
        super()._run(*arguments, SLUICEGATE__INTERACTIVE__MAX_WAIT="200ms", **environment)


class Known:
    """Ids that are there, so that calls get beyond 404."""

    def __init__(self, url: str) -> None:
        self.url = url
        head = (b'--B\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--B\r\ncontent-disposition: '
                b'form-data; name="file"; filename="in.jsonl"\r\n\r\n')
        form = head + LINES + b"\r\n--B--\r\n"
        self.files = [self.ask("POST", "/v1/files", form, "multipart/form-data; boundary=B")["id"] for _ in range(2)]
        create = {"input_file_id": self.files[0], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        self.batches = [self.ask("POST", "/v1/batches", json.dumps({**create, "metadata": {"n": str(number)}}).encode())["id"]
                        for number in range(3)]
        self.keys = [self.ask("POST", "/admin/v1/keys", b'{"app": "known"}')["id"]]

    def ids(self) -> dict[str, list[str]]:
        items = [f"item-{number}" for number in range(3)]
        return {"file_id": self.files, "batch_id": self.batches, "key_id": self.keys, "custom_id": items}

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> dict:
        headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": kind}
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


class Tidying:
    """Ends what generated calls leave open: paused lanes, running batches and quotas of nothing. Others' answers that
    wait for these would take their whole time."""

    def __init__(self, known: Known) -> None:
        self.known, self.stop = known, threading.Event()
        self.thread = threading.Thread(target=self._tidy, daemon=True)
        self.thread.start()

    def _tidy(self) -> None:
        while not self.stop.wait(0.3):
            for batch in self.known.ask("GET", "/v1/batches?status=in_progress&limit=100")["data"]:
                self._try("POST", f"/v1/batches/{batch['id']}/cancel")
            for limit in self.known.ask("GET", "/v1/budget")["data"]:
                if limit["state"] == "paused":
                    lane = {"provider": limit["provider"], "model": limit["model"]}
                    self._try("POST", "/admin/v1/lanes/resume", json.dumps(lane).encode())
            self._try("PUT", "/admin/v1/apps/default", b"{}")

    def _try(self, method: str, path: str, body: bytes | None = None) -> None:
        """The batch may have ended by itself, the lane have been resumed by another call."""
        try:
            self.known.ask(method, path, body)
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise

    def end(self) -> None:
        self.stop.set()
        self.thread.join()


def run(interpreter: Path, service: Service, known: Known, given: argparse.Namespace, folder: Path) -> tuple[str, int]:
    """Output and exit code of schemathesis. It has one worker: several trip over what hypothesis keeps for all threads."""
    examples = 650 if given.full else 8
    phases = "examples,coverage,fuzzing,stateful" if given.full else "examples,fuzzing,stateful"
    command = [
        interpreter, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run", ROOT / "openapi.yaml",
        "--url", service.keyed_url, "--header", f"Authorization: Bearer {ADMIN_KEY}", "--mode", "all",
        "--max-examples", examples, "--seed", given.seed, "--phases", phases, "--continue-on-failure",
        "--report", "ndjson", "--report-ndjson-path", folder / "report.ndjson", *given.rest,
    ]
    environment = {
        **service.environment(), "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE),
        "KNOWN_IDS": json.dumps(known.ids()), "KNOWN_LINES": LINES.decode(), "KNOWN_DESCRIPTION": str(ROOT / "openapi.yaml"),
    }
    process = subprocess.Popen([str(part) for part in command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        print(line, end="", flush=True)
    return "".join(lines), process.wait()


def judge(output: str, code: int, service: Service, folder: Path, given: argparse.Namespace) -> int:
    """Says what it came to; a run that made few calls, or a service that fell over, is a failure too."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    number = lambda pattern: int((re.search(pattern, plain) or [0, "0"])[1].replace(",", ""))  # noqa: E731
    cases, tested = number(r"([\d,]+) generated"), number(r"Tested: (\d+)")
    failed = number(r"(\d+) unique failures?") + number(r"Errors?:\s+(\d+)")
    if not service.ended_cleanly:
        print(f"the service did not end well: {folder / 'service.log'}")
    few = cases < (FULL_CASES if given.full else 100)
    if few:
        print(f"{cases} cases are too few")
    bad = max(failed, int(code != 0 or few or not service.ended_cleanly))
    print(f"{cases} cases, {tested} operations, {failed} failures, seed {given.seed}")
    print(f"suite-total {max(0, tested - bad)} {bad}", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
