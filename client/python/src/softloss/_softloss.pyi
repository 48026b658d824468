"""The compiled half of the package."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__version__: str

def import_array(array: Any) -> tuple[npt.NDArray[Any], str]: ...
def backend_names() -> list[str]: ...
def pin_malloc_thresholds() -> None: ...
def shutdown() -> None: ...

class Spec:
    def __init__(
        self,
        loss: str,
        reduction: str,
        normalizer: str | None,
        label_check: str,
        label_smoothing: float,
        class_weight: list[float],
        pos_weight: list[float],
        ignore_value: float | None,
        ignore_index: int | None,
        class_mask: list[int],
        prediction_kind: str,
        profile: str | None,
        activation: str | None,
        batch: bool,
        parameters: dict[str, float],
    ) -> None: ...
    @property
    def elementwise(self) -> bool: ...
    @property
    def regional(self) -> bool: ...
    def row_loss_shape(self, shape: tuple[int, ...], class_axis: int | None) -> list[int]: ...

class Request:
    def __init__(
        self,
        spec: Spec,
        prediction: npt.NDArray[Any],
        prediction_dtype: str,
        class_axis: int | None,
        label: npt.NDArray[Any],
        label_dtype: str,
        label_is_class_ids: bool,
        label_row_sum: bool,
        mask: npt.NDArray[Any] | None,
        row_weight: npt.NDArray[Any] | None,
        gradient: npt.NDArray[Any] | None,
        gradient_dtype: str,
        row_loss: npt.NDArray[Any] | None,
        label_ids: npt.NDArray[Any] | None,
        label_ids_dtype: str,
        tail: str | None,
    ) -> None: ...

class Totals:
    @property
    def loss(self) -> float: ...
    @property
    def loss_sum(self) -> float: ...
    @property
    def denominator(self) -> float: ...
    @property
    def gradient_scale(self) -> float: ...
    @property
    def gradient_l2_norm(self) -> float: ...
    @property
    def valid_count(self) -> int: ...
    @property
    def conditions(self) -> tuple[int, int, int, int, int, bool]: ...
    @property
    def times_ns(self) -> tuple[int, int, int, int, int, int, int]: ...
    @property
    def numerics_id(self) -> str: ...
    @property
    def attempts(self) -> int: ...

class ClientTotals(Totals):
    @property
    def transport(self) -> Literal["wire", "shared_memory"]: ...
    @property
    def gradient(self) -> npt.NDArray[np.uint8] | None: ...

class Engine:
    def __init__(self, backend: str, threads: int) -> None: ...
    def score(self, spec: Spec, request: Request) -> Totals: ...
    @property
    def backend(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def numerics_id(self) -> str: ...

class Client:
    def __init__(
        self,
        address: str,
        channels: int,
        connect_timeout: float,
        retry: bool,
        max_attempts: int,
    ) -> None: ...
    def score(self, spec: Spec, request: Request, timeout: float | None) -> ClientTotals: ...
    def submit(
        self,
        spec: Spec,
        request: Request,
        timeout: float | None,
        done: Callable[[ClientTotals | None, BaseException | None], None],
    ) -> None: ...
    def allocate(self, size: int) -> tuple[npt.NDArray[np.uint8], str | None]: ...
    def allocated(self, array: npt.NDArray[Any]) -> bool: ...
    def capabilities(self) -> dict[str, Any]: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def numerics_id(self) -> str: ...

class LoadItem:
    def __init__(
        self,
        *,
        name: str,
        weight: float,
        spec: Spec,
        shape: list[int],
        class_axis: int | None,
        prediction: str,
        label: str,
        class_ids: bool,
        row_sum: bool,
        gradient: str | None,
    ) -> None: ...

def run_load(
    address: str,
    items: list[LoadItem],
    *,
    progress: Callable[[float, int], object] | None,
    **load: Any,
) -> dict[str, Any]: ...

class QualityVotes:
    def __init__(
        self,
        *,
        num_items: int,
        num_annotators: int,
        num_classes: int,
        item: npt.NDArray[np.int64],
        annotator: npt.NDArray[np.int32],
        label: npt.NDArray[np.int32] | None = None,
        probabilities: npt.NDArray[np.float64] | None = None,
        weight: npt.NDArray[np.float64] | None = None,
        time: npt.NDArray[np.float64] | None = None,
    ) -> None: ...

def quality_analyze(votes: QualityVotes, **options: Any) -> dict[str, npt.NDArray[Any]]: ...
def quality_majority(votes: QualityVotes, **options: Any) -> dict[str, npt.NDArray[Any]]: ...
def quality_wawa(votes: QualityVotes, *, threads: int = 0) -> dict[str, npt.NDArray[Any]]: ...
def quality_one_coin(votes: QualityVotes, **options: Any) -> dict[str, npt.NDArray[Any]]: ...
def quality_dawid_skene(votes: QualityVotes, **options: Any) -> dict[str, npt.NDArray[Any]]: ...
def quality_dawid_skene_posterior(
    votes: QualityVotes,
    *,
    prior: npt.NDArray[np.float64],
    confusion: npt.NDArray[np.float64],
    threads: int = 0,
) -> dict[str, npt.NDArray[Any]]: ...
def quality_crowdlab(votes: QualityVotes, **options: Any) -> dict[str, npt.NDArray[Any]]: ...
def quality_compare_masks(
    images: list[npt.NDArray[np.uint8]], *, scale: int, threads: int = 0
) -> dict[str, npt.NDArray[Any]]: ...
def quality_mask_consensus(
    masks: npt.NDArray[np.uint8], *, scale: int
) -> dict[str, npt.NDArray[Any]]: ...
def quality_disagreement_map(
    masks: npt.NDArray[np.uint8], *, scale: int
) -> npt.NDArray[np.float32]: ...
def quality_mask_issues(
    *,
    begin: npt.NDArray[np.int64],
    label: npt.NDArray[np.uint8],
    mean: npt.NDArray[np.float32],
    model: npt.NDArray[np.float32],
    temperature: float = ...,
    threads: int = 0,
) -> dict[str, npt.NDArray[Any]]: ...
def quality_segmentation_em(
    masks: npt.NDArray[np.uint8], *, max_iterations: int = ..., tolerance: float = ...
) -> dict[str, npt.NDArray[Any]]: ...
def quality_pixel_alpha(masks: npt.NDArray[np.uint8], *, threads: int = 0) -> float: ...
def quality_segmentation_issues(
    label: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
    *,
    temperature: float = ...,
    threads: int = 0,
) -> dict[str, npt.NDArray[Any]]: ...
def quality_summarize(votes: QualityVotes, **arguments: Any) -> bytes: ...
def quality_merge(states: list[bytes]) -> bytes: ...
def quality_read_summary(
    state: bytes, *, min_agreement: float, min_votes: float, class_values: list[float]
) -> dict[str, Any]: ...

class QualityClient:
    def __init__(self, address: str, timeout_s: float, max_attempts: int) -> None: ...
    def open_campaign(
        self, name: str, classes: list[str], close_after_votes: int, close_after_seconds: float
    ) -> dict[str, Any]: ...
    def list_campaigns(self) -> list[dict[str, Any]]: ...
    def delete_campaign(self, name: str) -> None: ...
    def feed_votes(
        self,
        campaign: str,
        item: list[str],
        annotator: list[str],
        class_id: npt.NDArray[Any] | None,
        probability: npt.NDArray[Any] | None,
        weight: npt.NDArray[Any] | None,
        time: npt.NDArray[Any] | None,
        vote_id: list[str] | None,
    ) -> dict[str, Any]: ...
    def feed_items(
        self,
        campaign: str,
        gold: bool,
        item: list[str],
        class_id: npt.NDArray[Any] | None,
        probability: npt.NDArray[Any] | None,
    ) -> dict[str, Any]: ...
    def close_items(self, campaign: str, items: list[str]) -> int: ...
    def analyze(
        self, campaign: str, **options: Any
    ) -> tuple[list[str], list[str], list[str], dict[str, npt.NDArray[Any]]]: ...
