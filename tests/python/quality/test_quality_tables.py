"""Votes from tables: every kind gives the same votes; what is malformed is told, row by row."""

from __future__ import annotations

import gzip
import pathlib
from typing import Any

import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from softloss.quality import InputError, VoteTable, read_votes

COLUMNS = {
    "task": [10, 9, 10, 9, 11],
    "worker": ["bo", "bo", "al", "al", "al"],
    "label": ["dog", "cat", "dog", "dog", "cat"],
    "weight": [1.0, 2.0, 1.0, 0.5, 1.0],
    "created_at": [100.0, 101.5, 99.0, 98.0, 200.0],
}


def write_csv(path: pathlib.Path, text: str) -> pathlib.Path:
    path.write_text(text, encoding="utf-8")
    return path


def same(a: VoteTable, b: VoteTable) -> None:
    assert (a.items, a.annotators, a.classes) == (b.items, b.annotators, b.classes)
    for name in ("item", "annotator", "label", "probabilities", "weight", "time"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def sources(tmp_path: pathlib.Path) -> dict[str, Any]:
    frame = pandas.DataFrame(COLUMNS)
    frame.to_csv(tmp_path / "votes.csv", index=False)
    frame.to_csv(tmp_path / "votes.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semicolons.csv", index=False, sep=";")
    frame.to_csv(tmp_path / "packed.csv.gz", index=False)
    frame.to_parquet(tmp_path / "votes.parquet", row_group_size=2)
    np.savez(tmp_path / "votes.npz", **{k: np.array(v) for k, v in COLUMNS.items()})
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "votes.csv").read_bytes())
    return {
        "pandas": frame,
        "categorical": frame.astype({"label": "category", "worker": "category"}),
        "polars": polars.DataFrame(COLUMNS),
        "arrow": pyarrow.table(COLUMNS),
        "dictionary": pyarrow.table(
            COLUMNS | {"label": pyarrow.array(COLUMNS["label"]).dictionary_encode()}
        ),
        "dict": COLUMNS,
        "records": frame.to_records(index=False),
        **{
            name: tmp_path / name
            for name in ("votes.csv", "votes.tsv", "semicolons.csv", "packed.csv.gz", "bom.csv",
                         "votes.parquet", "votes.npz")
        },
    }  # fmt: skip


def test_every_kind_of_table_gives_the_same_votes(tmp_path: pathlib.Path) -> None:
    for name, source in sources(tmp_path).items():
        table = read_votes(source)
        # Names are sorted as text, so that shards that hold them as text and as numbers agree.
        assert table.items == ["10", "11", "9"], name
        assert table.annotators == ["al", "bo"]
        assert table.classes == ["cat", "dog"]
        assert table.item.tolist() == [0, 2, 0, 2, 1]
        assert table.annotator.tolist() == [1, 1, 0, 0, 0]
        assert table.label.tolist() == [1, 0, 1, 1, 0]
        assert table.weight.tolist() == COLUMNS["weight"]
        assert table.time.tolist() == COLUMNS["created_at"]
        assert table.probabilities is None and table.bad_rows == ()
        assert (table.item.dtype, table.annotator.dtype, table.label.dtype) == (
            np.int64, np.int32, np.int32,
        )  # fmt: skip


def test_the_guesses_are_told() -> None:
    (source,) = read_votes(COLUMNS).sources
    assert source.columns == {
        "item": "task", "annotator": "worker", "label": "label", "weight": "weight",
        "time": "created_at",
    }  # fmt: skip
    assert set(source.guessed) == set(source.columns)
    assert "item = 'task' (guessed)" in str(source) and source.rows == 5


def test_columns_may_be_told(tmp_path: pathlib.Path) -> None:
    text = "a,b,c,label\nx,ann,yes,9\ny,bob,no,9\n"
    table = read_votes(
        write_csv(tmp_path / "v.csv", text), columns={"item": "a", "annotator": "b", "label": "c"}
    )
    assert table.classes == ["no", "yes"]
    assert table.sources[0].guessed == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": "nope"}, "has no column 'nope' for item; it has 'task', 'worker', 'label'"),
        ({"items": "task"}, "columns: roles are item, annotator, label"),
    ],
)
def test_columns_that_are_not_there(columns: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_votes({k: COLUMNS[k] for k in ("task", "worker", "label")}, columns=columns)


def test_a_column_that_nobody_can_guess() -> None:
    with pytest.raises(InputError, match="no column looks like the annotator") as error:
        read_votes({"task": [1], "colour": ["red"], "label": ["a"]})
    assert error.value.field == "columns.annotator"
    with pytest.raises(InputError, match="nor columns p_CLASS of probabilities"):
        read_votes({"task": [1], "worker": ["a"]})


def test_soft_votes_by_prefix_list_and_name(tmp_path: pathlib.Path) -> None:
    rows = [[0.2, 0.8], [1.0, 0.0]]
    wide = {
        "item": ["x", "y"], "annotator": ["a", "a"],
        "p_cat": [0.2, 1.0], "p_dog": [0.8, 0.0], "label": ["cat", "cat"],
    }  # fmt: skip
    table = read_votes(wide)
    assert table.classes == ["cat", "dog"] and table.label is None
    np.testing.assert_array_equal(table.probabilities, rows)
    named = read_votes(
        {"item": ["x", "y"], "annotator": ["a", "a"], "cat": [0.2, 1], "dog": [0.8, 0]},
        columns={"probabilities": "cat,dog"},
    )
    same(table, named)
    listed = {"item": ["x", "y"], "annotator": ["a", "a"], "soft_label": rows}
    text = "item,annotator,soft_label\nx,a,\"[0.2, 0.8]\"\ny,a,\"[1, 0]\"\n"  # fmt: skip
    for source in (listed, pyarrow.table(listed), write_csv(tmp_path / "s.csv", text)):
        same(table, read_votes(source, classes=["cat", "dog"]))
    assert read_votes(listed).classes == ["0", "1"]


def test_probabilities_are_divided_by_their_sum_within_tolerance() -> None:
    soft = {"item": ["x"], "annotator": ["a"], "p_u": [0.3335], "p_v": [0.6670]}
    table = read_votes(soft)
    np.testing.assert_allclose(table.probabilities, [[0.3335 / 1.0005, 0.667 / 1.0005]], rtol=1e-15)


def test_hard_and_soft_sources_join() -> None:
    hard = {"item": ["x"], "annotator": ["a"], "label": ["dog"]}
    soft = {"item": ["x"], "annotator": ["b"], "p_cat": [0.25], "p_dog": [0.75]}
    table = read_votes([hard, soft])
    assert table.label is None and table.classes == ["cat", "dog"]
    np.testing.assert_array_equal(table.probabilities, [[0, 1], [0.25, 0.75]])
    assert len(table.sources) == 2


def test_weights_of_one_source_are_one_in_the_others_and_times_need_all() -> None:
    plain = {"item": ["x"], "annotator": ["a"], "label": ["u"]}
    full = {"item": ["x"], "annotator": ["b"], "label": ["v"], "weight": [3.0], "time": [5.0]}
    table = read_votes([plain, full])
    assert table.weight.tolist() == [1.0, 3.0]
    assert table.time is None


def test_classes_sort_as_numbers_where_they_are() -> None:
    votes = {"item": [1, 2, 3], "annotator": ["a"] * 3, "label": [10, 9, 2]}
    assert read_votes(votes).classes == ["2", "9", "10"]
    given_order = read_votes(votes, classes=["10", "9", "2", "1"])
    assert given_order.classes == ["10", "9", "2", "1"]
    assert given_order.label.tolist() == [0, 1, 2]


def test_floats_that_are_whole_are_integers() -> None:
    # pandas makes floats of integers beside missing values.
    frame = pandas.DataFrame({"item": [1.0, 2.0], "annotator": [7, 8], "label": [0.0, 1.0]})
    table = read_votes(frame)
    assert (table.items, table.classes) == (["1", "2"], ["0", "1"])


MALFORMED = """task,worker,label,weight,time
1,ann,cat,1,2024-01-01T00:00:00Z
1,bob,dog
,bob,dog,1,2024-01-01
2,,dog,1,2024-01-01
2,bob,,1,2024-01-01
2,bob,dog,heavy,2024-01-01
2,bob,dog,0,2024-01-01
2,bob,dog,1,yesterday
1,ann,dog,1,2024-01-01

"3
x",bob,dog,1,2024-01-01
3,bob,cow,1,2024-01-01,extra
"""
REASONS = {
    3: "must have 5 fields; has 3",
    4: "task: there is no item",
    5: "worker: there is no annotator",
    6: "label: there is no label",
    7: "weight: must be a number; was 'heavy'",
    8: "weight: must be positive and finite; was 0.0",
    9: "time: must be seconds or ISO 8601; was 'yesterday'",
    10: "a second vote of 'ann' on '1'",
    14: "must have 5 fields; has 6",
}


def test_malformed_rows_are_told_by_line(tmp_path: pathlib.Path) -> None:
    path = write_csv(tmp_path / "v.csv", MALFORMED)
    with pytest.raises(InputError) as error:
        read_votes(path)
    assert {row.line: row.reason for row in error.value.bad_rows} == REASONS
    text = str(error.value)
    assert text.startswith("9 rows are malformed")
    assert "v.csv:9: time: must be seconds or ISO 8601; was 'yesterday'" in text
    assert isinstance(error.value, ValueError)


def test_malformed_rows_may_be_skipped_and_are_still_told(tmp_path: pathlib.Path) -> None:
    table = read_votes(write_csv(tmp_path / "v.csv", MALFORMED), skip_bad_rows=True)
    assert {row.line: row.reason for row in table.bad_rows} == REASONS
    assert len(table) == 2
    assert table.items == ["1", "3\nx"]  # no item of a row that was left out
    assert table.time.tolist() == [1704067200.0, 1704067200.0]
    assert table.sources[0].rows == 11


def test_an_error_counts_what_it_does_not_show() -> None:
    with pytest.raises(InputError, match="and 90 more"):
        read_votes({"item": [""] * 100, "annotator": ["a"] * 100, "label": ["x"] * 100})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([0.5, 0.6], "must sum to 1 within 0.001; sum to 1.1"),
        ([-0.1, 1.1], "must be at least 0; were [-0.1, 1.1]"),
        ([float("nan"), 1.0], "must be finite; were [nan, 1]"),
        ([float("inf"), 0.0], "must be finite; were [inf, 0]"),
    ],
)
def test_probabilities_that_are_none(row: list[float], reason: str) -> None:
    soft = {"item": ["x"], "annotator": ["a"], "p_u": row[:1], "p_v": row[1:]}
    with pytest.raises(InputError) as error:
        read_votes(soft)
    assert error.value.bad_rows[0].reason == f"probabilities: {reason}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[0.5, 0.5, 0]", "soft_label: must have 2 numbers; has 3"),
        ("half", "soft_label: must be a list of numbers; was 'half'"),
    ],
)
def test_lists_that_are_none(tmp_path: pathlib.Path, value: str, reason: str) -> None:
    text = f'item,annotator,soft_label\nx,a,"[0.5, 0.5]"\ny,a,"{value}"\n'
    with pytest.raises(InputError) as error:
        read_votes(write_csv(tmp_path / "v.csv", text))
    assert [(row.line, row.reason) for row in error.value.bad_rows] == [(3, reason)]


def test_a_label_outside_the_classes() -> None:
    votes = {"item": [1, 2], "annotator": ["a", "a"], "label": ["cat", "cow"]}
    with pytest.raises(InputError, match="label: must be one of 'cat', 'dog'; was 'cow'"):
        read_votes(votes, classes=["cat", "dog"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.csv", b"", "v.csv: the file is empty"),
        ("v.csv", b"task,worker,label\n", "votes: there are none"),
        ("v.csv", b"\n", "v.csv: has no header line"),
        ("v.csv", b"task,task,label\n1,2,3\n", "two columns 'task'"),
        ("v.csv", b"task,worker,label\n1,\xff\xfe,x\n", "v.csv: is not UTF-8"),
        ("v.csv", b'task,worker,label\n1,"a,x\n', r"v.csv:\d+: unexpected end of data"),
        ("v.csv.gz", gzip.compress(b"task,worker,label\n1,a,x\n" * 99)[:-20], "is cut off"),
        ("v.csv.gz", b"plain", "is cut off or damaged"),
        ("v.parquet", b"PAR1 and no more", "v.parquet: is no Parquet file"),
        ("v.npz", b"PK no zip", "v.npz: is no npz file"),
        ("v.json", b"{", "v.json: is no JSON"),
        ("v.json", b"[]", "v.json: has no choices"),
        ("v.json", b"7", "is a JSON array of tasks"),
        ("v.xlsx", b"x", "a table must be .csv"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: pathlib.Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_votes(tmp_path / name)


def test_truncated_files_never_pass_for_whole_ones(tmp_path: pathlib.Path) -> None:
    pandas.DataFrame(COLUMNS).to_parquet(tmp_path / "whole.parquet")
    np.savez(tmp_path / "whole.npz", **{k: np.array(v) for k, v in COLUMNS.items()})
    for name in ("whole.parquet", "whole.npz"):
        data = (tmp_path / name).read_bytes()
        cut = tmp_path / f"cut{pathlib.Path(name).suffix}"
        for length in range(1, len(data), max(1, len(data) // 23)):
            cut.write_bytes(data[:length])
            with pytest.raises(InputError):
                read_votes(cut)


def test_there_is_no_such_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        read_votes(tmp_path / "absent.csv")


def test_one_class_only_needs_the_others_named() -> None:
    votes = {"item": [1, 2], "annotator": ["a", "a"], "label": ["cat", "cat"]}
    with pytest.raises(InputError, match="must be at least two; every vote is 'cat'"):
        read_votes(votes)
    assert read_votes(votes, classes=["cat", "dog"]).classes == ["cat", "dog"]


def test_columns_of_unequal_length() -> None:
    with pytest.raises(InputError, match="columns must be equally long"):
        read_votes({"item": [1, 2], "annotator": ["a"], "label": ["x", "y"]})


def test_an_object_that_is_no_table() -> None:
    with pytest.raises(InputError, match="was int"):
        read_votes(7)


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.text(min_size=1), st.sampled_from("xyz")),
        unique_by=lambda row: (row[0].strip(), row[1].strip()),
        min_size=1,
    ).filter(lambda rows: all(row[0].strip() and row[1].strip() for row in rows))
)
def test_any_names_are_kept(rows: list[tuple[str, str, str]]) -> None:
    items, annotators, labels = (list(column) for column in zip(*rows, strict=True))
    table = read_votes(
        {"item": items, "annotator": annotators, "label": labels}, classes=["x", "y", "z"]
    )
    assert table.items == sorted({name.strip() for name in items})
    back = [
        (table.items[i], table.annotators[a], table.classes[k])
        for i, a, k in zip(table.item, table.annotator, table.label, strict=True)
    ]
    assert back == [(i.strip(), a.strip(), k) for i, a, k in rows]


def test_bluebirds(shared_data: pathlib.Path) -> None:
    table = read_votes(shared_data / "bluebirds" / "labels.csv")
    assert (len(table), len(table.items), len(table.annotators)) == (4212, 108, 39)
    assert table.classes == ["0", "1"]
