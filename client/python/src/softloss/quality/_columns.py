"""Which column of a table plays which role."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ._votes import InputError

#: Names by which a role's column is known, the likeliest first. Compared in lower case, with
#: spaces, dots and hyphens as underscores.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "item": (
        "item", "item_id", "task", "task_id", "question", "question_id", "example", "example_id",
        "image", "image_id", "sample", "sample_id", "document", "document_id", "unit", "unit_id",
        "_unit_id", "object", "object_id", "inner_id", "id",
    ),
    "annotator": (
        "annotator", "annotator_id", "worker", "worker_id", "_worker_id", "rater", "rater_id",
        "labeler", "labeler_id", "labeller", "coder", "coder_id", "reviewer", "reader", "judge",
        "performer", "user", "user_id", "completed_by", "who",
    ),
    "label": (
        "label", "label_id", "vote", "answer", "class", "class_id", "choice", "category",
        "response", "judgment", "judgement", "rating", "verdict", "value",
    ),
    "probabilities": ("probabilities", "probs", "soft_label", "distribution", "pred_probs"),
    "weight": ("weight", "vote_weight"),
    "time": (
        "time", "timestamp", "created_at", "submitted_at", "completed_at", "updated_at", "datetime",
        "date",
    ),
}  # fmt: skip

#: Columns that begin so hold the probability of the class that the rest of the name is.
PROBABILITY_PREFIX = re.compile(r"^(p|q|prob|proba|probability)[_.:]\s*(?=\S)", re.IGNORECASE)


def normalized(name: str) -> str:
    """Return a column's name as it is compared."""
    return re.sub(r"[\s.\-]+", "_", name.strip()).lower()


def class_of(column: str) -> str:
    """Return the class whose probability a column holds."""
    return PROBABILITY_PREFIX.sub("", column.strip()).strip()


class Roles:
    """The columns of a table by role, and which of them were guessed.

    Attributes:
        column: the column of each role that the table has, except probabilities by class.
        probability: the columns of the classes' probabilities; empty for hard votes.
        guessed: the roles that were guessed.
    """

    def __init__(
        self,
        source: str,
        header: Sequence[str],
        given: Mapping[str, str | Sequence[str]],
        wanted: Sequence[str],
    ) -> None:
        """Find the columns.

        Args:
            source: the table's name, for errors.
            header: its columns.
            given: the columns that the user named; `probabilities` may be several.
            wanted: the roles that the table must have; ``"label"`` also accepts probabilities.
        """
        unknown = sorted(set(given) - set(SYNONYMS))
        if unknown:
            raise InputError(
                f"columns: roles are {', '.join(SYNONYMS)}; was {unknown[0]!r}", field="columns"
            )
        self.column: dict[str, str] = {}
        self.probability: list[str] = []
        guessed = []
        for role, columns in given.items():
            named = [columns] if isinstance(columns, str) else list(columns)
            if role == "probabilities":
                named = [part.strip() for name in named for part in name.split(",")]
            for name in named:
                if name not in header:
                    raise InputError(
                        f"{source}: has no column {name!r} for {role}; it has {_listed(header)}",
                        field=f"columns.{role}",
                    )
            if role == "probabilities" and len(named) > 1:
                self.probability = named
            else:
                self.column[role] = named[0]
        taken = {*self.column.values(), *self.probability}
        for role in SYNONYMS:
            if role in self.column or (role == "probabilities" and self.probability):
                continue
            if role == "probabilities" and ("label" in given or not _wants_label(wanted)):
                continue
            if role == "label" and ("probabilities" in given or not _wants_label(wanted)):
                continue
            found = _guess(role, [name for name in header if name not in taken])
            if found is not None:
                self.column[role] = found
                taken.add(found)
                guessed.append(role)
        if _wants_label(wanted) and not {"label", "probabilities"} & set(given):
            prefixed = [name for name in header if PROBABILITY_PREFIX.match(name)]
            if len(prefixed) >= 2:
                self.probability = prefixed
                guessed.append("probabilities")
        if self.probability:
            self.column.pop("probabilities", None)
        if self.probability or "probabilities" in self.column:
            self.column.pop("label", None)  # what was told or is softer wins
        self.guessed = tuple(role for role in dict.fromkeys(guessed) if role in self.described)
        for role in wanted:
            if role == "label" and (self.probability or "probabilities" in self.column):
                continue
            if role not in self.column:
                what = "label, nor columns p_CLASS of probabilities" if role == "label" else role
                raise InputError(
                    f"{source}: no column looks like the {what}; it has {_listed(header)}; "
                    f"name it with columns {role}=NAME",
                    field=f"columns.{role}",
                )

    @property
    def described(self) -> dict[str, str]:
        """The columns by role, for people."""
        described = dict(self.column)
        if self.probability:
            shown = self.probability
            if len(shown) > 6:
                shown = [*shown[:3], "…", *shown[-2:]]
            described["probabilities"] = ", ".join(shown)
        return described


def _wants_label(wanted: Sequence[str]) -> bool:
    return "label" in wanted or "probabilities" in wanted


def _guess(role: str, header: Sequence[str]) -> str | None:
    by_name = {normalized(name): name for name in reversed(header)}
    return next((by_name[name] for name in SYNONYMS[role] if name in by_name), None)


def _listed(header: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in header[:12])
    return f"{shown}, …" if len(header) > 12 else (shown or "none")
