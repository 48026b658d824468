"""The analysis of a set of votes, and what can be made of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._limits import fails_under
from ._masks import read_masks
from ._model_inputs import align_gold, align_predictions
from ._native import AnalysisOptions
from ._native import analyze as analyze_columns
from ._outputs import plain, write_consensus, write_json, write_text, write_worklist
from ._pixels import analyze_masks
from ._reader import Columns, read_votes
from ._report import render
from ._schema import analysis_of
from ._votes import Floats, VoteTable

#: How many malformed rows the JSON lists; it counts them all.
_LISTED_BAD_ROWS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """An analysis.

    Attributes:
        analysis: the schema ``softloss.quality/1`` (docs/quality.md); columns may be arrays.
        posterior: float64 [items, K], the consensus, in the order of ``analysis["item"]["name"]``.
    """

    analysis: dict[str, Any]
    posterior: Floats

    @property
    def annotators(self) -> list[dict[str, Any]]:
        """One dictionary an annotator: name, votes, figures with intervals."""
        return plain(self.analysis["annotator"])  # type: ignore[no-any-return]

    @property
    def items(self) -> dict[str, Any]:
        """The columns of the items, as NumPy arrays; names are a list."""
        return {
            key: column if column is None or key == "name" else np.asarray(column)
            for key, column in self.analysis["item"].items()
        }

    @property
    def worklist(self) -> list[dict[str, Any]]:
        """The items to label again, most urgent first; labels by name."""
        classes = self.analysis["classes"]
        return [
            row | {key: classes[row[key]] for key in ("given", "suggested")}
            for row in plain(self.analysis["worklist"])
        ]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """What somebody should look at."""
        return plain(self.analysis["alerts"])  # type: ignore[no-any-return]

    def fails_under(self, limits: Mapping[str, float]) -> list[str]:
        """Return a sentence for each of the least values by figure that is not reached."""
        return fails_under(self.to_dict(), limits)

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis of plain Python values; what is not defined is None."""
        return plain(self.analysis)  # type: ignore[no-any-return]

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write the analysis as JSON."""
        write_json(path, self.analysis)

    def report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str | None = None,
        item_url: str | None = None,
    ) -> None:
        """Write the report: one HTML file.

        Args:
            path: of the file.
            title: its title.
            item_url: where an item can be looked at, with ``{item}`` for its name.
        """
        write_text(path, render(self.to_dict(), title=title, item_url=item_url))

    def write_worklist(self, path: str | os.PathLike[str]) -> None:
        """Write the worklist as CSV."""
        write_worklist(path, self.worklist)

    def write_consensus(self, path: str | os.PathLike[str]) -> None:
        """Write the consensus soft labels as .safetensors or .parquet."""
        names = self.analysis["item"]["name"]
        write_consensus(path, names, self.analysis["classes"], self.posterior)


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """Votes, and what goes with them, over the same items and classes.

    Attributes:
        votes: the votes.
        predictions: [items, K], NaN in rows of items without one; or None.
        gold: the same, one-hot.
        notes: what was done.
    """

    votes: VoteTable
    predictions: Floats | None
    gold: Floats | None
    notes: tuple[str, ...]


def prepare(votes: VoteTable, predictions: Any = None, gold: Any = None) -> Prepared:
    """Line up predictions and gold answers with votes; by default those that came with them."""
    notes: list[str] = []
    aligned = answers = None
    if predictions is None and votes.predictions:
        predictions = votes.predictions
    if predictions is not None:
        votes, aligned, told = align_predictions(votes, predictions)
        notes += told
    if gold is None and votes.gold:
        gold = votes.gold
    if gold is not None:
        answers, told = align_gold(votes, gold)
        notes += told
    return Prepared(votes, aligned, answers, tuple(notes))


def analyze(
    votes: Any,
    predictions: Any = None,
    gold: Any = None,
    masks: Any = None,
    mask_predictions: Any = None,
    *,
    columns: Columns | None = None,
    classes: Sequence[str] | None = None,
    skip_bad_rows: bool = False,
    options: AnalysisOptions | None = None,
) -> Quality:
    """Analyse votes: how good are they, by annotator, item and class.

    Args:
        votes: a `VoteTable`, or what `read_votes` takes.
        predictions: a model's out-of-sample probabilities: [items, K] whose row i is the item
            called i; an .npy or .npz; a table with an item column; a dictionary of item to row.
        gold: answers known to be right: a table of items and labels, or a dictionary.
        masks: readers' masks to compare as well: what `read_masks` takes.
        mask_predictions: a model's masks to compare them with: what `read_model_masks` takes.
        columns: the votes' columns by role, where guessing does not do.
        classes: the classes' names in order.
        skip_bad_rows: leave malformed rows out and say so, instead of raising.
        options: the method, and thresholds of alerts.

    Raises:
        InputError: something cannot be read, or the votes and the rest do not fit.
        InvalidArgumentError: an option is out of range.
    """
    if isinstance(votes, VoteTable):
        table = votes
    else:
        table = read_votes(votes, columns=columns, classes=classes, skip_bad_rows=skip_bad_rows)
    prepared = prepare(table, predictions, gold)
    table, notes = prepared.votes, list(prepared.notes)
    chosen = options or AnalysisOptions()
    found = analyze_columns(table, prepared.predictions, prepared.gold, chosen)
    analysis = analysis_of(found, table.items, table.annotators, table.classes, chosen)
    analysis["options"] = dataclasses.asdict(chosen)
    if masks is not None:
        drawn = read_masks(masks, skip_bad_rows=skip_bad_rows)
        analysis["pixels"] = analyze_masks(drawn, mask_predictions, threads=chosen.threads).pixels
        if drawn.bad_rows:
            notes.append(f"{len(drawn.bad_rows):,} masks were left out")
    analysis["provenance"] = _provenance(table, notes)
    return Quality(analysis, found["item.posterior"])


def _provenance(table: VoteTable, notes: Sequence[str]) -> dict[str, Any]:
    return {
        "sources": [dataclasses.asdict(source) for source in table.sources],
        "notes": list(notes),
        "bad_row_count": len(table.bad_rows),
        "bad_rows": [dataclasses.asdict(row) for row in table.bad_rows[:_LISTED_BAD_ROWS]],
    }
