"""Every endpoint whose lines a batch may hold."""

import unittest

from support import finished, new_client, parsed, submit

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="


def answers(endpoint: str, bodies: list[dict]) -> list[dict]:
    """The bodies that a batch of these bodies was answered with."""
    client = new_client()
    lines = [
        {"custom_id": f"row-{number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies)
    ]
    batch = finished(client, submit(client, lines, endpoint).id)
    assert batch.status == "completed", batch
    assert batch.output_file_id, batch
    output = parsed(client.files.content(batch.output_file_id).text)
    assert [line["custom_id"] for line in output] == [line["custom_id"] for line in lines]
    return [line["response"]["body"] for line in output]


class Endpoints(unittest.TestCase):
    def test_chat_completions_with_an_image(self) -> None:
        image = {"type": "image_url", "image_url": {"url": PIXEL}}
        content = [{"type": "text", "text": "What is this?"}, image]
        (body,) = answers("/v1/chat/completions", [
            {"model": "demo-small", "messages": [{"role": "user", "content": content}]},
        ])
        self.assertEqual(body["object"], "chat.completion")
        self.assertTrue(body["choices"][0]["message"]["content"])

    def test_responses(self) -> None:
        (body,) = answers("/v1/responses", [{"model": "demo-small", "input": "Say hello."}])
        self.assertEqual(body["object"], "response")
        self.assertTrue(body["output"][0]["content"][0]["text"])

    def test_embeddings(self) -> None:
        (body,) = answers("/v1/embeddings", [{"model": "demo-embed", "input": "a text"}])
        self.assertEqual(body["object"], "list")
        self.assertTrue(body["data"][0]["embedding"])

    def test_completions(self) -> None:
        (body,) = answers("/v1/completions", [{"model": "demo-small", "prompt": "Once", "max_tokens": 8}])
        self.assertEqual(body["object"], "text_completion")
        self.assertTrue(body["choices"][0]["text"])

    def test_moderations_with_and_without_a_model(self) -> None:
        bodies = answers("/v1/moderations", [{"input": "a text"}, {"model": "demo-moderation", "input": "a text"}])
        for body in bodies:
            self.assertIn("flagged", body["results"][0])
