"""Features on disk, for images that memory has no room for, and for the time after a restart.

A cache in one SQLite file that any number of threads and processes of a machine share: whatever is wrong with it,
features are computed as without it. The folder must be on a local disk: network file systems do not lock well enough
for SQLite.
"""

import logging
from pathlib import Path
from typing import Final

from imagetools.errors import ConfigError
from imagetools.features import retention
from imagetools.features.config import FeatureConfig
from imagetools.features.database import FILE, SIZES, FeatureDatabase
from imagetools.features.extract import Features
from imagetools.features.pack import Packed, unpack
from imagetools.features.retention import Retention
from imagetools.features.version import maker_of
from imagetools.features.writer import FeatureWriter, NewFeatures, Use, checksum
from imagetools.image_root import ImageRoot

__all__ = ["FILE", "FeatureStore"]

log = logging.getLogger(__name__)

# A writer that is stuck for longer when the store is closed is left behind
_CLOSE_S: Final = 15.0
_FLUSH_S: Final = 60.0


class FeatureStore:
    """Keeps features by root, path and state of the file; deletes the least recently used, by the day, when it is full.

    `get` and `put` may be called from any thread. Neither waits for another process, nor raises errors of the file or
    the disk: they are logged, and the caller computes. A thread of the store's own does all writing.
    """

    def __init__(self, folder: Path, limit_bytes: int, config: FeatureConfig) -> None:
        """Make the folder and the file if they are missing, readable by this user alone.

        limit_bytes  of the file; its journal takes some 30 MB beside it
        config       features by other settings, or by another FEATURES_VERSION, are not found

        ConfigError where the folder cannot be made or written.
        """
        self._maker = maker_of(config)
        try:
            self._database = FeatureDatabase(folder)
        except OSError as exc:
            raise ConfigError(f"the folder of features {folder}: {exc.strerror or exc}") from exc
        self._retention = Retention(self._database, limit_bytes, self._maker)
        self._writer = FeatureWriter(self._database, self._retention, self._maker)
        with self._database.errors_logged():
            self._database.prepare()
            log.info("%s: features of %d images", self._database.file, self.count())
        self._writer.start()

    def get(self, root: ImageRoot, path: str, state: str) -> Features | None:
        """Return the features of an image file in that `ImageRoot.state`; None where they are not kept."""
        with self._database.errors_logged():
            if self._database.damaged:
                return None
            row = self._database.connection.execute(
                f"SELECT id, used, crc, data, key, {SIZES} FROM images JOIN features USING (id)"
                " WHERE path = ? AND root = ? AND maker = ? AND state = ?",
                (path, retention.root_bytes(root), self._maker, state),
            ).fetchone()
            if row is None:
                return None
            number, used, crc, data, key, *sizes = row
            packed = Packed(tuple(sizes), data, key)
            if checksum(path, state, packed) != crc:
                raise ValueError(f"the features of {path} are damaged")
            if used != retention.today():
                self._writer.add(Use(number, state))
            return unpack(packed)
        return None

    def put(self, root: ImageRoot, path: str, state: str, features: Features) -> None:
        """Keep the features of an image, instead of those of another state of it.

        They are written soon, beside the caller's work; where the disk cannot follow, they are not kept.
        """
        self._writer.add(NewFeatures(root, path, state, features))

    def flush(self, timeout_s: float = _FLUSH_S) -> bool:
        """Wait until all features so far are written, as far as they can be; False where that takes longer."""
        return self._writer.flush(timeout_s)

    def count(self) -> int:
        """Return how many images' features are kept. sqlite3.Error where that cannot be read."""
        return int(self._database.connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def close(self) -> None:
        """Write what is left and close the file; no other thread may be in a method."""
        if self._writer.stop(_CLOSE_S):
            self._database.disconnect()
        else:
            log.warning("%s: left open: the disk, or a folder of images, does not answer", self._database.file)
