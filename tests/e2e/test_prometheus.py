"""A real Prometheus scrapes a real server, and answers queries about what it did."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

from servers import Server, server_binary  # noqa: E402

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: softloss
    static_configs:
      - targets: ["{target}"]
"""


class Prometheus:
    """Debian's Prometheus on a free port, its data in `folder`."""

    def __init__(self, folder: pathlib.Path, target: str) -> None:
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(target=target))
        self.log = folder / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    "--web.listen-address=127.0.0.1:0",
                    f"--storage.tsdb.path={folder / 'data'}",
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            address = self._until(self._listening, "it listens")
        except BaseException:
            self.stop()
            raise
        self.url = f"http://{address}"

    def _listening(self) -> str | None:
        found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', self.log.read_text())
        return found and found.group(1)

    def _until(self, condition, what: str, seconds: float = 60):
        """Call `condition` until it gives something, and return that."""
        deadline = time.monotonic() + seconds
        while not (result := condition()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"not so: {what}\n{self.log.read_text()}")
            time.sleep(0.05)
        return result

    def query(self, expression: str) -> list[dict]:
        """Evaluate now."""
        parameters = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(
                f"{self.url}/api/v1/query?{parameters}", timeout=10
            ) as reply:
                answer = json.load(reply)
        except urllib.error.URLError:  # not serving yet
            return []
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def await_value(self, expression: str) -> float:
        """Wait until the expression has one sample, and return its value."""
        result = self._until(lambda: self.query(expression), f"{expression} has data")
        assert len(result) == 1, result
        return float(result[0]["value"][1])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def server():
    if (binary := server_binary()) is None:
        pytest.skip("softlossd is not built")
    server = Server(binary, ["127.0.0.1:0"], "--metrics_listen=127.0.0.1:0")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    target = urllib.parse.urlsplit(server.metrics_url).netloc
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), target)
    yield prometheus
    prometheus.stop()


def test_the_server_is_up_and_ready(prometheus):
    assert prometheus.await_value('up{job="softloss"} == 1') == 1
    assert prometheus.await_value("softloss_ready == 1") == 1
    assert prometheus.await_value("softloss_build_info") == 1


def test_calls_are_counted(server, prometheus):
    grpc = pytest.importorskip("grpc")
    with grpc.insecure_channel(server.address) as channel:
        # An empty HealthCheckRequest asks for the server as a whole; field 1 = 1 means SERVING.
        assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30) == b"\x08\x01"
    handled = 'grpc_server_handled_total{grpc_method="Check",grpc_code="OK"}'
    assert prometheus.await_value(f"{handled} > 0") == 1


def test_items_and_their_loss_are_there(server, prometheus):
    softloss = pytest.importorskip("softloss")
    numpy = pytest.importorskip("numpy")
    with softloss.Client(server.address) as client:
        prediction = numpy.zeros((4, 8), dtype=numpy.float32)
        label = numpy.full((4, 8), 0.25, dtype=numpy.float32)
        loss = client.score(prediction, label, loss="sigmoid_cross_entropy").loss
    labels = '{loss="sigmoid_cross_entropy"}'
    items = 'softloss_items_total{loss="sigmoid_cross_entropy",outcome="ok"}'
    assert prometheus.await_value(f"{items} > 0") == 1
    assert prometheus.await_value(f"softloss_loss_nats_count{labels} > 0") == 1
    observed = prometheus.await_value(f"softloss_loss_nats_sum{labels} > 0")
    assert observed == pytest.approx(numpy.log(2), rel=1e-6)  # σ(0) = 1/2, whatever the label
    assert observed == pytest.approx(loss, rel=1e-12)
    assert prometheus.await_value("softloss_inflight_items == 0") == 0
