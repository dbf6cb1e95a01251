"""Clients as their authors write them: the official SDK with the retries that it makes by default.

Run with an interpreter that has it, the service's root, a number of clients and the items of a batch as arguments. Prints what
failed in spite of the retries, as JSON, when its input ends.
"""

import io
import json
import sys
import threading
import time

import openai

found = {"calls": 0, "batches": 0, "lost": 0, "twice": 0, "failed": [], "live": 0}
lock = threading.Lock()
stopping = threading.Event()


def counted(call, *arguments, **named):
    """A call that may fail; `None` if it did, after the SDK's own retries."""
    with lock:
        found["calls"] += 1
    try:
        return call(*arguments, **named)
    except openai.OpenAIError as error:
        with lock:
            found["failed"].append(f"{time.time():.2f} {call.__qualname__}: {error!r}"[:300])
        return None


def insisted(call, *arguments, **named):
    """The same until it works: what counts is that each failure was noted."""
    while (answer := counted(call, *arguments, **named)) is None:
        time.sleep(0.2)
    return answer


def batches(root, number, items):
    client = openai.OpenAI(base_url=f"{root}/v1", api_key="unused")
    turn = 0
    while not stopping.is_set():
        first = (number * 1_000 + turn) * items
        text = "".join(line(item) for item in range(first, first + items))
        file = insisted(client.files.create, file=("in.jsonl", io.BytesIO(text.encode())), purpose="batch")
        batch = insisted(client.batches.create, input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while batch.status not in ("completed", "failed", "expired", "cancelled"):
            time.sleep(1.0)
            batch = insisted(client.batches.retrieve, batch.id)
        lines = insisted(client.files.content, batch.output_file_id).text.splitlines() if batch.output_file_id else []
        ids = [json.loads(each)["custom_id"] for each in lines]
        with lock:
            found["batches"] += 1
            found["lost"] += items - len(set(ids))
            found["twice"] += len(ids) - len(set(ids))
        turn += 1


def line(item):
    body = {"model": "m", "messages": [{"role": "user", "content": f"[[id={item}]] How deep is lock {item}?"}]}
    return json.dumps({"custom_id": f"item-{item}", "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"


def live(root, number):
    client = openai.OpenAI(base_url=f"{root}/v1", api_key="unused")
    turn = 0
    while not stopping.is_set():
        message = {"role": "user", "content": f"[[id=live-{number}-{turn}]] How are the locks?"}
        if counted(client.chat.completions.create, model="m", messages=[message]) is not None:
            with lock:
                found["live"] += 1
        turn += 1


def main():
    root, clients, items = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    threads = [threading.Thread(target=batches, args=(root, number, items)) for number in range(clients)]
    threads += [threading.Thread(target=live, args=(root, number)) for number in range(clients)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stopping.set()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
