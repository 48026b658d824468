"""States of shards: merged in any order they are the bits, and the figures, of all at once."""

from __future__ import annotations

import itertools
import json
import pathlib

import numpy as np
import pytest
import softloss
from hypothesis import given, settings
from hypothesis import strategies as st
from softloss.__main__ import main
from softloss.quality import (
    InputError,
    State,
    VoteTable,
    analyze,
    merge_states,
    read_votes,
    summarize,
)

CLASSES = ["cat", "dog", "fox"]
ITEMS, ANNOTATORS = 60, 7


def drawn(soft: bool, seed: int = 8) -> VoteTable:
    rng = np.random.default_rng(seed)
    item, annotator = np.nonzero(rng.random((ITEMS, ANNOTATORS)) < 0.5)
    truth = rng.integers(3, size=ITEMS)[item]
    rows = rng.dirichlet([1, 1, 1], len(item))
    rows[np.arange(len(item)), truth] += 1
    rows /= rows.sum(1, keepdims=True)
    return VoteTable(
        items=[f"i{i:02d}" for i in range(ITEMS)],
        annotators=[f"a/{r}" for r in range(ANNOTATORS)],
        classes=CLASSES,
        item=item,
        annotator=annotator.astype(np.int32),
        label=None if soft else rows.argmax(1).astype(np.int32),
        probabilities=rows if soft else None,
        weight=rng.uniform(0.5, 2, len(item)),
    )


def part(votes: VoteTable, items: list[int]) -> VoteTable:
    """The votes on some items, numbered anew by the names that occur."""
    keep = np.isin(votes.item, items)
    columns = {
        "item": [votes.items[i] for i in votes.item[keep]],
        "annotator": [votes.annotators[r] for r in votes.annotator[keep]],
        "weight": votes.weight[keep],
    }
    if votes.label is not None:
        columns["label"] = [votes.classes[k] for k in votes.label[keep]]
    else:
        columns["probabilities"] = votes.probabilities[keep]
    return read_votes(columns, classes=votes.classes)


MODEL = {
    f"i{i:02d}": row / row.sum()
    for i, row in enumerate(np.random.default_rng(2).random((ITEMS, 3)) + 0.1)
    if i % 4
}
GOLD = {f"i{i:02d}": CLASSES[i % 3] for i in range(0, ITEMS, 5)}


def figures(state: State) -> dict:
    found = state.read().to_dict()
    del found["shards"]
    return found


def of_shard(votes: VoteTable, name: str) -> State:
    known = set(votes.items)
    model = {item: row for item, row in MODEL.items() if item in known}
    return summarize(votes, model or None, GOLD, shard=name)


@pytest.mark.parametrize("soft", [False, True])
def test_any_order_and_any_grouping_is_the_same_bytes(soft: bool) -> None:
    votes = drawn(soft)
    shards = [of_shard(part(votes, list(range(s, ITEMS, 4))), f"shard {s}") for s in range(4)]
    merged = {merge_states(order).data for order in itertools.permutations(shards)}
    a, b, c, d = shards
    merged.add(merge_states([merge_states([a, c]), merge_states([d, b])]).data)
    assert len(merged) == 1
    assert figures(State(merged.pop())) == figures(of_shard(votes, "all"))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS))
def test_any_cut_is_the_whole(shard_of: list[int]) -> None:
    votes = drawn(True)
    shards = []
    for s in set(shard_of):
        rows = part(votes, [i for i in range(ITEMS) if shard_of[i] == s])
        shards.append(summarize(rows, shard=f"{s}"))
    whole = summarize(votes, shard="all")
    assert figures(merge_states(shards)) == figures(whole)


def test_the_figures_are_those_of_the_analysis() -> None:
    votes = drawn(True)
    summary = of_shard(votes, "all").read()
    analysis = analyze(votes, MODEL, GOLD).to_dict()
    found = summary.to_dict()
    for key in ("agreement", "agreement_histogram", "pair", "counts", "classes", "annotators"):
        assert found[key] == analysis[key], key
    model = analysis["calibration"]["model"]
    bins = found["calibration"]["model"]
    assert bins["ece_equal_mass"] is None
    assert bins["ece_equal_width"] == pytest.approx(model["ece_equal_width"], abs=1e-15)
    shares = ("agreement_consensus", "agreement_peers", "agreement_gold", "agreement_model")
    for mine, theirs in zip(found["annotator"], analysis["annotator"], strict=True):
        assert mine["name"] == theirs["name"]
        for key in ("votes", "weight", "class_share"):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-14), key
        for key in shares:
            assert mine[key] == theirs[key], key
        for key in ("cross_entropy", "kl", "js", "brier", "tv"):
            assert mine[key]["value"] == theirs[key]["value"]
            assert mine[key]["low"] < mine[key]["value"] < mine[key]["high"]
            assert mine[key]["high"] - mine[key]["low"] == pytest.approx(
                theirs[key]["high"] - theirs[key]["low"], rel=0.35
            )
        assert mine["quality"] is None and mine["confusion"] is None


def test_nothing_counts_twice() -> None:
    state = of_shard(drawn(False), "monday")
    with pytest.raises(softloss.SoftlossError, match=r"states\[1\]: .*monday"):
        merge_states([state, state])


def test_states_of_other_classes_do_not_merge() -> None:
    votes = drawn(False)
    more = summarize(votes.with_classes([*CLASSES, "owl"]), shard="b")
    with pytest.raises(softloss.InvalidArgumentError, match=r"states\[1\]: .*classes"):
        merge_states([summarize(votes, shard="a"), more])


def test_damaged_states_are_refused() -> None:
    data = of_shard(drawn(False), "a").data
    for length in (0, 1, 7, 20, len(data) // 2, len(data) - 1):
        with pytest.raises(softloss.SoftlossError):
            State(data[:length]).read()
    for place in range(8, len(data), max(1, len(data) // 40)):
        flipped = bytearray(data)
        flipped[place] ^= 4
        with pytest.raises(softloss.SoftlossError):
            State(bytes(flipped)).read()
    with pytest.raises(softloss.InvalidArgumentError, match="at least one"):
        merge_states([])


def test_the_command_merges(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    for shard in range(3):
        rows = ["task,worker,label"]
        for i in range(40):
            truth = "xy"[rng.integers(2)]
            for worker in "abc":
                label = truth if rng.random() < 0.9 else "xy"[rng.integers(2)]
                rows.append(f"{shard}-{i},{worker},{label}")
            rows.append(f"{shard}-{i},blind,{'xy'[rng.integers(2)]}")
        path = tmp_path / f"{shard}.csv"
        path.write_text("\n".join(rows) + "\n")
        state = str(path.with_suffix(".slqs"))
        main(["quality", str(path), "--classes", "x,y", "--state", state])
    states = [str(tmp_path / f"{shard}.slqs") for shard in range(3)]
    out = [tmp_path / name for name in ("all.slqs", "o.json", "r.html")]
    merge = ["quality", "merge", *states, "--out", str(out[0]), "--json", str(out[1])]
    assert main([*merge, "--report", str(out[2]), "--min-agreement", "0.7"]) == 3
    said = capsys.readouterr().out
    assert "votes 480  annotators 4  items 120" in said
    assert "alert  below_threshold  blind" in said
    analysis = json.loads(out[1].read_text())
    assert analysis["shards"] == ["0.csv", "1.csv", "2.csv"]
    assert "0.csv" in out[2].read_text()
    again = str(tmp_path / "again.slqs")
    main(["quality", "merge", *states[::-1], "--out", again])
    assert pathlib.Path(again).read_bytes() == out[0].read_bytes()
    assert main(["quality", "merge", str(out[0]), "--min-agreement", "0"]) == 0
    assert main(["quality", "merge", states[0], states[0]]) == 1
    assert main(["quality", "merge", str(tmp_path / "absent.slqs")]) == 1
    assert main(["quality", "merge", states[0], "--worklist", "w.csv"]) == 1


def test_a_shard_must_say_its_name_and_its_classes(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="must be at least two"):
        summarize({"item": [1], "annotator": ["a"], "label": ["x"]}, shard="s")
