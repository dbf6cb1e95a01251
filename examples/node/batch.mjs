// A batch with OpenAI's own SDK: only the base URL is ours.
//
//   npm install openai
//   OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=unused node examples/node/batch.mjs

import { setTimeout as pause } from 'node:timers/promises';

import OpenAI, { toFile } from 'openai';

const client = new OpenAI();

const requests = ['English', 'French', 'German'].map((language) => ({
  custom_id: language,
  method: 'POST',
  url: '/v1/chat/completions',
  body: { model: 'demo-small', messages: [{ role: 'user', content: `Greet me in ${language}.` }], max_tokens: 32 },
}));
const lines = requests.map((request) => JSON.stringify(request)).join('\n');

const uploaded = await client.files.create({
  file: await toFile(Buffer.from(lines), 'requests.jsonl'),
  purpose: 'batch',
});
let batch = await client.batches.create({
  input_file_id: uploaded.id,
  endpoint: '/v1/chat/completions',
  completion_window: '24h',
});

while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
  await pause(200);
  batch = await client.batches.retrieve(batch.id);
}
console.log(`${batch.id} ${batch.status}: ${batch.request_counts.completed} of ${batch.request_counts.total}`);

// A file with a bad line runs nothing; here stands which line, and why.
for (const problem of batch.errors?.data ?? []) console.log(`line ${problem.line}: ${problem.message}`);
if (batch.output_file_id) {
  const output = await (await client.files.content(batch.output_file_id)).text();
  for (const line of output.trimEnd().split('\n')) {
    const answer = JSON.parse(line);
    console.log(`${answer.custom_id}: ${answer.response.body.choices[0].message.content}`);
  }
}
if (batch.error_file_id) console.log(await (await client.files.content(batch.error_file_id)).text());
