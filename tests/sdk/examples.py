"""Runs each example as its comment says and looks at what it prints."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from counting import run_and_exit

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
INTERPRETER, NODE_FOLDER = (Path(argument) for argument in sys.argv[1:3])


def output_of(*command: str | Path, cwd: Path = EXAMPLES, text: str = "") -> str:
    """What an example prints when it is given this text; one that fails shows its errors."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, input=text, capture_output=True, text=True, timeout=60
    )
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}: {done.stderr}")
    return done.stdout


class Examples(unittest.TestCase):
    def test_curl_files(self) -> None:
        lines = [json.loads(line) for line in output_of("bash", "curl/files.sh").splitlines()]
        self.assertEqual([line["custom_id"] for line in lines], ["greet-en", "greet-fr", "greet-de"])

    def test_curl_files_that_fail_in_part_or_as_a_whole(self) -> None:
        good, bad = (EXAMPLES / "requests.jsonl").read_text().splitlines()[:2]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "requests.jsonl")
            for text, printed in ((bad.replace("Greet me", "[[400]]"), 1), (f"{good}\n{bad.replace('Greet me', '[[400]]')}", 2)):
                path.write_text(text)
                self.assertEqual(len(output_of("bash", "curl/files.sh", path).splitlines()), printed)
            path.write_text(f"{good}\nnonsense")
            with self.assertRaisesRegex(AssertionError, '"line":2'):
                output_of("bash", "curl/files.sh", path)

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

    def test_parallel_map_in_each_language(self) -> None:
        for printed in (
            output_of(INTERPRETER, "python/parallel_map.py").splitlines(),
            # Run from where its packages are: beside them lies a copy.
            output_of("node", "parallel_map.mjs", cwd=NODE_FOLDER).splitlines(),
        ):
            self.assertEqual([line.split(": ")[0] for line in printed[:5]], ["0", "1", "2", "3", "4"])
            self.assertTrue(printed[5].startswith("as completed:"), printed)
            self.assertEqual([letter for letter in printed[5] if letter.isdigit()], list("01234"))
            self.assertTrue(printed[6].startswith("failed fast: input 5"), printed)

    def test_parallel_map_with_curl(self) -> None:
        lines = (EXAMPLES / "requests.jsonl").read_text()
        for order in ("input", "completion"):
            answers = [json.loads(line) for line in output_of("bash", "curl/parallel_map.sh", order, text=lines).splitlines()]
            names = [answer["custom_id"] for answer in answers]
            self.assertEqual(names if order == "input" else sorted(names, key="greet-en greet-fr greet-de".split().index),
                             ["greet-en", "greet-fr", "greet-de"])
        with self.assertRaisesRegex(AssertionError, "not all of"):
            output_of("bash", "curl/parallel_map.sh", "input", "fail_fast", text=lines.replace("Greet me in French", "[[400]]"))

    def test_parallel_map_is_short(self) -> None:
        """The function itself, as somebody would copy it."""
        for name, start in (("python/parallel_map.py", "def parallel_map"), ("node/parallel_map.mjs", "export async function"),
                            ("curl/parallel_map.sh", "parallel_map() {")):
            lines = (EXAMPLES / name).read_text().split(start)[1].splitlines()
            ends = next(at for at, line in enumerate(lines[1:], 2) if line[:1] not in ("", " "))
            self.assertLessEqual(ends, 30, name)


if __name__ == "__main__":
    run_and_exit(unittest.defaultTestLoader.loadTestsFromTestCase(Examples))
