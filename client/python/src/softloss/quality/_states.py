"""Summaries of votes as sums: made shard by shard, anywhere, and merged in any order."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from .. import _softloss
from ._limits import fails_under
from ._native import AnalysisOptions, native_votes, rows
from ._outputs import plain, replace_file, write_json, write_text
from ._quality import prepare
from ._reader import Columns, read_votes
from ._report import render
from ._schema import summary_of
from ._votes import InputError, VoteTable


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """Exact sums over whole items of some shards of votes; the same sums are the same bytes.

    Attributes:
        data: the state file's bytes (kernels/annotation/state.h has the format).
    """

    data: bytes

    @staticmethod
    def load(path: str | os.PathLike[str]) -> State:
        """Read a state file."""
        try:
            return State(pathlib.Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError(f"{path}: there is no such file", field="states") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a state file."""

        def write(file: pathlib.Path) -> None:
            file.write_bytes(self.data)

        replace_file(path, write)

    def read(self, options: AnalysisOptions | None = None) -> Summary:
        """Return the figures of the sums.

        Args:
            options: `min_agreement` and `min_votes` of alerts, and `class_values`.
        """
        chosen = options or AnalysisOptions()
        found = _softloss.quality_read_summary(
            self.data,
            min_agreement=chosen.min_agreement,
            min_votes=chosen.min_votes,
            class_values=[float(value) for value in chosen.class_values],
        )
        analysis = summary_of(found, chosen)
        analysis["options"] = dataclasses.asdict(chosen)
        return Summary(analysis)


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """The figures that need no consensus of all votes at once.

    Attributes:
        analysis: the schema ``softloss.quality/1``, with null for what needs the votes.
    """

    analysis: dict[str, Any]

    @property
    def annotators(self) -> list[dict[str, Any]]:
        """One dictionary an annotator."""
        return plain(self.analysis["annotator"])  # type: ignore[no-any-return]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What somebody should look at."""
        return plain(self.analysis["alerts"])  # type: ignore[no-any-return]

    def fails_under(self, limits: dict[str, float]) -> list[str]:
        """Return a sentence for each of the least values by figure that is not reached."""
        return fails_under(self.to_dict(), limits)

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis of plain Python values; what is not defined is None."""
        return plain(self.analysis)  # type: ignore[no-any-return]

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the analysis as JSON."""
        write_json(path, self.analysis)

    def report(self, path: str | os.PathLike[str], *, title: str | None = None) -> None:
        """Write the report: one HTML file."""
        write_text(path, render(self.to_dict(), title=title))


def summarize(
    votes: Any,
    predictions: Any = None,
    gold: Any = None,
    *,
    shard: str,
    columns: Columns | None = None,
    classes: Sequence[str] | None = None,
    skip_bad_rows: bool = False,
    bootstrap_replicates: int = 200,
) -> State:
    """Sum up a shard of votes.

    Args:
        votes: a `VoteTable`, or what `read_votes` takes. All votes on an item must be in one shard.
        predictions: a model's, as for `analyze`.
        gold: known answers, as for `analyze`.
        shard: the shard's name. States that both have a shard do not merge: nothing counts twice.
        columns: the votes' columns by role, where guessing does not do.
        classes: the classes' names in order, the same for all shards.
        skip_bad_rows: leave malformed rows out instead of raising.
        bootstrap_replicates: for the intervals of the divergences from the model; the same for all
            shards.
    """
    if isinstance(votes, VoteTable):
        table = votes if classes is None else votes.with_classes(classes)
    else:
        table = read_votes(votes, columns=columns, classes=classes, skip_bad_rows=skip_bad_rows)
    prepared = prepare(table, predictions, gold)
    table = prepared.votes
    return State(
        _softloss.quality_summarize(
            native_votes(table),
            shard=shard,
            items=table.items,
            annotators=table.annotators,
            classes=table.classes,
            predictions=rows(prepared.predictions),
            gold=rows(prepared.gold),
            bootstrap_replicates=bootstrap_replicates,
        )
    )


def merge_states(states: Iterable[State]) -> State:
    """Add states up, in any order to the same bytes.

    Raises:
        SoftlossError: a shard is in two of them, or they are of other classes; or a state is
            damaged. The message has the state's number.
    """
    return State(_softloss.quality_merge([state.data for state in states]))
