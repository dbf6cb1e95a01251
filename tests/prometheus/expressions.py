"""What ships, made fit for a test: rules with shorter durations, and the expressions behind the dashboard's panels."""

import json
import re
from pathlib import Path

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = ("recording.yml", "alerts.yml")
# Every duration is divided by this; nothing else of a rule or an expression changes.
DIVISOR = 60
SCRAPE_SECONDS = 1
# What Grafana takes for `$__rate_interval` is four scrapes at least.
RATE_INTERVAL = "4s"
RANGE = "30s"

MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# A range in brackets, and the waiting time of an alert.
DURATION = re.compile(r"(?P<before>\[|^\s+for: )(?P<number>\d+)(?P<unit>ms|s|m|h|d)(?P<after>\]|$)", re.MULTILINE)


def shortened(text: str) -> str:
    """The same text with every duration divided."""
    def divide(found: re.Match) -> str:
        milliseconds = int(found["number"]) * MILLISECONDS[found["unit"]] // DIVISOR
        return f"{found['before']}{milliseconds}ms{found['after']}"

    return DURATION.sub(divide, text)


def write_configuration(folder: Path, groups: dict[str, list[str]]) -> None:
    """Prometheus's configuration with the shipped rules shortened; each group of addresses gets its label `deployment`."""
    shipped = (DEPLOY / "prometheus/prometheus.yml").read_text()
    for rules in RULES:
        (folder / rules).write_text(shortened((DEPLOY / "prometheus" / rules).read_text()))
    head, found, _ = shipped.partition("    static_configs:\n")
    if not found or "scrape_interval: 15s" not in head:
        raise SystemExit("deploy/prometheus/prometheus.yml is not what this test takes its configuration from")
    targets = [
        f"      - targets: {json.dumps(addresses)}\n        labels: {{deployment: {name}}}\n"
        for name, addresses in groups.items()
    ]
    head = head.replace("interval: 15s", f"interval: {SCRAPE_SECONDS}s")
    (folder / "prometheus.yml").write_text(head + found + "".join(targets))


def panels(variables: dict[str, str]) -> list[tuple[str, str]]:
    """Title and expression of every query of the dashboard, its variables filled in."""
    dashboard = json.loads((DEPLOY / "grafana/sluicegate.json").read_text())
    values = {"__rate_interval": RATE_INTERVAL, "__range": RANGE, **variables}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = re.sub(r"\$\{?(\w+)\}?", lambda name: values[name[1]], shortened(target["expr"]))
            found.append((f"{panel['title']} ({target['refId']})", expression))
    for annotation in dashboard["annotations"]["list"]:
        expression = re.sub(r"\$\{?(\w+)\}?", lambda name: values[name[1]], shortened(annotation["expr"]))
        found.append((f"annotation {annotation['name']}", expression))
    return found


def alerts() -> list[str]:
    """The names of the alerts that ship."""
    return re.findall(r"^\s+- alert: (\w+)$", (DEPLOY / "prometheus/alerts.yml").read_text(), re.MULTILINE)


def records() -> list[str]:
    """The names of the recorded series that ship."""
    return re.findall(r"^\s+- record: (\S+)$", (DEPLOY / "prometheus/recording.yml").read_text(), re.MULTILINE)


def variable_queries() -> list[tuple[str, str, str]]:
    """Name, selector and label of each of the dashboard's variables that asks for a label's values."""
    dashboard = json.loads((DEPLOY / "grafana/sluicegate.json").read_text())
    found = []
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        found.append((variable["name"], asked[1], asked[2]))
    return found
