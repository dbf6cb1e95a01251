#!/usr/bin/env python3
"""A way to a PostgreSQL server that fails as it is told to.

    python3 tests/faults/proxy.py --to 127.0.0.1:5432

prints the address it listens at, and ends with its input. Each line of the input is a command, answered by a line of JSON:

    pass                    everything gets through; what was held back does now, as packets that are sent again do
    latency SECONDS         everything that comes takes so much longer
    cut                     every connection is reset, and every new one
    half-open up            what clients send gets stuck; `down`: what the server answers
    black-hole              both get stuck; connections stay, and new ones are accepted
    strike {"word": "COMMIT", "where": "answered", "every": 20, "seed": 7, "most": 500}
                            resets the connection of about one in 20 statements that hold the word, or are of the kind
                            that `counts` calls so, 500 times at most:
                            `half`: when half of the statement was sent; `sent`: when all of it was, whatever becomes of
                            it; `answered`: when the server has done it and before its answer gets back
    calm                    no more strikes
    counts                  statements by their first words, and strikes

It reads just as much of the protocol as it needs for that. Who asks for TLS is told that there is none.
"""

import argparse
import asyncio
import collections
import json
import os
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
CHUNK = 64 * 1024
KIND_LENGTH = 72


class Struck(Exception):
    """The connection's time has come."""


class Strike:
    """Which statements' connections are reset, and when."""

    def __init__(self, word, where, every=1, seed=1, most=None):
        self.word, self.where, self.every, self.most = word.lower(), where, every, most
        self.dice, self.times = random.Random(seed), 0

    def hits(self, text):
        text = f"{kind_of(text)}\n{text}"
        if self.word not in text.lower() or (self.most is not None and self.times >= self.most):
            return False
        if self.dice.random() * self.every >= 1:
            return False
        self.times += 1
        return True


class Way:
    """What all connections share."""

    def __init__(self, host, port):
        self.server = (host, port)
        self.blocked, self.is_cut, self.latency = set(), False, 0.0
        self.strikes, self.kinds, self.struck = [], collections.Counter(), collections.Counter()
        self.changed, self.links = asyncio.Condition(), set()

    async def command(self, line):
        word, _, rest = line.partition(" ")
        if word == "counts":
            return {"kinds": self.kinds, "struck": self.struck}
        if word == "strike":
            self.strikes.append(Strike(**json.loads(rest)))
        elif word == "calm":
            self.strikes.clear()
        else:
            modes = {
                "pass": (set(), False, 0.0), "latency": (set(), False, float(rest or 0) if word == "latency" else 0.0),
                "cut": (set(), True, 0.0), "half-open": ({rest}, False, 0.0), "black-hole": ({"up", "down"}, False, 0.0),
            }
            self.blocked, self.is_cut, self.latency = modes[word]
            async with self.changed:
                self.changed.notify_all()
            if self.is_cut:
                for link in list(self.links):
                    link.reset()
        return {}

    async def may_pass(self, direction):
        if direction in self.blocked:
            async with self.changed:
                await self.changed.wait_for(lambda: direction not in self.blocked)

    def strike_of(self, text):
        kind = kind_of(text)
        self.kinds[kind] += 1
        for strike in self.strikes:
            if strike.hits(text):
                self.struck[f"{strike.where} {strike.word}"] += 1
                return strike.where
        return None

    async def accept(self, reader, writer):
        link = Link(self, reader, writer)
        self.links.add(link)
        try:
            await link.carry()
        except (OSError, Struck, asyncio.IncompleteReadError):
            pass
        finally:
            link.reset()
            self.links.discard(link)


class Link:
    """One client's connection."""

    def __init__(self, way, reader, writer):
        self.way, self.reader, self.writer = way, reader, writer
        self.server_reader = self.server_writer = None
        # Statements by name and by portal; turns that the client has asked for, and the server has ended.
        self.statements, self.portals = {}, {}
        self.asked = self.ended = 0
        self.last_turn = None  # whose answer gets lost
        self.passed = {"up": 0.0, "down": 0.0}

    def reset(self):
        for writer in (self.writer, self.server_writer):
            if writer is not None and not writer.transport.is_closing():
                linger = struct.pack("ii", 1, 0)
                writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()

    async def carry(self):
        if self.way.is_cut:
            return
        start = await self.start_message()
        await self.may_pass("up")
        self.server_reader, self.server_writer = await asyncio.open_connection(*self.way.server)
        self.server_writer.write(start)
        pumps = [asyncio.ensure_future(self.up()), asyncio.ensure_future(self.down())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for result in await asyncio.gather(*pumps, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, (OSError, Struck, asyncio.IncompleteReadError)):
                    print(repr(result), file=sys.stderr)

    async def start_message(self):
        """The message without a type that a client starts with."""
        while True:
            head = await self.reader.readexactly(8)
            length, code = struct.unpack("!ii", head)
            body = await self.reader.readexactly(length - 8)
            if code not in (SSL_REQUEST, GSS_REQUEST):
                return head + body
            self.writer.write(b"N")

    async def up(self):
        where = None
        while True:
            head = await self.reader.readexactly(5)
            length = struct.unpack("!i", head[1:])[0] + 1
            message = head + await self.reader.readexactly(length - 5)
            kind = head[:1]
            text = self.text_of(kind, message)
            if text is not None and where is None:
                where = self.way.strike_of(text)
            await self.may_pass("up")
            if where == "half":
                self.server_writer.write(message[: max(1, length // 2)])
                await self.server_writer.drain()
                raise Struck
            ends_turn = kind in (b"Q", b"S")
            if ends_turn:
                self.asked += 1
                if where == "answered" and self.last_turn is None:
                    self.last_turn = self.asked
            self.server_writer.write(message)
            await self.server_writer.drain()
            if ends_turn and where == "sent":
                raise Struck

    def text_of(self, kind, message):
        """The statement that a message has the server execute; `None` if it is no such message."""
        if kind == b"Q":
            return cut_text(message, 5)
        if kind == b"P":
            name = cut_text(message, 5)
            self.statements[name] = cut_text(message, 6 + len(name.encode()))
        elif kind == b"B":
            portal = cut_text(message, 5)
            self.portals[portal] = self.statements.get(cut_text(message, 6 + len(portal.encode())), "")
        elif kind == b"E":
            return self.portals.get(cut_text(message, 5), "")
        return None

    async def down(self):
        while True:
            head = await self.server_reader.readexactly(5)
            length = struct.unpack("!i", head[1:])[0] + 1
            left = length - 5
            lost = self.last_turn is not None and self.ended + 1 >= self.last_turn
            await self.pass_down(head, lost)
            while left > 0:
                part = await self.server_reader.read(min(left, CHUNK))
                if not part:
                    return
                left -= len(part)
                await self.pass_down(part, lost)
            # The first one tells that the connection is there, and ends no turn.
            if head[:1] == b"Z":
                if self.asked > 0:
                    self.ended += 1
                if lost and self.ended >= self.last_turn:
                    raise Struck

    async def pass_down(self, part, lost):
        if not lost:
            await self.may_pass("down")
            self.writer.write(part)
            await self.writer.drain()

    async def may_pass(self, direction):
        clock = asyncio.get_running_loop().time
        # What comes together is late together.
        if self.way.latency and clock() - self.passed[direction] > 0.002:
            await asyncio.sleep(self.way.latency)
        await self.way.may_pass(direction)
        self.passed[direction] = clock()


def cut_text(message, start):
    """A text that ends with a zero byte."""
    return message[start : message.index(b"\0", start)].decode(errors="replace")


def kind_of(text):
    """What statements of one kind have in common: their first words, without names and numbers of one run."""
    text = re.sub(r'"[^"]*"\.', "", text)
    return re.sub(r"\d+", "N", " ".join(text.split()))[:KIND_LENGTH]


async def serve(host, port):
    way = Way(host, port)
    server = await asyncio.start_server(way.accept, "127.0.0.1", 0, limit=1 << 20)
    print(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps(await way.command(line.decode().strip())), flush=True)
    for link in list(way.links):
        link.reset()
    sys.stdout.flush()
    # At once: what connections were at is of no matter any more.
    os._exit(0)


class Proxy:
    """One in a process of its own."""

    def __init__(self, host, port):
        command = [sys.executable, pathlib.Path(__file__).resolve(), "--to", f"{host}:{port}"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def strike(self, **what):
        self.tell("strike " + json.dumps(what))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="where the server listens")
    host, port = parser.parse_args().to.rsplit(":", 1)
    asyncio.run(serve(host, int(port)))


if __name__ == "__main__":
    main()
