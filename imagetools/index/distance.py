"""Distances between vectors as the graphs measure them, and the scores that they stand for."""

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
"""float32 (d,)."""


def score_of(distance: float, distance_type: str) -> float:
    """Map a distance to [0, 1]: max(0, cosine) for the cosine types and Angle, 1 / (1 + distance) for L1 and L2."""
    match distance_type:
        case "Cosine" | "Normalized Cosine":
            cosine = 1.0 - distance
        case "Angle":
            cosine = math.cos(distance)
        case _:
            return 1.0 / (1.0 + distance)
    return min(1.0, max(0.0, cosine))


def distances(vector: Vector, others: npt.NDArray[np.float32], distance_type: str) -> npt.NDArray[np.float64]:
    """Measure exactly from one vector (d,) to each row of (n, d); float64 (n,)."""
    match distance_type:
        case "L1":
            return np.asarray(np.abs(others - vector).sum(axis=1, dtype=np.float64))
        case "L2":
            return np.asarray(np.sqrt(np.square(others - vector).sum(axis=1, dtype=np.float64)))
        case "Angle":
            return np.asarray(np.arccos(np.clip(cosines(vector, others), -1.0, 1.0)))
        case _:
            return np.asarray(1.0 - cosines(vector, others))


def cosines(vector: Vector, others: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Compute the cosine of one vector (d,) with each row of (n, d), in double precision."""
    wide = others.astype(np.float64)
    products = wide @ vector.astype(np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * math.sqrt(float(np.square(vector, dtype=np.float64).sum()))
    return np.asarray(products / lengths)
