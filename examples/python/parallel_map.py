"""`parallel_map`: one call for each input, many at once, as a batch that a crash of this script doesn't lose.

    pip install openai
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=unused python examples/python/parallel_map.py
"""

import json

from openai import OpenAI
from openai.types import Batch


def parallel_map(client, bodies, *, order="input", fail_fast=False, key=None):
    """Yields (index, answer or None, error or None); order="completion" gives each as it ends."""
    requests = [{"custom_id": str(index), "body": body} for index, body in enumerate(bodies)]
    create = {"endpoint": "/v1/chat/completions", "requests": requests}
    create["on_error"] = "fail_fast" if fail_fast else "continue"
    # The same key again is the same batch: a script that was interrupted may simply run again.
    headers = {"Idempotency-Key": key} if key else {}
    batch = client.post("/batches", cast_to=Batch, body=create, options={"headers": headers})
    after, cursor = 0, "line" if order == "input" else "position"
    while True:
        ended = client.batches.retrieve(batch.id).status in ("completed", "failed", "expired", "cancelled")
        params = {"order": order, "after": after, "wait": "30s"}
        page = client.get(f"/batches/{batch.id}/results", cast_to=str, options={"params": params})
        for line in map(json.loads, page.splitlines()):
            after = line["sluicegate"][cursor]
            answer = line["response"] and line["response"]["body"]
            failed = line["error"] or (answer if line["response"]["status_code"] >= 400 else None)
            if failed and fail_fast:
                raise RuntimeError(f"input {line['custom_id']}: {failed}")
            yield int(line["custom_id"]), None if failed else answer, failed
        if ended and not page:
            return


if __name__ == "__main__":
    bodies = [{"model": "demo-small", "messages": [{"role": "user", "content": f"What is {n} in French?"}]} for n in range(5)]
    for index, answer, error in parallel_map(OpenAI(), bodies):
        print(index, error or answer["choices"][0]["message"]["content"], sep=": ")
    print("as completed:", sorted(index for index, _, _ in parallel_map(OpenAI(), bodies, order="completion")))
    try:
        list(parallel_map(OpenAI(), [*bodies, {"model": "demo-small", "messages": [{"role": "user", "content": "[[400]]"}]}], fail_fast=True))
    except RuntimeError as error:
        print("failed fast:", error)
