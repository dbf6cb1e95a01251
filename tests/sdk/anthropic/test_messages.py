"""Anthropic's messages through the service: both header styles, streaming and not."""

import os
import unittest

import anthropic

SERVICE = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
MESSAGES = [{"role": "user", "content": "Say hello."}]


class Messages(unittest.TestCase):
    def clients(self):
        """A key in `x-api-key`, and one in `authorization`."""
        yield anthropic.Anthropic(base_url=SERVICE, api_key="unused")
        yield anthropic.Anthropic(base_url=SERVICE, api_key=None, auth_token="unused")

    def test_a_message(self) -> None:
        for client in self.clients():
            reply = client.messages.with_raw_response.create(model="demo-small", max_tokens=64, messages=MESSAGES)
            self.assertEqual(reply.headers["sluicegate-provider"], "scripted")
            message = reply.parse()
            self.assertTrue(message.content[0].text.startswith("Answer to"))
            self.assertGreater(message.usage.output_tokens, 0)

    def test_a_stream(self) -> None:
        for client in self.clients():
            with client.messages.stream(model="demo-small", max_tokens=64, messages=MESSAGES) as stream:
                text = "".join(stream.text_stream)
                final = stream.get_final_message()
            self.assertTrue(text.startswith("Answer to"))
            self.assertEqual(final.stop_reason, "end_turn")
            self.assertGreater(final.usage.output_tokens, 1)

    def test_errors_are_the_sdk_s_own(self) -> None:
        bad = [{"role": "user", "content": "[[400]]"}]
        client = anthropic.Anthropic(base_url=SERVICE, api_key="unused")
        with self.assertRaises(anthropic.BadRequestError) as raised:
            client.messages.create(model="demo-small", max_tokens=64, messages=bad)
        self.assertEqual(raised.exception.response.headers["sluicegate-error-source"], "upstream")
        with self.assertRaises(anthropic.BadRequestError) as raised:
            client.messages.create(
                model="demo-small", max_tokens=64, messages=MESSAGES, extra_headers={"sluicegate-max-wait": "soon"}
            )
        self.assertEqual(raised.exception.response.headers["sluicegate-error-source"], "gate")
        self.assertTrue(raised.exception.request_id)


if __name__ == "__main__":
    unittest.main()
