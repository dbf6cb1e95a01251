"""Clients that go away in the middle of what they asked for."""

import json
import socket
import struct

from cluster import KIND

CLIENTS = 8


def break_off(soak):
    """Resets connections of each kind: half an upload, a followed batch, its events, a live call."""
    for number in range(CLIENTS):
        key = soak.dice.choice(soak.app_keys)
        running = json.loads(soak.ask("GET", "/v1/batches?status=in_progress&limit=1", key=key))["data"]
        batch = running[0]["id"] if running else "batch_none"
        live = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "[[id=gone]] Who?"}]})
        heads = (
            ("POST", "/v1/files", {"content-type": "multipart/form-data; boundary=B", "content-length": "100000"},
             '--B\r\ncontent-disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n{"custom_id"'),
            ("GET", f"/v1/batches/{batch}/results?follow=true", {}, ""),
            ("GET", f"/v1/batches/{batch}/events", {}, ""),
            ("POST", "/v1/chat/completions", {**KIND, "content-length": str(len(live))}, live),
        )
        method, path, headers, body = heads[number % len(heads)]
        headers = {"host": "x", "authorization": f"Bearer {key}", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        try:
            with socket.create_connection(("127.0.0.1", soak.replica.service.port), timeout=5) as client:
                client.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n{body}".encode())
                client.settimeout(soak.dice.uniform(0.05, 0.4))
                try:
                    client.recv(4096)
                except TimeoutError:
                    pass
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as error:
            soak.must(False, f"the service does not take connections: {error!r}")
