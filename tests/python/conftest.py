"""Fixtures: engines, and a server of the build."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np
import pytest
import softloss
from servers import REPOSITORY, Server, server_binary


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1701)


@pytest.fixture(scope="session")
def engine() -> softloss.Engine:
    return softloss.Engine()


@pytest.fixture(scope="session", params=["cpu", "reference"])
def any_engine(request: pytest.FixtureRequest) -> softloss.Engine:
    return softloss.Engine(request.param)


@pytest.fixture(scope="session")
def binary() -> pathlib.Path:
    path = server_binary()
    if path is None or not path.exists():
        pytest.skip(f"there is no softlossd ({path}); set SOFTLOSS_SERVER_BIN")
    return path


@pytest.fixture
def run_dir() -> Iterator[pathlib.Path]:
    # Not tmp_path: the name of a Unix socket is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="softloss-") as name:
        yield pathlib.Path(name)


@pytest.fixture(scope="session")
def server(binary: pathlib.Path) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="softloss-") as name:
        server = Server(
            binary,
            [f"unix:{name}/softloss.sock", "127.0.0.1:0"],
            "--metrics_listen=127.0.0.1:0",
        )
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[softloss.Client]:
    with softloss.Client(server.address, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def lidc() -> np.lib.npyio.NpzFile:
    """The LIDC reader masks; the data's SOURCE.md describes them."""
    data = pathlib.Path(os.environ.get("SOFTLOSS_DATA", REPOSITORY.parent / "shared" / "data"))
    path = data / "lidc-readers" / "masks.npz"
    if not path.exists():
        pytest.skip(f"there is no {path}; set SOFTLOSS_DATA")
    return np.load(path)


@pytest.fixture(scope="session")
def reader_masks(lidc: np.lib.npyio.NpzFile) -> np.ndarray:
    """[slices, 4 readers, 64, 64] of 0 and 1."""
    packed = lidc["masks"]
    return np.unpackbits(packed, axis=-1).reshape(*packed.shape[:2], 64, 64)
