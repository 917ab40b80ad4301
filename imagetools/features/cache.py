"""Features of images: from memory, then from disk, then computed."""

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from cachetools import LRUCache

from imagetools.features.config import FeatureConfig
from imagetools.features.extract import Features
from imagetools.features.read import read_features
from imagetools.features.store import FeatureStore
from imagetools.hardware import usable_cores
from imagetools.image_root import ImageRoot
from imagetools.opener import FileOpener
from imagetools.paths import shown

MAX_BYTES: Final = 512 * 1024 * 1024
"""Of features in memory: some 4,000 images at the default box, fewer at a larger one."""

_Key = tuple[str, str, str]
"""Name of the root, path in it, and state of the file."""


class FeatureSource(StrEnum):
    """Where features come from."""

    MEMORY = "memory"
    DISK = "disk"
    COMPUTED = "computed"


class FeatureCache:
    """Gives the features of images, computed once for each state of a file. Thread-safe."""

    def __init__(
        self,
        config: FeatureConfig,
        *,
        store: FeatureStore | None = None,
        max_bytes: int = MAX_BYTES,
        max_computing: int | None = None,
        on_read: Callable[[ImageRoot, str], None] | None = None,
    ) -> None:
        """Start with an empty memory.

        store          keeps features beyond memory and beyond this process; `close` closes it
        max_bytes      of features in memory
        max_computing  threads that compute or unpack at a time; by default as many as cores. Any number may wait for
                       files
        on_read        called with root and path of every file that was read, or that is as it was when it was read
        """
        self._config = config
        self._store = store
        self._max_bytes = max_bytes
        self._memory: LRUCache[_Key, Features] = LRUCache(max_bytes, getsizeof=lambda features: features.nbytes)
        self._on_read = on_read
        self._lock = threading.Lock()
        self._found = dict.fromkeys(FeatureSource, 0)
        self._cores = threading.BoundedSemaphore(max_computing or usable_cores())

    def get(self, root: ImageRoot, path: str) -> Features:
        """Return the features of an image file: from memory, from disk, or computed.

        ImageError, ImageRootUnavailable.
        """
        # a path is in memory only after `read` has found it inside the root, so that it need not be resolved again
        state = root.state(path)
        if state is None:
            # `read` tells what is wrong
            return self._compute(root, path)[0]
        key = root.name, path, state
        with self._lock:
            known = self._memory.get(key)
            self._found[FeatureSource.MEMORY] += known is not None
        if known is not None:
            return known
        features = self._load(root, path, state)
        if features is not None and self._on_read is not None:
            self._on_read(root, path)
        self._count(FeatureSource.COMPUTED if features is None else FeatureSource.DISK)
        if features is None:
            features, found = self._compute(root, path)
            if found != state:
                # the file changes just now
                return features
            if self._store is not None:
                self._store.put(root, path, state, features)
        if features.nbytes <= self._max_bytes:
            with self._lock:
                self._memory[key] = features
        return features

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()

    def __len__(self) -> int:
        """Return how many images' features are in memory."""
        return len(self._memory)

    @property
    def found(self) -> dict[FeatureSource, int]:
        """How many features of readable files came from each source."""
        with self._lock:
            return dict(self._found)

    @property
    def nbytes(self) -> int:
        """Bytes of the features in memory."""
        return int(self._memory.currsize)

    def _count(self, source: FeatureSource) -> None:
        with self._lock:
            self._found[source] += 1

    def _load(self, root: ImageRoot, path: str, state: str) -> Features | None:
        if self._store is None:
            return None
        # more threads would hand the interpreter to each other more than they read
        with self._cores:
            return self._store.get(root, path, state)

    def _compute(self, root: ImageRoot, path: str) -> tuple[Features, str | None]:
        """Return the features of a file, and the state that it had."""
        data, state = root.read_with_state(path)
        if self._on_read is not None:
            self._on_read(root, path)
        with self._cores:
            return read_features(FileOpener(lambda: data, shown(path), root.config), self._config), state
