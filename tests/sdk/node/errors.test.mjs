// Refusals: each as the SDK's own exception, with the status, the code and a request id.

import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import OpenAI from 'openai';

import {
  CHAT, chatLine, client, deleteFile, finished, jsonl, requestsCounted, submit, unique, upload,
} from './support.mjs';

async function refused(kind, status, call) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.name}: ${error.message}`);
    assert.equal(error.status, status);
    assert.equal(typeof error.error.message, 'string');
    assert.ok(error.requestID ?? error.request_id);
    return error;
  }
  return assert.fail('nothing was refused');
}

const create = (fields, options) =>
  client.batches.create({ input_file_id: 'file-none', endpoint: CHAT, completion_window: '24h', ...fields }, options);

test('400 for values that are none, missing or unknown', async () => {
  const { id } = await upload(jsonl([chatLine('a')]));
  const cases = [
    [{ endpoint: '/v1/nope' }, 'invalid_value', 'endpoint'],
    [{ completion_window: 'soon' }, 'invalid_value', 'completion_window'],
    [{ metadata: { tags: ['a'] } }, 'invalid_type', 'metadata.tags'],
    [{ endpoint: undefined }, 'missing_required_parameter', 'endpoint'],
    [{ max_concurency: 3 }, 'unknown_parameter', 'max_concurency'],
  ];
  for (const [fields, code, param] of cases) {
    const error = await refused(OpenAI.BadRequestError, 400, () => create({ input_file_id: id, ...fields }));
    assert.deepEqual([error.code, error.param], [code, param]);
  }
});

test('400 for an upload that can not be a batch', async () => {
  for (const bytes of ['', '\n\n', 'hello\n']) {
    await refused(OpenAI.BadRequestError, 400, () => upload(Buffer.from(bytes)));
  }
});

test('404 for an unknown file', async () => {
  const calls = [() => client.files.retrieve('file-none'), () => client.files.content('file-none'), () => deleteFile('file-none')];
  for (const call of calls) {
    const error = await refused(OpenAI.NotFoundError, 404, call);
    assert.equal(error.param, 'id');
    assert.match(error.message, /No such File object: file-none/);
  }
});

test('404 for an unknown batch', async () => {
  for (const call of [() => client.batches.retrieve('batch_none'), () => client.batches.cancel('batch_none')]) {
    const error = await refused(OpenAI.NotFoundError, 404, call);
    assert.match(error.message, /No batch found with id 'batch_none'\./);
  }
});

test('409 for a cancel that comes too late, and it is not tried again', async () => {
  const { id } = await finished((await submit([chatLine('a')])).id);
  const before = await requestsCounted('cancel', 409);
  const error = await refused(OpenAI.ConflictError, 409, () => client.batches.cancel(id));
  assert.equal((await requestsCounted('cancel', 409)) - before, 1);
  assert.match(error.message, /Cannot cancel a batch with status 'completed'\./);
});

test('413 for a file above the cap, from a buffer and from a stream', async () => {
  const bytes = jsonl(Array.from({ length: 560 }, (_, n) => chatLine(`row-${n}`, 'x'.repeat(9_000))));
  const folder = await mkdtemp(join(tmpdir(), 'sluicegate-node-'));
  try {
    const path = join(folder, 'large.jsonl');
    await writeFile(path, bytes);
    const streamed = () => client.files.create({ file: createReadStream(path), purpose: 'batch' });
    for (const call of [() => upload(bytes), streamed]) {
      const error = await refused(OpenAI.APIError, 413, call);
      assert.equal(error.code, 'file_too_large');
    }
  } finally {
    await rm(folder, { recursive: true });
  }
});

test('422 for a key used for something else', async () => {
  const { id } = await upload(jsonl([chatLine('a')]));
  const options = { headers: { 'Idempotency-Key': unique('key') } };
  await create({ input_file_id: id }, options);
  const other = () => create({ input_file_id: id, metadata: { other: 'yes' } }, options);
  const error = await refused(OpenAI.UnprocessableEntityError, 422, other);
  assert.equal(error.code, 'idempotency_key_reused');
});
