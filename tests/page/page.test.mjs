// The page at `/` in a real Chromium, against the real binary and the scripted provider.
//
// SLUICEGATE_TEST_BINARY, …_CHROMIUM, …_MODULES and …_FOLDER say what is tested, with which browser, where its driver
// is, and where files go; SLUICEGATE_TEST_BATCHES, how long the long list is.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { Browser, assertFits } from './browser.mjs';
import { Service, startUpstream } from './service.mjs';

const { SLUICEGATE_TEST_BINARY: binary, SLUICEGATE_TEST_FOLDER: folder, SLUICEGATE_TEST_MODULES: modules } = process.env;
const BATCHES = Number(process.env.SLUICEGATE_TEST_BATCHES ?? 1_000);
const ADMIN_KEY = 'an-admin-key-for-the-tests-0123456789';
const HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>';
const LOST = /^Failed to load resource: (net::ERR_|the server responded with a status of 50)/;
const REFUSED = /^Failed to load resource: the server responded with a status of 40[134]/;
// One call an hour, so that batches for it stay as they are.
const LANES = `
[[providers.scripted.lanes]]
match = "demo-small"
[[providers.scripted.lanes]]
match = "slow"
limits = { requests = "1/h" }
[[providers.scripted.lanes]]
match = "steady"
limits = { requests = "60/min" }
[[providers.scripted.lanes]]
match = "*"
`;

let browser;
let upstream;
let open;
let keyed;

before(async () => {
  // First: without a browser nothing else is left running.
  browser = await Browser.start(modules, process.env.SLUICEGATE_TEST_CHROMIUM);
  upstream = await startUpstream(binary, folder);
  [open, keyed] = await Promise.all([
    Service.start(binary, folder, 'open', upstream, { settings: LANES }),
    Service.start(binary, folder, 'keyed', upstream, { settings: LANES, adminKey: ADMIN_KEY }),
  ]);
});

after(async () => {
  await browser?.stop();
  await Promise.all([open?.stop(), keyed?.stop()]);
  await upstream?.stop();
});

const live = (page) => page.locator('#pulse[data-state=live]').waitFor();
const row = (page, id) => page.locator('tbody tr', { hasText: id });

async function signIn(page, key) {
  await page.goto(keyed.url);
  await page.getByLabel('API key').fill(key);
  await page.keyboard.press('Enter');
}

test('a service without batches says how to post the first one', () =>
  browser.with({}, async (page) => {
    await page.goto(open.url);
    const command = page.locator('pre');
    await command.waitFor();
    const text = await command.textContent();
    assert.ok(text.startsWith(`curl -s ${open.url}/v1/batches`), text);
    assert.deepEqual(await browser.findings(page), []);
    await page.setViewportSize({ width: 375, height: 700 });
    await assertFits(page, 'the empty list');
  }));

test('the command that it shows makes a batch, which then appears by itself', () =>
  browser.with({}, async (page) => {
    await page.goto(open.url);
    const text = await page.locator('pre').textContent();
    const { execFile } = await import('node:child_process');
    const answer = await new Promise((done) => execFile('bash', ['-c', text], (_, stdout) => done(stdout)));
    const { id } = JSON.parse(answer);
    await row(page, id).getByText('Completed').waitFor();
    assert.equal(await page.locator('pre').isVisible(), false);
  }));

test('it asks for a key, refuses a wrong one, takes a right one, and forgets it', () =>
  browser.with({ forgives: REFUSED }, async (page, context) => {
    const id = await keyed.submit('demo-small', [['one', 'hello']]);
    await page.goto(keyed.url);
    await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    assert.deepEqual(await browser.findings(page), []);
    await page.getByLabel('API key').fill('sk-sg-wrong');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByText('The service does not accept this key.').waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);

    await page.getByLabel('API key').fill(ADMIN_KEY);
    await page.keyboard.press('Enter');
    await row(page, id).waitFor();
    const kept = await page.evaluate(() => [Object.values(sessionStorage), localStorage.length, location.href]);
    assert.deepEqual(kept, [[ADMIN_KEY], 0, `${keyed.url}/`]);
    assert.deepEqual(await context.cookies(), []);
    await page.reload();
    await row(page, id).waitFor();

    await page.getByRole('button', { name: 'Sign out' }).click();
    await page.getByLabel('API key').waitFor();
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
    assert.equal(await page.getByText(id).count(), 0);
  }));

test('a key that is revoked meanwhile leads back to the question for one', () =>
  browser.with({ forgives: REFUSED }, async (page) => {
    await signIn(page, await keyed.makeKey('read'));
    await page.locator('tbody tr').first().waitFor();
    const { data } = await keyed.json('/admin/v1/keys');
    for (const { id } of data) await keyed.call(`/admin/v1/keys/${id}`, { method: 'DELETE' });
    await page.getByText('The service no longer accepts the key.').waitFor();
  }));

test('texts of clients and providers are shown as text', () =>
  browser.with({}, async (page) => {
    // The provider names the model in this refusal.
    const id = await open.submit(HOSTILE, [[HOSTILE, '[[too-large]]']], { metadata: { [HOSTILE.slice(0, 34)]: HOSTILE } });
    await open.ended(id);
    await page.goto(open.url);
    await row(page, id).getByText(HOSTILE).waitFor();
    await row(page, id).getByRole('link').click();
    const line = page.locator('tbody tr', { hasText: HOSTILE });
    await line.getByText(`Request too large for ${HOSTILE}`).waitFor();
    assert.equal(await line.locator('.id').textContent(), HOSTILE);
    assert.equal(await page.locator('dd', { hasText: HOSTILE }).count(), 1);

    const file = new FormData();
    const body = { model: 'demo-small', messages: [{ role: 'user', content: 'hi' }] };
    const twice = JSON.stringify({ custom_id: HOSTILE, method: 'POST', url: '/v1/chat/completions', body });
    file.append('purpose', 'batch');
    file.append('file', new Blob([`${twice}\n${twice}\n`]), 'twice.jsonl');
    const uploaded = await (await fetch(`${open.url}/v1/files`, { method: 'POST', body: file })).json();
    const create = { input_file_id: uploaded.id, endpoint: '/v1/chat/completions', completion_window: '24h' };
    const failed = await open.json('/v1/batches', { method: 'POST', body: create });
    const { errors } = await open.ended(failed.id);
    await page.goto(`${open.url}/#/batches/${failed.id}`);
    await page.locator('td.message').getByText(errors.data[0].message).waitFor();

    assert.equal(await page.evaluate(() => window.hit), undefined);
    assert.equal(await page.locator('main img, main script').count(), 0);
  }));

test('markup is refused by the policy, should it ever get so far', () =>
  browser.with({ forgives: /Trusted|policy/ }, async (page) => {
    await page.goto(open.url);
    const refused = await page.evaluate(() => {
      try {
        document.body.innerHTML = '<p>x</p>';
      } catch (error) {
        return error.name;
      }
      return '';
    });
    assert.equal(refused, 'TypeError');
  }));

test('a batch shows how it moves, what it waits for, and the budget what it uses', () =>
  browser.with({}, async (page) => {
    const id = await open.submit('steady', Array.from({ length: 500 }, (_, index) => [`row-${index}`, 'hello']));
    await page.goto(open.url);
    const earlier = await row(page, id).getByText(/^[1-9]\d* of 500$/).textContent();
    await row(page, id).getByText('request rate at scripted/steady').waitFor();
    await row(page, id).getByText(/^in \d+ (s|min)/).waitFor();
    await row(page, id).filter({ hasNotText: earlier }).waitFor();
    const lane = page.locator('.lane', { hasText: 'scripted/steady' });
    await lane.getByText(/^\d+ \/ 60 \/ min$/).waitFor();
    await lane.getByText('1 waiting').waitFor();
    const drawn = await lane.locator('.line').first().getAttribute('d');
    await page.waitForFunction(
      ([element, before]) => element.getAttribute('d') !== before,
      [await lane.locator('.line').first().elementHandle(), drawn],
    );
    await page.getByRole('heading', { name: 'Failed calls' }).waitFor();
    await page.locator('.bars').getByText('Rate limited').waitFor();
    assert.deepEqual(await browser.findings(page), []);
    await open.call(`/v1/batches/${id}/cancel`, { method: 'POST' });
  }));

test('one batch shows its failed lines by kind, and its files are saved', () =>
  browser.with({ forgives: REFUSED }, async (page) => {
    const items = Array.from({ length: 60 }, (_, index) => [`row-${index}`, ['hello', '[[400]]', '[[invalid-json]]'][index % 3]]);
    const id = await keyed.submit('demo-small', items, { max_attempts: 2 });
    const batch = await keyed.ended(id);
    assert.equal(batch.request_counts.failed, 40);
    await signIn(page, ADMIN_KEY);
    await row(page, id).getByText('40 failed').waitFor();
    await row(page, id).getByRole('link').click();
    await page.getByRole('heading', { name: 'What failed' }).waitFor();
    const bars = page.locator('section', { hasText: 'What failed' }).locator('.bars li');
    assert.deepEqual((await bars.allTextContents()).sort(), ['400 invalid_request_error20', 'invalid_response20']);
    const lines = page.locator('tbody tr');
    assert.equal(await lines.count(), 25);
    await page.getByRole('button', { name: 'Show more' }).click();
    assert.equal(await lines.count(), 40);
    const line = page.locator('tbody tr', { has: page.getByText('row-1', { exact: true }) });
    assert.deepEqual(await line.locator('td').allTextContents(), ['row-1line 2', '400 invalid_request_error', 'The script asked for a 400 here.', '1']);
    assert.deepEqual(await browser.findings(page), []);

    for (const [label, file] of [['Results', batch.output_file_id], ['Errors', batch.error_file_id]]) {
      const [saved] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: label }).click()]);
      const expected = await (await keyed.call(`/v1/files/${file}/content`)).text();
      assert.equal(await readFile(await saved.path(), 'utf8'), expected, label);
      assert.equal(saved.suggestedFilename(), `${id}-${label.toLowerCase()}.jsonl`);
    }
    await page.setViewportSize({ width: 375, height: 800 });
    await assertFits(page, 'a batch');
    await page.goto(`${keyed.url}/#/batches/batch_none`);
    await page.getByText("No batch found with id 'batch_none'.").waitFor();
  }));

test('a batch is cancelled once that was confirmed, by a key that may', () =>
  browser.with({ forgives: REFUSED }, async (page) => {
    const id = await keyed.submit('slow', [['a', 'x'], ['b', 'x']]);
    await signIn(page, await keyed.makeKey('read'));
    await row(page, id).getByRole('link').click();
    await page.getByRole('button', { name: 'Cancel batch' }).click();
    assert.deepEqual(await browser.findings(page), []);
    await page.getByRole('button', { name: 'Cancel the batch' }).click();
    await page.getByText("This call needs a key with the scope 'app'").waitFor();
    await page.getByRole('button', { name: 'Let it run' }).click();
    await page.getByRole('button', { name: 'Sign out' }).click();

    await page.getByLabel('API key').fill(await keyed.makeKey('app'));
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Cancel batch' }).click();
    await page.keyboard.press('Escape');
    assert.equal((await keyed.json(`/v1/batches/${id}`)).status, 'in_progress');
    await page.getByRole('button', { name: 'Cancel batch' }).click();
    await page.getByRole('button', { name: 'Cancel the batch' }).click();
    await page.locator('.pill', { hasText: 'Cancelled' }).waitFor();
    assert.equal((await keyed.json(`/v1/batches/${id}`)).status, 'cancelled');
    assert.equal(await page.getByRole('button', { name: 'Cancel batch' }).count(), 0);
  }));

test('everything can be done with the keyboard alone', () =>
  browser.with({}, async (page) => {
    const id = await open.submit('slow', [['a', 'x'], ['b', 'x']]);
    await page.goto(open.url);
    await row(page, id).waitFor();
    const focused = () => page.evaluate(() => `${document.activeElement.tagName} ${document.activeElement.textContent}`);
    const press = async (key, times = 1) => {
      for (let done = 0; done < times; done += 1) await page.keyboard.press(key);
    };
    const tabTo = async (text) => {
      for (let tries = 0; tries < 60; tries += 1) {
        await press('Tab');
        const now = await focused();
        if (/^(A|BUTTON) /.test(now) && now.includes(text)) return;
      }
      assert.fail(`the Tab key does not lead to ${text}`);
    };
    await press('Tab');
    assert.equal(await focused(), 'A Skip to the content');
    await press('Enter');
    assert.ok((await focused()).startsWith('MAIN'));
    await tabTo('In progress');
    await press('Enter');
    await page.locator('.filters a[aria-current]', { hasText: 'In progress' }).waitFor();
    assert.equal(await focused(), 'H2 Batches');
    await row(page, id).waitFor();
    await tabTo(id);
    await press('Enter');
    await page.getByRole('button', { name: 'Cancel batch' }).waitFor();
    assert.equal(await focused(), `H1 ${id}`);
    await tabTo('Cancel batch');
    await press('Enter');
    await tabTo('Cancel the batch');
    await press('Enter');
    await page.locator('.pill', { hasText: 'Cancelled' }).waitFor();
    await tabTo('Sluicegate');
    await press('Enter');
    await row(page, id).getByText('Cancelled').waitFor();
  }));

test('a page that nobody looks at asks for nothing', () =>
  browser.with({ prepare: (page) => page.clock.install() }, async (page) => {
    let calls = 0;
    page.on('request', () => (calls += 1));
    const look = (hidden) =>
      page.evaluate((value) => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
        document.dispatchEvent(new Event('visibilitychange'));
      }, hidden);
    await page.goto(open.url);
    await live(page);
    const asked = page.waitForRequest(/v1\/batches/);
    await page.clock.runFor(7_000);
    await asked;
    await look(true);
    calls = 0;
    await page.clock.runFor(600_000);
    assert.equal(calls, 0);
    const again = page.waitForRequest(/v1\/batches/);
    await look(false);
    await again;
  }));

test('it says when the service is away, and goes on once it is back', () =>
  browser.with({ forgives: LOST }, async (page) => {
    await page.goto(open.url);
    await live(page);
    await open.stop();
    await page.locator('#pulse[data-state=away]').waitFor();
    await page.getByText('The service does not answer.').waitFor();
    assert.ok((await page.locator('tbody tr').count()) > 0, 'what was known stays');
    await open.begin();
    await live(page);
    assert.equal(await page.locator('#notice').isVisible(), false);
    const id = await open.submit('demo-small', [['after', 'hello']]);
    await row(page, id).getByText('Completed').waitFor();
  }));

test(`a list of ${BATCHES} batches is paged, filtered and fits every screen in light and dark`, async () => {
  let left = BATCHES;
  const started = Date.now();
  await Promise.all(Array.from({ length: 64 }, async () => {
    while (left-- > 0) await open.submit('slow', [['only', 'x']], { metadata: { number: String(left) } });
  }));
  console.log(`made ${BATCHES} batches in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  await browser.with({}, async (page) => {
    await page.goto(open.url);
    await live(page);
    const first = page.locator('tbody a.id').first();
    const seen = new Set();
    const pages = Math.min(10, Math.floor(BATCHES / 25));
    for (let number = 2; number <= pages; number += 1) {
      const ids = await page.locator('tbody a.id').allTextContents();
      assert.equal(ids.length, 25, 'no more than one page is in the document');
      for (const id of ids) assert.ok(!seen.has(id), id);
      for (const id of ids) seen.add(id);
      await page.getByRole('link', { name: 'Older' }).click();
      await page.getByText(`Page ${number}`, { exact: true }).waitFor();
      await first.waitFor();
    }
    await page.getByRole('link', { name: 'Newer' }).click();
    await page.getByText(`Page ${pages - 1}`, { exact: true }).waitFor();
    await first.waitFor();
    assert.ok(seen.has(await first.textContent()));
    await page.getByRole('link', { name: 'Newest' }).click();
    await page.waitForURL(`${open.url}/#/`);
    await page.getByRole('link', { name: 'Completed' }).click();
    await page.locator('.filters a[aria-current]', { hasText: 'Completed' }).waitFor();
    await first.waitFor();
    assert.deepEqual([...new Set(await page.locator('td .pill').allTextContents())], ['Completed']);
    await page.getByRole('link', { name: 'Expired' }).click();
    await page.getByText('No batch is expired.').waitFor();
    assert.ok((await page.evaluate(() => document.querySelectorAll('*').length)) < 2_000);
  });
  for (const colorScheme of ['light', 'dark']) {
    await browser.with({ colorScheme, reducedMotion: 'reduce' }, async (page) => {
      await page.goto(open.url);
      await live(page);
      for (const width of [320, 375, 768, 1024, 1180, 1440]) {
        await page.setViewportSize({ width, height: 900 });
        await assertFits(page, `the list in ${colorScheme}`);
      }
      const [red] = (await page.evaluate(() => getComputedStyle(document.body).backgroundColor)).match(/\d+/g).map(Number);
      assert.equal(red < 128, colorScheme === 'dark');
      // The other width with each: cards and table, and both sets of colours.
      await page.setViewportSize({ width: colorScheme === 'light' ? 1440 : 375, height: 900 });
      assert.deepEqual(await browser.findings(page), [], colorScheme);
    });
  }
});

test('it is there at once', async () => {
  const loads = [];
  // Each with a cache and connections of its own, as for somebody who was never here.
  for (let load = 0; load < 5; load += 1) {
    await browser.with({}, async (page) => {
      await page.goto(open.url);
      await live(page);
      loads.push(
        await page.evaluate(() => {
          const [first] = performance.getEntriesByName('first-contentful-paint');
          const files = performance.getEntriesByType('resource').filter((entry) => entry.name.includes('/page/'));
          const [document] = performance.getEntriesByType('navigation');
          return { paint: first.startTime, bytes: [...files, document].reduce((sum, entry) => sum + entry.decodedBodySize, 0) };
        }),
      );
    });
  }
  const [{ bytes }] = loads;
  const paints = loads.map(({ paint }) => paint).sort((one, other) => one - other);
  console.log(`first paint after ${paints.map((paint) => paint.toFixed(0)).join(', ')} ms, ${bytes} bytes in all`);
  assert.ok(bytes > 0 && bytes <= 60 * 1024, `${bytes} bytes`);
});
