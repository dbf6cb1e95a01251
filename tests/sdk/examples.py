"""Runs each example as its comment says and looks at what it prints."""

import json
import subprocess
import sys
import unittest
from pathlib import Path

from counting import run_and_exit

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
INTERPRETER, NODE_FOLDER = (Path(argument) for argument in sys.argv[1:3])


def output_of(*command: str | Path, cwd: Path = EXAMPLES) -> str:
    """What an example prints; one that fails shows its errors."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Examples(unittest.TestCase):
    def test_curl_files(self) -> None:
        lines = [json.loads(line) for line in output_of("bash", "curl/files.sh").splitlines()]
        self.assertEqual([line["custom_id"] for line in lines], ["greet-en", "greet-fr", "greet-de"])

    def test_curl_inline_twice_is_one_batch(self) -> None:
        first, second = (output_of("bash", "curl/inline.sh", "twice") for _ in range(2))
        self.assertEqual({json.loads(line)["custom_id"] for line in first.splitlines()}, {"en", "fr"})
        self.assertEqual(sorted(second.splitlines()), sorted(first.splitlines()))

    def test_python(self) -> None:
        printed = output_of(INTERPRETER, "python/batch.py").splitlines()
        self.assertIn("completed: 3 of 3", printed[0])
        self.assertEqual(len(printed), 4)

    def test_node(self) -> None:
        # Run from where its packages are: beside them lies a copy.
        printed = output_of("node", "batch.mjs", cwd=NODE_FOLDER).splitlines()
        self.assertIn("completed: 3 of 3", printed[0])
        self.assertEqual(len(printed), 4)


if __name__ == "__main__":
    run_and_exit(unittest.defaultTestLoader.loadTestsFromTestCase(Examples))
