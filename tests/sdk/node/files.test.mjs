// Files: every way the SDK uploads, reading back, listing, deleting.

import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import OpenAI from 'openai';

import { all, chatLine, client, content, deleteFile, jsonl, unique, upload } from './support.mjs';

const CONTENT = jsonl([chatLine('row-0'), chatLine('row-1')]);

async function assertStored(uploaded, filename, bytes = CONTENT) {
  assert.match(uploaded.id, /^file-/);
  assert.equal(uploaded.object, 'file');
  assert.equal(uploaded.bytes, bytes.length);
  assert.equal(uploaded.filename, filename);
  assert.equal(uploaded.purpose, 'batch');
  assert.equal(uploaded.status, 'processed');
  const stored = Buffer.from(await (await client.files.content(uploaded.id)).arrayBuffer());
  assert.ok(stored.equals(bytes));
}

async function withFile(bytes, use) {
  const folder = await mkdtemp(join(tmpdir(), 'sluicegate-node-'));
  try {
    const path = join(folder, 'nightly.jsonl');
    await writeFile(path, bytes);
    return await use(path);
  } finally {
    await rm(folder, { recursive: true });
  }
}

test('a read stream is stored under its name', async () => {
  await withFile(CONTENT, async (path) => {
    const uploaded = await client.files.create({ file: createReadStream(path), purpose: 'batch' });
    await assertStored(uploaded, 'nightly.jsonl');
  });
});

test('megabytes from a read stream come back whole', async () => {
  const lines = Array.from({ length: 3000 }, (_, n) => chatLine(`row-${n}`, `${n} ${'lorem ipsum '.repeat(60)}`));
  const bytes = jsonl(lines);
  await withFile(bytes, async (path) => {
    const uploaded = await client.files.create({ file: createReadStream(path), purpose: 'batch' });
    await assertStored(uploaded, 'nightly.jsonl', bytes);
  });
});

test('a buffer is stored under the name it is given', async () => {
  await assertStored(await upload(CONTENT, 'from-buffer.jsonl'), 'from-buffer.jsonl');
});

test('a stream turned into a file is stored', async () => {
  await withFile(CONTENT, async (path) => {
    const file = await OpenAI.toFile(createReadStream(path), 'renamed.jsonl');
    await assertStored(await client.files.create({ file, purpose: 'batch' }), 'renamed.jsonl');
  });
});

test('a file expires when it is told to', async () => {
  const uploaded = await client.files.create({
    file: await OpenAI.toFile(CONTENT, 'short.jsonl'),
    purpose: 'batch',
    expires_after: { anchor: 'created_at', seconds: 3600 },
  });
  assert.equal(uploaded.expires_at - uploaded.created_at, 3600);
});

test('waiting for processing returns at once', async () => {
  const { id } = await upload(CONTENT);
  const waited = await client.files.waitForProcessing(id, { pollInterval: 60_000, maxWait: 5_000 });
  assert.equal(waited.status, 'processed');
});

test('a file is retrieved as it was created', async () => {
  const uploaded = await upload(CONTENT);
  assert.deepEqual({ ...(await client.files.retrieve(uploaded.id)) }, { ...uploaded });
});

test('lists page in both orders', async () => {
  const name = unique('listed');
  const made = [];
  for (let n = 0; n < 5; n += 1) made.push((await upload(CONTENT, name)).id);
  const first = await client.files.list({ limit: 2 });
  assert.equal(first.data.length, 2);
  assert.ok(first.hasNextPage());
  for (const [order, expected] of [['desc', [...made].reverse()], ['asc', made]]) {
    const listed = await all(client.files.list({ limit: 2, order }));
    assert.deepEqual(listed.filter((file) => file.filename === name).map((file) => file.id), expected);
  }
});

test('a deleted file is gone', async () => {
  const { id } = await upload(CONTENT);
  const deleted = await deleteFile(id);
  assert.deepEqual([deleted.id, deleted.object, deleted.deleted], [id, 'file', true]);
  await assert.rejects(client.files.retrieve(id), OpenAI.NotFoundError);
  await assert.rejects(content(id), OpenAI.NotFoundError);
});
