"""Refusals: each as the SDK's own exception, with the status, the code and a request id."""

import json
import unittest

import openai
from support import CHAT, chat_line, finished, jsonl, new_client, raw, requests_counted, submit, unique

ENVELOPE = {"message", "type", "param", "code"}


class Refused(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def refused(self, kind: type[openai.APIStatusError], call, *arguments, **named) -> openai.APIStatusError:
        with self.assertRaises(kind) as raised:
            call(*arguments, **named)
        error = raised.exception
        self.assertEqual(set(error.body), ENVELOPE)
        self.assertTrue(error.request_id)
        self.assertTrue(error.response.headers["content-type"].startswith("application/json"))
        return error

    def create(self, **fields):
        complete = {"input_file_id": "file-none", "endpoint": CHAT, "completion_window": "24h"}
        return self.client.batches.create(**{**complete, **fields})

    def test_400_for_values_that_are_none(self) -> None:
        cases = [({"endpoint": "/v1/nope"}, "endpoint"), ({"completion_window": "soon"}, "completion_window")]
        uploaded = self.client.files.create(file=jsonl([chat_line("a")]), purpose="batch")
        for fields, param in cases:
            with self.subTest(param):
                error = self.refused(openai.BadRequestError, self.create, input_file_id=uploaded.id, **fields)
                self.assertEqual((error.code, error.param), ("invalid_value", param))
                self.assertEqual(error.type, "invalid_request_error")

    def test_400_for_values_of_another_type(self) -> None:
        error = self.refused(openai.BadRequestError, self.create, metadata={"tags": ["a"]})
        self.assertEqual((error.code, error.param), ("invalid_type", "metadata.tags"))

    def test_400_for_a_missing_field(self) -> None:
        error = self.refused(openai.BadRequestError, self.create, endpoint=openai.NOT_GIVEN, extra_body={})
        self.assertEqual((error.code, error.param), ("missing_required_parameter", "endpoint"))

    def test_400_for_an_unknown_field_names_the_nearest(self) -> None:
        error = self.refused(openai.BadRequestError, self.create, extra_body={"max_concurency": 3})
        self.assertEqual((error.code, error.param), ("unknown_parameter", "max_concurency"))
        self.assertIn("max_concurrency", error.message)

    def test_400_for_a_file_that_can_not_be_a_batch(self) -> None:
        for content in (b"", b"\n\n", b"hello\n"):
            with self.subTest(content):
                self.refused(openai.BadRequestError, self.client.files.create, file=content, purpose="batch")
        error = self.refused(
            openai.BadRequestError, self.client.files.create, file=jsonl([chat_line("a")]), purpose="vision"
        )
        self.assertEqual(error.param, "purpose")

    def test_404_for_an_unknown_file(self) -> None:
        for call in (self.client.files.retrieve, self.client.files.content, self.client.files.delete):
            error = self.refused(openai.NotFoundError, call, "file-none")
            self.assertEqual((error.param, error.code), ("id", None))
            self.assertIn("No such File object: file-none", error.message)

    def test_404_for_an_unknown_batch(self) -> None:
        for call in (self.client.batches.retrieve, self.client.batches.cancel):
            error = self.refused(openai.NotFoundError, call, "batch_none")
            self.assertIn("No batch found with id 'batch_none'.", error.message)

    def test_404_for_an_unknown_path(self) -> None:
        self.refused(openai.NotFoundError, self.client.post, "/nothing/here", cast_to=object)

    def test_409_for_a_cancel_that_comes_too_late_and_it_is_not_tried_again(self) -> None:
        batch = finished(self.client, submit(self.client, [chat_line("a")]).id)
        before = requests_counted("cancel", 409)
        error = self.refused(openai.ConflictError, self.client.batches.cancel, batch.id)
        self.assertEqual(requests_counted("cancel", 409) - before, 1)
        self.assertIn("Cannot cancel a batch with status 'completed'.", error.message)
        self.assertEqual(error.response.headers["x-should-retry"], "false")

    def test_409_for_deleting_a_batch_that_runs(self) -> None:
        created = submit(self.client, [chat_line("a", "[[slow=3s]]")])
        error = self.refused(openai.ConflictError, self.client.delete, f"/batches/{created.id}", cast_to=object)
        self.assertEqual(error.code, "batch_active")
        self.client.batches.cancel(created.id)

    def test_413_for_a_file_above_the_cap(self) -> None:
        content = jsonl([chat_line(f"row-{number}", "x" * 9_000) for number in range(560)])
        error = self.refused(openai.APIStatusError, self.client.files.create, file=content, purpose="batch")
        self.assertEqual((error.status_code, error.code), (413, "file_too_large"))

    def test_422_for_a_key_used_for_something_else(self) -> None:
        key = {"Idempotency-Key": unique("key")}
        uploaded = self.client.files.create(file=jsonl([chat_line("a")]), purpose="batch")
        self.create(input_file_id=uploaded.id, extra_headers=key)
        error = self.refused(
            openai.UnprocessableEntityError, self.create,
            input_file_id=uploaded.id, metadata={"other": "yes"}, extra_headers=key,
        )
        self.assertEqual(error.code, "idempotency_key_reused")


class RefusedRaw(unittest.TestCase):
    """What no SDK would send."""

    def assert_envelope(self, headers, body: dict) -> None:
        self.assertEqual(set(body["error"]), ENVELOPE)
        self.assertTrue(headers["x-request-id"])

    def test_405_for_another_method(self) -> None:
        status, headers, body = raw("PATCH", "/v1/files")
        self.assertEqual(status, 405)
        self.assert_envelope(headers, body)

    def test_415_for_a_body_that_is_no_json(self) -> None:
        status, headers, body = raw("POST", "/v1/batches", b"a=b", content_type="text/plain")
        self.assertEqual((status, body["error"]["code"]), (415, "unsupported_media_type"))
        self.assert_envelope(headers, body)

    def test_400_for_json_that_is_broken(self) -> None:
        status, headers, body = raw("POST", "/v1/batches", b"{", content_type="application/json")
        self.assertEqual((status, body["error"]["code"]), (400, "invalid_json"))
        self.assert_envelope(headers, body)

    def test_a_cancel_may_have_a_content_type_and_no_body(self) -> None:
        client = new_client()
        created = submit(client, [chat_line("a", "[[slow=3s]]")])
        status, _, body = raw("POST", f"/v1/batches/{created.id}/cancel", b"", content_type="application/json")
        self.assertEqual((status, body["object"]), (200, "batch"), json.dumps(body))
