"""A real Prometheus with the rules that ship against services under load: every panel's and rule's expression has to
return data, and every alert has to fire under its fault and to be over after it.

    python3 tests/prometheus/main.py --binary target/debug/sluicegate --folder target/metrics

The closing line is `metrics-total PASSED FAILED`. With `SLUICEGATE_TEST_POSTGRES` two replicas share a schema there.
"""

import contextlib
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "sdk"))

import arguments  # noqa: E402
import expressions  # noqa: E402
from faults import Alert, Fault, faults  # noqa: E402
from fleet import Fleet  # noqa: E402
from processes import NoAnswer, NotInTime, Prometheus, until  # noqa: E402

QUIET_SECONDS = 90
FIRE_SECONDS = 75
RESOLVE_SECONDS = 75
PANEL_SECONDS = 60
# How far back a panel is looked at.
SHOWN_SECONDS = 150
REPLICA_ITEMS = 120


class Checks:
    """What passed and failed; a line for each."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.passed = self.failed = 0
        self.started = time.monotonic()

    def note(self, what: str, wrong: str = "") -> None:
        with self.lock:
            self.passed += not wrong
            self.failed += bool(wrong)
            seconds = time.monotonic() - self.started
            print(f"{seconds:6.1f} s  {'FAILED' if wrong else 'ok'}  {what}{': ' if wrong else ''}{wrong}", flush=True)


class Watch:
    """Which alerts fire, and which ever did."""

    def __init__(self, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.ever: list[dict[str, str]] = []

    def firing(self) -> list[dict[str, str]]:
        """Labels of those that fire now."""
        alerts = self.prometheus.ask("alerts")["alerts"]
        now = [each["labels"] for each in alerts if each["state"] == "firing"]
        self.ever += [labels for labels in now if labels not in self.ever]
        return now

    def unexpected(self) -> list[dict[str, str]]:
        """Those that fire now without a fault. The service whose reserve is nearly all that is free is always near it."""
        always = {"alertname": "SluicegateDiskLow", "deployment": "refusing"}
        return [labels for labels in self.firing() if not always.items() <= labels.items()]

    def fires(self, alert: Alert) -> bool:
        name, labels = alert
        wanted = {"alertname": name, **labels}
        return any(wanted.items() <= each.items() for each in self.firing())


def main() -> int:
    given = arguments.parser(__doc__, "data and logs").parse_args()
    folder = given.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    checks = Checks()
    check_files(checks)
    try:
        with Fleet(given.binary, folder, os.environ.get("SLUICEGATE_TEST_POSTGRES")) as fleet:
            try_everything(fleet, checks)
            for program in fleet.programs:
                if program.has_ended():
                    checks.note(f"{program.name} runs until the end", f"it ended: {program.tail()}")
    except NoAnswer as error:
        checks.note("the services and Prometheus run", str(error))
    print(f"metrics-total {checks.passed} {checks.failed}")
    return 1 if checks.failed else 0


def check_files(checks: Checks) -> None:
    """What promtool says of the files as they ship, and of the alerts at their true durations."""
    prometheus = expressions.DEPLOY / "prometheus"
    rules = [str(prometheus / each) for each in expressions.RULES]
    commands = {
        "promtool check rules": ["promtool", "check", "rules", "--lint=all", "--lint-fatal", *rules],
        "promtool check config": ["promtool", "check", "config", "--lint=all", "--lint-fatal",
                                  str(prometheus / "prometheus.yml")],
        "promtool test rules": ["promtool", "test", "rules", str(HERE / "alerts_test.yml")],
    }
    for name, command in commands.items():
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        checks.note(name, done.stdout[-3000:] if done.returncode else "")


def try_everything(fleet: Fleet, checks: Checks) -> None:
    prometheus = fleet.prometheus
    expressions.write_configuration(prometheus.folder, fleet.groups)
    prometheus.start()
    checks.note("the services and Prometheus run")
    watch = Watch(prometheus)
    targets = sum(len(addresses) for addresses in fleet.groups.values())
    until("every target is scraped", lambda: value(prometheus, "sum(up)") == targets, QUIET_SECONDS)
    noted(checks, "no alert fires while nothing is wrong", lambda: until(
        "load, and no alert", lambda: has_load(prometheus) and not watch.unexpected(), QUIET_SECONDS))

    chains = faults(fleet)
    covered = {name for chain in chains for fault in chain for name, _ in fault.causes}
    checks.note("every alert has a fault here", ", ".join(sorted(set(expressions.alerts()) - covered)))
    threads = [threading.Thread(target=provoke, args=(chain, watch, checks)) for chain in chains]
    for thread in threads:
        thread.start()
    if fleet.replicas:
        noted(checks, "two replicas add up to what they did", lambda: try_replicas(fleet))
    for thread in threads:
        thread.join()
    try_panels(prometheus, checks)
    try_records(prometheus, checks)
    noted(checks, "no alert fires after the last fault", lambda: until(
        "no alert", lambda: not watch.unexpected(), QUIET_SECONDS))
    for labels in watch.unexpected():
        print(f"still fires: {labels}")
    blamed = [labels for labels in watch.ever if labels.get("provider") == "good" and labels["deployment"] == "lanes"]
    checks.note("no alert blames the lane that works", str(blamed) if blamed else "")


def noted(checks: Checks, what: str, act) -> None:
    """One check: whether something can be done without a complaint."""
    try:
        act()
    except NoAnswer as error:
        checks.note(what, str(error))
    else:
        checks.note(what)


def value(prometheus: Prometheus, expression: str) -> float:
    """The value of an expression with one series; 0 without any."""
    return sum(number for _, number in prometheus.query(expression))


def has_load(prometheus: Prometheus) -> bool:
    """Whether every lane that has work uses its budget, and the recorded series are there."""
    busy = "count(max without (dimension) (sluicegate:budget_used:ratio_rate5m{deployment='lanes'}) > 0.6)"
    return value(prometheus, busy) >= 8


def provoke(chain: list[Fault], watch: Watch, checks: Checks) -> None:
    """One fault after the other: its alerts fire, and are over when it is."""
    for fault in chain:
        try:
            with fault.during():
                missing = await_each(fault, "fires", watch.fires, fault.causes, FIRE_SECONDS, checks)
            for alert in missing:
                checks.note(f"{alert[0]} fires: {fault.name}", f"not within {FIRE_SECONDS} s; {shown(watch, alert)}")
            fired = [alert for alert in fault.causes if alert not in missing]
            left = await_each(fault, "is over", lambda alert: not watch.fires(alert), fired, RESOLVE_SECONDS, checks)
            for alert in left:
                checks.note(f"{alert[0]} is over: {fault.name}", f"not within {RESOLVE_SECONDS} s; {shown(watch, alert)}")
        except NoAnswer as error:
            checks.note(fault.name, str(error))


def await_each(fault: Fault, state: str, holds, alerts: list[Alert], seconds: float, checks: Checks) -> list[Alert]:
    """Waits until something has held of each alert, not necessarily of all at once; those of which it never did."""
    left = list(alerts)

    def none_left() -> bool:
        for alert in [alert for alert in left if holds(alert)]:
            left.remove(alert)
            checks.note(f"{alert[0]} {state}: {fault.name}")
        return not left

    with contextlib.suppress(NotInTime):
        until(fault.name, none_left, seconds)
    return left


def shown(watch: Watch, alert: Alert) -> str:
    """What there is of an alert, for whoever has to find out why it did not fire or end."""
    rules = [rule for group in watch.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    rule = next(each for each in rules if each["name"] == alert[0])
    alerts = [(each["labels"], each["state"], each["value"]) for each in rule["alerts"]]
    return f"{rule['query']}: {alerts}"


def try_panels(prometheus: Prometheus, checks: Checks) -> None:
    """Every query of the dashboard over the time since the start, with everything chosen in its variables."""
    chosen = {"job": ".*", "instance": ".*", "provider": ".*", "model": ".*"}
    waiting = dict(expressions.panels(chosen))
    last: dict[str, list[list[float]]] = {}

    def none_waits() -> bool:
        for title, expression in list(waiting.items()):
            last[title] = found = prometheus.query_range(expression, SHOWN_SECONDS)
            if has_data(expression, found):
                del waiting[title]
                checks.note(f"panel {title} has {len(found)} series")
        return not waiting

    with contextlib.suppress(NotInTime):
        until("data in every panel", none_waits, PANEL_SECONDS, pause=1)
    for title, expression in waiting.items():
        checks.note(f"panel {title}", f"no data: {expression} gives {str(last[title])[:500]}")
    for name, selector, label in expressions.variable_queries():
        for variable, pattern in chosen.items():
            selector = selector.replace(f"${variable}", pattern)
        found = {labels[label] for labels, _ in prometheus.query(selector)}
        checks.note(f"variable {name} has {len(found)} values", "" if found else f"{selector} has none")


def has_data(expression: str, series: list[list[float]]) -> bool:
    """Whether there is something to draw. What counts must have counted: refusals, retries, anything by its rate."""
    drawn = [number for values in series for number in values if math.isfinite(number)]
    counts = "rate(" in expression or "increase(" in expression
    return any(number > 0 for number in drawn) if counts else bool(drawn)


def try_records(prometheus: Prometheus, checks: Checks) -> None:
    """Every recorded series."""
    for record in expressions.records():
        noted(checks, f"{record} has data", lambda: until(
            record, lambda: has_data(record, prometheus.query_range(record, SHOWN_SECONDS)), PANEL_SECONDS))


def try_replicas(fleet: Fleet) -> None:
    """One batch, run by two replicas: sums are of both, and what both know is not counted twice."""
    prometheus = fleet.prometheus
    first = fleet.replicas[0]
    batch = first.submit("good", REPLICA_ITEMS)
    until("the batch of the replicas ends", lambda: first.batch(batch)["status"] == "completed", 60)
    both = 'deployment="replicas"'
    wanted = {
        f"sum(sluicegate_items_total{{{both}}})": REPLICA_ITEMS,
        f"count(sum by (instance) (sluicegate_items_total{{{both}}}) > 0)": 2,
        f'sum(sluicegate_batches{{{both}, status="completed"}})': 1,
        f"sum(sluicegate_items_pending{{{both}}})": 0,
        # Paced a hair below 20 a second, and not twice that.
        f'round(sluicegate:budget_limit:max{{{both}, dimension="requests"}})': 20,
    }
    for expression, number in wanted.items():
        found = [None]

        def is_so() -> bool:
            found[0] = value(prometheus, expression)
            return found[0] == number

        try:
            until(expression, is_so, 20)
        except NotInTime as error:
            raise NoAnswer(f"{expression} is {found[0]}, not {number}") from error


if __name__ == "__main__":
    sys.exit(main())
