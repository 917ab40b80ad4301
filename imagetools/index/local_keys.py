"""Keys of local codes: in each of four tables, 28 of a code's 128 bits."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint32]

TABLES: Final = 4
KEY_BITS: Final = 28

# Drawn at random from the 87 bits that are set in 35 to 65 % of the codes of 1,676 photos
COLUMNS: Final = (
    (
        40, 32, 68, 62, 57, 77, 54, 1, 80, 64, 71, 65, 105, 104,
        127, 11, 5, 25, 7, 59, 92, 74, 70, 52, 36, 79, 106, 98,
    ),
    (
        102, 86, 13, 21, 59, 104, 58, 89, 63, 70, 110, 84, 72, 42,
        85, 40, 50, 62, 77, 111, 68, 65, 53, 45, 74, 48, 80, 88,
    ),
    (
        11, 31, 102, 21, 42, 74, 52, 91, 104, 106, 60, 84, 70, 117,
        69, 55, 75, 48, 32, 105, 119, 9, 77, 113, 15, 30, 76, 65,
    ),
    (
        101, 15, 76, 52, 73, 119, 30, 29, 100, 34, 74, 11, 126, 102,
        71, 18, 105, 5, 95, 121, 127, 110, 99, 117, 91, 125, 21, 45,
    ),
)  # fmt: skip
# Codes; each takes 256 bytes for a moment, and these stay within the cache of a core
_AT_ONCE: Final = 1 << 12


def _shares() -> NDArray[np.uint32]:
    """What each value of each byte of a code gives to its keys: uint32 (16 · 256, TABLES), joined by bitwise or."""
    shares = np.zeros((16, 256, TABLES), np.uint32)
    values = np.arange(256, dtype=np.uint32)
    for table, columns in enumerate(COLUMNS):
        for place, column in enumerate(columns):
            byte, bit = divmod(column, 8)
            shares[byte, :, table] |= (values >> (7 - bit) & 1) << (KEY_BITS - 1 - place)
    shares[0] |= np.arange(TABLES, dtype=np.uint32) << KEY_BITS
    return shares.reshape(-1, TABLES)


_SHARES: Final = _shares()
_FIRST_SHARES: Final = np.arange(0, len(_SHARES), 256)[:, np.newaxis]


def keys_of(codes: NDArray[np.uint8]) -> Keys:
    """Return the keys of codes, uint8 (n, 16), in each table: uint32 (TABLES, n), the table's number above the key."""
    keys = np.empty((TABLES, len(codes)), np.uint32)
    for start in range(0, len(codes), _AT_ONCE):
        part = codes[start : start + _AT_ONCE]
        shares = _SHARES.take(part.T + _FIRST_SHARES, axis=0)
        keys[:, start : start + _AT_ONCE] = np.bitwise_or.reduce(shares, axis=0).T
    return keys
