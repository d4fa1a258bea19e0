"""Starting boxes: rigid conformers packed into a periodic cube by packmol (Martinez et al., JCC 30, 2157,
2009)."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from phyff.errors import SimulationError

TOLERANCE_NM = 0.2
"""Smallest distance between atoms of different molecules that packmol aims for."""


@dataclass(frozen=True)
class PackedSpecies:
    """What packmol needs to know of one species.

    Attributes:
        name: for messages.
        elements: symbols, length n_atoms.
        conformers: one or more (n_atoms, 3) arrays in nm.
        weights: relative weight of each conformer, same length as conformers.
        count: number of molecules.
    """

    name: str
    elements: tuple[str, ...]
    conformers: tuple[NDArray[np.float64], ...]
    weights: tuple[float, ...]
    count: int


def pack(
    species: Sequence[PackedSpecies], edge_nm: float, seed: int, timeout_s: float = 600.0
) -> NDArray[np.float64]:
    """Pack molecules into a periodic cube.

    Returns (n_atoms, 3) positions in nm in topology order: all molecules of the first species, then the
    second, and so on. Molecules are whole, so some atoms may lie outside [0, edge). The same input and seed
    give the same box. Raises SimulationError when packmol is missing, fails or leaves molecules overlapping.
    """
    blocks = [
        (entry, xyz, number)
        for entry in species
        for xyz, number in zip(entry.conformers, conformer_counts(entry.weights, entry.count), strict=True)
        if number > 0
    ]
    if not blocks:
        raise SimulationError(
            "there is nothing to pack: every molecule count is zero, so give positive amounts."
        )
    packed = _run_packmol(blocks, edge_nm, seed, timeout_s)
    whole, molecule, start = [], [], 0
    for entry, xyz, number in blocks:
        size = len(entry.elements)
        part = packed[start : start + number * size].reshape(number, size, 3)
        whole.append(_make_whole(part, xyz, edge_nm, entry.name).reshape(-1, 3))
        start += number * size
        molecule += [size] * number
    positions = np.concatenate(whole)
    owner = np.repeat(np.arange(len(molecule)), molecule)
    closest = closest_contact(positions, owner, edge_nm, 0.8 * TOLERANCE_NM)
    if closest is not None:
        raise SimulationError(
            f"packmol left two molecules {closest[2]:.3f} nm apart in a box of {edge_nm:.2f} nm; "
            "the density estimate is too high, or use another seed."
        )
    return positions


def conformer_counts(weights: Sequence[float], count: int) -> list[int]:
    """Integers that sum to count and follow the weights best (largest remainder)."""
    shares = np.asarray(weights, dtype=float)
    if len(shares) == 0 or np.any(shares < 0) or shares.sum() <= 0:
        raise SimulationError("conformer weights must be non-negative with a positive sum.")
    exact = shares / shares.sum() * count
    numbers = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(numbers - exact, kind="stable")
    numbers[order[: count - int(numbers.sum())]] += 1
    return [int(n) for n in numbers]


def closest_contact(
    positions: NDArray[np.float64], molecule: NDArray[np.int_], edge_nm: float, within_nm: float
) -> tuple[int, int, float] | None:
    """Closest pair of atoms of different molecules in a periodic cube, if nearer than within_nm.

    Arguments: positions (n, 3) in nm, molecule (n,) owner of each atom. Returns (i, j, distance) or None.
    """
    wrapped = np.mod(positions, edge_nm)
    wrapped[wrapped >= edge_nm] = 0.0
    pairs = cKDTree(wrapped, boxsize=edge_nm).query_pairs(within_nm, output_type="ndarray")
    pairs = pairs[molecule[pairs[:, 0]] != molecule[pairs[:, 1]]]
    if len(pairs) == 0:
        return None
    delta = wrapped[pairs[:, 0]] - wrapped[pairs[:, 1]]
    distance = np.linalg.norm(delta - edge_nm * np.round(delta / edge_nm), axis=1)
    best = int(np.argmin(distance))
    return int(pairs[best, 0]), int(pairs[best, 1]), float(distance[best])


def _run_packmol(
    blocks: Sequence[tuple[PackedSpecies, NDArray[np.float64], int]],
    edge_nm: float,
    seed: int,
    timeout_s: float,
) -> NDArray[np.float64]:
    edge = 10.0 * edge_nm
    with tempfile.TemporaryDirectory(prefix="phyff-packmol-") as folder:
        lines = [f"tolerance {10 * TOLERANCE_NM:.3f}", "filetype xyz", f"seed {seed}"]
        lines += [f"pbc {edge:.6f} {edge:.6f} {edge:.6f}", "output packed.xyz"]
        for index, (entry, xyz, number) in enumerate(blocks):
            rows = [
                f"{e} {x:.8f} {y:.8f} {z:.8f}" for e, (x, y, z) in zip(entry.elements, 10 * xyz, strict=True)
            ]
            Path(folder, f"m{index}.xyz").write_text("\n".join([str(len(rows)), entry.name, *rows]) + "\n")
            lines += [f"structure m{index}.xyz", f"  number {number}", "end structure"]
        script = Path(folder, "packmol.inp")
        script.write_text("\n".join(lines) + "\n")
        try:
            with script.open() as stdin:  # a file, because packmol rewinds its input
                done = subprocess.run(
                    [_packmol_command()],
                    stdin=stdin,
                    capture_output=True,
                    text=True,
                    cwd=folder,
                    timeout=timeout_s,
                )
        except subprocess.TimeoutExpired:
            raise SimulationError(
                f"packmol found no packing within {timeout_s:.0f} s in a box of {edge_nm:.2f} nm; "
                "the density estimate is too high for these molecules."
            ) from None
        output = Path(folder, "packed.xyz")
        if done.returncode != 0 or "Success!" not in done.stdout or not output.exists():
            lines = (done.stdout + done.stderr).splitlines()
            said = [line.strip() for line in lines if "ERROR" in line or "error" in line.lower()]
            raise SimulationError(
                f"packmol could not fill a box of {edge_nm:.2f} nm"
                + (f" ({said[0].rstrip('.')})" if said else "")
                + "; the density estimate is too high, or use another seed."
            )
        packed = [line.split()[1:4] for line in output.read_text().splitlines()[2:] if line.strip()]
    return np.asarray(packed, dtype=float) / 10.0


def _packmol_command() -> str:
    beside = Path(sys.executable).with_name("packmol")
    found = str(beside) if beside.exists() else shutil.which("packmol")
    if found is None:
        raise SimulationError("the packmol command is missing; install it with `pip install packmol`.")
    return found


def _make_whole(
    part: NDArray[np.float64], conformer: NDArray[np.float64], edge_nm: float, name: str
) -> NDArray[np.float64]:
    """Undo packmol's wrapping of single atoms: each atom joins the image nearest to a placed neighbour.

    part is (number, size, 3) in nm; the walk follows a spanning tree of nearest atoms of the conformer.
    """
    whole = part.copy()
    distance = np.linalg.norm(conformer[:, None] - conformer[None], axis=2)
    placed, left = [0], list(range(1, len(conformer)))
    while left:
        table = distance[np.ix_(placed, left)]
        near, new = np.unravel_index(int(np.argmin(table)), table.shape)
        parent, atom = placed[int(near)], left.pop(int(new))
        shift = np.round((whole[:, atom] - whole[:, parent]) / edge_nm)
        whole[:, atom] -= edge_nm * shift
        placed.append(atom)
    found = np.linalg.norm(whole[:, :, None] - whole[:, None], axis=3)
    if np.abs(found - distance).max() > 1e-3:
        raise SimulationError(
            f"packmol distorted a molecule of {name}; the box of {edge_nm:.2f} nm is too small."
        )
    return whole
