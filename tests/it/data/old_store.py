"""Makes a data folder with an old build of the service: one batch that ended, one that failed, one that runs.

    python3 tests/it/data/old_store.py path/to/an/old/sluicegate tests/it/data/schema-1

The service is killed in the middle of the third batch, so that its log and its leases are part of what is kept.
"""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

KEPT = ("store.db", "store.db-wal")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def line(number: int, text: str, custom_id: str | None = None) -> dict:
    body = {"model": "demo-small", "messages": [{"role": "user", "content": text}]}
    name = custom_id or f"item-{number}"
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def call(base: str, path: str, body: object = None) -> dict:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refused:
        raise SystemExit(refused.read().decode()) from refused


def upload(base: str, lines: list[dict]) -> str:
    content = "".join(json.dumps(line) + "\n" for line in lines)
    body = (
        '--edge\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        '--edge\r\ncontent-disposition: form-data; name="file"; filename="old.jsonl"\r\n\r\n'
        f"{content}\r\n--edge--\r\n"
    )
    request = urllib.request.Request(
        base + "/v1/files", body.encode(), {"content-type": "multipart/form-data; boundary=edge"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["id"]


def until(what: str, holds) -> None:
    """Asks again and again; how often changes nothing in what is made."""
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            raise SystemExit(f"did not happen: {what}")
        time.sleep(0.05)


def answers(base: str) -> bool:
    try:
        call(base, "/livez")
    except OSError:
        return False
    return True


def make(binary: str, folder: pathlib.Path) -> None:
    upstream_port, port = free_port(), free_port()
    base = f"http://127.0.0.1:{port}"
    config = folder / "sluicegate.toml"
    config.write_text(
        f"""
        server = {{ listen = "127.0.0.1:{port}" }}
        store = {{ url = "sqlite:{folder}/store.db", min_free = "1MiB" }}
        limits = {{ max_concurrent = 4, requests = "6000/min" }}
        retry = {{ min_delay = "5ms", max_delay = "20ms" }}
        [providers.up]
        kind = "openai"
        base_url = "http://127.0.0.1:{upstream_port}/v1"
        auth = "none"
        """
    )
    script = folder / "upstream.toml"
    script.write_text('latency = "150ms"')
    listen = f"127.0.0.1:{upstream_port}"
    upstream = subprocess.Popen([binary, "upstream", "--listen", listen, "--script", str(script)])
    service = subprocess.Popen([binary, "serve", "--config", str(config)])
    try:
        until("it listens", lambda: answers(base))
        fill(base)
    finally:
        service.kill()
        service.wait()
        upstream.kill()
        upstream.wait()


def create(base: str, lines: list[dict], **options: object) -> str:
    batch = {
        "input_file_id": upload(base, lines),
        "endpoint": "/v1/chat/completions",
        "completion_window": "365d",
        **options,
    }
    return call(base, "/v1/batches", batch)["id"]


def status(base: str, batch: str) -> str:
    return call(base, f"/v1/batches/{batch}")["status"]


def fill(base: str) -> None:
    ended = [line(number, f"[[id=e{number}]]") for number in range(70)]
    ended[3] = line(3, "[[400]]")
    batch = create(base, ended, metadata={"what": "ended"})
    until("it ends", lambda: status(base, batch) == "completed")
    failed = [line(0, "a"), line(1, "b", "item-0")]
    batch = create(base, failed, metadata={"what": "failed"})
    assert status(base, batch) == "failed"
    running = [line(number, f"[[id=r{number}]]") for number in range(150)]
    batch = create(base, running, metadata={"what": "running"})
    until("more than half is done", lambda: counts(base, batch)["succeeded"] >= 85)
    create(base, [line(0, "last")], metadata={"what": "last"})


def counts(base: str, batch: str) -> dict:
    return call(base, f"/v1/batches/{batch}")["sluicegate"]["counts"]


def main() -> None:
    binary, kept = sys.argv[1:]
    pathlib.Path(kept).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make(binary, folder)
        for file in KEPT:
            compressed = f"{kept}/{file}.zst"
            subprocess.run(["zstd", "-q", "-f", "-19", f"{name}/{file}", "-o", compressed], check=True)


main()
