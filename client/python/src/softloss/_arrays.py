"""From whatever holds numbers to a NumPy array that the kernels can read."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from . import _softloss

Array = npt.NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

#: The contract's element types, by NumPy's name.
DTYPES: dict[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in ("float32", "float16", "float64", "uint8", "int32", "int64")
} | {"bfloat16": BFLOAT16}

FLOATS = ("float32", "float16", "bfloat16", "float64")


def _from_torch(name: str, tensor: Any) -> Array:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise TypeError(f"{name}: must be in CPU memory; is on {tensor.device}")
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: must be a dense tensor; is {tensor.layout}")
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(BFLOAT16)  # type: ignore[no-any-return]
    return tensor.numpy()  # type: ignore[no-any-return]


def _is_torch(obj: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, getattr(torch, "Tensor", ()))


def to_numpy(name: str, obj: Any) -> Array:
    """View `obj` as a NumPy array, without a copy where it has DLPack or the buffer protocol."""
    if isinstance(obj, np.ndarray):
        return obj
    if _is_torch(obj):
        return _from_torch(name, obj)
    if hasattr(obj, "__dlpack__") and not isinstance(obj, np.generic):
        try:
            array, dtype = _softloss.import_array(obj)
        except TypeError as error:
            raise TypeError(f"{name}: {type(obj).__name__} cannot be read: {error}") from None
        return array.view(BFLOAT16) if dtype == "bfloat16" else array
    if isinstance(obj, (str, bytes, bytearray)):
        raise TypeError(f"{name}: must be an array; was {type(obj).__name__}")
    try:
        array = np.asarray(obj)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name}: {type(obj).__name__} cannot be read: {error}") from None
    if isinstance(obj, (list, tuple, int, float)) and array.dtype.kind in "fiub":
        # Python's numbers have no element type of their own.
        array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float32)
    return array


def dtype_name(name: str, array: Array, allowed: tuple[str, ...]) -> str:
    """Name the array's element type; TypeError if it is not one of `allowed`."""
    dtype = array.dtype
    if dtype.name in allowed and dtype.isnative:
        return str(dtype.name)
    if not dtype.isnative:
        was = f"{dtype.newbyteorder('=').name} of foreign byte order"
    else:
        was = str(dtype.name)
    raise TypeError(f"{name}: dtype must be one of {', '.join(allowed)}; was {was}")


def contiguous(array: Array) -> Array:
    """Make the array row-major without gaps: one copy if it is not, none if it is."""
    return array if array.flags.c_contiguous else np.array(array, order="C", copy=True)


def raw(array: Array) -> Array:
    """View element types that the buffer protocol has no name for as integers of their size."""
    return array.view(np.uint16) if array.dtype == BFLOAT16 else array
