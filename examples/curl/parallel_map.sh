#!/usr/bin/env bash
# `parallel_map`: one call for each line of JSONL on standard input, many at once.
#
#   examples/curl/parallel_map.sh input < requests.jsonl          answers in the order of the lines
#   examples/curl/parallel_map.sh completion < requests.jsonl     each answer as it ends
#   examples/curl/parallel_map.sh input fail_fast < lines.jsonl   the first failure cancels the rest, exit code 1
set -euo pipefail

url=${SLUICEGATE_URL:-http://127.0.0.1:8080}

parallel_map() { # parallel_map ORDER [ON_ERROR]
  local batch ended
  batch=$(curl -fsS "$url/v1/batches?endpoint=/v1/chat/completions&on_error=${2:-continue}" \
    -H 'content-type: application/x-ndjson' --data-binary @- |
    tr ',' '\n' | sed -n 's/.*"id":[[:space:]]*"\(batch_[^"]*\)".*/\1/p' | head -n 1)
  # Every answer until the batch has ended.
  curl -fsSN "$url/v1/batches/$batch/results?follow=true&order=$1"
  ended=$(curl -fsS "$url/v1/batches/$batch")
  # Only what did not succeed is in an error file.
  [[ $ended == *'"error_file_id":null'* ]] || { echo "not all of $batch succeeded" >&2; return 1; }
}

parallel_map "${1:-input}" "${2:-continue}"
