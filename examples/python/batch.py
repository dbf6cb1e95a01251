"""A batch with OpenAI's own SDK: only the base URL is ours.

    pip install openai
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=unused python examples/python/batch.py
"""

import json
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI()
requests = Path(__file__).parent.parent / "requests.jsonl"

uploaded = client.files.create(file=requests, purpose="batch")
batch = client.batches.create(
    input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
)

while batch.status not in {"completed", "failed", "expired", "cancelled"}:
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
print(f"{batch.id} {batch.status}: {batch.request_counts.completed} of {batch.request_counts.total}")

# A file with a bad line runs nothing; here stands which line, and why.
for problem in (batch.errors and batch.errors.data) or []:
    print(f"line {problem.line}: {problem.message}")
if batch.output_file_id:
    for line in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(line)
        print(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"], sep=": ")
if batch.error_file_id:
    print(client.files.content(batch.error_file_id).text)
