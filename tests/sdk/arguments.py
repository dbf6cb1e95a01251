"""The arguments that every suite takes."""

import argparse
from pathlib import Path


def parser(description: str, kept: str) -> argparse.ArgumentParser:
    """Takes the program under test, and a folder for what is kept from one run to the next."""
    made = argparse.ArgumentParser(description=description.split("\n\n")[0])
    made.add_argument("--binary", type=path, required=True, help="the sluicegate to test")
    made.add_argument("--folder", type=path, required=True, help=f"where {kept} are kept")
    return made


def path(text: str) -> Path:
    """A path that stays good in another folder."""
    return Path(text).resolve()
