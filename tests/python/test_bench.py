"""The load generator against a real server: what it counts, checks, shows and refuses."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import softloss
from servers import Server
from softloss.__main__ import main
from softloss.bench import Item, parse_bytes, run

SHORT = {"warmup": 0.05, "duration": 0.3}


def test_sizes() -> None:
    assert parse_bytes("8KiB") == 8192 and parse_bytes("1.5 MB") == 1_500_000
    assert parse_bytes("7") == parse_bytes("7 B") == 7
    for wrong in ("", "8 KX", "-1", "KiB", "8KiB*2"):
        with pytest.raises(softloss.InvalidArgumentError, match="size: must be like 8KiB"):
            parse_bytes(wrong)
    item = Item.of_size("64KiB", classes=32)
    assert item.shape == (256, 32) and item.request_bytes == 65536 and item.name == "64KiB"
    ids = Item.of_size(65536, classes=10, prediction="bfloat16", label="int64")
    assert ids.request_bytes == ids.shape[0] * (20 + 8)


def test_a_closed_loop_is_counted_and_checked(server: Server) -> None:
    told: list[tuple[float, int]] = []
    found = run(
        server.address,
        [Item.of_size("8KiB", weight=3), Item.of_size("256KiB", classes=1000)],
        in_flight=8, check_every=1, progress=lambda *now: told.append(now), **SHORT,
    )  # fmt: skip
    assert found.all_right
    for kind in found.found["items"]:
        latency = kind["latency_ms"]
        assert kind["sent"] == kind["succeeded"] == latency["count"] > 0
        percentiles = [latency[key] for key in ("p50", "p90", "p95", "p99", "p99.9", "max")]
        assert percentiles == sorted(percentiles) and percentiles[0] > 0
        # What a client waited cannot be less than the server's own time with a request.
        assert kind["items_per_second"] * kind["request_bytes"] == pytest.approx(
            kind["request_bytes_per_second"]
        )
    assert found.found["server_stages_ms"]["compute"] > 0
    assert found.found["transport"] == "wire" and not found.found["first_error"]
    assert told and told[-1][1] > 0
    assert found.found["numerics_id"] == softloss.Client(server.address).numerics_id
    small, large = found.found["items"]
    assert small["sent"] > large["sent"]


def test_an_open_loop_sends_what_it_was_told(server: Server) -> None:
    for arrivals in ("uniform", "poisson"):
        found = run(
            server.address, [Item.of_size("1KiB")], arrivals=arrivals, rate=200, **SHORT
        )  # fmt: skip
        (kind,) = found.found["items"]
        due = kind["sent"] + found.found["unsent"]
        assert due == 60 if arrivals == "uniform" else 25 < due < 110
        assert found.all_right


@pytest.mark.parametrize(
    "item",
    [
        {"loss": "sigmoid_cross_entropy", "shape": (5, 70), "class_axis": None},
        {"shape": (2, 21, 9, 8), "class_axis": 1},
        {"shape": (40, 10), "prediction": "bfloat16", "label": "uint8", "gradient": "bfloat16"},
        {"shape": (40, 10), "prediction": "float16", "label": "int32", "gradient": "float16"},
        {"shape": (40, 10), "prediction": "float64", "label": "float64", "gradient": "float64"},
        {"shape": (40, 10), "gradient": None},
        {"loss": "kl_divergence", "shape": (40, 10)},
    ],
)
def test_every_kind_of_tensor_is_checked(server: Server, item: dict[str, Any]) -> None:
    found = run(server.address, [Item(**item)], check_every=1, warmup=0, duration=0.1)
    assert found.all_right, found.found["first_error"]
    assert found.found["items"][0]["succeeded"] > 0


def test_by_shared_memory(server: Server) -> None:
    item = Item.of_size("1MiB")
    found = run(server.address, [item], shared_memory=True, check_every=1, **SHORT)
    assert found.all_right and found.found["transport"] == "shared_memory"


def test_the_command_writes_tables_json_and_plots(
    server: Server, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, picture = tmp_path / "out.json", tmp_path / "out.png"
    arguments = ["bench", server.address, "--size", "4KiB*2,64KiB", "--sweep",
                 "--duration", "0.1", "--warmup", "0", "--json", str(data),
                 "--plot", str(picture)]  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "closed loop, 16 in flight" in shown and "poisson load" in shown
    assert "4KiB" in shown and "in the server, ms a request: " in shown
    found = json.loads(data.read_text())
    assert found["schema"] == "softloss.bench/1" and len(found["runs"]) == 9
    peak = sum(kind["items_per_second"] for kind in found["runs"][0]["items"])
    assert found["runs"][3]["load"]["rate"] == pytest.approx(0.5 * peak)
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "x"], "size: must be like 8KiB"),
        (["--size", "8KiB*x"], "size: the weight after * must be a number"),
        (["--shape", "3,x"], "shape: must be like"),
        (["--loss", "mse"], "mse"),
        (["--prediction", "int8"], "prediction: must be one of"),
        (["--label", "int16"], "label: there is no dtype 'int16'"),
        (["--rate", "-1"], "rate: must be above 0"),
        (["--in-flight", "0"], "in_flight: must be from 1"),
        (["--duration", "0"], "duration: must be from 1ms"),
        (["--channels", "-1"], "channels"),
        (["--size", "8KiB*0"], "weight: one must be above 0"),
    ],
)
def test_bad_options_are_named(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["bench", server.address, "--duration", "0.1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_what_the_server_refuses_is_told(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    # More in a row than a message may have.
    arguments = ["bench", server.address, "--shape", "1,2000000", "--gradient", "none",
                 "--duration", "0.1", "--warmup", "0", "--in-flight", "1"]  # fmt: skip
    assert main(arguments) == 1
    assert "failed: " in capsys.readouterr().out


def test_a_server_that_is_not_there(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", f"unix:{tmp_path}/nowhere", "--duration", "0.1"]) == 1
    assert "softloss bench: " in capsys.readouterr().err
