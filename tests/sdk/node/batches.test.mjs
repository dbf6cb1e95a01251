// Batches: create, poll, read, cancel, list, creating the same one twice, and every endpoint's lines.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  all, CHAT, chatLine, client, finished, jsonl, linesOf, submit, unique, upload, upstreamCalls,
} from './support.mjs';

const numbered = (count, text) => Array.from({ length: count }, (_, n) => chatLine(`row-${n}`, text));
const ids = (lines) => lines.map((line) => line.custom_id);

test('every line is answered once and in order', async () => {
  const lines = numbered(60);
  const created = await submit(lines, { metadata: { job: 'nightly' } });
  assert.match(created.id, /^batch_/);
  assert.equal(created.object, 'batch');
  assert.equal(created.endpoint, CHAT);
  assert.equal(created.expires_at - created.created_at, 86_400);

  const batch = await finished(created.id);
  assert.equal(batch.status, 'completed');
  assert.deepEqual({ ...batch.request_counts }, { total: 60, completed: 60, failed: 0 });
  assert.equal(batch.error_file_id, null);
  assert.equal(batch.errors, null);
  assert.deepEqual({ ...batch.metadata }, { job: 'nightly' });
  const output = await linesOf(batch.output_file_id);
  assert.deepEqual(ids(output), ids(lines));
  for (const line of output) {
    assert.equal(line.error, null);
    assert.equal(line.response.status_code, 200);
    assert.ok(line.response.body.choices[0].message.content);
  }
});

test('failed lines are in the error file', async () => {
  const lines = [chatLine('good'), chatLine('refused', '[[400]]'), chatLine('also-good')];
  const batch = await finished((await submit(lines)).id);
  assert.equal(batch.status, 'completed');
  assert.deepEqual({ ...batch.request_counts }, { total: 3, completed: 2, failed: 1 });
  assert.deepEqual(ids(await linesOf(batch.output_file_id)), ['good', 'also-good']);
  const [error] = await linesOf(batch.error_file_id);
  assert.equal(error.custom_id, 'refused');
  assert.equal(error.response.status_code, 400);
  assert.ok(error.response.body.error.message);
});

test('a batch without success is completed without output', async () => {
  const batch = await finished((await submit([chatLine('refused', '[[400]]')])).id);
  assert.equal(batch.status, 'completed');
  assert.equal(batch.output_file_id, null);
  assert.ok(batch.error_file_id);
});

test('passing faults are tried again', async () => {
  const name = unique('fault');
  const lines = [chatLine('a', `[[id=${name}]] [[500 x1]] [[reset x1]]`)];
  const batch = await finished((await submit(lines)).id);
  assert.equal(batch.request_counts.completed, 1);
  assert.equal(await upstreamCalls(name), 3);
});

test('bad lines fail the batch and are all named', async () => {
  const good = chatLine('good');
  const bytes = Buffer.concat([jsonl([good, good, { ...good, url: '/v1/embeddings' }]), Buffer.from('not json\n')]);
  const { id } = await upload(bytes);
  const created = await client.batches.create({ input_file_id: id, endpoint: CHAT, completion_window: '24h' });
  const batch = await finished(created.id);
  assert.equal(batch.status, 'failed');
  assert.equal(batch.output_file_id, null);
  const problems = batch.errors.data.map(({ line, code }) => [line, code]);
  problems.sort(([a], [b]) => a - b);
  assert.deepEqual(problems[0], [2, 'duplicate_custom_id']);
  assert.ok(problems.some(([line, code]) => line === 3 && code === 'invalid_url'));
  assert.deepEqual(problems.at(-1), [4, 'invalid_json_line']);
});

test('a cancel keeps what was done and cancels the rest', async () => {
  const lines = [chatLine('first'), ...numbered(200, '[[slow=300ms]]')];
  const { id } = await submit(lines, { max_concurrency: 2 });
  while ((await client.batches.retrieve(id)).request_counts.completed === 0);
  assert.ok(['cancelling', 'cancelled'].includes((await client.batches.cancel(id)).status));
  const batch = await finished(id);
  assert.equal(batch.status, 'cancelled');
  const output = await linesOf(batch.output_file_id);
  const errors = await linesOf(batch.error_file_id);
  assert.deepEqual(ids([...output, ...errors]).sort(), ids(lines).sort());
  assert.ok(errors.every((line) => line.error.code === 'batch_cancelled' && line.response === null));
});

test('lists page newest first', async () => {
  const team = unique('team');
  const made = [];
  for (let n = 0; n < 5; n += 1) made.push((await submit([chatLine('a')], { metadata: { team } })).id);
  const first = await client.batches.list({ limit: 2 });
  assert.equal(first.data.length, 2);
  assert.ok(first.hasNextPage());
  const listed = await all(client.batches.list({ limit: 2 }));
  assert.deepEqual(
    listed.filter((batch) => batch.metadata?.team === team).map((batch) => batch.id),
    [...made].reverse(),
  );
});

test('a create that is retried or has a key is one batch', async () => {
  const { id } = await upload(jsonl([chatLine('a')]));
  const create = (headers) =>
    client.batches.create({ input_file_id: id, endpoint: CHAT, completion_window: '24h' }, { headers });
  const first = await create({});
  assert.equal((await create({ 'X-Stainless-Retry-Count': '1' })).id, first.id);
  const key = { 'Idempotency-Key': unique('key') };
  const named = await create(key);
  assert.notEqual(named.id, first.id);
  assert.equal((await create(key)).id, named.id);
});

const ENDPOINTS = [
  ['/v1/responses', { model: 'demo-small', input: 'Say hello.' }, (body) => body.output[0].content[0].text],
  ['/v1/embeddings', { model: 'demo-embed', input: 'a text' }, (body) => body.data[0].embedding.length],
  ['/v1/completions', { model: 'demo-small', prompt: 'Once' }, (body) => body.choices[0].text],
  ['/v1/moderations', { input: 'a text' }, (body) => body.results.length],
];

for (const [endpoint, request, answer] of ENDPOINTS) {
  test(`lines for ${endpoint}`, async () => {
    const lines = [{ custom_id: 'only', method: 'POST', url: endpoint, body: request }];
    const batch = await finished((await submit(lines, { endpoint })).id);
    assert.equal(batch.status, 'completed');
    const [line] = await linesOf(batch.output_file_id);
    assert.ok(answer(line.response.body), JSON.stringify(line));
  });
}
