"""Files: every way the SDK uploads, reading back, listing, deleting."""

import io
import tempfile
import unittest
from pathlib import Path

import openai
from support import chat_line, jsonl, new_client, unique

CONTENT = jsonl([chat_line(f"row-{number}") for number in range(3)])
THIRTY_DAYS = 2_592_000


class Uploading(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def assert_stored(self, uploaded, filename: str, content: bytes = CONTENT) -> None:
        self.assertRegex(uploaded.id, r"^file-")
        self.assertEqual(uploaded.object, "file")
        self.assertEqual(uploaded.bytes, len(content))
        self.assertEqual(uploaded.filename, filename)
        self.assertEqual(uploaded.purpose, "batch")
        self.assertEqual(uploaded.status, "processed")
        self.assertEqual(self.client.files.content(uploaded.id).read(), content)

    def test_bytes_are_named_upload(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        self.assert_stored(uploaded, "upload")

    def test_a_path_keeps_its_last_part(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "nightly.jsonl"
            path.write_bytes(CONTENT)
            uploaded = self.client.files.create(file=path, purpose="batch")
            self.assert_stored(uploaded, "nightly.jsonl")
            with path.open("rb") as opened:
                uploaded = self.client.files.create(file=opened, purpose="batch")
            self.assert_stored(uploaded, "nightly.jsonl")

    def test_a_bytesio_is_named_upload(self) -> None:
        uploaded = self.client.files.create(file=io.BytesIO(CONTENT), purpose="batch")
        self.assert_stored(uploaded, "upload")

    def test_a_tuple_gives_its_name(self) -> None:
        uploaded = self.client.files.create(file=("x.jsonl", CONTENT, "application/jsonl"), purpose="batch")
        self.assert_stored(uploaded, "x.jsonl")

    def test_content_comes_back_byte_for_byte(self) -> None:
        odd = b"\xef\xbb\xbf" + CONTENT.replace(b"\n", b"\r\n\r\n").rstrip()
        uploaded = self.client.files.create(file=odd, purpose="batch")
        self.assert_stored(uploaded, "upload", odd)

    def test_megabytes_come_back_whole_and_can_be_streamed(self) -> None:
        lines = [chat_line(f"row-{number}", f"{number} {'lorem ipsum ' * 60}") for number in range(3_000)]
        content = jsonl(lines)
        uploaded = self.client.files.create(file=content, purpose="batch")
        self.assert_stored(uploaded, "upload", content)
        with self.client.files.with_streaming_response.content(uploaded.id) as reply:
            self.assertEqual(b"".join(reply.iter_bytes()), content)

    def test_files_expire_after_thirty_days_unless_told_otherwise(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        self.assertEqual(uploaded.expires_at - uploaded.created_at, THIRTY_DAYS)
        uploaded = self.client.files.create(
            file=CONTENT, purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )
        self.assertEqual(uploaded.expires_at - uploaded.created_at, 3600)

    def test_waiting_for_processing_returns_at_once(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        waited = self.client.files.wait_for_processing(uploaded.id, poll_interval=60, max_wait_seconds=5)
        self.assertEqual(waited.status, "processed")


class Keeping(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def test_a_file_is_retrieved_as_it_was_created(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        self.assertEqual(self.client.files.retrieve(uploaded.id), uploaded)

    def test_lists_page_in_both_orders(self) -> None:
        name = unique("listed")
        made = [self.client.files.create(file=(name, CONTENT), purpose="batch").id for _ in range(5)]
        first = self.client.files.list(limit=2)
        self.assertEqual(len(first.data), 2)
        self.assertTrue(first.has_next_page())
        for order, expected in (("desc", made[::-1]), ("asc", made)):
            listed = [file.id for file in self.client.files.list(limit=2, order=order) if file.filename == name]
            self.assertEqual(listed, expected)

    def test_lists_filter_by_purpose(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        inputs = self.client.files.list(purpose="batch", limit=10)
        self.assertIn(uploaded.id, [file.id for file in inputs.data])
        outputs = self.client.files.list(purpose="batch_output")
        self.assertNotIn(uploaded.id, [file.id for file in outputs])

    def test_a_deleted_file_is_gone(self) -> None:
        uploaded = self.client.files.create(file=CONTENT, purpose="batch")
        deleted = self.client.files.delete(uploaded.id)
        self.assertEqual((deleted.id, deleted.object, deleted.deleted), (uploaded.id, "file", True))
        with self.assertRaises(openai.NotFoundError):
            self.client.files.retrieve(uploaded.id)
        with self.assertRaises(openai.NotFoundError):
            self.client.files.content(uploaded.id)
        self.assertNotIn(uploaded.id, [file.id for file in self.client.files.list()])
