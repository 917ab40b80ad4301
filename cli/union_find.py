"""Groups of images that pairs connect, directly or through others."""

from collections.abc import Iterable


class UnionFind:
    """Connected components of pairs, by union-find with path halving."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._parent: dict[str, str] = {}
        for one, two in pairs:
            self.join(one, two)

    def join(self, one: str, two: str) -> None:
        """Connect two images."""
        first, second = self._head(one), self._head(two)
        if first != second:
            self._parent[second] = first

    def connected(self, one: str, two: str) -> bool:
        """Return whether pairs connect the two."""
        return self._head(one) == self._head(two)

    def components(self) -> list[list[str]]:
        """Return every group, the largest first; otherwise in the order in which they were added."""
        groups: dict[str, list[str]] = {}
        for path in self._parent:
            groups.setdefault(self._head(path), []).append(path)
        return sorted(groups.values(), key=len, reverse=True)

    def _head(self, path: str) -> str:
        parent = self._parent
        parent.setdefault(path, path)
        while parent[path] != path:
            parent[path] = parent[parent[path]]
            path = parent[path]
        return path
