"""Fingerprints of past originals, the negatives of later steps (the queue of MoCo, He et al. 2020)."""

from typing import Final

import torch

from training.losses import contrast

Tensor = torch.Tensor

TWIN_COSINE: Final = 0.9
"""Two originals at this cosine or above are the same picture, not negatives: a folder may hold duplicates. Different
garments on one bedsheet reach 0.86."""


class KeyMemory:
    """The newest keys, in order of age.

    keys  float32 (size, d), of unit length
    ids   int64 (size,), the photo of each key; −1 for an empty place
    """

    def __init__(self, size: int, dimension: int, device: torch.device) -> None:
        self.keys = torch.zeros(size, dimension, device=device)
        self.ids = torch.full((size,), -1, device=device)

    def contrast(
        self, queries: Tensor, keys: Tensor, ids: Tensor, shows: Tensor, touches: Tensor, temperature: float
    ) -> Tensor:
        """Return the contrastive loss of queries against the batch's keys and the remembered ones.

        queries         (n, d)
        keys, ids       (n, d) and (n,), originals of the batch and their photos
        shows, touches  bool (n, n), as in Views
        """
        filled = self.ids >= 0
        every = torch.cat((keys, self.keys[filled]))
        names = torch.cat((ids, self.ids[filled]))
        # past keys of the photos in a view, and twins of these, are neither positive nor negative
        related = (shows | touches).float() @ (ids[:, None] == names).float() > 0
        ignored = related | (shows.float() @ twins(keys, every).float() > 0)
        ignored[:, : len(ids)] |= touches
        positive = torch.zeros_like(related)
        positive[:, : len(ids)] = shows
        return contrast(queries, every, positive, ignored, temperature)

    def push(self, keys: Tensor, ids: Tensor) -> None:
        """Replace the oldest keys by these."""
        count = min(len(keys), len(self.keys))
        self.keys = torch.cat((self.keys[count:], keys[:count]))
        self.ids = torch.cat((self.ids[count:], ids[:count]))


def twins(keys: Tensor, others: Tensor) -> Tensor:
    """Return which pairs of originals are the same picture: bool (n, m)."""
    return keys @ others.T > TWIN_COSINE
