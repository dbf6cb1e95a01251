"""What generated calls are given, and one more check: half of the good calls get ids and inputs that are there."""

import json
import os

import jsonschema_rs
import schemathesis
import yaml
from schemathesis import GenerationMode

KNOWN = json.loads(os.environ["KNOWN_IDS"])
LINES = os.environ["KNOWN_LINES"].encode()
with open(os.environ["KNOWN_DESCRIPTION"], encoding="utf-8") as description:
    COMPONENTS = yaml.safe_load(description)["components"]
RESULT_LINE = jsonschema_rs.Draft202012Validator({"$ref": "#/components/schemas/ResultLine", "components": COMPONENTS})


@schemathesis.hook
def before_call(context, case, kwargs):
    """By the generated texts, so that a seed says all. Broken calls stay as they are."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    for name, ids in KNOWN.items():
        text = (case.path_parameters or {}).get(name)
        # What a call before answered stays: an app's name, or an id with its prefix.
        if isinstance(text, str) and len(text) % 2 == 0 and not text.startswith(("file-", "batch_", "key_")):
            case.path_parameters[name] = ids[len(text) // 2 % len(ids)]
    if not isinstance(case.body, dict) or len(json.dumps(case.body, default=str)) % 2:
        return
    if isinstance(case.body.get("input_file_id"), str) and not case.body["input_file_id"].startswith("file-"):
        case.body["input_file_id"] = KNOWN["file_id"][0]
    if isinstance(case.body.get("file"), bytes):
        case.body["file"] = LINES
    if set(case.body) == {"provider", "model"}:
        case.body.update(provider="scripted", model="m")


@schemathesis.hook
def filter_query(context, query):
    """An object without fields and a list of one are sent as `metadata[x]=text`: a label like any other."""
    labels = (query or {}).get("metadata")
    values = list(labels.values()) if isinstance(labels, dict) else []
    values += [value for name, value in (query or {}).items() if name.startswith("metadata[")]
    return not any(value == {} or isinstance(value, list) and len(value) < 2 for value in values)


@schemathesis.check
def every_line_is_a_result(context, response, case):
    """`application/x-ndjson` has no schema of its own: each line is held against that of one."""
    if case.operation.label != "GET /v1/batches/{batch_id}/results" or response.status_code != 200:
        return
    for line in response.content.splitlines():
        RESULT_LINE.validate(json.loads(line))
