// Live calls through the service with the SDK as anyone would use it: streaming and not.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import OpenAI from 'openai';

import { client, unique, upstreamCalls } from './support.mjs';

const model = 'demo-small';
const messages = [{ role: 'user', content: 'Say hello.' }];

test('chat', async () => {
  const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
  assert.equal(response.headers.get('sluicegate-provider'), 'scripted');
  assert.match(data.choices[0].message.content, /^Answer to/);
  assert.ok(data.usage.total_tokens > 0);
});

test('chat, streamed', async () => {
  const options = { include_usage: true };
  const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options: options });
  let text = '';
  const usages = [];
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    if (chunk.usage) usages.push(chunk.usage);
  }
  assert.match(text, /^Answer to/);
  assert.equal(usages.length, 1);
  assert.ok(usages[0].total_tokens > 0);
});

test('a stream shows no usage unless it was asked for', async () => {
  let text = '';
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    assert.ok(!chunk.usage);
    text += chunk.choices[0].delta.content ?? '';
  }
  assert.match(text, /^Answer to/);
});

test('a stream that is left early', async () => {
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
});

test('embeddings come as numbers', async () => {
  const { data } = await client.embeddings.create({ model, input: ['a', 'b'], encoding_format: 'float' });
  assert.deepEqual(data.map((item) => item.index), [0, 1]);
  assert.equal(data[0].embedding.length, 4);
});

test('responses, streamed and not', async (context) => {
  if (!client.responses) return context.skip('this version of the SDK has none');
  const reply = await client.responses.create({ model, input: 'Say hello.' });
  assert.match(reply.output[0].content[0].text, /^Answer to/);
  const types = [];
  for await (const event of await client.responses.create({ model, input: 'Say hello.', stream: true })) {
    types.push(event.type);
  }
  assert.equal(types.at(-1), 'response.completed');
});

test("the upstream's errors are its own", async () => {
  const marker = unique('bad');
  const bad = [{ role: 'user', content: `[[id=${marker}]][[400]]` }];
  await assert.rejects(client.chat.completions.create({ model, messages: bad }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    return true;
  });
  assert.equal(await upstreamCalls(marker), 1);
});
