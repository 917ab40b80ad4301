"""What a network is held to: copies near their original, and all photos far from each other.

All vectors are of unit length, so that a dot product is a cosine.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it

Tensor = torch.Tensor


def contrast(queries: Tensor, keys: Tensor, shows: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """The mean over queries of how surprised a softmax over all keys is by what the query shows.

    queries  (n, d)
    keys     (m, d)
    shows    bool (n, m), the keys that a query should find; at least one each, and each as likely as the other
    ignored  bool (n, m), keys that are neither right nor wrong

    With one right key it is InfoNCE (van den Oord et al. 2018, eq. 4); with the pieces of a collage it is what SSCD
    does for mixed images (Pizzi et al. 2022, §3.4).
    """
    scores = (queries @ keys.T / temperature).masked_fill(ignored & ~shows, -torch.inf)
    surprise = -F.log_softmax(scores, dim=1)
    return torch.where(shows, surprise, 0.0).sum(1).div(shows.sum(1)).mean()


def nt_xent(first: Tensor, second: Tensor, shows: Tensor, ignored: Tensor, temperature: float) -> Tensor:
    """NT-Xent (Chen et al. 2020, eq. 1): every view of both sets against all views of both.

    first, second  (n, d), row i of both from photo i
    shows          bool (n, n): row i of the first shows photo j
    ignored        bool (n, n): photo j is neither right nor wrong for row i of the first
    """
    n = len(first)
    both = torch.cat((first, second))
    none = torch.zeros_like(shows)
    myself = torch.eye(n, dtype=torch.bool, device=first.device)
    # two collages that show one photo are no strangers either
    related = (shows.float() @ shows.float().T > 0) | ignored | ignored.T
    right = torch.cat((torch.cat((none, shows), 1), torch.cat((myself, none), 1)))
    left_out = torch.cat(
        (torch.cat((related | myself, ignored), 1), torch.cat((ignored.T | (shows.T & ~myself), myself), 1))
    )
    return contrast(both, both, right, left_out, temperature)


def koleo(vectors: Tensor) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest other vector: it spreads them over the sphere.

    vectors (n, d), n ≥ 2. Sablayrolles et al. 2019, eq. 3.
    """
    cosines = (vectors @ vectors.T).detach()
    cosines.fill_diagonal_(-torch.inf)
    nearest = vectors[cosines.argmax(dim=1)]
    # 1e-8 keeps equal vectors, as of two equal photos, from an infinite loss
    return -torch.log((vectors - nearest).norm(dim=1) + 1e-8).mean()


def distance_to_teacher(projected: Tensor, taught: Tensor) -> Tensor:
    """1 − cosine to another network's fingerprint of the same photo, the mean of the rows: (n, d) both."""
    return 1 - F.cosine_similarity(projected, taught, dim=1).mean()
