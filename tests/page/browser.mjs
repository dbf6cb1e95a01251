// One Chromium for all cases. Each case has a context of its own, whose console has to stay empty.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const WAIT = 20_000;

export class Browser {
  static async start(modules, executablePath) {
    const require = createRequire(join(modules, 'package.json'));
    const { chromium } = require('playwright-core');
    const browser = new Browser();
    browser.chromium = await chromium.launch({ executablePath, args: FLAGS });
    browser.axe = await readFile(require.resolve('axe-core/axe.min.js'), 'utf8');
    return browser;
  }

  /** Runs a case with a page; `forgives`: what its console may hold, since the case makes it happen. */
  async with(options, act) {
    const { forgives = /^$/, prepare = async () => {}, ...settings } = options;
    const context = await this.chromium.newContext({ viewport: { width: 1440, height: 900 }, ...settings });
    try {
      context.setDefaultTimeout(WAIT);
      const page = await context.newPage();
      const said = [];
      page.on('console', (message) => ['error', 'warning', 'assert'].includes(message.type()) && said.push(message.text()));
      page.on('pageerror', (error) => said.push(`exception: ${error.stack ?? error}`));
      await page.exposeFunction('tellViolation', (text) => said.push(`policy: ${text}`));
      await page.addInitScript(() => {
        document.addEventListener('securitypolicyviolation', (event) => {
          window.tellViolation(`${event.violatedDirective} ${event.blockedURI}`);
        });
      });
      await prepare(page);
      await act(page, context);
      assert.deepEqual(said.filter((text) => !forgives.test(text)), [], 'the console is empty');
    } finally {
      await context.close();
    }
  }

  /** What axe-core finds, whatever its weight. */
  async findings(page) {
    await page.evaluate(this.axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    return violations.map(({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map((node) => node.html).join(' ')}`);
  }

  stop() {
    return this.chromium.close();
  }
}

/** Nothing is to be scrolled sideways. */
export async function assertFits(page, what) {
  const [needed, there] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(needed <= there, `${what}: ${needed} px wide in ${there}`);
}
