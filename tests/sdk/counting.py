"""Runs unittest cases and closes with one line that the caller reads."""

import sys
import unittest


def run_and_exit(suite: unittest.TestSuite) -> None:
    """Runs the suite; the closing line is `suite-total PASSED FAILED`."""
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = result.testsRun - failed - len(result.skipped)
    print(f"suite-total {passed} {failed}", flush=True)
    sys.exit(1 if failed else 0)
