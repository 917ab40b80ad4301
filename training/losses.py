"""Losses that pull copies to their originals and push different photos apart.

All vectors are of unit length, so a dot product is a cosine.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it

Tensor = torch.Tensor


def contrast(queries: Tensor, keys: Tensor, shows: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of a softmax over all keys against the keys that each query shows.

    queries  (n, d)
    keys     (m, d)
    shows    bool (n, m), the positives of each query: at least one, all weighted alike
    ignored  bool (n, m), keys that are neither positive nor negative

    With one positive it is InfoNCE (van den Oord et al. 2018, eq. 4); with the pieces of a collage it is SSCD's loss
    for mixed images (Pizzi et al. 2022, §3.4).
    """
    scores = (queries @ keys.T / temperature).masked_fill(ignored & ~shows, -torch.inf)
    cross_entropy = -F.log_softmax(scores, dim=1)
    return torch.where(shows, cross_entropy, 0.0).sum(1).div(shows.sum(1)).mean()


def nt_xent(first: Tensor, second: Tensor, shows: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """Return NT-Xent (Chen et al. 2020, eq. 1): each view of both sets against all other views.

    first, second  (n, d), row i of both from photo i
    shows          bool (n, n): row i of the first shows photo j
    ignored        bool (n, n): photo j is neither positive nor negative for row i of the first
    """
    n = len(first)
    both = torch.cat((first, second))
    none = torch.zeros_like(shows)
    myself = torch.eye(n, dtype=torch.bool, device=first.device)
    # two collages that show the same photo are no negatives either
    related = (shows.float() @ shows.float().T > 0) | ignored | ignored.T
    right = torch.cat((torch.cat((none, shows), 1), torch.cat((myself, none), 1)))
    left_out = torch.cat(
        (torch.cat((related | myself, ignored), 1), torch.cat((ignored.T | (shows.T & ~myself), myself), 1))
    )
    return contrast(both, both, right, left_out, temperature)


def koleo(vectors: Tensor) -> Tensor:
    """Return minus the mean logarithm of the distance to the nearest other vector, which spreads them on the sphere.

    vectors (n, d), n ≥ 2. Sablayrolles et al. 2019, eq. 3.
    """
    cosines = (vectors @ vectors.T).detach()
    cosines.fill_diagonal_(-torch.inf)
    nearest = vectors[cosines.argmax(dim=1)]
    # 1e-8: the vectors of two equal photos give a finite loss
    return -torch.log((vectors - nearest).norm(dim=1) + 1e-8).mean()


def distance_to_teacher(projected: Tensor, taught: Tensor) -> Tensor:
    """Return the mean of 1 − cosine to another network's fingerprints of the same photos: (n, d) both."""
    return 1 - F.cosine_similarity(projected, taught, dim=1).mean()
