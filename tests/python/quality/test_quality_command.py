"""``softloss quality`` and `analyze`: what they write, and how they exit."""

from __future__ import annotations

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import softloss
from safetensors.numpy import load_file, safe_open
from servers import Server
from softloss.__main__ import main
from softloss.quality import AnalysisOptions, analyze, read_votes

PEOPLE = [f"ann-{i}" for i in range(6)]


def planted(path: pathlib.Path, spammer: bool = True) -> pathlib.Path:
    """Votes of six annotators on 150 items; the last one votes blindly, if there is a spammer."""
    rng = np.random.default_rng(11)
    rows = ["task,worker,label,time"]
    for i in range(150):
        truth = rng.integers(3)
        for a, name in enumerate(PEOPLE):
            label = truth if rng.random() < 0.92 else rng.integers(3)
            if a == 5 and spammer:
                label = rng.integers(3)
            rows.append(f"t{i:03d},{name},{'abc'[label]},{1.7e9 + 60 * i}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def votes(tmp_path: pathlib.Path) -> pathlib.Path:
    return planted(tmp_path / "votes.csv")


def test_everything_is_written_and_the_alert_is_the_status(
    votes: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / name for name in ("r.html", "o.json", "w.csv", "c.safetensors")}
    status = main(
        ["quality", str(votes), "--report", str(out["r.html"]), "--json", str(out["o.json"]),
         "--worklist", str(out["w.csv"]), "--consensus", str(out["c.safetensors"]),
         "--title", "Three <classes>"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert status == 3, said
    assert "votes 900  annotators 6  items 150  classes 3" in said.out
    assert "ann-5" in said.out and "item = 'task' (guessed)" in said.err
    analysis = json.loads(out["o.json"].read_text())
    assert analysis["schema"] == "softloss.quality/1"
    assert analysis["version"] == softloss.__version__
    assert {alert["annotator"] for alert in analysis["alerts"]} == {"ann-5"}
    page = out["r.html"].read_text()
    assert "Three &lt;classes&gt;" in page and "ann-5" in page
    with open(out["w.csv"], newline="") as file:
        work = list(csv.DictReader(file))
    assert [row["item"] for row in work] == [row["item"] for row in analysis["worklist"]]
    assert set(work[0]) == {
        "rank", "item", "given", "suggested", "confidence", "score", "reason",
    }  # fmt: skip
    assert work[0]["suggested"] in "abc"
    # No half-written files are left.
    assert {path.name for path in tmp_path.iterdir()} == {"votes.csv", *out}


def test_the_planted_annotator_is_lowest(votes: pathlib.Path) -> None:
    quality = analyze(votes)
    ranked = sorted(quality.annotators, key=lambda person: person["quality"]["value"])
    assert ranked[0]["name"] == "ann-5"
    assert ranked[0]["quality"]["high"] < ranked[1]["quality"]["low"]
    assert {alert["kind"] for alert in quality.alerts} >= {"below_threshold"}


def test_without_a_reason_the_status_is_zero(tmp_path: pathlib.Path) -> None:
    votes = str(planted(tmp_path / "votes.csv", spammer=False))
    assert main(["quality", votes]) == 0
    assert main(["quality", votes, "--fail-under", "alpha_nominal=0.5"]) == 0
    assert main(["quality", votes, "--fail-under", "alpha_nominal=0.99"]) == 3
    assert main(["quality", votes, "--fail-under", "quality=0.5"]) == 0
    assert main(["quality", votes, "--fail-under", "quality=0.999"]) == 3


def test_alerts_may_be_allowed_and_limits_still_count(votes: pathlib.Path) -> None:
    assert main(["quality", str(votes), "--allow-alerts"]) == 0
    assert main(["quality", str(votes), "--allow-alerts", "--fail-under", "percent=0.99"]) == 3


def test_thresholds_are_options(votes: pathlib.Path) -> None:
    flags = ["--min-agreement", "0", "--spammer-score", "0"]
    assert main(["quality", str(votes), *flags]) == 0
    with pytest.raises(softloss.InvalidArgumentError, match="spammer_score|min_agreement"):
        analyze(votes, options=AnalysisOptions(min_agreement=-3, spammer_score=-1))


def test_wrong_input_is_one(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], votes: pathlib.Path
) -> None:
    assert main(["quality", str(tmp_path / "absent.csv")]) == 1
    assert "there is no such file" in capsys.readouterr().err
    broken = tmp_path / "broken.csv"
    broken.write_text("task,worker,label\n1,a,x\n1,b\n2,a,y\n")
    assert main(["quality", str(broken)]) == 1
    assert "broken.csv:3: must have 3 fields; has 2" in capsys.readouterr().err
    assert main(["quality", str(broken), "--skip-bad-rows"]) == 0
    said = capsys.readouterr()
    assert "1 malformed row was left out" in said.err
    assert main(["quality", str(votes), "--report", str(tmp_path / "no" / "r.html")]) == 1
    assert "no" in capsys.readouterr().err
    assert main(["quality", str(votes), "--consensus", str(tmp_path / "c.txt")]) == 1
    assert "must end in .safetensors or .parquet" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [["--fail-under", "charm=1"], ["--fail-under", "quality=x"], ["--columns", "item"],
     ["--method", "guess"]],
)  # fmt: skip
def test_a_wrong_command_line_is_two(flags: list[str], votes: pathlib.Path) -> None:
    with pytest.raises(SystemExit) as error:
        main(["quality", str(votes), *flags])
    assert error.value.code == 2


def test_as_a_process(votes: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "softloss", "quality", str(votes)], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("votes 900")


def test_bad_rows_are_in_the_json(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("task,worker,label\n1,a,x\n1,,y\n1,b,y\n")
    analysis = analyze(path, skip_bad_rows=True).to_dict()
    assert analysis["provenance"]["bad_row_count"] == 1
    assert analysis["provenance"]["bad_rows"] == [
        {"source": "v.csv", "line": 3, "reason": "worker: there is no annotator"}
    ]


def test_consensus_files_are_labels(votes: pathlib.Path, tmp_path: pathlib.Path) -> None:
    quality = analyze(votes)
    quality.write_consensus(tmp_path / "c.safetensors")
    quality.write_consensus(tmp_path / "c.parquet")
    tensors = load_file(tmp_path / "c.safetensors")
    assert tensors["labels"].dtype == np.float32
    np.testing.assert_array_equal(tensors["labels"], quality.posterior.astype(np.float32))
    assert json.loads(tensors["items"].tobytes()) == quality.analysis["item"]["name"]
    with safe_open(tmp_path / "c.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b", "c"]
    result = softloss.Engine().score(
        np.zeros((150, 3), np.float32), tensors["labels"], loss="softmax_cross_entropy"
    )
    assert result.loss == pytest.approx(np.log(3), rel=1e-6)
    table = pyarrow.parquet.read_table(tmp_path / "c.parquet")
    assert table.column_names == ["item", "consensus", "confidence", "p_a", "p_b", "p_c"]
    for k, name in enumerate("abc"):
        np.testing.assert_array_equal(table[f"p_{name}"].to_numpy(), quality.posterior[:, k])
    best = [quality.analysis["classes"][k] for k in quality.posterior.argmax(1)]
    assert table["consensus"].to_pylist() == best


def test_consensus_can_be_read_back_as_predictions(
    votes: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    quality = analyze(votes)
    quality.write_consensus(tmp_path / "c.parquet")
    again = analyze(votes, tmp_path / "c.parquet")
    assert again.analysis["counts"]["predictions"] == 150
    assert again.analysis["consensus"]["method"] == "crowdlab"


def test_a_worklist_is_no_formula(tmp_path: pathlib.Path) -> None:
    names = ["=1+1", "@x", "-2", "plain"]
    rows = {"item": names * 2, "annotator": ["a"] * 4 + ["b"] * 4, "label": list("xxyyyyxx")}
    analyze(rows).write_worklist(tmp_path / "w.csv")
    with open(tmp_path / "w.csv", newline="") as file:
        items = {row["item"] for row in csv.DictReader(file)}
    assert items == {"'=1+1", "'@x", "'-2", "plain"}


def test_the_order_of_rows_and_sources_changes_no_bit(votes: pathlib.Path) -> None:
    lines = votes.read_text().splitlines()
    rng = np.random.default_rng(3)
    shuffled = votes.with_name("a.csv")
    body = [lines[1:][i] for i in rng.permutation(len(lines) - 1)]
    shuffled.write_text("\n".join([lines[0], *body[:400]]) + "\n")
    rest = votes.with_name("b.csv")
    rest.write_text("\n".join([lines[0], *body[400:]]) + "\n")
    once, again = analyze(votes).to_dict(), analyze([rest, shuffled]).to_dict()
    del once["provenance"], again["provenance"]
    assert once == again


def test_everybody_agrees(tmp_path: pathlib.Path) -> None:
    rows = {"item": [1, 1, 2, 2], "annotator": list("abab"), "label": list("xxyy")}
    analysis = analyze(rows).to_dict()
    assert analysis["agreement"]["percent"] == 1.0
    assert analysis["agreement"]["alpha_nominal"] == 1.0
    one = analyze(
        {"item": [1, 1], "annotator": list("ab"), "label": ["x", "x"]}, classes=["x", "y"]
    )
    assert one.analysis["agreement"]["percent"] == 1.0
    one.report(tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 10_000


def test_one_vote(tmp_path: pathlib.Path) -> None:
    quality = analyze({"item": ["i"], "annotator": ["a"], "p_x": [0.7], "p_y": [0.3]})
    quality.report(tmp_path / "r.html")
    quality.to_json(tmp_path / "o.json")
    assert "NaN" not in (tmp_path / "o.json").read_text()
    assert quality.annotators[0]["votes"] == 1
    assert quality.items["votes"].tolist() == [1]


def test_label_studio_with_its_predictions(tmp_path: pathlib.Path) -> None:
    def annotation(who: int, choice: str) -> dict:
        value = {"choices": [choice]}
        result = [{"type": "choices", "from_name": "kind", "value": value}]
        return {"completed_by": who, "result": result}

    tasks = [
        {
            "id": i,
            "annotations": [annotation(w, "cat" if (i + w * i) % 3 else "dog") for w in range(3)],
            "predictions": [annotation(0, "cat" if i % 3 else "dog") | {"score": 0.9}],
        }
        for i in range(12)
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    analysis = analyze(path).to_dict()
    assert analysis["counts"]["predictions"] == 12
    assert analysis["consensus"]["method"] == "crowdlab"


def test_cifar10_against_cleanlab(shared_data: pathlib.Path) -> None:
    folder = shared_data / "label-errors-cifar10"
    labels = np.load(folder / "cifar10_test_set_original_labels.npy")
    table = read_votes({"item": np.arange(10000), "annotator": ["given"] * 10000, "label": labels})
    quality = analyze(table, folder / "cifar10_test_set_pyx.npy")
    expected = json.loads((folder / "expected.json").read_text())
    model = quality.analysis["calibration"]["model"]
    assert model["ece_equal_width"] == pytest.approx(0.032588, abs=5e-7)
    assert model["ece_equal_mass"] == pytest.approx(0.032099, abs=5e-7)
    assert sum(quality.analysis["item"]["issue"]) == 284
    person = quality.annotators[0]
    assert person["cross_entropy"]["value"] == pytest.approx(
        expected["log_loss_sklearn"], abs=1e-10
    )


def test_masks_beside_votes(tmp_path: pathlib.Path, votes: pathlib.Path) -> None:
    masks = np.zeros((2, 2, 4, 4), bool)
    masks[0, :, :2] = True
    masks[1, 0, :3] = True
    np.save(tmp_path / "m.npy", masks)
    status = main(
        ["quality", str(votes), "--masks", str(tmp_path / "m.npy"), "--allow-alerts",
         "--json", str(tmp_path / "o.json")]
    )  # fmt: skip
    pixels = json.loads((tmp_path / "o.json").read_text())["pixels"]
    assert status == 0 and pixels["image"]["dice"] == [1.0, 0.0]


def test_no_input_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality"]) == 1
    assert "input: must be at least one file" in capsys.readouterr().err
    assert main(["quality", "x.csv", "--campaign", "birds"]) == 1
    assert "address: goes with campaign" in capsys.readouterr().err


def test_on_a_server_as_in_this_process(
    binary: pathlib.Path, run_dir: pathlib.Path, votes: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    server = Server(binary, [f"unix:{run_dir}/s.sock"], f"--quality_dir={run_dir}/store")
    try:
        on_server = ["--address", server.address, "--campaign", "three"]
        (tmp_path / "gold.csv").write_text("task,label\nt000,a\nt001,b\n")
        gold = ["--gold", str(tmp_path / "gold.csv")]
        first, second = (["--json", str(tmp_path / name)] for name in ("1.json", "2.json"))
        assert main(["quality", str(votes), *gold, *on_server, *first]) == 3
        assert main(["quality", *on_server, *second]) == 3
        assert main(["quality", str(votes), *gold, "--json", str(tmp_path / "3.json")]) == 3
    finally:
        server.stop()
    analyses = [json.loads((tmp_path / f"{i}.json").read_text()) for i in (1, 2, 3)]
    for analysis in analyses:
        analysis.pop("provenance", None)
    assert analyses[0] == analyses[1] == analyses[2]


def test_masks_alone(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = np.zeros((2, 2, 4, 4), bool)
    masks[:, :, :2] = True
    np.save(tmp_path / "m.npy", masks)
    command = ["quality", "--masks", str(tmp_path / "m.npy")]
    report, out = tmp_path / "r.html", tmp_path / "o.json"
    assert main([*command, "--report", str(report), "--json", str(out)]) == 0
    assert "images 2  readers 2  pixels 32  alpha_soft 1.0000" in capsys.readouterr().out
    assert json.loads(out.read_text())["pixels"]["alpha_soft"] == 1.0
    text = report.read_text()
    assert "2 images with masks of 2 readers" in text and 'id="annotators"' not in text
    assert main([*command, "--fail-under", "percent=0.5"]) == 1
    assert "fail_under: needs votes" in capsys.readouterr().err
