#!/usr/bin/env python3
"""Aggregation of people's labels beside crowd-kit and cleanlab, on the same data in the same run.

usage: annotation_bench.py OUTPUT.json [--pairs N] [--large VOTES] [CASE…]

First both must give the same answer; then they run in turns, A B A B …. Rates are of whole calls,
from NumPy arrays (crowd-kit: its data frame) to results. Cases: dawid_skene, crowdlab,
segmentation, alpha, large, detection.
"""

import argparse
import datetime
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
from annotation_detection import detection
from softloss import _softloss as native

warnings.filterwarnings("ignore", category=FutureWarning)
ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path(os.environ.get("SOFTLOSS_DATA", ROOT.parent / "shared" / "data"))
ITERATIONS = 40
LARGE_ITERATIONS = 10


def seconds(function) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


class Report:
    """Rows in the form of the other benchmarks (bench_report.h)."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.rows: list[dict] = []

    def add(self, case: str, unit: str, value: float, baseline: float, **more: float) -> None:
        ratio = more.pop("ratio", value / baseline)
        row = {"case": case, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio}
        self.rows.append(row | {"spread": more.pop("spread", 0.0)} | more)
        bar = f">= {more['at_least']}" if "at_least" in more else ""
        bar = f"<= {more['at_most']}" if "at_most" in more else bar
        missed = "  missed" if self.misses(self.rows[-1]) else ""
        print(
            f"{case:58} {value:10.4g} {baseline:10.4g} {unit:12} {ratio:9.3f} {bar:8}{missed}",
            flush=True,
        )

    def compare(self, case: str, unit: str, amount: float, ours, theirs, **bars: float) -> None:
        """Rates, amount a second, of two functions that have run once already."""
        times = [(seconds(ours), seconds(theirs)) for _ in range(self.pairs)]
        ratios = [b / a for a, b in times]
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [0, 0, 0]
        value, baseline = (amount / statistics.median(t[i] for t in times) for i in (0, 1))
        spread = quartiles[2] - quartiles[0]
        ratio = statistics.median(ratios)
        self.add(case, unit, value, baseline, ratio=ratio, spread=spread, **bars)

    @staticmethod
    def misses(row: dict) -> bool:
        low, high = row.get("at_least", -np.inf), row.get("at_most", np.inf)
        return not low <= row["ratio"] <= high

    def write(self, path: str) -> None:
        model = "unknown processor"
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(": ", 1)[1]
                break
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = {
            "name": "annotation",
            "host": f"{model}, {os.cpu_count()} cores",
            "date": date,
            "rows": self.rows,
        }
        pathlib.Path(path).write_text(json.dumps(text, indent=1) + "\n")
        missed = sum(map(self.misses, self.rows))
        print(f"{len(self.rows)} cases, {missed} below their bar; written to {path}")


def real_votes() -> dict:
    """The ReaL votes as QualityVotes takes them."""
    file = np.load(DATA / "imagenet-real-raters" / "votes.npz")
    items, each = file["answer"].shape
    return {
        "num_items": items,
        "num_annotators": len(file["rater_id"]),
        "num_classes": 3,
        "item": np.repeat(np.arange(items, dtype=np.int64), each),
        "annotator": file["rater"].ravel().astype(np.int32),
        "label": file["answer"].ravel().astype(np.int32),
    }


def frame(votes: dict) -> pd.DataFrame:
    return pd.DataFrame(
        {"task": votes["item"], "worker": votes["annotator"], "label": votes["label"]}
    )


def dawid_skene(report: Report) -> None:
    from crowdkit.aggregation import DawidSkene

    votes = real_votes()
    data = frame(votes)

    def ours(iterations: int = ITERATIONS):
        return native.quality_dawid_skene(
            native.QualityVotes(**votes), tolerance=0.0, max_iterations=iterations
        )

    def theirs(iterations: int = ITERATIONS):
        return DawidSkene(n_iter=iterations, tol=-np.inf).fit(data)

    # crowd-kit keeps sums and posteriors at 1e-10 at least; on these votes EM makes ten times as much
    # of a difference every five iterations, so that the two part in the end.
    expected = theirs(10).probas_.sort_index()[[0, 1, 2]].to_numpy()
    difference = np.abs(ours(10)["posterior"] - expected).max()
    print(f"  posteriors after 10 iterations differ by at most {difference:.1e}")
    assert difference < 1e-8, difference
    amount = len(votes["item"]) * ITERATIONS / 1e6
    name = f"dawid_skene, {len(votes['item']):,} ReaL votes, {ITERATIONS} iterations; crowd-kit"
    report.compare(name, "M votes/s", amount, ours, theirs, at_least=40, aim=80)


def crowdlab(report: Report) -> None:
    from cleanlab.multiannotator import get_label_quality_multiannotator

    votes = real_votes()
    # A model that is right by the published scores, and unsure.
    score = np.load(DATA / "imagenet-real-raters" / "scores.npz")["tensor"]
    predictions = np.stack(
        [0.1 + 0.7 * (1 - score), np.full_like(score, 0.1), 0.1 + 0.7 * score], 1
    )
    table = np.full((votes["num_items"], votes["num_annotators"]), np.nan)
    table[votes["item"], votes["annotator"]] = votes["label"]
    last: dict = {}

    def ours() -> None:
        last["ours"] = native.quality_crowdlab(
            native.QualityVotes(**votes), predictions=predictions
        )

    def theirs() -> None:
        last["theirs"] = get_label_quality_multiannotator(
            table, predictions, return_weights=True, return_detailed_quality=False, verbose=False
        )

    ours()
    theirs()
    mine, other = last["ours"], last["theirs"]
    labels = other["label_quality"]
    people = other["annotator_stats"].sort_index()
    for name, a, b in (
        ("quality", mine["quality"], labels["consensus_quality_score"]),
        ("agreement", mine["agreement"], labels["annotator_agreement"]),
        ("annotator quality", mine["skill"], people["annotator_quality"]),
        ("weights", mine["annotator_weight"], other["annotator_weight"]),
    ):
        difference = np.abs(a - np.asarray(b)).max()
        print(f"  {name}: differ by at most {difference:.1e}")
        assert difference < 1e-10, (name, difference)
    assert (mine["label"] == labels["consensus_label"].to_numpy()).all()
    assert (mine["worst_class"] == people["worst_class"].to_numpy()).all()
    name = f"crowdlab, {len(votes['item']):,} ReaL votes; cleanlab"
    amount = len(votes["item"]) / 1e6
    report.compare(name, "M votes/s", amount, ours, theirs, at_least=100)


def segmentation(report: Report) -> None:
    from cleanlab.segmentation.filter import find_label_issues

    images, classes, side = 30, 20, 256
    rng = np.random.default_rng(1)
    truth = rng.integers(0, classes, (images, side // 16, side // 16))
    truth = truth.repeat(16, 1).repeat(16, 2)
    logits = rng.normal(size=(images, classes, side, side))
    np.put_along_axis(
        logits, truth[:, None], np.take_along_axis(logits, truth[:, None], 1) + 4, axis=1
    )
    p = np.exp(logits)
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    wrong = rng.random(truth.shape) < 0.02
    label = np.where(wrong, rng.integers(0, classes, truth.shape), truth).astype(np.uint8)
    flat_label = label.reshape(images, -1)
    flat_p = p.reshape(images, classes, -1)
    last: dict = {}

    def ours() -> None:
        last["ours"] = native.quality_segmentation_issues(flat_label, flat_p)

    def theirs(**how: int) -> None:
        last["theirs"] = find_label_issues(label, p, downsample=1, verbose=False, **how)

    ours()
    theirs()
    mine, other = last["ours"]["issue"].reshape(label.shape) != 0, last["theirs"]
    both = (mine & other).sum()
    print(f"  issues: {mine.sum()} and {other.sum()}, {both} the same; planted {wrong.sum()}")
    assert both >= 0.999 * max(mine.sum(), other.sum())
    name = f"segmentation issues, {label.size:,} pixels, K = {classes}; cleanlab"
    report.compare(name, "M pixels/s", label.size / 1e6, ours, theirs, at_least=200)
    # Its processes cost it more than they help, here.
    one = lambda: theirs(n_jobs=1)  # noqa: E731
    report.compare(f"{name}, n_jobs=1", "M pixels/s", label.size / 1e6, ours, one)


def alpha(report: Report) -> None:
    masks = np.load(DATA / "lidc-readers" / "masks.npz")["masks"]
    masks = np.unpackbits(masks, axis=-1).transpose(0, 2, 1).reshape(-1, 4).astype(np.uint8)
    masks = np.ascontiguousarray(masks)
    assert abs(native.quality_pixel_alpha(masks) - 0.814734) < 1e-6
    parts = np.array_split(masks.reshape(-1).view(np.uint64), os.cpu_count() or 1)

    def read() -> None:
        """Reads it all, on all cores, and does as little as it can."""
        threads = [threading.Thread(target=part.max) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    read()
    name = f"soft alpha, {len(masks):,} LIDC pixels of 4 readers; reading them"
    gigabytes = masks.nbytes / 1e9
    report.compare(
        name, "GB/s", gigabytes, lambda: native.quality_pixel_alpha(masks), read, at_least=0.5
    )


def drawn_votes(count: int) -> dict:
    """Votes of 1,000 people, 5 an item, of 3 classes."""
    rng = np.random.default_rng(2)
    items = count // 5
    truth = rng.integers(0, 3, items, dtype=np.int32)
    annotator = rng.integers(0, 200, (items, 5), dtype=np.int32)
    annotator += np.arange(5, dtype=np.int32) * 200
    label = np.repeat(truth, 5)
    wrong = rng.random(items * 5, dtype=np.float32) < 0.3
    label[wrong] = rng.integers(0, 3, int(wrong.sum()), dtype=np.int32)
    return {
        "num_items": items,
        "num_annotators": 1000,
        "num_classes": 3,
        "item": np.repeat(np.arange(items, dtype=np.int64), 5),
        "annotator": annotator.ravel(),
        "label": label,
    }


def large(report: Report, count: int) -> None:
    """In a process of its own, for its memory; crowd-kit's cost is extrapolated from 1 M votes."""
    from crowdkit.aggregation import DawidSkene

    command = [sys.executable, __file__, "--alone", str(count)]
    spent, gib = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    small = 1_000_000
    data = frame(drawn_votes(small))
    baseline = seconds(lambda: DawidSkene(n_iter=LARGE_ITERATIONS, tol=-np.inf).fit(data))
    name = f"dawid_skene, {count:,} votes, {LARGE_ITERATIONS} iterations"
    report.add(f"{name}; bar of 60 s", "s", spent, 60, at_most=1)
    report.add(f"{name}; crowd-kit x{count // small}", "s", spent, baseline * count / small)
    report.add("  memory at its peak, the columns too; bar of 8 GiB", "GiB", gib, 8, at_most=1)


def alone(count: int) -> None:
    votes = drawn_votes(count)
    spent = seconds(
        lambda: native.quality_dawid_skene(
            native.QualityVotes(**votes), tolerance=0.0, max_iterations=LARGE_ITERATIONS
        )
    )
    print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output", nargs="?")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--large", type=int, default=100_000_000)
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    args = parser.parse_intermixed_args()
    if args.alone:
        alone(args.alone)
        return
    report = Report(args.pairs)
    known = {
        "dawid_skene": dawid_skene,
        "crowdlab": crowdlab,
        "segmentation": segmentation,
        "alpha": alpha,
        "large": lambda r: large(r, args.large),
        "detection": lambda r: detection(r, DATA),
    }
    for case in args.cases or known:
        known[case](report)
    report.write(args.output)


if __name__ == "__main__":
    main()
