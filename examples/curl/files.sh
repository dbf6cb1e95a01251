#!/usr/bin/env bash
# A batch from a file with curl: upload, create, poll, download. SLUICEGATE_URL names the service.
set -euo pipefail

url=${SLUICEGATE_URL:-http://127.0.0.1:8080}
input=${1:-"$(dirname "$0")/../requests.jsonl"}

# The first value of a key in a JSON text, so that nothing but curl is needed.
value_of() { sed -n "s/.*\"$1\":[[:space:]]*\"\([^\"]*\)\".*/\1/p" | head -n 1; }
# A batch has its own id first; `,` becomes a line break so that each key stands alone.
field() { tr ',' '\n' | value_of "$1"; }

file=$(curl -fsS "$url/v1/files" -F purpose=batch -F "file=@$input" | field id)
echo "file:   $file" >&2

batch=$(curl -fsS "$url/v1/batches" -H 'content-type: application/json' \
  -d "{\"input_file_id\": \"$file\", \"endpoint\": \"/v1/chat/completions\", \"completion_window\": \"24h\"}" | field id)
echo "batch:  $batch" >&2

while status=$(curl -fsS "$url/v1/batches/$batch" | field status); [[ $status != @(completed|failed|expired|cancelled) ]]; do
  sleep 0.2
done
echo "status: $status" >&2

ended=$(curl -fsS "$url/v1/batches/$batch")
# A file with a bad line runs nothing: `errors` says which line and why.
[[ $status != failed ]] || { echo "$ended" >&2; exit 1; }
# What succeeded, then what did not; either may be absent.
for part in output_file_id error_file_id; do
  id=$(field "$part" <<< "$ended")
  [[ -z $id ]] || curl -fsS "$url/v1/files/$id/content"
done
