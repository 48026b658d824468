"""The Ray example over real shards: the bits of one pass over all votes."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from softloss.quality import State, summarize

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("SOFTLOSS_DATA", ROOT.parent / "shared" / "data"))
SHARDS = 6


@pytest.fixture
def shards(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    """The first 30,000 questions of the ReaL votes (5 votes each), in six files."""
    source = DATA / "imagenet-real-raters" / "votes.npz"
    if not source.exists():
        pytest.skip(f"there is no {source}; set SOFTLOSS_DATA")
    votes = np.load(source)
    answers = np.array(["no", "maybe", "yes"])
    paths = []
    for s, questions in enumerate(np.array_split(np.arange(30_000), SHARDS)):
        path = tmp_path / f"votes-{s}.npz"
        np.savez(
            path,
            item=np.repeat(questions, 5),
            annotator=votes["rater_id"][votes["rater"][questions]].ravel(),
            label=answers[votes["answer"][questions]].ravel(),
        )
        paths.append(path)
    return paths


def test_the_example_over_real_shards(shards: list[pathlib.Path], tmp_path: pathlib.Path) -> None:
    out, report = tmp_path / "merged.slqs", tmp_path / "report.html"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "quality_ray.py", "--classes", "no,maybe,yes",
         "--out", out, "--report", report, *shards],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("votes 150000 alpha 0.")
    merged = State.load(out).read().to_dict()
    assert merged.pop("shards") == [path.name for path in shards]
    whole = summarize(list(map(str, shards)), classes=["no", "maybe", "yes"], shard="all")
    expected = whole.read().to_dict()
    del expected["shards"]
    assert merged == expected
    assert "Krippendorff" in report.read_text()
