"""Keys: what the SDK raises without a good one, and that apps do not see one another."""

import json
import os
import unittest
import urllib.request

import openai
from support import chat_line, finished, submit

KEYED = os.environ["SLUICEGATE_TEST_KEYED"]
ADMIN_KEY = os.environ["SLUICEGATE_TEST_ADMIN_KEY"]


def client_of(key: str) -> openai.OpenAI:
    """The SDK with that key."""
    return openai.OpenAI(base_url=f"{KEYED}/v1", api_key=key)


def make_key(**fields: str) -> str:
    """A new key's text."""
    headers = {"authorization": f"Bearer {ADMIN_KEY}", "content-type": "application/json"}
    request = urllib.request.Request(f"{KEYED}/admin/v1/keys", json.dumps(fields).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as reply:
        return json.load(reply)["key"]


class Keys(unittest.TestCase):
    def test_401_for_a_key_that_is_none(self) -> None:
        for key in ("unused", "sk-sg-" + "0" * 38):
            with self.subTest(key), self.assertRaises(openai.AuthenticationError) as raised:
                client_of(key).files.list()
            self.assertEqual(raised.exception.code, "invalid_api_key")
            self.assertTrue(raised.exception.request_id)

    def test_403_for_a_key_of_too_small_a_scope(self) -> None:
        reader = client_of(make_key(app="sdk", scope="read"))
        self.assertEqual(reader.batches.list().object, "list")
        with self.assertRaises(openai.PermissionDeniedError) as raised:
            submit(reader, [chat_line("a")])
        self.assertEqual(raised.exception.code, "insufficient_scope")

    def test_apps_do_not_see_one_another(self) -> None:
        one, other = (client_of(make_key(app=app)) for app in ("sdk-one", "sdk-other"))
        batch = finished(one, submit(one, [chat_line("a")]).id)
        self.assertEqual(batch.status, "completed")
        with self.assertRaises(openai.NotFoundError):
            other.batches.retrieve(batch.id)
        with self.assertRaises(openai.NotFoundError):
            other.files.content(batch.output_file_id)
        self.assertNotIn(batch.id, [listed.id for listed in other.batches.list()])
