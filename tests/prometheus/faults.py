"""What makes each alert fire, and what ends it."""

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from fleet import FEW_FILES, Fleet
from processes import NoAnswer, call

Alert = tuple[str, dict[str, str]]


@dataclass
class Fault:
    """A fault and the alerts that it must cause; `during` breaks something, and mends it when it is left."""

    name: str
    causes: list[Alert]
    during: Callable[[], contextlib.AbstractContextManager]


def lane(alert: str, model: str) -> Alert:
    return (alert, {"deployment": "lanes", "provider": model, "model": model})


def at(alert: str, deployment: str) -> Alert:
    return (alert, {"deployment": deployment})


def faults(fleet: Fleet) -> list[list[Fault]]:
    """All of them: the faults of one list one after the other, the lists at the same time."""
    return [
        [Fault("a provider refuses the key", [lane("SluicegateLaneStopped", "refused")], lambda: refused_key(fleet))],
        [Fault("a provider answers nothing but 500", [lane("SluicegateBreakerOpen", "broken")],
               lambda: scripted(fleet, "broken", faults={"probability": 1, "kinds": ["500"]}))],
        [Fault("a provider answers 500 now and then", [lane("SluicegateProviderFailing", "flaky")],
               lambda: scripted(fleet, "flaky", faults={"probability": 0.36, "kinds": ["500"]}))],
        [Fault("a provider refuses requests as wrong", [lane("SluicegateRequestsFailing", "failing")],
               lambda: scripted(fleet, "failing", faults={"probability": 0.4, "kinds": ["400"]}))],
        [Fault("a provider allows less than is configured", [lane("SluicegateBounced", "bounced")],
               lambda: scripted(fleet, "bounced", limits=[
                   {"law": "bucket", "limit": 4, "period": "1s", "burst": 1, "enforce": True}]))],
        [Fault("a provider takes its time for the one call at once", [lane("SluicegateBudgetUnused", "starved")],
               lambda: scripted(fleet, "starved", latency="1500ms"))],
        [Fault("a lane is paused and forgotten", [lane("SluicegateLanePaused", "paused")], lambda: paused(fleet))],
        [Fault("live calls for a lane whose budget is used up", [at("SluicegateLiveCallsRefused", "lanes")],
               lambda: live_calls(fleet))],
        [Fault("the disk runs full",
               [at("SluicegateStoreRefusing", "refusing"), at("SluicegateStalled", "refusing"),
                at("SluicegateErrorsAnswered", "refusing"), at("SluicegateDiskLow", "store")],
               lambda: full_disk(fleet))],
        [Fault("the disk takes its time to sync", [at("SluicegateStoreSlow", "store")], lambda: there(fleet.slow_sync)),
         Fault("the disk hangs", [at("SluicegateStoreNotCommitting", "store")], lambda: there(fleet.hung_sync))],
        [Fault("a batch that can't end within its window",
               [at("SluicegateDeadlineAtRisk", "late"), at("SluicegateBatchExpired", "late")],
               lambda: late_batch(fleet))],
        [Fault("more connections than files may be open", [at("SluicegateFileDescriptorsLow", "late")],
               lambda: many_connections(fleet))],
        [Fault("the only replica is down", [at("SluicegateDown", "down"), at("SluicegateReplicaDown", "down")],
               lambda: down(fleet)),
         Fault("the service crashes again and again", [at("SluicegateRestarting", "down")], lambda: crashes(fleet))],
    ]


@contextlib.contextmanager
def meanwhile(act: Callable[[threading.Event], None]) -> Iterator[None]:
    """Does something in a thread until the fault is to end; `act` is given the event of that."""
    ended = threading.Event()
    thread = threading.Thread(target=act, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def scripted(fleet: Fleet, name: str, **keys: object) -> Iterator[None]:
    """A provider behaves otherwise for a while."""
    upstream = fleet.upstreams[name]
    before = json.loads(call("GET", f"{upstream.url}/script/script"))
    upstream.set(**keys)
    try:
        yield
    finally:
        upstream.set(**{key: before.get(key) for key in keys})


@contextlib.contextmanager
def refused_key(fleet: Fleet) -> Iterator[None]:
    """The provider revokes the key; a new one in its file mends it."""
    fleet.upstreams["refused"].set(keys=["sk-new"])
    try:
        yield
    finally:
        fleet.key_file.write_text("sk-new\n")


@contextlib.contextmanager
def paused(fleet: Fleet) -> Iterator[None]:
    named = {"provider": "paused", "model": "paused"}
    call("POST", f"{fleet.lanes.url}/admin/v1/lanes/pause", named)
    try:
        yield
    finally:
        call("POST", f"{fleet.lanes.url}/admin/v1/lanes/resume", named)


def live_calls(fleet: Fleet) -> contextlib.AbstractContextManager:
    def ask(ended: threading.Event) -> None:
        while not ended.wait(0.05):
            fleet.lanes.chat("tight", "1ms")

    return meanwhile(ask)


@contextlib.contextmanager
def full_disk(fleet: Fleet) -> Iterator[None]:
    """While it is full, a client tries to bring in more."""
    def ask(ended: threading.Event) -> None:
        while not ended.wait(0.1):
            with contextlib.suppress(NoAnswer):
                fleet.refusing.submit("good", 1)

    fleet.fill_disk()
    try:
        with meanwhile(ask):
            yield
    finally:
        fleet.free_disk()


@contextlib.contextmanager
def there(file: Path) -> Iterator[None]:
    """A file is there meanwhile."""
    file.touch()
    try:
        yield
    finally:
        file.unlink()


@contextlib.contextmanager
def late_batch(fleet: Fleet) -> Iterator[None]:
    fleet.late.submit("good", 400, completion_window="8s")
    yield


def many_connections(fleet: Fleet) -> contextlib.AbstractContextManager:
    """Clients that connect and say nothing; those that the service closes connect again."""
    def connect(ended: threading.Event) -> None:
        with contextlib.ExitStack() as held:
            for _ in range(FEW_FILES * 3 // 4):
                held.enter_context(socket.create_connection(("127.0.0.1", fleet.late.port)))
                if ended.is_set():
                    return
            ended.wait()

    return meanwhile(connect)


@contextlib.contextmanager
def down(fleet: Fleet) -> Iterator[None]:
    fleet.down.end()
    try:
        yield
    finally:
        fleet.down.start()


def crashes(fleet: Fleet) -> contextlib.AbstractContextManager:
    def crash(ended: threading.Event) -> None:
        while not ended.wait(1):
            fleet.down.end(9)
            fleet.down.start()

    return meanwhile(crash)
