#!/usr/bin/env bash
# A batch without a file: the requests go inline, the answers come back as they are made.
set -euo pipefail

url=${SLUICEGATE_URL:-http://127.0.0.1:8080}

# Posted again with the same key, this is the same batch: a script that was interrupted may simply run again.
batch=$(curl -fsS "$url/v1/batches" -H 'content-type: application/json' -H "idempotency-key: greetings-${1:-1}" -d '{
  "endpoint": "/v1/chat/completions",
  "defaults": {"model": "demo-small", "max_tokens": 32},
  "max_concurrency": 4,
  "requests": [
    {"custom_id": "en", "body": {"messages": [{"role": "user", "content": "Greet me in English."}]}},
    {"custom_id": "fr", "body": {"messages": [{"role": "user", "content": "Greet me in French."}]}}
  ]
}' | tr ',' '\n' | sed -n 's/.*"id":[[:space:]]*"\(batch_[^"]*\)".*/\1/p' | head -n 1)

# Every line as its request ends, in that order, until the batch has ended.
curl -fsSN "$url/v1/batches/$batch/results?follow=true"
