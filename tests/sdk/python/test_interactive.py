"""Live calls through the service with the SDK as anyone would use it: streaming and not."""

import unittest

import openai
from support import new_client, unique, upstream_calls

MESSAGES = [{"role": "user", "content": "Say hello."}]


class Interactive(unittest.TestCase):
    def setUp(self) -> None:
        self.client = new_client()

    def test_models_that_lanes_serve(self) -> None:
        for name in ("demo-small", "maker/model"):
            model = self.client.models.retrieve(name)
            self.assertEqual((model.id, model.object, model.owned_by), (name, "model", "scripted"))

    def test_chat(self) -> None:
        reply = self.client.chat.completions.with_raw_response.create(model="demo-small", messages=MESSAGES)
        self.assertEqual(reply.headers["sluicegate-provider"], "scripted")
        self.assertGreaterEqual(int(reply.headers["sluicegate-waited-ms"]), 0)
        completion = reply.parse()
        self.assertTrue(completion.choices[0].message.content.startswith("Answer to"))
        self.assertGreater(completion.usage.total_tokens, 0)

    def test_chat_streamed(self) -> None:
        options = {"include_usage": True}
        stream = self.client.chat.completions.create(
            model="demo-small", messages=MESSAGES, stream=True, stream_options=options
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertTrue(text.startswith("Answer to"))
        self.assertGreater(chunks[-1].usage.total_tokens, 0)
        self.assertEqual(sum(chunk.usage is not None for chunk in chunks), 1)

    def test_a_stream_shows_no_usage_unless_it_was_asked_for(self) -> None:
        chat = self.client.chat.completions.create(model="demo-small", messages=MESSAGES, stream=True)
        text = "".join(self.choice_of(chunk).delta.content or "" for chunk in chat)
        self.assertTrue(text.startswith("Answer to"))
        plain = self.client.completions.create(model="demo-small", prompt="Say hello.", stream=True)
        text = "".join(self.choice_of(chunk).text for chunk in plain)
        self.assertTrue(text.startswith("Answer to"))
        options = {"include_usage": True}
        asked = self.client.completions.create(
            model="demo-small", prompt="Say hello.", stream=True, stream_options=options
        )
        self.assertEqual(sum(chunk.usage is not None for chunk in asked), 1)

    def choice_of(self, chunk):
        self.assertIsNone(chunk.usage)
        return chunk.choices[0]

    def test_a_stream_that_is_left_early(self) -> None:
        with self.client.chat.completions.create(model="demo-small", messages=MESSAGES, stream=True) as stream:
            next(iter(stream))

    def test_responses(self) -> None:
        reply = self.client.responses.create(model="demo-small", input="Say hello.")
        self.assertTrue(reply.output_text.startswith("Answer to"))

    def test_responses_streamed(self) -> None:
        events = list(self.client.responses.create(model="demo-small", input="Say hello.", stream=True))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        self.assertTrue(text.startswith("Answer to"))
        self.assertEqual(events[-1].type, "response.completed")
        self.assertGreater(events[-1].response.usage.total_tokens, 0)

    def test_the_other_endpoints(self) -> None:
        embeddings = self.client.embeddings.create(model="demo-small", input=["a", "b"])
        self.assertEqual([item.index for item in embeddings.data], [0, 1])
        completion = self.client.completions.create(model="demo-small", prompt="Say hello.")
        self.assertTrue(completion.choices[0].text.startswith("Answer to"))
        self.assertFalse(self.client.moderations.create(input="hello").results[0].flagged)

    def test_errors_of_the_upstream_are_its_own(self) -> None:
        marker = unique("bad")
        messages = [{"role": "user", "content": f"[[id={marker}]][[400]]"}]
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(model="demo-small", messages=messages)
        self.assertEqual(raised.exception.response.headers["sluicegate-error-source"], "upstream")
        self.assertTrue(raised.exception.request_id)
        self.assertEqual(upstream_calls(marker), 1)

    def test_a_refusal_for_rate_is_waited_out(self) -> None:
        marker = unique("limited")
        messages = [{"role": "user", "content": f"[[id={marker}]][[429 retry-after=1 x1]]"}]
        once = self.client.with_options(max_retries=0)
        completion = once.chat.completions.create(model="demo-small", messages=messages)
        self.assertTrue(completion.choices[0].message.content)
        self.assertEqual(upstream_calls(marker), 2)

    def test_refusals_of_the_gate(self) -> None:
        with self.assertRaises(openai.BadRequestError) as raised:
            self.client.chat.completions.create(
                model="demo-small", messages=MESSAGES, extra_headers={"sluicegate-max-wait": "soon"}
            )
        self.assertEqual(raised.exception.param, "sluicegate-max-wait")
        self.assertEqual(raised.exception.response.headers["sluicegate-error-source"], "gate")


if __name__ == "__main__":
    unittest.main()
