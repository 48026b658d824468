"""Starting and stopping softlossd."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def server_binary() -> pathlib.Path | None:
    """Find softlossd: SOFTLOSS_SERVER_BIN, SOFTLOSS_BIN/softlossd, or the newest build."""
    if named := os.environ.get("SOFTLOSS_SERVER_BIN"):
        return pathlib.Path(named)
    if folder := os.environ.get("SOFTLOSS_BIN"):
        return pathlib.Path(folder) / "softlossd"
    built = REPOSITORY.glob("build/*/bin/softlossd")
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


class Server:
    """A softlossd of our own. `addresses` and `metrics_url` are what it printed."""

    def __init__(self, binary: pathlib.Path, listen: list[str], *flags: str) -> None:
        self.command = [
            str(binary),
            *(f"--listen={address}" for address in listen),
            *flags,
        ]
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        lines = self._read_until_ready()
        self.addresses = [line.split()[1] for line in lines if line.startswith("listening ")]
        self.metrics_url = next(
            (line.split()[1] for line in lines if line.startswith("metrics ")), None
        )

    def _read_until_ready(self) -> list[str]:
        assert self.process.stdout is not None
        text, deadline = "", time.monotonic() + 30
        while not text.endswith("ready\n"):
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not data:
                self.stop()
                raise RuntimeError(f"softlossd did not start: {self.command}: {text!r}")
            text += data.decode()
        return text.splitlines()

    @property
    def address(self) -> str:
        return self.addresses[0]

    def freeze(self) -> None:
        """Stop it from running, and return once it does."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator would; returns the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return self.process.returncode
