"""Starting and stopping softlossd."""

from __future__ import annotations

import os
import pathlib
import re
import select
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
    """A softlossd of our own. `addresses` are what it printed: one a listener, in order."""

    def __init__(self, binary: pathlib.Path, listen: list[str], *flags: str) -> None:
        self.command = [
            str(binary),
            *(f"--listen={address}" for address in listen),
            *flags,
        ]
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        expected = len(listen) + (0 if "--metrics_listen=off" in flags else 1)
        lines = self._read_lines(expected)
        self.addresses = [
            match[1] for line in lines if (match := re.fullmatch(r"listening (\S+)", line))
        ]
        metrics = [m[1] for line in lines if (m := re.match(r"metrics\D*?(http://\S+|\S+:\d+)", line))]
        self.metrics = metrics[0].removeprefix("http://") if metrics else None

    def _read_lines(self, count: int) -> list[str]:
        assert self.process.stdout is not None
        text, deadline = "", time.monotonic() + 30
        while text.count("\n") < count:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            data = os.read(self.process.stdout.fileno(), 4096) if ready else b""
            if not data:
                self.stop()
                raise RuntimeError(f"softlossd did not start: {self.command}: {text!r}")
            text += data.decode()
        return text.splitlines()

    @property
    def address(self) -> str:
        return self.addresses[0]

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
