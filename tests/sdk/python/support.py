"""What the cases share: clients, lines, waiting for the end of a batch."""

import json
import os
import re
import time
import urllib.error
import urllib.request
import uuid

from openai import OpenAI

BASE_URL = os.environ["OPENAI_BASE_URL"]
SERVICE = BASE_URL.removesuffix("/v1")
UPSTREAM = os.environ["SLUICEGATE_TEST_UPSTREAM"]
TERMINAL = {"completed", "failed", "expired", "cancelled"}
CHAT = "/v1/chat/completions"


def new_client() -> OpenAI:
    """The SDK as anyone would make it: a base URL and a key."""
    return OpenAI(base_url=BASE_URL, api_key="unused")


def unique(name: str) -> str:
    """A name no other case uses: the upstream counts calls by it."""
    return f"{name}-{uuid.uuid4().hex[:12]}"


def chat_line(custom_id: str, text: str = "Say hello.") -> dict:
    """One line for chat completions."""
    body = {"model": "demo-small", "messages": [{"role": "user", "content": text}], "max_tokens": 32}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}


def jsonl(lines: list[dict]) -> bytes:
    """Lines as a file's content."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def parsed(content: str) -> list[dict]:
    """An output or error file's lines."""
    return [json.loads(line) for line in content.splitlines()]


def submit(client: OpenAI, lines: list[dict], endpoint: str = CHAT, **options):
    """Uploads lines and creates their batch."""
    uploaded = client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id, endpoint=endpoint, completion_window="24h", **options
    )


def finished(client: OpenAI, batch_id: str, seconds: float = 60):
    """The batch once it has ended."""
    deadline = time.monotonic() + seconds
    while True:
        batch = client.batches.retrieve(batch_id)
        if batch.status in TERMINAL:
            return batch
        if time.monotonic() > deadline:
            raise AssertionError(f"{batch_id} is still {batch.status} after {seconds} s: {batch.request_counts}")
        time.sleep(0.05)


def upstream_calls(marker: str) -> int:
    """Calls that reached the upstream with `[[id=marker]]`."""
    with urllib.request.urlopen(f"{UPSTREAM}/script/log?id={marker}", timeout=10) as reply:
        return json.load(reply)["calls"]


def requests_counted(route_part: str, status: int) -> int:
    """Requests that the service's metrics counted for a route and a status."""
    with urllib.request.urlopen(f"{SERVICE}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    pattern = r"^sluicegate_http_request_duration_seconds_count\{(.*)\} (\d+)"
    samples = re.findall(pattern, text, re.MULTILINE)
    return sum(int(count) for labels, count in samples if route_part in labels and f'status="{status}"' in labels)


def raw(method: str, path: str, body: bytes | None = None, **headers: str):
    """(status, headers, JSON body) of a call that no SDK would make."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{SERVICE}{path}", data=body, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.headers, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)
