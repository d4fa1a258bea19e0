"""Geometries on which a species' valence terms are fitted: thermal normal-mode displacements, rigid torsion
scans, and random rigid rotations about several bonds at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from rdkit.Geometry import Point3D

from phyff.errors import FitError
from phyff.species.molecule import Molecule
from phyff.units import GAS_CONSTANT

NEAR_LINEAR = np.deg2rad(165.0)
"""A bond angle beyond this is treated as straight: no dihedral runs through it."""


@dataclass(frozen=True)
class TorsionScan:
    """Rigid rotation about the middle bond of `atoms`."""

    atoms: tuple[int, int, int, int]
    angles: NDArray[np.float64]
    """(n_points,) rad, the dihedral of `atoms`."""
    xyz: NDArray[np.float64]
    """(n_points, N, 3) nm."""


def normal_modes(
    xyz: NDArray[np.float64], hessian: NDArray[np.float64], masses: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared angular frequencies (M,) in 1/ps^2 and mass-weighted modes (3N, M), translation and rotation
    removed.

    xyz (N, 3) nm; hessian (3N, 3N) kJ/mol/nm^2; masses (N,) amu. M = 3N - 6, or 3N - 5 for a linear species.
    """
    size = xyz.size
    if hessian.shape != (size, size):
        raise FitError(f"hessian: shape {hessian.shape} should be ({size}, {size}) for {len(xyz)} atoms")
    weight = np.sqrt(np.repeat(masses, 3))
    centred = xyz - np.average(xyz, axis=0, weights=masses)
    shifts = [np.tile(axis, len(xyz)) for axis in np.eye(3)]
    turns = [np.cross(axis, centred).ravel() / max(np.abs(centred).max(), 1e-9) for axis in np.eye(3)]
    left, singular, _ = np.linalg.svd(np.array(shifts + turns).T * weight[:, None])
    internal = left[:, int(np.sum(singular > 1e-4 * singular[0])) :]
    weighted = (hessian + hessian.T) / 2 / np.outer(weight, weight)
    eigenvalues, vectors = np.linalg.eigh(internal.T @ weighted @ internal)
    return eigenvalues, internal @ vectors


def thermal_displacements(
    xyz: NDArray[np.float64],
    hessian: NDArray[np.float64],
    masses: NDArray[np.float64],
    temperature: float,
    n: int,
    seed: int,
    cap: float = 0.02,
) -> NDArray[np.float64]:
    """n geometries (n, N, 3) in nm from the classical harmonic Boltzmann distribution about a minimum.

    xyz (N, 3) nm; hessian (3N, 3N) kJ/mol/nm^2; masses (N,) amu; temperature K. Modes are straight lines, so
    a soft torsion drawn to its full amplitude would stretch bonds: no mode moves any atom by more than `cap`
    nm. A mode of zero or negative curvature is drawn within the cap.
    """
    eigenvalues, modes = normal_modes(xyz, hessian, masses)
    patterns = (modes / np.sqrt(np.repeat(masses, 3))[:, None]).T.reshape(-1, len(xyz), 3)
    reach = cap / np.linalg.norm(patterns, axis=2).max(axis=1)
    stiffest = np.abs(eigenvalues).max()
    width = np.sqrt(GAS_CONSTANT * temperature / np.maximum(eigenvalues, 1e-8 * stiffest))
    width = np.where(eigenvalues > 0, width, reach)
    amplitudes = np.clip(np.random.default_rng(seed).normal(size=(n, len(width))) * width, -reach, reach)
    return xyz + np.einsum("sm,mnx->snx", amplitudes, patterns)


def torsion_scan_geometries(molecule: Molecule, xyz: NDArray[np.float64], n_points: int) -> list[TorsionScan]:
    """Rigid scans, one for each symmetry-distinct rotatable bond of a species at geometry xyz (N, 3) in nm.

    A scan starts at the present dihedral and covers one period: a full turn, or a third of it when an end
    carries three equal groups (CH3, CF3), n_points evenly spaced with the end left out. Methyl-like rotors
    are scanned too.
    """
    scans = []
    for i, j, k, m in rotatable_dihedrals(molecule, xyz):
        fold = max(_rotor_fold(molecule, j, k), _rotor_fold(molecule, k, j))
        conformer = _conformer(molecule, xyz)
        start = rdMolTransforms.GetDihedralRad(conformer, i, j, k, m)
        angles = start + np.arange(n_points) * 2 * np.pi / fold / n_points
        frames = []
        for angle in angles:
            rdMolTransforms.SetDihedralRad(conformer, i, j, k, m, float(angle))
            frames.append(conformer.GetPositions() / 10)
        scans.append(TorsionScan((i, j, k, m), (angles + np.pi) % (2 * np.pi) - np.pi, np.array(frames)))
    return scans


def twisted_geometries(
    molecule: Molecule,
    xyz: NDArray[np.float64],
    dihedrals: Sequence[tuple[int, int, int, int]],
    rng: np.random.Generator,
) -> Iterator[NDArray[np.float64]]:
    """Without end: xyz (N, 3) nm with every one of these acyclic dihedrals turned to a random angle."""
    while True:
        conformer = _conformer(molecule, xyz)
        for dihedral in dihedrals:
            rdMolTransforms.SetDihedralRad(conformer, *dihedral, float(rng.uniform(-np.pi, np.pi)))
        yield conformer.GetPositions() / 10


def skeleton_dihedrals(molecule: Molecule, xyz: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """One dihedral of heavy atoms through each acyclic single bond of a species that has one."""
    heavy = [a for a in range(molecule.n_atoms) if molecule.elements[a] != "H"]
    return [
        (left[0], j, k, right[0])
        for j, k, left, right in _rotatable_bonds(molecule, xyz, heavy)
        if left and right
    ]


def rotatable_dihedrals(molecule: Molecule, xyz: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """One dihedral through each symmetry-distinct acyclic single bond whose two ends both carry bent
    groups."""
    classes = molecule.symmetry_classes
    found: dict[tuple[int, ...], tuple[int, int, int, int]] = {}
    for j, k, left, right in _rotatable_bonds(molecule, xyz, range(molecule.n_atoms)):
        if left and right:
            key = tuple(sorted((classes[j], classes[k])))
            found.setdefault(key, (left[0], j, k, right[0]))
    return list(found.values())


def _rotatable_bonds(
    molecule: Molecule, xyz: NDArray[np.float64], ends: Sequence[int]
) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Acyclic single bonds, with those of `ends` on either side that are not in line with the bond."""
    for bond in molecule.rdkit().GetBonds():
        j, k = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if not bond.IsInRing() and bond.GetBondType() == Chem.BondType.SINGLE:
            left = [i for i in molecule.neighbours(j) if i != k and _bend(xyz, i, j, k) < NEAR_LINEAR]
            right = [m for m in molecule.neighbours(k) if m != j and _bend(xyz, j, k, m) < NEAR_LINEAR]
            yield j, k, [i for i in left if i in ends], [m for m in right if m in ends]


def _conformer(molecule: Molecule, xyz: NDArray[np.float64]) -> Chem.Conformer:
    """A conformer of RDKit at xyz (N, 3) nm, of a molecule of its own."""
    mol, conformer = Chem.Mol(molecule.rdkit()), Chem.Conformer(molecule.n_atoms)
    mol.RemoveAllConformers()
    for atom, position in enumerate(xyz * 10):
        conformer.SetAtomPosition(atom, Point3D(*map(float, position)))
    mol.AddConformer(conformer)
    return mol.GetConformer()


def _rotor_fold(molecule: Molecule, centre: int, partner: int) -> int:
    groups = [molecule.symmetry_classes[i] for i in molecule.neighbours(centre) if i != partner]
    return 3 if len(groups) == 3 and len(set(groups)) == 1 else 1


def _bend(xyz: NDArray[np.float64], i: int, j: int, k: int) -> float:
    u, v = xyz[i] - xyz[j], xyz[k] - xyz[j]
    return float(np.arctan2(np.linalg.norm(np.cross(u, v)), u @ v))
