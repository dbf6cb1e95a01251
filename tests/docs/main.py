#!/usr/bin/env python3
"""Runs what the documents show: every command and snippet of README.md, CONTRIBUTING.md and docs.

    python3 tests/sdk/main.py --binary target/debug/sluicegate --folder target/sdk --only docs

That starts this file with a service and the scripted provider. A block is run by its language:

    sh            with bash, in a folder that the document's blocks share. `sluicegate` is the binary under test, and `serve` is
                  ended as soon as it listens; `stand_ins` has what stands in for cargo and the like.
    python, js    with the official SDKs
    toml          is a whole configuration, or so it is checked; later blocks find it as `sluicegate.toml`
    json          is posted, if it looks like the body of a batch
    nginx, caddy  by the servers' own check, if they are there

The documents' own addresses and folders are replaced by those of the test. A block that can't be run says why on the line
above it, `<!-- not run: needs Docker -->`, and is listed. Blocks without a language are no commands: diagrams.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "sdk"))

from blocks import Block, blocks_of  # noqa: E402
from counting import run_and_exit  # noqa: E402
from programs import free_ports  # noqa: E402

BINARY, INTERPRETER, NODE_FOLDER = (Path(argument) for argument in sys.argv[1:4])
SERVICE, KEYED = os.environ["SLUICEGATE_URL"], os.environ["SLUICEGATE_TEST_KEYED"]
UPSTREAM, ADMIN_KEY = os.environ["SLUICEGATE_TEST_UPSTREAM"], os.environ["SLUICEGATE_TEST_ADMIN_KEY"]
SECONDS = 60
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A batch of two lines, as the README makes one.
BATCH = {
    "endpoint": "/v1/chat/completions", "defaults": {"model": "m"},
    "requests": [{"custom_id": name, "body": {"messages": [{"role": "user", "content": "Hello"}]}} for name in "ab"],
}


def ask(url: str, path: str, body: dict, key: str = "unused") -> dict:
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


class Place:
    """The folder that a document's blocks share, and what they find around them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        self.work.mkdir()
        for name in ("examples", "tests", "benches", "migrations", ".ci", "deploy", "Cargo.toml", "sluicegate.example.toml"):
            (self.work / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "examples/requests.jsonl", self.work)
        # A copy: a command writes a part of it anew.
        (self.work / "docs").mkdir()
        shutil.copy(ROOT / "docs/configuration.md", self.work / "docs")
        (self.work / "products.csv").write_text("name,price\nlamp,10\nchair,20\n")
        for name in ("data", "backup", "etc"):
            (folder / name).mkdir()
        (folder / "etc/admin.key").write_text(ADMIN_KEY)
        self.replaced = {
            "http://127.0.0.1:8080": SERVICE, "http://127.0.0.1:8000": UPSTREAM,
            "127.0.0.1:11434": UPSTREAM.removeprefix("http://"),
            "/var/lib/sluicegate": str(folder / "data"), "/backup": str(folder / "backup"),
            "/etc/sluicegate": str(folder / "etc"),
        }
        batch = ask(SERVICE, "/v1/batches", BATCH)["id"]
        key = ask(KEYED, "/admin/v1/keys", {"app": "docs"}, ADMIN_KEY)["id"]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLUICEGATE", "OPENAI"))}
        self.environment = {
            **kept, "PATH": f"{HERE / 'stand_ins'}:{kept['PATH']}", "BINARY": str(BINARY), "ROOT": str(ROOT),
            "OPENAI_API_KEY": "unused", "ANTHROPIC_API_KEY": "unused",
            "URL": KEYED, "SLUICEGATE_ADMIN_KEY": ADMIN_KEY, "KEY_ID": key, "BATCH_ID": batch, "NO_COLOR": "1",
        }
        # Commands make providers of it, SDKs call it.
        self.of_commands = {"OPENAI_BASE_URL": f"{UPSTREAM}/v1"}
        self.of_sdks = {"OPENAI_BASE_URL": f"{SERVICE}/v1", "ANTHROPIC_BASE_URL": SERVICE, "SLUICEGATE_URL": SERVICE}

    def text_of(self, block: Block) -> str:
        text = block.text.replace("OPENAI_API_KEY=…", "OPENAI_API_KEY=unused")
        for shown, real in self.replaced.items():
            # A path of the documents' machine, never the end of another path.
            text = re.sub(rf"(?<![\w.]){re.escape(shown)}\b", lambda _, real=real: real, text)
        return text

    def run_bash(self, text: str) -> None:
        """From a file, so that no command reads the rest of the script as its input."""
        script = self.folder / "block.sh"
        script.write_text(text)
        self.run(["/bin/bash", "-euo", "pipefail", script], "", self.of_commands)

    def run(self, command: list[str | Path], text: str, environment: dict[str, str], cwd: Path | None = None) -> None:
        done = subprocess.run(
            [str(part) for part in command], input=text, cwd=cwd or self.work, env={**self.environment, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=SECONDS,
        )
        if done.returncode != 0:
            raise AssertionError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-3000:]}")

    def prepare_store(self, url: str) -> None:
        """A store that was used and left, where the documents have one."""
        self.run_bash(f"sluicegate serve --set store.url=sqlite:{url} --set store.min_free=1MiB")


def run_sh(place: Place, block: Block) -> None:
    text = place.text_of(block)
    if str(place.folder / "data") in text and not (place.folder / "data/store.db").exists():
        place.prepare_store(f"{place.folder}/data/store.db")
    if re.search(r"sluicegate (backup|store check|store prune)", text) and not (place.work / "sluicegate-data").exists():
        place.prepare_store("./sluicegate-data/store.db")
    if not any(word in text for word in ("postgres.url", "psql")):
        place.run_bash(text)
        return
    with subprocess.Popen(["/bin/bash", ROOT / "tests/postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        (place.folder / "etc/postgres.url").write_text(url)
        try:
            place.run_bash(f"URL='{url}'\n{text}" if "psql" in text else text)
        finally:
            server.stdin.close()


def run_python(place: Place, block: Block) -> None:
    place.run([INTERPRETER, "-"], place.text_of(block), place.of_sdks)


def run_js(place: Place, block: Block) -> None:
    # Node finds packages from a script's own place upwards.
    script = NODE_FOLDER / f"block-{os.getpid()}-{block.line}.mjs"
    script.write_text(place.text_of(block))
    try:
        place.run(["node", script], "", place.of_sdks)
    finally:
        script.unlink()


def run_toml(place: Place, block: Block) -> None:
    (place.work / "sluicegate.toml").write_text(place.text_of(block))
    place.run([BINARY, "config", "check", "--config", "sluicegate.toml"], "", place.of_commands)


def run_json(place: Place, block: Block) -> None:
    value = json.loads(block.text)
    if isinstance(value, dict) and "endpoint" in value:
        ask(SERVICE, "/v1/batches", value)


def run_nginx(place: Place, block: Block) -> None:
    """A real nginx in front of the service, followed results through it."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or skip("there is no nginx here")
    [port] = free_ports(1)
    text = place.text_of(block).replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    config = place.folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {place.folder}/nginx.pid; error_log stderr;\nevents {{}}\n"
        f"http {{ access_log off; client_body_temp_path {place.folder}; proxy_temp_path {place.folder};\n{text}}}\n"
    )
    make_certificate(place)
    process = subprocess.Popen([program, "-e", "stderr", "-c", config], stdin=subprocess.DEVNULL)
    try:
        batch = place.environment["BATCH_ID"]
        results = wait_for(f"https://127.0.0.1:{port}/v1/batches/{batch}/results?follow=true", process)
        if len(results.splitlines()) != len(BATCH["requests"]):
            raise AssertionError(f"results through nginx: {results}")
    finally:
        process.terminate()
        process.wait()


def make_certificate(place: Place) -> None:
    files = ["-keyout", place.folder / "etc/tls.key", "-out", place.folder / "etc/tls.pem"]
    place.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *files], "", {})


def wait_for(url: str, process: subprocess.Popen) -> str:
    """What a server says once it listens."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    until = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=SECONDS, context=trusting) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


def run_caddy(place: Place, block: Block) -> None:
    program = shutil.which("caddy") or skip("there is no Caddy here")
    (place.work / "Caddyfile").write_text(place.text_of(block))
    place.run([program, "validate", "--adapter", "caddyfile", "--config", "Caddyfile"], "", {"HOME": str(place.folder)})


def skip(why: str) -> str:
    raise unittest.SkipTest(why)


RUN = {"nginx": run_nginx, "caddy": run_caddy, "sh": run_sh, "bash": run_sh, "python": run_python, "js": run_js, "toml": run_toml, "json": run_json}


class Documents(unittest.TestCase):
    """One test for each block that is run, made below."""

    folder: tempfile.TemporaryDirectory
    places: dict[Path, Place] = {}

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory(prefix="sluicegate-docs-")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def place_of(self, document: Path) -> Place:
        if document not in self.places:
            folder = Path(self.folder.name) / f"{len(self.places)}"
            folder.mkdir()
            self.places[document] = Place(folder)
        return self.places[document]


def add_test(block: Block) -> None:
    def test(self: Documents) -> None:
        if block.language not in RUN:
            raise AssertionError(f"nothing runs `{block.language}`: add it here, or say above the block why not")
        RUN[block.language](self.place_of(block.document), block)

    test.__doc__ = block.name(ROOT)
    # In the order of the document: blocks build on those before.
    setattr(Documents, f"test_{block.document.relative_to(ROOT)}_{block.line:05}", test)


def main() -> None:
    diagrams, not_run = 0, []
    for block in (block for document in DOCUMENTS for block in blocks_of(document)):
        if block.reason:
            not_run.append(f"{block.name(ROOT)}: {block.reason}")
        elif block.language in ("", "text"):
            diagrams += 1
        else:
            add_test(block)
    print(f"{diagrams} blocks are no commands; {len(not_run)} are not run:\n  " + "\n  ".join(not_run), flush=True)
    run_and_exit(unittest.defaultTestLoader.loadTestsFromTestCase(Documents))


if __name__ == "__main__":
    main()
