"""The least that a load balancer can be: connections go in turn to the replicas whose `/readyz` is green."""

import asyncio
import threading

from support import Wrong, http

LOOKS_EVERY = 0.5
CHUNK = 64 * 1024


class Balancer:
    """One on a thread of its own."""

    def __init__(self, ports):
        self.ports, self.ready, self.turn = ports, list(ports), 0
        self.refused, self.port = 0, None
        self.stopped, self.is_up = threading.Event(), threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        threading.Thread(target=self._look, daemon=True).start()
        self.is_up.wait(10)

    def close(self):
        self.stopped.set()

    def _look(self):
        while not self.stopped.wait(LOOKS_EVERY):
            self.ready = [port for port in self.ports if is_ready(port)]

    async def _serve(self):
        server = await asyncio.start_server(self._pass, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self.is_up.set()
        while not self.stopped.is_set():
            await asyncio.sleep(0.1)

    async def _pass(self, reader, writer):
        there = list(self.ready)
        for step in range(len(there)):
            self.turn += 1
            try:
                far = await asyncio.open_connection("127.0.0.1", there[(self.turn + step) % len(there)])
                break
            except OSError:
                continue
        else:
            self.refused += 1
            writer.transport.abort()
            return
        # Either end closes both: a half of a connection is of no use to HTTP/1.1.
        pumps = [asyncio.ensure_future(pump(reader, far[1])), asyncio.ensure_future(pump(far[0], writer))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for part in pumps:
            part.cancel()
        for end in (writer, far[1]):
            end.close()


async def pump(reader, writer):
    try:
        while part := await reader.read(CHUNK):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass


def is_ready(port):
    try:
        http("GET", f"http://127.0.0.1:{port}/readyz", timeout=2)
        return True
    except (OSError, Wrong):
        return False
