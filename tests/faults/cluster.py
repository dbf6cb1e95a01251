"""Several replicas of the service on one PostgreSQL server, in front of one scripted upstream."""

import atexit
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from proxy import Proxy
from support import ROOT, Service, Upstream, Wrong, http

READY_WITHIN = 60.0
SCHEMA = "sluicegate"


class Database:
    """A server in a folder of its own, which loses nothing and can be crashed."""

    def __init__(self):
        self.process = subprocess.Popen(["bash", ROOT / "tests/postgres", "durable"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        url = self.process.stdout.readline().strip()
        if not url:
            raise SystemExit("no PostgreSQL server: see above")
        self.port = int(url.rsplit(":", 1)[1].split("/")[0])
        self.session, self.lock = None, threading.Lock()
        self.rows("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        self.rows("ALTER SYSTEM SET track_functions = 'all'; SELECT pg_reload_conf()")

    def url(self, user="postgres", address=None):
        return f"postgres://{user}@{address or f'127.0.0.1:{self.port}'}/postgres?sslmode=disable"

    def stop(self):
        """As a crash of the server does."""
        self._tell("stop", "stopped")

    def start(self):
        self._tell("start", "started")

    def _tell(self, command, answer):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != answer:
            raise SystemExit(f"the PostgreSQL server did not {command}")

    def rows(self, sql):
        """The rows of a statement, as lists of texts; it is asked again if the connection was lost."""
        with self.lock:
            for _ in range(100):
                if self.session is None or self.session.poll() is not None:
                    command = ["psql", "-XqAt", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", self.url()]
                    self.session = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                try:
                    self.session.stdin.write(f"{sql};\n\\echo \x1e\n")
                    self.session.stdin.flush()
                    found = []
                    while (line := self.session.stdout.readline()) not in ("\x1e\n", ""):
                        found.append(line.rstrip("\n").split("\x1f"))
                    if line:
                        return found
                    if self.session.wait() == 3:
                        raise Wrong(f"the database refuses: {sql}")
                except BrokenPipeError:
                    self.session.wait()
                time.sleep(0.1)
        raise Wrong(f"the database does not answer: {sql}")

    def number(self, sql):
        return float(self.rows(sql)[0][0] or 0)

    def statements(self):
        """Statements of each replica since the last reset; and those that look how far a batch is or read its results.

        What a flush looks at is not among these: how many there are goes with the work, which moves between replicas.
        """
        asked = ("SELECT rolname, sum(calls), coalesce(sum(calls) FILTER (WHERE query ~* '^select .* from \"?[a-z]*\"?\\.?(batch|result)\\M' "
                 "AND query !~* '^select batch, line' AND query !~* 'for (no key )?update'), 0) "
                 "FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid WHERE rolname LIKE 'replica%' GROUP BY 1")
        return {role: (int(all_of_them), int(queries)) for role, all_of_them, queries in self.rows(asked)}

    def close(self):
        if self.session is not None:
            self.session.kill()
            self.session.wait()
        self.process.stdin.close()
        self.process.wait()


class Replica:
    """One process, as often as it is started."""

    def __init__(self, number, binary, folder, upstream, database, limits, top, proxied):
        folder.mkdir()
        self.number, self.caller = number, f"r{number}"
        self.proxy = Proxy("127.0.0.1", database.port) if proxied else None
        # A role of its own, so that the server counts its statements apart.
        self.role = f"replica{number}"
        database.rows(f"DO $$ BEGIN CREATE ROLE {self.role} SUPERUSER LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
        url = database.url(self.role, self.proxy.address if self.proxy else None)
        limits = f'headers = {{ "x-caller" = "{self.caller}" }}\n{limits}'
        self.service = Service(binary, folder, upstream, limits, f'store.url = "{url}"\nstore.schema = "{SCHEMA}"\n{top}')
        self.root, self.folder = self.service.root, folder
        self.stopped, self.most_rss = False, 0

    @property
    def pid(self):
        return self.service.process.pid

    def start(self):
        self.service.start()
        self.stopped = False

    def runs(self):
        return self.service.process is not None and not self.service.has_died()

    def is_ready(self):
        try:
            http("GET", f"{self.root}/readyz", timeout=2)
            return True
        except (OSError, Wrong):
            return False

    def until_ready(self):
        until = time.monotonic() + READY_WITHIN
        while not self.is_ready():
            if not self.runs() or time.monotonic() > until:
                raise Wrong(f"replica {self.number} is not ready: {self.log()[-2000:]}")
            time.sleep(0.02)

    def kill(self):
        self.service.process.kill()
        self.service.process.wait()

    def freeze(self):
        os.kill(self.pid, signal.SIGSTOP)
        self.stopped = True

    def wake(self):
        os.kill(self.pid, signal.SIGCONT)
        self.stopped = False

    def rss(self):
        """Bytes that it has resident; 0 if it does not run."""
        try:
            text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            return int(text.split("VmRSS:")[1].split()[0]) * 1024
        except (OSError, IndexError):
            return 0

    def log(self):
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


class Cluster:
    """Everything that a run has: the server, the upstream, the replicas, and what was done to them."""

    def __init__(self, arguments, script, limits, top="", proxied=False):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="replicas-"))
        self.database = Database()
        self.upstream = Upstream(arguments.upstream or arguments.binary, self.folder, script)
        self.replicas = [
            Replica(number, arguments.binary, self.folder / f"r{number}", self.upstream, self.database, limits, top, proxied)
            for number in range(1, arguments.replicas + 1)
        ]
        # Nothing outlives a run that ends early.
        atexit.register(self.end)
        self.faults, self.key, self.dice = [], None, random.Random(arguments.seed)
        self.choice = random.Random(0)

    def start(self):
        for replica in self.replicas:
            replica.start()
        for replica in self.replicas:
            replica.until_ready()

    def ask(self, method, path, body=None, headers=None, key=None, patience=180.0):
        """Asks some replica, and another one if it is not there: what a client behind a load balancer sees."""
        key = key or self.key
        headers = {**(headers or {}), **({"authorization": f"Bearer {key}"} if key else {})}
        until, why = time.monotonic() + patience, None
        while time.monotonic() < until:
            there = [replica for replica in self.replicas if replica.runs() and not replica.stopped]
            if there:
                replica = self.choice.choice(there)
                try:
                    return http(method, replica.root + path, body, headers, timeout=20)
                except OSError as error:
                    why = error
                except Wrong as error:
                    if ": 503 " not in str(error):
                        raise
                    why = error
            time.sleep(0.1)
        raise Wrong(f"{method} {path} was not answered within {patience:.0f} s: {why}")

    def make_apps(self, names):
        """A key for each app; the first key of all is the operator's."""
        asked = json.dumps({"app": "default", "scope": "admin"}).encode()
        self.key = json.loads(self.ask("POST", "/admin/v1/keys", asked, KIND))["key"]
        keys = {}
        for name in names:
            self.ask("PUT", f"/admin/v1/apps/{name}", b'{"weight": 1}', KIND)
            asked = json.dumps({"app": name, "scope": "app"}).encode()
            keys[name] = json.loads(self.ask("POST", "/admin/v1/keys", asked, KIND))["key"]
        return keys

    def must(self, holds, what):
        if not holds:
            self.faults.append(what)

    def worker(self, replica):
        """Epoch of a replica's row, and its key; `None` before it has one."""
        asked = f"SELECT epoch, key FROM {SCHEMA}.worker WHERE name LIKE '%:{replica.service.port}'"
        found = self.database.rows(asked)
        return (int(found[0][0]), int(found[0][1])) if found else None

    def end(self):
        """Ends every process."""
        for replica in self.replicas:
            if replica.runs():
                replica.kill()
            if replica.proxy:
                replica.proxy.close()
        self.upstream.close()
        self.database.close()

    def close(self):
        """Ends everything; the exit code. What was wrong stays to be looked at."""
        atexit.unregister(self.end)
        self.end()
        for fault, times in collections.Counter(self.faults).items():
            print(f"WRONG {fault}{f' ({times} times)' if times > 1 else ''}")
        if self.faults:
            print(f"kept {self.folder}")
            return 1
        shutil.rmtree(self.folder)
        print("nothing wrong")
        return 0


KIND = {"content-type": "application/json"}
