"""Symmetry of a geometry: rotations and reflections that map it onto itself, so that a Hessian needs one
atom a kind. Soft torsions leave minima a little off their symmetry; `symmetrised` puts them back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

TOLERANCE_BOHR = 0.02
"""Atoms that coincide within this after an operation are mapped onto each other."""
NEAR_BOHR = 0.1
"""The same for minima, which are as far off as the optimiser leaves their softest torsions."""


@dataclass(frozen=True)
class Operation:
    """Atom a goes to atom `images[a]`; `matrix` (3, 3) is orthogonal, x[images[a]] = matrix @ x[a] about the
    centre.
    """

    matrix: np.ndarray
    images: tuple[int, ...]


def operations(
    elements: Sequence[str], xyz: np.ndarray, tolerance: float = TOLERANCE_BOHR
) -> list[Operation]:
    """All operations of a non-linear geometry (N, 3) bohr, the identity first; linear ones get the identity
    only.
    """
    centred = xyz - xyz.mean(axis=0)
    found = [Operation(np.eye(3), tuple(range(len(xyz))))]
    anchor = _triangle(centred)
    if anchor is None:
        return found
    distances = np.linalg.norm(centred[:, None] - centred, axis=2)
    frame = _frame(centred[list(anchor)])
    for image in permutations(range(len(xyz)), 3):
        if any(elements[a] != elements[b] for a, b in zip(anchor, image, strict=True)):
            continue
        if np.abs(distances[np.ix_(image, image)] - distances[np.ix_(anchor, anchor)]).max() > tolerance:
            continue
        target = _frame(centred[list(image)])
        for handedness in (1.0, -1.0):
            matrix = target @ np.diag([1.0, 1.0, handedness]) @ frame.T
            images = _images(elements, centred, matrix, tolerance)
            if images is not None and images not in [operation.images for operation in found]:
                found.append(Operation(_best_matrix(centred, images), images))
    return found


def symmetrised(elements: Sequence[str], xyz: np.ndarray) -> np.ndarray:
    """The geometry (N, 3) bohr, about its centre, with the symmetry it has within NEAR_BOHR; `xyz` itself
    when that is no more than it has already.
    """
    near = operations(elements, xyz, NEAR_BOHR)
    if len(near) == len(operations(elements, xyz)):
        return xyz
    mean = np.zeros_like(xyz)
    for operation in near:
        mean[list(operation.images)] += (xyz - xyz.mean(axis=0)) @ operation.matrix.T / len(near)
    return mean if len(operations(elements, mean)) == len(near) else xyz  # near ones need not be a group


def unique_atoms(operations: Sequence[Operation]) -> list[int]:
    """The lowest-numbered atom of every set of equivalent atoms."""
    count = len(operations[0].images)
    return [a for a in range(count) if all(o.images[b] != a for o in operations for b in range(a))]


def complete_hessian(operations: Sequence[Operation], rows: dict[int, np.ndarray]) -> np.ndarray:
    """(3N, 3N) symmetric Hessian from rows (3, N, 3) of the `unique_atoms`, averaged over the operations."""
    count = len(operations[0].images)
    total, hits = np.zeros((count, 3, count, 3)), np.zeros(count)
    for operation in operations:
        images = list(operation.images)
        for atom, row in rows.items():
            turned = np.einsum("ux,xby,vy->ubv", operation.matrix, row, operation.matrix)
            total[images[atom]][:, images] += turned
            hits[images[atom]] += 1
    hessian = (total / hits[:, None, None, None]).reshape(3 * count, 3 * count)
    return np.asarray(0.5 * (hessian + hessian.T))


def _triangle(centred: np.ndarray) -> tuple[int, int, int] | None:
    """Three atoms well off a line, or None."""
    a = int(np.argmax(np.linalg.norm(centred, axis=1)))
    b = int(np.argmax(np.linalg.norm(centred - centred[a], axis=1)))
    heights = np.linalg.norm(np.cross(centred - centred[a], centred[b] - centred[a]), axis=1)
    c = int(np.argmax(heights))
    return (a, b, c) if heights[c] > 0.1 else None


def _frame(triangle: np.ndarray) -> np.ndarray:
    """(3, 3) columns are axes fixed to the triangle."""
    first = triangle[1] - triangle[0]
    first = first / np.linalg.norm(first)
    third = np.cross(first, triangle[2] - triangle[0])
    third = third / np.linalg.norm(third)
    return np.stack([first, np.cross(third, first), third], axis=1)


def _images(
    elements: Sequence[str], centred: np.ndarray, matrix: np.ndarray, tolerance: float
) -> tuple[int, ...] | None:
    gaps = np.linalg.norm((centred @ matrix.T)[:, None] - centred, axis=2)
    images = gaps.argmin(axis=1)
    matched = gaps.min(axis=1).max() < 3.0 * tolerance and len(set(images)) == len(images)
    if not matched or any(elements[a] != elements[b] for a, b in enumerate(images)):
        return None
    refined = _best_matrix(centred, tuple(images))
    moved = centred @ refined.T
    return tuple(map(int, images)) if np.abs(moved - centred[images]).max() < tolerance else None


def _best_matrix(centred: np.ndarray, images: tuple[int, ...]) -> np.ndarray:
    """Orthogonal matrix, reflections allowed, that maps the atoms onto their images in least squares
    (Kabsch).
    """
    left, _, right = np.linalg.svd(centred[list(images)].T @ centred)
    return np.asarray(left @ right)
