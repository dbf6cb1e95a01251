"""Runs the SDK suites, the examples, what the documents show and generated calls, each against a service of its own, and
counts what passed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import arguments
import environments
from service import Service

ROOT = Path(__file__).resolve().parent.parent.parent
SUITE_SECONDS = 240

PYTHON = {"python-newest": "openai", "python-1.109": "openai==1.109.*"}
ANTHROPIC = {"anthropic-newest": "anthropic"}
NODE = {"node-newest": "openai@latest", "node-4": "openai@4"}


@dataclass
class Count:
    """Tests that passed and failed."""

    passed: int = 0
    failed: int = 0

    def add(self, name: str, other: "Count") -> None:
        """Says what a suite came to, and adds it."""
        print(f"{name}: passed {other.passed}, failed {other.failed}", flush=True)
        self.passed += other.passed
        self.failed += other.failed


def main() -> int:
    parser = arguments.parser(__doc__, "environments and logs")
    parser.add_argument("--only", action="append", help="a suite's name; may be repeated")
    parser.add_argument("--install-only", action="store_true", help="sets the environments up, runs nothing")
    given = parser.parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)

    suites = suites_in(folder, given.only, given.binary)
    if given.install_only:
        return 0
    total = Count()
    for name, title, command, cwd in suites:
        total.add(title, run_suite(name, command, cwd, given.binary, folder))
    print(f"sdk-total {total.passed} {total.failed}", flush=True)
    return 1 if total.failed or not total.passed else 0


def suites_in(folder: Path, only: list[str] | None, binary: Path) -> list[tuple[str, str, list[str], Path]]:
    """(name, title, command, folder) of each suite, its environment ready."""
    suites = []

    def wanted(name: str) -> bool:
        return not only or name in only

    interpreters = {}
    for name, requirement in PYTHON.items():
        if wanted(name) or wanted("examples") or wanted("docs"):
            interpreters[name] = environments.python(folder / name, requirement)
        if wanted(name):
            title = f"{name} (openai {environments.python_version(interpreters[name])})"
            suites.append((name, title, [str(interpreters[name]), "main.py"], ROOT / "tests/sdk/python"))
    for name, requirement in ANTHROPIC.items():
        if wanted(name):
            interpreter = environments.python(folder / name, requirement)
            title = f"{name} (anthropic {environments.python_version(interpreter, 'anthropic')})"
            suites.append((name, title, [str(interpreter), "main.py"], ROOT / "tests/sdk/anthropic"))
    for name, requirement in NODE.items():
        if not (wanted(name) or wanted("examples") or wanted("docs")):
            continue
        # Node finds packages from a script's own place upwards, so the scripts go where the packages are.
        place = environments.node(folder / name, requirement)
        scripts = [*(ROOT / "tests/sdk/node").glob("*.mjs"), *(ROOT / "examples/node").glob("*.mjs")]
        for script in scripts:
            shutil.copy(script, place)
        if wanted(name):
            title = f"{name} (openai {environments.node_version(place)})"
            tests = sorted(script.name for script in scripts if script.name.endswith(".test.mjs"))
            suites.append((name, title, ["node", "--test", "--test-reporter=tap", *tests], place))
    if wanted("examples"):
        interpreter, place = interpreters["python-newest"], folder / "node-newest"
        command = [sys.executable, "tests/sdk/examples.py", str(interpreter), str(place)]
        suites.append(("examples", "examples", command, ROOT))
    if wanted("docs"):
        interpreter, place = interpreters["python-newest"], folder / "node-newest"
        command = [sys.executable, "tests/docs/main.py", str(binary), str(interpreter), str(place)]
        suites.append(("docs", "documents", command, ROOT))
    if wanted("hostile"):
        environments.python(folder / "hostile" / "schemathesis", environments.SCHEMATHESIS)
        command = [sys.executable, "tests/hostile/main.py", "--binary", str(binary), "--folder", str(folder / "hostile")]
        suites.append(("hostile", "hostile calls", command, ROOT))
    return suites


def run_suite(name: str, command: list[str], cwd: Path, binary: Path, folder: Path) -> Count:
    """Runs one suite with a service of its own; a service that ends badly is a failed test."""
    log = folder / f"{name}.service.log"
    service = Service(binary, log)
    try:
        with service:
            output, code = run_bounded(command, cwd, service.environment())
    except RuntimeError as error:
        print(error, flush=True)
        return Count(failed=1)
    count = read_counts(output)
    if code != 0 and not count.failed:
        count.failed += 1
    if not service.ended_cleanly:
        print(f"{name}: the service did not end with 0 when it was told to end", flush=True)
        count.failed += 1
    if count.failed:
        print(output, flush=True)
        print(f"the end of {log}:\n{log.read_text()[-4000:]}", flush=True)
    return count


def run_bounded(command: list[str], cwd: Path, environment: dict[str, str]) -> tuple[str, int]:
    """Output and exit code; a suite that takes too long is ended with everything it started."""
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SUITE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        output += f"\nended after {SUITE_SECONDS} s\n"
        return output, 1
    return output, process.returncode


def read_counts(output: str) -> Count:
    """From our Python suites' closing line or from node's TAP summary."""
    ours = re.findall(r"^suite-total (\d+) (\d+)$", output, re.MULTILINE)
    if ours:
        return Count(*map(int, ours[-1]))
    tap = {key: int(number) for key, number in re.findall(r"^# (pass|fail|cancelled) (\d+)$", output, re.MULTILINE)}
    return Count(tap.get("pass", 0), tap.get("fail", 0) + tap.get("cancelled", 0))


if __name__ == "__main__":
    sys.exit(main())
