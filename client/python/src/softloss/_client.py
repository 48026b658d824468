"""Scoring by a server."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import math
import warnings
import weakref
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _softloss
from ._arrays import BFLOAT16
from ._errors import InvalidArgumentError
from ._request import (
    ArrayLike,
    ScoreOptions,
    finish,
    prepare,
    takes_score_options,
)
from ._result import Result

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Unpack


class Future(concurrent.futures.Future[Result]):
    """A `Result` to come: what `Client.submit` returns.

    A `concurrent.futures.Future`, and so good for ``concurrent.futures.wait``, ``as_completed`` and
    ``asyncio.wrap_future``. A request that was sent cannot be cancelled: its arrays are in use.
    """

    def cancel(self) -> bool:
        """Return False: the request is on its way."""
        return False


@dataclass(frozen=True)
class Capabilities:
    """What a server is able to do, and its limits."""

    server_version: str
    backend: str
    numerics_id: str
    losses: tuple[str, ...]
    prediction_dtypes: tuple[str, ...]
    label_dtypes: tuple[str, ...]
    class_id_dtypes: tuple[str, ...]
    #: Of a `SparseLabel`; empty: no sparse labels.
    tail_rules: tuple[str, ...]
    gradient_dtypes: tuple[str, ...]
    max_message_bytes: int
    max_chunk_bytes: int
    stream_credit_bytes: int
    stream_credit_items: int
    #: Known to the contract, refused by this server.
    unimplemented_fields: tuple[str, ...]
    #: Whether arrays of `Client.allocate` need not travel: the server is on this host, and willing.
    shared_memory: bool


class Client:
    """A connection to a softloss server.

    Any number of threads may share a client; their requests are pipelined over one stream a
    channel, and the GIL is released while they wait. A process that forks workers creates its
    clients in the children.

    >>> with softloss.Client("unix:/run/softloss.sock") as client:       # doctest: +SKIP
    ...     result = client.score(logits, labels, loss="softmax_cross_entropy")
    ...     logits.backward(torch.from_numpy(result.scaled_gradient()))
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float | None = None,
        retry: bool = True,
        channels: int = 0,
        connect_timeout: float = 10.0,
        max_attempts: int = 10,
    ) -> None:
        """Connect.

        Args:
            address: a gRPC target: ``"localhost:7070"``, ``"unix:/run/softloss.sock"``.
            timeout: seconds that a request may take unless it says otherwise; ``None``, no limit.
            retry: whether to send unanswered requests again when a connection breaks or the server
                says that a refusal is temporary. Scoring is pure, so this is safe: the answer is
                the same, bit by bit. Otherwise they fail with an error whose `retryable` is true.
            channels: connections to the server, each with a thread of its own; 0, as many as
                help: one at first, another for small requests once large ones are in their way,
                and more for large ones where there are cores to spare.
            connect_timeout: seconds that connecting may take.
            max_attempts: how often one request may be sent, the first time included.

        Raises:
            DeadlineExceededError: the server could not be reached in time.
            InvalidArgumentError: an option is out of range.
        """
        self.address = address
        self.timeout = timeout
        self._client = _softloss.Client(address, channels, connect_timeout, retry, max_attempts)
        _open_clients.add(self)

    @takes_score_options
    def score(
        self,
        prediction: ArrayLike,
        label: ArrayLike,
        *,
        timeout: float | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Result:
        """Compute a loss and its gradient on the server, and wait for them.

        The arguments are those of `Engine.score`, and `timeout` in seconds, by default the
        client's. Ctrl-C ends the wait.

        Raises:
            InvalidArgumentError: a ValueError that names the field, the rule and the value.
            TypeError: an array of an element type or device that cannot be read.
            UnimplementedError: the server lacks what was asked for.
            DeadlineExceededError: a TimeoutError.
            UnavailableError: the connection broke, and `retry` is off or was of no use.
            ResourceExhaustedError: the server is over its limits.
        """
        prepared = prepare(prediction, label, self._client.allocated, **options)
        limit = self.timeout if timeout is None else timeout
        return finish(prepared, self._client.score(prepared.spec, prepared.request, limit))

    @takes_score_options
    def submit(
        self,
        prediction: ArrayLike,
        label: ArrayLike,
        *,
        timeout: float | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Future:
        """Score in the background; the arguments are those of `score`.

        Returns at once. The arrays must stay unchanged until the future is done.

        >>> futures = [client.submit(x, t) for x, t in batches]           # doctest: +SKIP
        >>> losses = [future.result().loss for future in futures]         # doctest: +SKIP

        Raises:
            InvalidArgumentError, TypeError: the arguments cannot make a request. All other errors
                come from the future.
        """
        prepared = prepare(prediction, label, self._client.allocated, **options)
        future = Future()
        future.set_running_or_notify_cancel()

        def done(totals: _softloss.ClientTotals | None, error: BaseException | None) -> None:
            if totals is not None:
                future.set_result(finish(prepared, totals))
            else:
                future.set_exception(error)

        limit = self.timeout if timeout is None else timeout
        self._client.submit(prepared.spec, prepared.request, limit, done)
        return future

    @takes_score_options
    async def score_async(
        self,
        prediction: ArrayLike,
        label: ArrayLike,
        *,
        timeout: float | None = None,
        **options: Unpack[ScoreOptions],
    ) -> Result:
        """Score without blocking the event loop; the arguments are those of `score`.

        >>> results = await asyncio.gather(                               # doctest: +SKIP
        ...     *(client.score_async(x, t) for x, t in batches))
        """
        return await asyncio.wrap_future(self.submit(prediction, label, timeout=timeout, **options))

    def allocate(
        self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = "float32"
    ) -> npt.NDArray[Any]:
        """Make an array of zeros that a server on this host reads and writes where it is.

        Scoring a prediction and a label in such memory, and with `out` in it or not given, moves
        none of them: the result's `transport` is then ``"shared_memory"``, and its gradient lies in
        such memory too. Other arrays travel. Views count if they have no gaps; ``torch.from_numpy``
        and DLPack share the memory with other libraries. It lives as long as an array of it does,
        and is of use as an ordinary array with any server: a `RuntimeWarning` says why it will
        travel if the server is on this host and did not take it.

        Do not change the arrays of a request until it is done.

        >>> logits = client.allocate((4096, 1000))                        # doctest: +SKIP
        >>> labels = client.allocate((4096, 1000))                        # doctest: +SKIP
        >>> client.score(logits, labels, loss="softmax_cross_entropy").transport  # doctest: +SKIP
        'shared_memory'

        Args:
            shape: the array's dimensions.
            dtype: one of the contract's element types, by name or as NumPy has them.

        Raises:
            ResourceExhaustedError: this host has not so much memory to share.
        """
        kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
        dimensions = (shape,) if isinstance(shape, int) else tuple(shape)
        if any(n < 0 for n in dimensions):
            raise InvalidArgumentError(
                f"shape: dimensions must not be negative; was {dimensions}", field="shape"
            )
        memory, refused = self._client.allocate(math.prod(dimensions) * kind.itemsize)
        if refused is not None:
            warnings.warn(f"allocate: {refused}", RuntimeWarning, stacklevel=2)
        return memory.view(kind).reshape(dimensions)

    def capabilities(self) -> Capabilities:
        """Ask the server what it is able to do."""
        return Capabilities(**self._client.capabilities())

    @property
    def numerics_id(self) -> str:
        """The server's, as it greeted first; equal ids give equal bits."""
        return self._client.numerics_id

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._client.closed

    def close(self) -> None:
        """End the connection; what is unanswered fails with CancelledError. Again: nothing."""
        self._client.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<softloss.Client {self.address}{' closed' if self.closed else ''}>"


_open_clients: weakref.WeakSet[Client] = weakref.WeakSet()


@atexit.register
def _shutdown() -> None:
    # No thread may come back to Python once the interpreter is on its way out.
    for client in list(_open_clients):
        client.close()
    _softloss.shutdown()
