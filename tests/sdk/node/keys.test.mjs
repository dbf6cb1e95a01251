// Keys: what the SDK throws without a good one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const keyed = process.env.SLUICEGATE_TEST_KEYED;
const clientOf = (apiKey) => new OpenAI({ baseURL: `${keyed}/v1`, apiKey });

async function makeKey(fields) {
  const reply = await fetch(`${keyed}/admin/v1/keys`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${process.env.SLUICEGATE_TEST_ADMIN_KEY}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify(fields),
  });
  assert.equal(reply.status, 200);
  return (await reply.json()).key;
}

test('401 for a key that is none', async () => {
  await assert.rejects(clientOf('unused').files.list(), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, 'invalid_api_key');
    return true;
  });
});

test('403 for a key of too small a scope, also for an upload', async () => {
  const reader = clientOf(await makeKey({ app: 'node', scope: 'read' }));
  assert.deepEqual((await reader.batches.list()).data, []);
  const file = await OpenAI.toFile(Buffer.from('{}\n'.repeat(500_000)), 'in.jsonl');
  await assert.rejects(reader.files.create({ file, purpose: 'batch' }), (error) => {
    assert.ok(error instanceof OpenAI.PermissionDeniedError);
    assert.equal(error.code, 'insufficient_scope');
    return true;
  });
});
