"""Programs of a test's own, on loopback: what they are started with and how they are ended."""

import os
import signal
import socket
import subprocess

END_SECONDS = 40


class Running:
    """What runs from entering a `with` block to leaving it; nothing stays if its start fails halfway."""

    def __enter__(self) -> "Running":
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def _start(self) -> None:
        raise NotImplementedError


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def clean_environment() -> dict[str, str]:
    """Ours without what would steer the service or an SDK elsewhere."""
    steers = ("OPENAI", "ANTHROPIC", "OPENROUTER", "OLLAMA", "SLUICEGATE")
    return {
        name: value for name, value in os.environ.items()
        if not name.startswith(steers) and not name.lower().endswith("_proxy")
    }


def end(process: subprocess.Popen, how: int = signal.SIGTERM) -> int:
    """Asks a process to end, insists if it does not; its exit code."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode
