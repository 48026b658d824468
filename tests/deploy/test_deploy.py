"""The deployment files against the real server: its flags, its ports, its way to stop."""

import json
import os
import pathlib
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "deploy" / "compose"
SOFTLOSSD = pathlib.Path(os.environ.get("SOFTLOSS_BIN", ROOT / "build/dev/bin")) / "softlossd"


def compose() -> dict:
    return YAML(typ="safe").load((COMPOSE / "compose.yaml").read_text())


def image_command() -> list[str]:
    """The CMD of the Dockerfile: what the image runs unless told otherwise."""
    return json.loads(re.search(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.M)[1])


def compose_command() -> list[str]:
    return compose()["services"]["softlossd"]["command"]


def port_of(command: list[str], flag: str) -> str:
    (value,) = (a.removeprefix(f"--{flag}=") for a in command if a.startswith(f"--{flag}="))
    return value.rsplit(":", 1)[1]


@pytest.fixture(params=[image_command, compose_command])
def server(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The same command line, on ports that are free and in a folder of ours; its metrics."""
    command = [re.sub(r"0\.0\.0\.0:\d+$", "0.0.0.0:0", a) for a in request.param()]
    command = [a.replace("/var/lib/softloss", str(tmp_path)) for a in command]
    process = subprocess.Popen([SOFTLOSSD, *command], stdout=subprocess.PIPE, text=True)
    try:
        metrics = None
        for line in process.stdout:
            if match := re.match(r"metrics http://.*:(\d+)/", line):
                metrics = f"http://127.0.0.1:{match[1]}"
                break
        assert metrics is not None, "the server ended before it listened"
        yield process, metrics
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_starts_ready_and_stops_cleanly(server: tuple[subprocess.Popen[str], str]) -> None:
    process, metrics = server
    with urllib.request.urlopen(f"{metrics}/readyz", timeout=30) as reply:
        assert reply.status == 200
    with urllib.request.urlopen(f"{metrics}/metrics", timeout=30) as reply:
        assert "softloss_build_info" in reply.read().decode()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0


def test_documented_metrics_are_those_served(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    with urllib.request.urlopen(f"{server[1]}/metrics", timeout=30) as reply:
        served = set(re.findall(r"^# TYPE (\w+)", reply.read().decode(), re.M))
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"`((?:softloss|grpc_server|process)_\w+)`", text))
    # These have series for each campaign, and there is none.
    campaigns = {"softloss_quality_items", "softloss_quality_alerts"}
    # These are of a server that shares memory, by default one on a Unix socket.
    memory = {f"softloss_shared_memory_{what}" for what in ("sessions", "regions", "bytes")}
    assert documented - campaigns - memory == served


def test_prometheus_scrapes_the_port_that_the_server_opens() -> None:
    config = YAML(typ="safe").load((COMPOSE / "prometheus.yml").read_text())
    (target,) = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert target == f"softlossd:{port_of(compose_command(), 'metrics_listen')}"


def test_compose_publishes_the_port_that_the_server_opens_to_loopback_alone() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    port = port_of(compose_command(), "listen")
    assert compose()["services"]["softlossd"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_the_image_exposes_what_its_command_opens() -> None:
    (ports,) = re.findall(r"^EXPOSE (.+)$", (ROOT / "Dockerfile").read_text(), re.M)
    command = image_command()
    assert ports.split() == [port_of(command, "listen"), port_of(command, "metrics_listen")]


def test_compose_waits_longer_than_the_server_drains() -> None:
    service = compose()["services"]["softlossd"]
    (drain,) = (a.split("=")[1] for a in service["command"] if a.startswith("--drain_timeout_s"))
    assert int(service["stop_grace_period"].removesuffix("s")) > int(drain)


def test_documents_name_real_options() -> None:
    known = set(
        re.findall(
            r"^ *--([a-z_]+)",
            subprocess.run(
                [SOFTLOSSD, "--help"], check=True, capture_output=True, text=True
            ).stdout,
            re.M,
        )
    )
    assert "listen" in known
    for document in ["README.md", "SECURITY.md", "ARCHITECTURE.md", "deploy/README.md"]:
        text = (ROOT / document).read_text()
        named = set(re.findall(r"--([a-z]+_[a-z_]+)\b", text))
        table = (
            re.findall(r"^\| (`[a-z_`, ]+`) \|", text, re.M)
            if document.startswith("deploy")
            else []
        )
        named |= {name for row in table for name in re.findall(r"`([a-z_]+)`", row)}
        assert named <= known, document


def test_compose_follows_its_schema() -> None:
    checker = ROOT / ".venv" / "bin" / "check-jsonschema"
    subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE / "compose.yaml"], check=True
    )


def test_prometheus_accepts_its_configuration() -> None:
    subprocess.run(["promtool", "check", "config", COMPOSE / "prometheus.yml"], check=True)
