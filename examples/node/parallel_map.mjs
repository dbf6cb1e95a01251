// `parallelMap`: one call for each input, many at once, as a batch that a crash of this script doesn't lose.
//
//   npm install openai
//   OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=unused node examples/node/parallel_map.mjs

import OpenAI from 'openai';

// Yields { index, answer, error }; order 'completion' gives each as it ends.
export async function* parallelMap(client, bodies, { order = 'input', failFast = false, key } = {}) {
  const requests = bodies.map((body, index) => ({ custom_id: String(index), body }));
  const create = { endpoint: '/v1/chat/completions', requests, on_error: failFast ? 'fail_fast' : 'continue' };
  // The same key again is the same batch: a script that was interrupted may simply run again.
  const batch = await client.post('/batches', { body: create, headers: key ? { 'Idempotency-Key': key } : {} });
  const running = ['in_progress', 'finalizing', 'cancelling'];
  for (let after = '0', ended = false; !ended; ) {
    const query = { order, after, wait: '30s' };
    const page = await client.get(`/batches/${batch.id}/results`, { query }).asResponse();
    const text = await page.text();
    for (const line of text.split('\n').filter(Boolean).map((line) => JSON.parse(line))) {
      const answer = line.response?.body;
      const error = line.error ?? (line.response.status_code >= 400 ? answer : null);
      if (error && failFast) throw new Error(`input ${line.custom_id}: ${JSON.stringify(error)}`);
      yield { index: Number(line.custom_id), answer: error ? null : answer, error };
    }
    after = page.headers.get('sluicegate-next-after');
    ended = !text && !running.includes(page.headers.get('sluicegate-batch-status'));
  }
}

const ask = (content) => ({ model: 'demo-small', messages: [{ role: 'user', content }] });
const bodies = [0, 1, 2, 3, 4].map((number) => ask(`What is ${number} in French?`));
const client = new OpenAI();
for await (const { index, answer } of parallelMap(client, bodies)) {
  console.log(`${index}: ${answer.choices[0].message.content}`);
}
const ended = [];
for await (const { index } of parallelMap(client, bodies, { order: 'completion' })) ended.push(index);
console.log('as completed:', ended.sort().join(', '));
try {
  for await (const _ of parallelMap(client, [...bodies, ask('[[400]]')], { failFast: true }));
} catch (error) {
  console.log(`failed fast: ${error.message}`);
}
