"""Batches: create, poll, read, cancel, list, and creating the same one twice."""

import asyncio
import unittest

from openai import AsyncOpenAI
from support import (
    BASE_URL, CHAT, chat_line, finished, jsonl, new_client, parsed, submit, unique, upstream_calls,
)

DAY = 86_400


class Running(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def test_every_line_is_answered_once_and_in_order(self) -> None:
        ids = [f"row-{number:03}" for number in range(60)]
        created = submit(self.client, [chat_line(each) for each in ids], metadata={"job": "nightly"})
        self.assertRegex(created.id, r"^batch_")
        self.assertEqual((created.object, created.endpoint), ("batch", CHAT))
        self.assertIn(created.status, ("validating", "in_progress"))
        self.assertEqual(created.expires_at - created.created_at, DAY)

        batch = finished(self.client, created.id)
        self.assertEqual(batch.status, "completed")
        counts = batch.request_counts
        self.assertEqual((counts.total, counts.completed, counts.failed), (60, 60, 0))
        self.assertIsNone(batch.errors)
        self.assertIsNone(batch.error_file_id)
        self.assertEqual(batch.metadata, {"job": "nightly"})
        self.assertLessEqual(batch.created_at, batch.in_progress_at)
        self.assertLessEqual(batch.in_progress_at, batch.completed_at)
        self.assertIsNone(batch.cancelled_at)

        lines = parsed(self.client.files.content(batch.output_file_id).text)
        self.assertEqual([line["custom_id"] for line in lines], ids)
        for line in lines:
            self.assertEqual(set(line), {"id", "custom_id", "response", "error"})
            self.assertRegex(line["id"], r"^batch_req_")
            self.assertIsNone(line["error"])
            self.assertEqual(line["response"]["status_code"], 200)
            self.assertTrue(line["response"]["body"]["choices"][0]["message"]["content"])
        self.assertEqual(len({line["id"] for line in lines}), 60)

    def test_usage_is_the_sum_of_the_lines(self) -> None:
        created = submit(self.client, [chat_line(f"row-{number}", "[[out=7]]") for number in range(3)])
        batch = finished(self.client, created.id).model_dump()
        lines = parsed(self.client.files.content(batch["output_file_id"]).text)
        spent = [line["response"]["body"]["usage"] for line in lines]
        self.assertEqual(batch["usage"]["output_tokens"], 21)
        self.assertEqual(batch["usage"]["input_tokens"], sum(each["prompt_tokens"] for each in spent))
        self.assertEqual(batch["usage"]["total_tokens"], sum(each["total_tokens"] for each in spent))

    def test_the_output_is_a_file_like_any_other(self) -> None:
        batch = finished(self.client, submit(self.client, [chat_line("only")]).id)
        output = self.client.files.retrieve(batch.output_file_id)
        self.assertEqual(output.purpose, "batch_output")
        self.assertEqual(output.bytes, len(self.client.files.content(output.id).read()))

    def test_failed_lines_are_in_the_error_file(self) -> None:
        lines = [
            chat_line("good"), chat_line("refused", "[[400]]"),
            chat_line("unprocessable", "[[422]]"), chat_line("also-good"),
        ]
        batch = finished(self.client, submit(self.client, lines).id)
        self.assertEqual(batch.status, "completed")
        counts = batch.request_counts
        self.assertEqual((counts.total, counts.completed, counts.failed), (4, 2, 2))
        output = parsed(self.client.files.content(batch.output_file_id).text)
        self.assertEqual([line["custom_id"] for line in output], ["good", "also-good"])
        errors = parsed(self.client.files.content(batch.error_file_id).text)
        answered = [(line["custom_id"], line["response"]["status_code"]) for line in errors]
        self.assertEqual(answered, [("refused", 400), ("unprocessable", 422)])
        for line in errors:
            self.assertIsNone(line["error"])
            self.assertIn("message", line["response"]["body"]["error"])

    def test_a_batch_without_success_is_completed_without_output(self) -> None:
        batch = finished(self.client, submit(self.client, [chat_line("refused", "[[400]]")]).id)
        self.assertEqual(batch.status, "completed")
        self.assertIsNone(batch.output_file_id)
        self.assertIsNotNone(batch.error_file_id)

    def test_passing_faults_are_tried_again(self) -> None:
        faults = ["500 x2", "503 x1", "reset x1", "truncated x1", "invalid-json x1", "429 retry-after=1 x1"]
        names = [unique("fault") for _ in faults]
        lines = [
            chat_line(name, f"[[id={name}]] [[{fault}]]") for name, fault in zip(names, faults, strict=True)
        ]
        batch = finished(self.client, submit(self.client, lines).id)
        self.assertEqual(batch.request_counts.completed, len(faults))
        self.assertEqual([upstream_calls(name) for name in names], [3, 2, 2, 2, 2, 2])

    def test_attempts_that_are_used_up_leave_the_last_answer(self) -> None:
        name = unique("down")
        created = submit(
            self.client, [chat_line(name, f"[[id={name}]] [[500]]")], extra_body={"max_attempts": 2}
        )
        batch = finished(self.client, created.id)
        (line,) = parsed(self.client.files.content(batch.error_file_id).text)
        self.assertEqual(line["response"]["status_code"], 500)
        self.assertEqual(upstream_calls(name), 2)

    def test_bad_lines_fail_the_batch_and_are_all_named(self) -> None:
        good, name = chat_line("good"), unique("never-sent")
        content = jsonl([
            chat_line(name, f"[[id={name}]]"), {**good, "custom_id": name}, {**good, "method": "GET"},
            {**good, "url": "/v1/embeddings"}, {**good, "body": {**good["body"], "stream": True}},
            {key: value for key, value in good.items() if key != "custom_id"},
        ]) + b"not json\n"
        uploaded = self.client.files.create(file=content, purpose="batch")
        created = self.client.batches.create(
            input_file_id=uploaded.id, endpoint=CHAT, completion_window="24h"
        )
        batch = finished(self.client, created.id)
        self.assertEqual(batch.status, "failed")
        self.assertIsNotNone(batch.failed_at)
        self.assertEqual((batch.output_file_id, batch.error_file_id), (None, None))
        self.assertEqual(batch.request_counts.total, 0)
        self.assertEqual({problem.line for problem in batch.errors.data}, {2, 3, 4, 5, 6, 7})
        codes = {problem.line: problem.code for problem in batch.errors.data}
        self.assertEqual(codes[2], "duplicate_custom_id")
        self.assertEqual(codes[4], "invalid_url")
        self.assertEqual(codes[6], "missing_required_parameter")
        self.assertEqual(codes[7], "invalid_json_line")
        self.assertEqual(upstream_calls(name), 0)

    def test_several_batches_at_once_through_the_async_client(self) -> None:
        async def one(client: AsyncOpenAI, name: str) -> str:
            uploaded = await client.files.create(file=jsonl([chat_line(name)]), purpose="batch")
            created = await client.batches.create(
                input_file_id=uploaded.id, endpoint=CHAT, completion_window="24h"
            )
            while (batch := await client.batches.retrieve(created.id)).status != "completed":
                await asyncio.sleep(0.05)
            return (await client.files.content(batch.output_file_id)).text

        async def several() -> list[str]:
            async with AsyncOpenAI(base_url=BASE_URL, api_key="unused") as client:
                runs = (one(client, f"batch-{number}") for number in range(4))
                return await asyncio.wait_for(asyncio.gather(*runs), 60)

        outputs = [parsed(text) for text in asyncio.run(several())]
        self.assertEqual([line["custom_id"] for (line,) in outputs], [f"batch-{number}" for number in range(4)])


class Cancelling(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def test_what_was_done_is_kept_and_the_rest_is_cancelled(self) -> None:
        lines = [chat_line("first"), *(chat_line(f"row-{number}", "[[slow=300ms]]") for number in range(200))]
        created = submit(self.client, lines, extra_body={"max_concurrency": 2})
        while self.client.batches.retrieve(created.id).request_counts.completed == 0:
            pass
        cancelling = self.client.batches.cancel(created.id)
        self.assertIn(cancelling.status, ("cancelling", "cancelled"))
        self.assertIsNotNone(cancelling.cancelling_at)

        batch = finished(self.client, created.id)
        self.assertEqual(batch.status, "cancelled")
        self.assertIsNotNone(batch.cancelled_at)
        output = parsed(self.client.files.content(batch.output_file_id).text)
        errors = parsed(self.client.files.content(batch.error_file_id).text)
        ids = [line["custom_id"] for line in output + errors]
        self.assertEqual(sorted(ids), sorted(line["custom_id"] for line in lines))
        self.assertEqual(batch.request_counts.completed, len(output))
        self.assertEqual({line["error"]["code"] for line in errors}, {"batch_cancelled"})
        self.assertEqual({line["response"] for line in errors}, {None})

        again = self.client.batches.cancel(created.id)
        self.assertEqual(again.status, "cancelled")


class Listing(unittest.TestCase):
    def test_lists_page_newest_first(self) -> None:
        client, team = new_client(), unique("team")
        made = [submit(client, [chat_line("a")], metadata={"team": team}).id for _ in range(5)]
        first = client.batches.list(limit=2)
        self.assertEqual(len(first.data), 2)
        self.assertTrue(first.has_next_page())
        listed = [batch.id for batch in client.batches.list(limit=2) if (batch.metadata or {}).get("team") == team]
        self.assertEqual(listed, made[::-1])


class CreatingTwice(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()
        self.input = self.client.files.create(file=jsonl([chat_line("a")]), purpose="batch").id

    def create(self, **options):
        return self.client.batches.with_raw_response.create(
            input_file_id=self.input, endpoint=CHAT, completion_window="24h", **options
        )

    def test_a_retried_create_returns_the_first_batch(self) -> None:
        first = self.create().parse()
        retried = self.create(extra_headers={"X-Stainless-Retry-Count": "1"}).parse()
        self.assertEqual(retried.id, first.id)

    def test_two_creates_are_two_batches(self) -> None:
        self.assertNotEqual(self.create().parse().id, self.create().parse().id)

    def test_an_idempotency_key_names_one_batch(self) -> None:
        key = {"Idempotency-Key": unique("key")}
        first, second = self.create(extra_headers=key), self.create(extra_headers=key)
        self.assertEqual(second.parse().id, first.parse().id)
        self.assertIsNone(first.headers.get("idempotent-replayed"))
        self.assertEqual(second.headers.get("idempotent-replayed"), "true")
