"""The Python and Node environments with the official SDKs, made once and kept until what they need changes."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
INSTALL_SECONDS = 300
TRIES = 3
# Pinned: another version makes other calls of the same seed.
SCHEMATHESIS = "schemathesis==4.32.*"


def python(folder: Path, requirement: str | list[str]) -> Path:
    """A virtual environment holding what is required, one package or several; its interpreter."""
    required = [requirement] if isinstance(requirement, str) else requirement
    interpreter = folder / "bin" / "python"

    def install() -> None:
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(interpreter), "-m", "pip", "install", "--quiet", *required])

    make_once(folder, [*required, sys.version], install)
    return interpreter


def node(folder: Path, requirement: str | list[str]) -> Path:
    """A folder whose scripts can import what is required, one package or several."""
    required = [requirement] if isinstance(requirement, str) else requirement

    def install() -> None:
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        flags = ["--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
        run(["npm", "install", *flags, *required], cwd=folder)

    node_version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout
    make_once(folder, [*required, node_version], install)
    return folder


def python_version(interpreter: Path, package: str = "openai") -> str:
    """Which version of a package the environment has."""
    code = f"import {package}; print({package}.__version__)"
    return subprocess.run([str(interpreter), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def node_version(folder: Path) -> str:
    """Which openai the environment has."""
    code = "console.log(require('./node_modules/openai/package.json').version)"
    shown = subprocess.run(["node", "--input-type=commonjs", "-e", code], cwd=folder, check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def make_once(folder: Path, needs: list[str], install) -> None:
    """Runs `install` unless the folder was made from the same needs; the stamp is written last."""
    stamp = folder / ".made-from"
    wanted = hashlib.sha256("\0".join(needs).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for attempt in range(1, TRIES + 1):
        shutil.rmtree(folder, ignore_errors=True)
        try:
            install()
            break
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            if attempt == TRIES:
                raise SystemExit(f"cannot set up {folder}: {error}") from error
            print(f"setting up {folder.name} failed, trying again: {error}", flush=True)
    stamp.write_text(wanted)


def run(command: list[str], cwd: Path | None = None) -> None:
    """Runs an install command, bounded in time; its output is shown only if it failed."""
    done = subprocess.run(
        command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=INSTALL_SECONDS, env={**os.environ, "PYTHONNOUSERSITE": "1"},
    )
    if done.returncode != 0:
        print(done.stdout, flush=True)
        raise subprocess.CalledProcessError(done.returncode, command)
