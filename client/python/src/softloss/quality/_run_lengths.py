"""Run lengths of masks: COCO's, and those of Label Studio's brush."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def decode_rle(counts: str | bytes | Sequence[int], height: int, width: int) -> Bytes:
    """Decode COCO's run lengths, of zeros and ones by turns down the columns.

    Args:
        counts: the lengths, or their text: five bits a character from 48 on, the sixth bit says
            that more follow, the sign is the last one's fifth bit, and from the fourth length on
            each is the difference to the one two before.
        height: of the image.
        width: of the image.

    Returns:
        uint8 [height, width] of 0 and 1.

    >>> decode_rle([1, 2, 3], 2, 3).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    lengths = _lengths(counts) if isinstance(counts, (str, bytes)) else [int(n) for n in counts]
    if any(n < 0 for n in lengths) or sum(lengths) != height * width:
        raise ValueError(
            f"run lengths must be at least 0 and sum to {height} x {width}; sum to {sum(lengths)}"
        )
    values = np.arange(len(lengths), dtype=np.uint8) & 1
    return np.repeat(values, lengths).reshape(width, height).T


def _lengths(text: str | bytes) -> list[int]:
    data = text.encode() if isinstance(text, str) else text
    lengths: list[int] = []
    place = 0
    while place < len(data):
        number = shift = 0
        while True:
            if place == len(data):
                raise ValueError("run lengths are cut off")
            bits = data[place] - 48
            if not 0 <= bits < 64 or shift > 60:
                raise ValueError(f"run lengths have the character {chr(data[place])!r}")
            place += 1
            number |= (bits & 31) << shift
            shift += 5
            if not bits & 32:
                if bits & 16:
                    number -= 1 << shift
                break
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
    return lengths


class _Bits:
    """A stream of bits, the highest of each byte first."""

    def __init__(self, data: Bytes) -> None:
        self._bits = np.unpackbits(data)
        self._place = 0

    def read(self, count: int) -> int:
        """Return the next bits as a number."""
        bits = self.take(count)
        return int(bits @ (1 << np.arange(count - 1, -1, -1, dtype=np.int64)))

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """Return the next bits."""
        bits = self._bits[self._place : self._place + count]
        if len(bits) < count:
            raise ValueError("run lengths are cut off")
        self._place += count
        return bits.astype(np.int64)


def decode_brush(data: Sequence[int], height: int, width: int) -> Bytes:
    """Decode the run lengths of Label Studio's brush: four channels, the last of which is the mask.

    The bits are: the number of words (32), the words' bits less one (5), four sizes of lengths in
    bits less one (4 each), and then runs: a flag (1 of a run of one word, 0 of words one by one),
    which of the sizes the length has (2), the length less one, and the word or words.

    Args:
        data: bytes.
        height: of the image.
        width: of the image.

    Returns:
        uint8 [height, width] of 0 and 1: where the mask's channel is not 0.
    """
    array = np.asarray(data)
    if array.ndim != 1 or array.dtype.kind not in "iu" or ((array < 0) | (array > 255)).any():
        raise ValueError("run lengths must be a list of bytes")
    bits = _Bits(array.astype(np.uint8))
    words = bits.read(32)
    if words != 4 * height * width:
        raise ValueError(f"must be {height} x {width} pixels of 4 channels; are {words} values")
    word_bits = bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    scale = 1 << np.arange(word_bits - 1, -1, -1, dtype=np.int64)
    values = np.zeros(words, np.int64)
    place = 0
    while place < words:
        run = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        if place + length > words:
            raise ValueError("run lengths are longer than the image")
        if run:
            values[place : place + length] = bits.read(word_bits)
        else:
            each = bits.take(length * word_bits).reshape(-1, word_bits)
            values[place : place + length] = each @ scale
        place += length
    return (values.reshape(height, width, 4)[..., 3] > 0).astype(np.uint8)
