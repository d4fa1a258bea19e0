"""Conformers of one molecule: RDKit ETKDG guesses (ideal polyhedra for AB4-AB6 ions), relaxed with GFN2-xTB.

ETKDG: Wang, Witte, Robertson, Riniker, J. Chem. Inf. Model. 60, 2044 (2020); its guesses are joined by ones
without its torsion preferences, which would hide cis-trans esters. GFN2-xTB: Bannwarth, Ehlert, Grimme, J.
Chem. Theory Comput. 15, 1652 (2019). Every conformer returned is a true minimum: its curvatures are checked,
and a saddle (an eclipsed methyl) is pushed off its ridge and relaxed again. GFN2-xTB flattens rings such as
EC's, whose planar form is a saddle of better methods; these are returned slightly puckered, so that a better
method started from them reaches its minimum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import TorsionFingerprints, rdDistGeom
from rdkit.Chem.EnumerateStereoisomers import EnumerateStereoisomers, StereoEnumerationOptions
from scipy.optimize import minimize
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator, Result

from phyff.errors import InputError
from phyff.species.molecule import Molecule
from phyff.units import BOHR_ANGSTROM, HARTREE_KJ

SADDLE_CURVATURE = -3.4e-5
"""Mass-weighted curvature (hartree/bohr^2/amu) below which a point is a saddle: 30i cm-1."""
SAME_BASIN = 0.4
"""Half turns by which the torsions of geometries that are likely to relax to the same minimum differ, all
together: a third of a turn about one bond, as between a gauche and a trans form, is 0.67."""
MAX_GUESSES = 24
"""Structures of each kind of distance geometry that conformers start from."""


@dataclass(frozen=True)
class Conformer:
    """One local minimum of an isolated molecule."""

    xyz: np.ndarray
    """Positions (angstrom) in the molecule's atom order, mass centre at the origin, shape (n_atoms, 3)."""
    energy: float
    """GFN2-xTB energy above the lowest conformer (kJ/mol)."""


def conformers(
    molecule: Molecule, max_count: int = 10, window: float = 25.0, seed: int = 20240501
) -> list[Conformer]:
    """Distinct minima within `window` kJ/mol of the lowest, ordered by energy, at most `max_count`.

    Mirror images count as one. Unspecified stereocentres take one configuration, the same in all conformers.
    The same molecule and seed give the same answer. Raises InputError when no guess leads to a geometry that
    keeps the bonds.
    """
    if molecule.n_atoms == 1:
        return [Conformer(np.zeros((1, 3)), 0.0)]
    surface = _Surface(molecule)
    rough = _Distinct(molecule, same_distance=0.3, same_energy=3.0)
    for guess in _guesses(molecule, seed):
        try:
            rough.add(*surface.relax(guess, tolerance=2e-3))
        except TBLiteRuntimeError:
            continue  # a clashing guess without a converged density; the others stand for it
    minima = _Distinct(molecule, same_distance=0.2, same_energy=0.5)
    for energy, xyz in rough.found:
        if energy - rough.found[0][0] > window + 5.0 or len(minima.found) == max_count:
            break
        minima.add(*surface.minimum(xyz))
    if not minima.found:
        raise InputError(
            f"SMILES {molecule.smiles!r}: no isolated geometry keeps its bonds (GFN2-xTB breaks or joins "
            "some); check the SMILES, or use the ions it falls into."
        )
    lowest = minima.found[0][0]
    return [
        Conformer(_centred(molecule, xyz), energy - lowest)
        for energy, xyz in minima.found
        if energy - lowest <= window
    ]


def one_a_basin(molecule: Molecule, geometries: Sequence[np.ndarray]) -> list[int]:
    """Indices of the geometries (N, 3) in angstrom, leading ones first, that are likely to relax to different
    minima of a better method: those whose torsion fingerprints (Schulz-Gasch et al., J. Chem. Inf. Model. 52,
    1499 (2012)) differ by SAME_BASIN or more, summed over torsions: a mean over them would hide that one has
    turned. Mirror images count as one."""
    mol = Chem.Mol(molecule.rdkit())
    mol.RemoveAllConformers()
    torsions = sum(map(len, TorsionFingerprints.CalculateTorsionLists(mol)))
    kept: list[int] = []
    for number, xyz in enumerate(geometries):
        for mirror in (1.0, -1.0):
            conformer = Chem.Conformer(molecule.n_atoms)
            conformer.SetPositions(np.ascontiguousarray(xyz * [1.0, 1.0, mirror]))
            mol.AddConformer(conformer, assignId=True)  # 2 number, and its mirror image 2 number + 1
        images = [image for other in kept for image in (2 * other, 2 * other + 1)]
        if not images or SAME_BASIN <= torsions * min(
            TorsionFingerprints.GetTFDBetweenConformers(mol, [2 * number], images, useWeights=False)
        ):
            kept.append(number)
    return kept


def _guesses(molecule: Molecule, seed: int) -> list[np.ndarray]:
    """Unrelaxed structures (angstrom)."""
    polyhedron = _ideal_polyhedron(molecule)
    if polyhedron is not None:
        return [polyhedron]
    mol = molecule.rdkit()
    mol = next(iter(EnumerateStereoisomers(mol, StereoEnumerationOptions(onlyUnassigned=True, maxIsomers=1))))
    rotors = sum(
        min(len(molecule.neighbours(i)), len(molecule.neighbours(j))) > 1 and not _in_ring(mol, i, j)
        for i, j in molecule.bonds
    )
    count = min(6 + 6 * rotors, MAX_GUESSES)
    unbiased = rdDistGeom.KDG()
    unbiased.forceTransAmides = False  # type: ignore[assignment]  # leaves esters free as well
    guesses = _embed(mol, rdDistGeom.ETKDGv3(), count, seed) + _embed(mol, unbiased, count, seed)
    noise = np.random.default_rng(seed)
    return [xyz + 0.02 * noise.standard_normal(xyz.shape) for xyz in guesses]


def _embed(mol: Chem.Mol, method: Any, count: int, seed: int) -> list[np.ndarray]:
    """Structures from distance geometry, from random coordinates where the usual start fails."""
    method.randomSeed = seed
    method.pruneRmsThresh = 0.3
    with rdBase.BlockLogs():
        ids = list(rdDistGeom.EmbedMultipleConfs(mol, count, method))
        if not ids:
            method.useRandomCoords = True
            ids = list(rdDistGeom.EmbedMultipleConfs(mol, count, method))
    return [np.array(mol.GetConformer(i).GetPositions()) for i in ids]


def _in_ring(mol: Chem.Mol, i: int, j: int) -> bool:
    return bool(mol.GetBondBetweenAtoms(i, j).IsInRing())


def _ideal_polyhedron(molecule: Molecule) -> np.ndarray | None:
    """Tetrahedron, trigonal bipyramid or octahedron of a centre with 4 to 6 one-atom ligands, or None."""
    centre = max(range(molecule.n_atoms), key=lambda i: len(molecule.neighbours(i)))
    ligands = molecule.neighbours(centre)
    if len(ligands) not in _DIRECTIONS or len(ligands) != molecule.n_atoms - 1:
        return None
    xyz = np.zeros((molecule.n_atoms, 3))
    for ligand, direction in zip(ligands, np.array(_DIRECTIONS[len(ligands)]), strict=True):
        length = _covalent_radius(molecule.elements[centre]) + _covalent_radius(molecule.elements[ligand])
        xyz[ligand] = length * direction / np.linalg.norm(direction)
    return xyz


_DIRECTIONS: dict[int, list[tuple[float, float, float]]] = {
    4: [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)],
    5: [(0, 0, 1), (0, 0, -1), (1, 0, 0), (-0.5, 0.75**0.5, 0), (-0.5, -(0.75**0.5), 0)],
    6: [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)],
}


class _Surface:
    """GFN2-xTB energy surface of one molecule; its methods take and give angstrom and kJ/mol."""

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.masses = np.repeat(molecule.masses, 3)

    def relax(self, xyz: np.ndarray, tolerance: float) -> tuple[float, np.ndarray]:
        """Energy and positions downhill from `xyz`, to a largest gradient near `tolerance` (hartree/bohr).

        L-BFGS in coordinates scaled by the square root of a spring model's Hessian, which evens out stiff
        bonds and soft torsions.
        """
        start = xyz / BOHR_ANGSTROM
        energy_gradient = self._energy_gradient(start)
        values, vectors = np.linalg.eigh(self._spring_hessian(start))
        first_step = 0.05  # L-BFGS-B opens with a step of unit length: keep it short in bohr
        to_x = first_step * vectors / np.sqrt(values)

        def scaled(q: np.ndarray) -> tuple[float, np.ndarray]:
            energy, gradient = energy_gradient(start + (to_x @ q).reshape(-1, 3))
            return energy, to_x.T @ gradient.ravel()

        answer = minimize(
            scaled,
            np.zeros(start.size),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 150, "gtol": 3 * first_step * tolerance, "ftol": 1e-11},
        )
        x = start + (to_x @ answer.x).reshape(-1, 3)
        return float(answer.fun) * HARTREE_KJ, x * BOHR_ANGSTROM

    def minimum(self, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy and positions of the minimum near `xyz`, leaving saddles along their downward curvature.

        A saturated ring that GFN2-xTB flattens is handed on displaced along its softest mode.
        """
        energy, xyz = self.relax(xyz, tolerance=1e-4)
        for _ in range(3):
            curvature, mode = self._softest_mode(xyz)
            if curvature > SADDLE_CURVATURE:
                break
            energy, xyz = min(
                (self.relax(xyz + s * mode, tolerance=1e-4) for s in (1, -1)), key=itemgetter(0)
            )
        return energy, xyz + mode if self._has_flat_saturated_ring(xyz) else xyz

    def _softest_mode(self, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Lowest mass-weighted curvature apart from translation and rotation (hartree/bohr^2/amu), and its
        displacement (angstrom, largest component 0.25)."""
        step = 0.01
        x = xyz / BOHR_ANGSTROM
        energy_gradient = self._energy_gradient(x)
        reference = energy_gradient(x)[1]
        hessian = np.zeros((x.size, x.size))
        for k in range(x.size):
            shift = np.zeros(x.size)
            shift[k] = step
            hessian[k] = (energy_gradient(x + shift.reshape(-1, 3))[1] - reference).ravel() / step
        roots = np.sqrt(self.masses)
        values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T) / np.outer(roots, roots))
        rigid = np.linalg.qr(roots[:, None] * _rigid_motions(x))[0]
        internal = np.linalg.norm(rigid.T @ vectors, axis=0) < 0.5
        mode = (vectors[:, internal][:, 0] / roots).reshape(-1, 3)
        return float(values[internal][0]), 0.25 * mode / np.abs(mode).max()

    def _has_flat_saturated_ring(self, xyz: np.ndarray) -> bool:
        """Whether a ring of five or more atoms with a single bond of CH2 kind is planar to 0.03 angstrom."""
        mol = self.molecule.rdkit()
        for ring in mol.GetRingInfo().AtomRings():
            four = [len(self.molecule.neighbours(i)) == 4 for i in ring]
            saturated = any(a and b for a, b in zip(four, four[1:] + four[:1], strict=True))
            positions = xyz[list(ring)] - xyz[list(ring)].mean(axis=0)
            if saturated and len(ring) > 4 and np.linalg.svd(positions)[1][2] < 0.03 * len(ring) ** 0.5:
                return True
        return False

    def _energy_gradient(self, x: np.ndarray) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
        """Function of positions (bohr) that gives energy (hartree) and gradient (hartree/bohr)."""
        calculator = Calculator(
            "GFN2-xTB", self.molecule.atomic_numbers, x, charge=float(self.molecule.charge)
        )
        calculator.set("verbosity", 0)
        calculator.set("accuracy", 0.3)

        result: Result | None = None

        def evaluate(positions: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal result
            calculator.update(positions)
            try:
                result = calculator.singlepoint(result)
            except TBLiteRuntimeError:  # a density far from this geometry's; start from a fresh one
                result = calculator.singlepoint()
            return float(result.get("energy")), np.array(result.get("gradient"))

        return evaluate

    def _spring_hessian(self, x: np.ndarray) -> np.ndarray:
        """Hessian (hartree/bohr^2) of springs between atoms up to three bonds apart, and weak pins."""
        stiffness = {1: 0.5, 2: 0.15, 3: 0.02}
        separation = self.molecule.distance_matrix()
        n = len(x)
        hessian = np.zeros((n, 3, n, 3))
        for i in range(n):
            for j in range(i):
                if separation[i, j] in stiffness:
                    direction = (x[i] - x[j]) / np.linalg.norm(x[i] - x[j])
                    block = stiffness[int(separation[i, j])] * np.outer(direction, direction)
                    hessian[i, :, i] += block
                    hessian[j, :, j] += block
                    hessian[i, :, j] -= block
                    hessian[j, :, i] -= block
        return hessian.reshape(3 * n, 3 * n) + 0.02 * np.eye(3 * n)


class _Distinct:
    """Energy-ordered (kJ/mol, angstrom) structures that differ and keep the molecule's bonds.

    Two structures are the same when their energies agree within `same_energy` (kJ/mol) and all corresponding
    distances, up to equivalent atoms and mirror images, within `same_distance` (angstrom), or thrice that
    for distances of hydrogens, which slide along flat methyl rotations.
    """

    def __init__(self, molecule: Molecule, same_distance: float, same_energy: float) -> None:
        self.molecule = molecule
        self.same_distance = same_distance
        self.same_energy = same_energy
        self.found: list[tuple[float, np.ndarray]] = []

    def add(self, energy: float, xyz: np.ndarray) -> None:
        """Keep a structure if it is new, or in place of a copy of higher energy."""
        if not _keeps_bonds(self.molecule, xyz):
            return
        copies = [
            k
            for k, (other_energy, other) in enumerate(self.found)
            if abs(energy - other_energy) < self.same_energy
            and _largest_difference(self.molecule, xyz, other) < self.same_distance
        ]
        if any(self.found[k][0] <= energy for k in copies):
            return
        self.found = [pair for k, pair in enumerate(self.found) if k not in copies] + [(energy, xyz)]
        self.found.sort(key=itemgetter(0))


def _largest_difference(molecule: Molecule, one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference (angstrom; a third of it for hydrogens) of corresponding interatomic distances.

    Distances correspond by their rank within a pair of symmetry classes and a separation in bonds.
    """
    rows, columns = np.triu_indices(molecule.n_atoms, 1)
    separation = molecule.distance_matrix()[rows, columns]
    pair_classes = np.sort(np.take(molecule.symmetry_classes, [rows, columns]), axis=0)
    light = np.array([element == "H" for element in molecule.elements])
    weight = np.where(light[rows] | light[columns], 1 / 3, 1.0)

    def ranked(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.linalg.norm(xyz[rows] - xyz[columns], axis=1)
        order = np.lexsort((lengths, separation, *pair_classes))
        return lengths[order], weight[order]

    lengths, weights = ranked(one)
    return float((weights * np.abs(lengths - ranked(other)[0])).max())


def _rigid_motions(x: np.ndarray) -> np.ndarray:
    """Displacements of translation and rotation, shape (3 n_atoms, 6); five independent ones when linear."""
    centred = x - x.mean(axis=0)
    turns = [np.cross(axis, centred).ravel() for axis in np.eye(3)]
    return np.stack([*(np.tile(axis, len(x)) for axis in np.eye(3)), *turns], axis=1)


def _keeps_bonds(molecule: Molecule, xyz: np.ndarray) -> bool:
    """Whether every bond is shorter, and every other pair longer, than 1.3 times the covalent radii."""
    radii = np.array([_covalent_radius(element) for element in molecule.elements])
    distances = np.linalg.norm(xyz[:, None] - xyz, axis=-1)
    close = distances < 1.3 * (radii[:, None] + radii)
    bonded = molecule.distance_matrix() == 1
    heavy = np.array([element != "H" for element in molecule.elements])
    unrelated = (molecule.distance_matrix() > 2) & (heavy[:, None] | heavy)
    return bool(np.all(close[bonded]) and not np.any(close[unrelated]))


def _covalent_radius(element: str) -> float:
    """Angstrom."""
    return float(Chem.GetPeriodicTable().GetRcovalent(element))


def _centred(molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
    return xyz - np.average(xyz, axis=0, weights=molecule.masses)
