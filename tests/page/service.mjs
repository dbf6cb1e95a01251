// A real service on loopback before the scripted provider, in a folder of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, open, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const START_SECONDS = 60;
const TERMINAL = ['completed', 'failed', 'expired', 'cancelled'];

/** A port that was free a moment ago. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** A process that writes to a log, and answers at a URL once it is ready. */
class Program {
  constructor(binary, folder, name) {
    Object.assign(this, { binary, folder, name });
  }

  async start(args, ready, environment = {}) {
    const log = await open(join(this.folder, `${this.name}.log`), 'a');
    const steers = /^(OPENAI|ANTHROPIC|OPENROUTER|OLLAMA|SLUICEGATE)|_proxy$/i;
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !steers.test(name)));
    const env = { ...inherited, ...environment };
    this.process = spawn(this.binary, args, { cwd: this.folder, env, stdio: ['ignore', log.fd, log.fd] });
    await log.close();
    const deadline = Date.now() + START_SECONDS * 1000;
    while (!(await fetch(ready).then((answer) => answer.ok, () => false))) {
      assert.ok(this.process.exitCode === null && Date.now() < deadline, `${this.name} does not answer; see ${this.folder}`);
      await pause(20);
    }
  }

  async stop() {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, 'exit');
    this.process.kill('SIGTERM');
    await ended;
  }
}

/** The scripted provider. */
export async function startUpstream(binary, folder) {
  const [program, port] = [new Program(binary, folder, 'upstream'), await freePort()];
  const url = `http://127.0.0.1:${port}`;
  await program.start(['upstream', '--listen', `127.0.0.1:${port}`], `${url}/v1/models`);
  return { url, stop: () => program.stop() };
}

/** `sluicegate serve`; with an admin key, it asks for keys. */
export class Service {
  static async start(binary, folder, name, upstream, { adminKey, settings = '' } = {}) {
    const service = new Service(binary, folder, name);
    await mkdir(join(folder, name), { recursive: true });
    service.port = await freePort();
    service.url = `http://127.0.0.1:${service.port}`;
    service.config = join(folder, `${name}.toml`);
    service.adminKey = adminKey;
    await writeFile(service.config, `
[server]
listen = "127.0.0.1:${service.port}"
drain_timeout = "1s"
[store]
url = "sqlite:${folder}/${name}/store.db"
min_free = "16MiB"
[retry]
min_delay = "20ms"
max_delay = "100ms"
[providers.scripted]
kind = "openai"
base_url = "${upstream.url}/v1"
auth = "none"
${settings}
`);
    await service.begin();
    return service;
  }

  constructor(binary, folder, name) {
    this.program = new Program(binary, folder, name);
  }

  async begin() {
    const environment = this.adminKey ? { SLUICEGATE_ADMIN_KEY: this.adminKey } : {};
    await this.program.start(['serve', '--config', this.config], `${this.url}/readyz`, environment);
  }

  stop() {
    return this.program.stop();
  }

  async call(path, { method = 'GET', body, key = this.adminKey } = {}) {
    const headers = { ...(body && { 'content-type': 'application/json' }), ...(key && { authorization: `Bearer ${key}` }) };
    const answer = await fetch(this.url + path, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok || (await answer.text())}`);
    return answer;
  }

  async json(path, options) {
    return (await this.call(path, options)).json();
  }

  async makeKey(scope) {
    return (await this.json('/admin/v1/keys', { method: 'POST', body: { app: 'default', scope } })).key;
  }

  /** A batch of chats, `[custom_id, text]` each. */
  async submit(model, items, more = {}) {
    const requests = items.map(([custom_id, content]) => ({ custom_id, body: { messages: [{ role: 'user', content }] } }));
    const body = { endpoint: '/v1/chat/completions', defaults: { model }, requests, ...more };
    return (await this.json('/v1/batches', { method: 'POST', body })).id;
  }

  async ended(id) {
    for (;;) {
      const batch = await this.json(`/v1/batches/${id}`);
      if (TERMINAL.includes(batch.status)) return batch;
      await pause(30);
    }
  }
}
