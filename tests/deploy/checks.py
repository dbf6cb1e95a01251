"""Each thing that deploys the service, against its judge. Run by main.py, in an environment that has the judges."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Callable, Iterator

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
BINARY, NODE, FOLDER = (Path(each) for each in sys.argv[1:4])
TOOLS = Path(sys.executable).parent
COMPOSE = ("compose.yaml", "compose.replicas.yaml")
KUSTOMIZED = ("base", "replicas")
# The oldest and the newest version of Kubernetes whose schemas are asked.
KUBERNETES = ("1.30.0", "1.37.0")
OPERATOR = "monitoring.coreos.com/v1"
SECONDS = {"s": 1, "m": 60, "h": 3600}
# Of ten: what systemd calls exposure. A network service that writes one folder comes to 1.2.
EXPOSURE = 1.3


class Complaint(Exception):
    """What a judge has to say."""


def run(*command: object, **environment: str) -> str:
    """What a judge prints; a complaint if it is not content."""
    words = [str(word) for word in command]
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("SLUICEGATE", "OPENAI"))}
    done = subprocess.run(words, cwd=ROOT, env={**clean, **environment}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    if done.returncode != 0:
        raise Complaint(f"{' '.join(words)}: {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def expect(holds: object, what: str) -> None:
    if not holds:
        raise Complaint(what)


def seconds(text: str) -> int:
    """Of a duration such as 5m30s."""
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", text))


def drain_seconds() -> int:
    return seconds(tomllib.loads((DEPLOY / "sluicegate.toml").read_text())["server"]["drain_timeout"])


def load(path: str) -> dict:
    return yaml.safe_load((DEPLOY / path).read_text())


def dockerfile() -> None:
    run(TOOLS / "hadolint", "--failure-threshold", "style", "Dockerfile")


def compose_schema() -> None:
    for name in COMPOSE:
        run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)


def compose_references() -> None:
    """Files, secrets and volumes that are named are there; images have versions."""
    for name in COMPOSE:
        compose = load(name)
        for config in compose["configs"].values():
            expect((DEPLOY / config["file"]).is_file(), f"{name}: no {config['file']}")
        for title, service in compose["services"].items():
            for kind in ("configs", "secrets"):
                for each in service.get(kind, []):
                    source = each if isinstance(each, str) else each["source"]
                    expect(source in compose[kind], f"{name}: {title} names {source}, which is not in {kind}")
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                there = (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
                expect(there, f"{name}: {title} mounts {source}, which is not there")
            for other in service.get("depends_on", {}):
                expect(other in compose["services"], f"{name}: {title} depends on {other}")
            image = service["image"]
            expect(image == "sluicegate" or re.search(r":v?\d", image), f"{name}: {image} has no version")


def compose_hardening() -> None:
    """The service runs without rights and with a root that it can't write, and has the time to drain."""
    for name in COMPOSE:
        for title, service in load(name)["services"].items():
            if service["image"] != "sluicegate":
                continue
            expect(service["read_only"] is True and service["cap_drop"] == ["ALL"], f"{name}: {title} has rights")
            expect("no-new-privileges:true" in service["security_opt"], f"{name}: {title} may gain privileges")
            expect(seconds(service["stop_grace_period"]) > drain_seconds(), f"{name}: {title} is killed in its drain")
            shown = [text for text in service["environment"].values() if re.search("sk-|://.*:.*@", text)]
            expect(not shown, f"{name}: {title} has a secret in its environment")


def configurations() -> None:
    """The real binary takes the configuration with the variables of the image and of each file."""
    same = (DEPLOY / "kubernetes/base/sluicegate.toml").read_text() == (DEPLOY / "sluicegate.toml").read_text()
    expect(same, "kubernetes/base/sluicegate.toml is not deploy/sluicegate.toml")
    secrets = FOLDER / "secrets"
    secrets.mkdir(exist_ok=True)
    contents = {"admin_key": "k" * 32, "openai_key": "sk-test", "store_url": "postgres://sluicegate@postgres/sluicegate"}
    for name, content in contents.items():
        (secrets / name).write_text(content)
    text = (DEPLOY / "sluicegate.toml").read_text().replace("/run/secrets", str(secrets))
    (FOLDER / "sluicegate.toml").write_text(text)
    image = dict(re.findall(r"(SLUICEGATE__\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
    container = load("compose.replicas.yaml")["services"]["replica-a"]["environment"]
    pod = {each["name"]: each["value"] for each in pod_of(load("kubernetes/replicas/deployment.yaml"))["env"]}
    one_node = {"SLUICEGATE_CONFIG": ""}
    for named, store in ((one_node, "sqlite:./sluicegate-data"), (container, "postgres://"), (pod, "postgres://")):
        named = {name: value.replace("/run/secrets", str(secrets)) for name, value in named.items()}
        environment = {**image, **named, "SLUICEGATE_CONFIG": str(FOLDER / "sluicegate.toml")}
        run(BINARY, "config", "check", **environment)
        shown = run(BINARY, "config", "show", **environment)
        expect(store in shown and "0.0.0.0:8080" in shown, f"{environment} makes\n{shown}")


def pod_of(deployment: dict) -> dict:
    """The one container of a deployment."""
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return container


def objects(name: str) -> list[dict]:
    """What kustomize makes of a folder; without it, the folder's own files, which are whole in the base alone."""
    folder = DEPLOY / "kubernetes" / name
    if shutil.which("kubectl"):
        return list(yaml.safe_load_all(run("kubectl", "kustomize", folder)))
    resources = yaml.safe_load((DEPLOY / "kubernetes/base/kustomization.yaml").read_text())["resources"]
    found = [yaml.safe_load((DEPLOY / "kubernetes/base" / each).read_text()) for each in resources]
    for each in found:
        if each["kind"] == "Deployment":
            labels = {"app.kubernetes.io/name": "sluicegate"}
            each["spec"]["selector"] = {"matchLabels": labels}
            each["spec"]["template"]["metadata"] = {"labels": labels}
        if each["kind"] == "Service":
            each["spec"]["selector"] = {"app.kubernetes.io/name": "sluicegate"}
    return found


def kubernetes_schema() -> None:
    for name in KUSTOMIZED:
        found = [each for each in objects(name) if each["apiVersion"] != OPERATOR]
        path = FOLDER / f"{name}.yaml"
        path.write_text(yaml.safe_dump_all(found))
        for version in KUBERNETES:
            run(TOOLS / "kubernetes-validate", "--strict", "--version", version, path)


def kubernetes_meaning() -> None:
    """What no schema sees: selectors meet the pods, the drain has its time, and the pod passes the restricted standard."""
    for name in KUSTOMIZED:
        kinds = {each["kind"]: each for each in objects(name)}
        template = kinds["Deployment"]["spec"]["template"]
        labels = template["metadata"]["labels"]
        for selector in (
            kinds["Deployment"]["spec"]["selector"]["matchLabels"],
            kinds["PodDisruptionBudget"]["spec"]["selector"].get("matchLabels"),
            kinds["Service"]["spec"]["selector"],
        ):
            expect(selector and selector.items() <= labels.items(), f"{name}: {selector} does not select the pods")
        pod, container = template["spec"], pod_of(kinds["Deployment"])
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        expect(pod["terminationGracePeriodSeconds"] > drain_seconds() + pause, f"{name}: killed in its drain")
        expect(pod["securityContext"]["runAsNonRoot"] is True, f"{name}: may run as root")
        expect(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", f"{name}: no seccomp")
        expect(container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }, f"{name}: {container['securityContext']}")
        ports = {port["name"] for port in container["ports"]}
        for probe, path in (("startup", "/livez"), ("liveness", "/livez"), ("readiness", "/readyz")):
            asked = container[f"{probe}Probe"]["httpGet"]
            expect(asked["path"] == path and asked["port"] in ports, f"{name}: {probe} asks {asked}")
        kept = {volume["name"] for volume in pod["volumes"]}
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        expect(kept == mounted, f"{name}: volumes {kept}, mounts {mounted}")
        expect(not any("valueFrom" in each for each in container["env"]), f"{name}: a secret in the environment")


def dashboard_and_operator() -> None:
    """By the types of Grafana and of the operator; and the rules are the ones that ship for Prometheus."""
    monitor, rules = load("kubernetes/replicas/monitor.yaml"), load("kubernetes/replicas/rules.yaml")
    groups = [group for name in ("recording", "alerts") for group in load(f"prometheus/{name}.yml")["groups"]]
    expect(rules["spec"]["groups"] == groups, "kubernetes/replicas/rules.yaml has other rules than deploy/prometheus")
    board = json.loads((DEPLOY / "grafana/sluicegate.json").read_text())
    shutil.copy(Path(__file__).with_name("shapes.ts"), NODE)
    typed = {"board: Board": board, "monitor: Monitor": monitor, "rule: Rule": rules}
    lines = [f"export const {name} = {json.dumps(value, indent=1)};\n" for name, value in typed.items()]
    (NODE / "check.ts").write_text("".join(['import type { Board, Monitor, Rule } from "./shapes";\n', *lines]))
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler"]
    run(NODE / "node_modules/.bin/tsc", *flags, "--target", "es2022", NODE / "check.ts")


def dashboard_layout() -> None:
    """Panels have numbers of their own and lie beside each other; each says what it shows."""
    panels = json.loads((DEPLOY / "grafana/sluicegate.json").read_text())["panels"]
    expect(len({panel["id"] for panel in panels}) == len(panels), "two panels have the same id")
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place, title = panel["gridPos"], panel["title"]
        expect(panel["type"] == "row" or panel.get("description"), f"{title} does not say what it shows")
        expect(place["x"] + place["w"] <= 24, f"{title} is beyond the right edge")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                expect((x, y) not in taken, f"{title} lies over {taken.get((x, y))}")
                taken[x, y] = title


def provisioning() -> None:
    """Grafana finds the dashboard and Prometheus where compose puts them."""
    compose = load("compose.replicas.yaml")["services"]
    [source] = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    expect(source["url"] == "http://prometheus:9090" and "prometheus" in compose, "the data source is elsewhere")
    [found] = load("grafana/provisioning/dashboards/sluicegate.yml")["providers"]
    mounted = [volume.split(":")[1] for volume in compose["grafana"]["volumes"]]
    expect(f"{found['options']['path']}/sluicegate.json" in mounted, f"{found['options']['path']} in {mounted}")


def prometheus_of_replicas() -> None:
    run("promtool", "check", "config", "--lint=all", "--lint-fatal", DEPLOY / "prometheus/prometheus.replicas.yml")
    [scraped] = load("prometheus/prometheus.replicas.yml")["scrape_configs"]
    targets = {target.split(":")[0] for target in scraped["static_configs"][0]["targets"]}
    expect(targets <= set(load("compose.replicas.yaml")["services"]), f"{targets} are not all in compose")


def balancer() -> None:
    """HAProxy takes its configuration, and knows every replica. Its log and the container's names are not there here."""
    text = (DEPLOY / "haproxy.cfg").read_text()
    (FOLDER / "haproxy.cfg").write_text(text)
    run("haproxy", "-c", "-f", FOLDER / "haproxy.cfg")
    served = set(re.findall(r"^    server (\S+) \1:8080$", text, re.MULTILINE))
    replicas = {name for name, each in load("compose.replicas.yaml")["services"].items() if each["image"] == "sluicegate"}
    expect(served == replicas, f"haproxy.cfg has {served}, compose {replicas}")


def systemd_unit() -> None:
    """Verified in a root that has what the unit needs; then judged for what it may still do."""
    unit = DEPLOY / "systemd/sluicegate.service"
    root = FOLDER / "root"
    for path in ("bin", "usr/local/bin", "etc/systemd/system", "var/lib/sluicegate"):
        (root / path).mkdir(parents=True, exist_ok=True)
    shutil.copy(BINARY, root / "usr/local/bin/sluicegate")
    shutil.copy("/bin/kill", root / "bin")
    shutil.copy(unit, root / "etc/systemd/system")
    for target in ("network-online", "multi-user", "basic", "sysinit", "shutdown"):
        (root / f"etc/systemd/system/{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    said = run("systemd-analyze", "verify", "--man=no", f"--root={root}", "sluicegate.service")
    expect("sluicegate.service:" not in said, said)
    limit = int(EXPOSURE * 10)
    run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={limit}", unit)


def checks() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "hadolint has nothing to say of the Dockerfile", dockerfile
    yield "the compose files follow their schema", compose_schema
    yield "the compose files name only what is there", compose_references
    yield "the compose files give no rights", compose_hardening
    yield "the binary takes the configurations of the containers", configurations
    yield "the objects for Kubernetes follow its schemas", kubernetes_schema
    yield "the objects for Kubernetes belong together", kubernetes_meaning
    yield "the dashboard and the operator's objects have the right types", dashboard_and_operator
    yield "the dashboard's panels lie beside each other", dashboard_layout
    yield "Grafana finds its dashboard and its data", provisioning
    yield "Prometheus of the replicas is configured", prometheus_of_replicas
    yield "the load balancer is configured", balancer
    yield "the systemd unit is sound and shut in", systemd_unit


def main() -> int:
    passed = failed = 0
    for name, check in checks():
        try:
            check()
        except (Complaint, subprocess.TimeoutExpired, KeyError, ValueError, OSError) as error:
            failed += 1
            print(f"FAILED  {name}: {error!r}" if not isinstance(error, Complaint) else f"FAILED  {name}: {error}")
        else:
            passed += 1
            print(f"ok  {name}")
    print(f"deploy-total {passed} {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
