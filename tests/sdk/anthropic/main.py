"""The suite against the official Anthropic SDK that this interpreter has; the service comes from the environment."""

import sys
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from counting import run_and_exit  # noqa: E402

if __name__ == "__main__":
    run_and_exit(unittest.defaultTestLoader.discover(str(HERE), pattern="test_*.py"))
