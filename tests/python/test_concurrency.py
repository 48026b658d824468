"""Two client processes, a thousand requests each: every one answered once, and right."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

LOAD = pathlib.Path(__file__).with_name("load.py")


def test_two_processes_of_a_thousand_requests(server):
    clients = [
        subprocess.Popen(
            [sys.executable, str(LOAD), server.address, str(seed), "1000"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    reports = []
    try:
        for client in clients:
            out, _ = client.communicate(timeout=240)
            assert client.returncode == 0
            reports.append(json.loads(out))
    finally:
        for client in clients:
            if client.poll() is None:
                client.kill()
                client.wait()
    for report in reports:
        assert report["answered"] == 1000
        assert report["twice"] == []
        assert report["wrong"] == []
    assert any(report["out_of_order"] for report in reports)
