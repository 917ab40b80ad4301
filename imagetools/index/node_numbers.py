"""Which local codes stand for which node: numbers of codes by node, and nodes by number."""

import numpy as np
from numpy.typing import NDArray

from imagetools.index.growing import grown


class NodeNumbers:
    """Nodes with local codes. Numbers are given out in ascending order; a node has one at most."""

    def __init__(self) -> None:
        """Make an empty table."""
        # by node, one more than its number; 0: it has none
        self._of_node = np.zeros(0, np.uint32)
        # ascending, with numbers that are no longer in use, and the node that each was given to
        self._numbers = np.zeros(0, np.uint32)
        self._nodes = np.zeros(0, np.uint32)
        self._given = 0
        self._in_use = 0

    def number_of(self, node: int) -> int | None:
        """Return the number of a node, None where it has none."""
        given = int(self._of_node[node]) if 0 <= node < len(self._of_node) else 0
        return given - 1 if given else None

    def node_of(self, number: int) -> int | None:
        """Return the node with a number, None where there is none."""
        at = int(np.searchsorted(self._numbers[: self._given], number))
        if at == self._given or self._numbers[at] != number:
            return None
        node = int(self._nodes[at])
        return node if self.number_of(node) == number else None

    def nodes_of(self, numbers: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the nodes with these numbers, all in use."""
        return self._nodes[np.searchsorted(self._numbers[: self._given], numbers)].astype(np.int64)

    def give(self, node: int, number: int) -> None:
        """Give a node a number, greater than all before it."""
        self.take(node)
        if self._given > 2 * self._in_use + 64:
            self._drop_unused()
        self._of_node = grown(self._of_node, node + 1)
        self._numbers, self._nodes = grown(self._numbers, self._given + 1), grown(self._nodes, self._given + 1)
        self._of_node[node] = number + 1
        self._numbers[self._given], self._nodes[self._given] = number, node
        self._given += 1
        self._in_use += 1

    def take(self, node: int) -> None:
        """Take a node's number away; a node without one is no error."""
        if self.number_of(node) is not None:
            self._of_node[node] = 0
            self._in_use -= 1

    @classmethod
    def restored(cls, numbers: NDArray[np.uint32], nodes: NDArray[np.int64]) -> "NodeNumbers":
        """Make a table of ascending numbers and their nodes."""
        table = cls()
        table._of_node = np.zeros(int(nodes.max(initial=-1)) + 1, np.uint32)
        table._of_node[nodes] = numbers + np.uint32(1)
        table._numbers, table._nodes = numbers.copy(), nodes.astype(np.uint32)
        table._given = table._in_use = len(numbers)
        return table

    def _drop_unused(self) -> None:
        numbers, nodes = self._numbers[: self._given], self._nodes[: self._given]
        used = self._of_node[nodes] == numbers + np.uint32(1)
        self._numbers, self._nodes = numbers[used], nodes[used]
        self._given = len(self._numbers)
