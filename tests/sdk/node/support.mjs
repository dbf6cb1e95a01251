// What the cases share: the client, lines, waiting for the end of a batch.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';

import OpenAI from 'openai';

export const CHAT = '/v1/chat/completions';
export const SERVICE = process.env.OPENAI_BASE_URL.replace(/\/v1$/, '');
const UPSTREAM = process.env.SLUICEGATE_TEST_UPSTREAM;
const TERMINAL = new Set(['completed', 'failed', 'expired', 'cancelled']);

export const client = new OpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: 'unused' });

// A name no other case uses: the upstream counts calls by it.
export const unique = (name) => `${name}-${randomUUID().slice(0, 13)}`;

export function chatLine(customId, text = 'Say hello.') {
  const body = { model: 'demo-small', messages: [{ role: 'user', content: text }], max_tokens: 32 };
  return { custom_id: customId, method: 'POST', url: CHAT, body };
}

export const jsonl = (lines) => Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));

export const upload = async (content, name = 'in.jsonl') =>
  client.files.create({ file: await OpenAI.toFile(content, name), purpose: 'batch' });

// The SDK calls it `del` in version 4 and `delete` from 5 on.
export const deleteFile = (id) => (client.files.delete ? client.files.delete(id) : client.files.del(id));

export async function submit(lines, options = {}) {
  const { endpoint = CHAT, ...others } = options;
  const { id } = await upload(jsonl(lines));
  return client.batches.create({ input_file_id: id, endpoint, completion_window: '24h', ...others });
}

export async function finished(id, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const batch = await client.batches.retrieve(id);
    if (TERMINAL.has(batch.status)) return batch;
    assert.ok(Date.now() < deadline, `${id} is still ${batch.status} after ${seconds} s`);
    await pause(50);
  }
}

export async function content(fileId) {
  return (await client.files.content(fileId)).text();
}

export async function linesOf(fileId) {
  return (await content(fileId)).trimEnd().split('\n').map((line) => JSON.parse(line));
}

export async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}

export async function upstreamCalls(marker) {
  const reply = await fetch(`${UPSTREAM}/script/log?id=${marker}`);
  return (await reply.json()).calls;
}

// Requests that the service's metrics counted for a route and a status.
export async function requestsCounted(routePart, status) {
  const text = await (await fetch(`${SERVICE}/metrics`)).text();
  const samples = text.matchAll(/^sluicegate_http_request_duration_seconds_count\{(.*)\} (\d+)/gm);
  let sum = 0;
  for (const [, labels, count] of samples) {
    if (labels.includes(routePart) && labels.includes(`status="${status}"`)) sum += Number(count);
  }
  return sum;
}
