"""Images to announce that lie in a store: named by their paths in it, or by their addresses."""

import os
from collections.abc import Callable, Iterator

from cli.slow_progress import said_if_slow
from cli.standard_error import say
from imagetools.errors import ConfigError, OutsideRoot
from imagetools.folder import Skipped
from imagetools.formats import IMAGE_SUFFIXES
from imagetools.image_root import ImageRoot
from imagetools.object_keys import key_of
from imagetools.paths import shown
from imagetools.places import is_address


class StorePaths:
    """Turns addresses and paths into paths relative to the service's root, which is a store."""

    def __init__(self, root: str, *, gone: bool = False, private: bool = False) -> None:
        """Read nothing yet.

        gone     the images were removed, so that they need not be there
        private  as in `ImageRoot`
        ConfigError as `ImageRoot`.
        """
        self._root = root.rstrip("/")
        self._gone = gone
        self._private = private
        self._images = ImageRoot(root, private=private)

    def is_image(self, source: str) -> bool:
        """Return whether a source names one image of the store: by its address, or by a path that is not here."""
        is_image = os.path.splitext(source)[1].lower() in IMAGE_SUFFIXES
        return is_image and (is_address(source) or not os.path.lexists(source))

    def listed(self, address: str, on_skipped: Callable[[Skipped], None] | None = None) -> Iterator[str]:
        """Return the images below an address, page by page. OutsideRoot, ConfigError; ImageRootUnavailable later."""
        inside = self._inside(address)
        below = f"{inside}/" if inside else ""
        images = ImageRoot(address, private=self._private).images(on_skipped)
        return (below + path for path in images)

    def address_of(self, path: str) -> str | None:
        """Return the address of what lies below a path in the store; None where nothing does. ImageRootUnavailable."""
        if os.path.isabs(path):
            return None
        address = f"{self._root}/{path.rstrip('/')}"
        try:
            images = ImageRoot(address, private=self._private)
        except ConfigError:
            # such as one with '..' in it
            return None
        return None if images.is_empty() else address

    def relative(self, text: str) -> str:
        """Return the path that a text means. OutsideRoot, ImageRootUnavailable, and as `ImageRoot.status`."""
        path = key_of(self._inside(text) if is_address(text) else text)
        if not self._gone:
            with said_if_slow(say, f"{self._root} does not answer yet"):
                self._images.status(path)
        return path

    def _inside(self, address: str) -> str:
        """Return what follows the root in an address; empty for the root's own. OutsideRoot."""
        below = f"{address.rstrip('/')}/"
        if not below.startswith(f"{self._root}/"):
            raise OutsideRoot(shown(address), f"is not below {self._root}, where the service's images are")
        return below.removeprefix(f"{self._root}/").rstrip("/")
