"""Which dimers the short range is fitted to: rigid scans from contact to 0.8 nm along chosen directions.

Random mutual orientations at contact are ranked by GFN2-xTB, and a spread of ranks (the best binding ones,
the middle, the repulsive) is scanned in distance. GFN2 only ranks; every energy in the data is decomposed at
the project's level. Angstrom and kJ/mol.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pyscf.data.elements import charge as nuclear_charge
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator

from phyff.errors import FitError
from phyff.qm.eda import NONLOCAL_GRID, Monomer, decompose
from phyff.qm.esp import vdw_radii
from phyff.qm.executor import Job
from phyff.qm.level import PHYFF_2026A, LevelOfTheory
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters
from phyff.units import BOHR_ANGSTROM

CONTACT_SCALES = (0.78, 0.86, 0.94, 1.04, 1.20)
"""Closest atom pair's distance over the sum of contact radii."""
FAR_ANGSTROM = 8.0
"""Centre distance of the last point of every scan (more if that would be closer than the one before)."""
ORIENTATIONS = 60
RANKS = (0, 1, 3, 8, 18, 32, 52)
"""Of the ORIENTATIONS ordered by GFN2 energy at scale 0.94, the scanned ones: 7 scans of 6 points a pair."""
RELAXED = 5
"""How many of the best orientations are relaxed in search of minima."""
MINIMA = 2
"""Scans through the best rigid minima of GFN2, such as stacked pairs, which random orientations miss."""
MINIMUM_SCALES = (0.92, 0.98, 1.05, 1.15, 1.35)
"""Centre distance over that of the minimum."""
SCANNED_CONFORMERS, SCANNED_WINDOW = 2, 15.0
"""How many conformers of a species the scans use, and up to what energy (kJ/mol)."""
ION_CONTACT_RADII = {"Li": 0.60, "Na": 0.95, "K": 1.30}
"""Angstrom; bare cations touch far inside their van der Waals radii (Shannon, six neighbours, rounded)."""


@dataclass(frozen=True)
class Partner:
    """A species in the scans: its molecule and rigid conformers, each (n, 3) in angstrom, lowest first."""

    molecule: Molecule
    conformers: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, species: SpeciesParameters) -> Partner:
        """Of a species, its lowest conformers."""
        shapes = [np.array(c.xyz_nm) * 10.0 for c in species.conformers if c.energy < SCANNED_WINDOW]
        return cls(species.molecule, tuple(shapes[:SCANNED_CONFORMERS]))


def approach_job_of(first: Partner, second: Partner, seed: int = 2026) -> Job:
    """The job that chooses the scans of one pair of species. Its record fixes the geometries: rankings by an
    approximate energy come out differently on another processor, and would ask for other dimers there. So
    would conformers that a later fit knows, and they are not part of the key either."""
    spec = {
        "first": _identity(first),
        "second": _identity(second),
        "seed": seed,
        "orientations": ORIENTATIONS,
        "ranks": list(RANKS),
        "contact_scales": list(CONTACT_SCALES),
        "minima": MINIMA,
        "minimum_scales": list(MINIMUM_SCALES),
    }
    conformers = [[np.round(xyz, 5).tolist() for xyz in side.conformers] for side in (first, second)]
    title = f"{first.molecule.smiles} + {second.molecule.smiles} approaches"
    return Job("approach", spec, approach_job, title, given={"conformers": conformers})


def approach_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Record of the scans of one pair: {"scans": [{"first": (n, 3), "seconds": [(m, 3), ...]}]}, angstrom."""
    sides = (spec["first"], spec["second"])
    rng = np.random.default_rng([spec["seed"], *(ord(c) for c in "|".join(s["smiles"] for s in sides))])
    ranked = _ranked_approaches(spec, rng)
    atoms = max(len(side["elements"]) for side in sides)
    scans = []
    for number, rank in enumerate(RANKS):
        # Two atoms have one direction only: their scans differ in distance instead.
        spread = 1.0 + 0.02 * number if atoms == 1 else 1.0
        scans.append((ranked[rank], [spread * shift for shift in ranked[rank].shifts()]))
    attracted = sides[0]["charge"] * sides[1]["charge"] <= 0  # like charges only drift apart
    if attracted and min(len(side["elements"]) for side in sides) > 1:
        for approach in _distinct_minima([approach.relaxed() for approach in ranked[:RELAXED]]):
            distance = float(approach.second.mean(0) @ approach.direction)
            scans.append((approach, [(scale - 1.0) * distance for scale in MINIMUM_SCALES]))
    return {
        "scans": [
            {
                "first": np.round(approach.first, 5).tolist(),
                "seconds": [
                    np.round(approach.second + shift * approach.direction, 5).tolist() for shift in shifts
                ],
            }
            for approach, shifts in scans
        ]
    }


def _ranked_approaches(spec: dict[str, Any], rng: np.random.Generator) -> list[_Approach]:
    """ORIENTATIONS random ones in the order of their energy at contact. One whose energy GFN2-xTB does not
    find (its charges swing between a cation and its neighbour) is drawn again."""
    ranks: list[tuple[float, _Approach]] = []
    for _ in range(2 * ORIENTATIONS):
        approach = _random_approach(spec, rng)
        try:
            ranks.append((approach.binding_rank(), approach))
        except TBLiteRuntimeError:
            continue
        if len(ranks) == ORIENTATIONS:
            return [approach for _, approach in sorted(ranks, key=lambda rank: rank[0])]
    raise FitError(
        f"{spec['first']['smiles']} + {spec['second']['smiles']}: GFN2-xTB converges for fewer than half of "
        "the orientations, so none can be chosen to scan; leave this pair out."
    )


def random_contacts(
    first: Partner, second: Partner, orientations: int, seed: int = 2026
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions (n, 3) and (m, 3), angstrom, at random orientations, each at every one of CONTACT_SCALES."""
    spec, rng = approach_job_of(first, second).content, np.random.default_rng(seed)
    for _ in range(orientations):
        approach = _random_approach(spec, rng)
        for scale in CONTACT_SCALES:
            yield approach.first, approach.second + approach.shift_at(scale) * approach.direction


def scan_jobs(approaches: Job, record: dict[str, Any], level: LevelOfTheory) -> list[Job]:
    """Decomposition jobs of one pair of species from the job that chose its scans and its record."""
    first, second = approaches.spec["first"], approaches.spec["second"]
    jobs = []
    for scan, geometries in enumerate(record["scans"]):
        for step, xyz in enumerate(geometries["seconds"]):
            spec = {
                "first": _placed(first, geometries["first"]),
                "second": _placed(second, xyz),
                "scan": scan,
                "step": step,
                "level": decomposition_key(level),
            }
            jobs.append(
                Job("dimer", spec, eda_job, f"{approaches.name.removesuffix(' approaches')} {scan}.{step}")
            )
    return jobs


def decomposition_key(level: LevelOfTheory) -> dict[str, Any]:
    """The part of the level a decomposition depends on; `level_of` reads it."""
    return {**level.density_key(), "nonlocal_grid": list(NONLOCAL_GRID)}


def level_of(key: dict[str, Any]) -> LevelOfTheory:
    """The level a `decomposition_key` was made from, as far as it goes."""
    return replace(
        PHYFF_2026A,
        functional=key["functional"],
        basis=key["basis"],
        basis_overrides=tuple((element, basis) for element, basis in key["basis_overrides"]),
        auxbasis=key["auxbasis"],
        grid_level=key["grid_level"],
    )


def eda_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Record of one dimer: the components of `phyff.qm.eda.decompose`, kJ/mol."""
    first, second = (
        Monomer(tuple(m["elements"]), m["charge"], np.array(m["xyz_angstrom"]))
        for m in (spec["first"], spec["second"])
    )
    found = decompose(first, second, level_of(spec["level"]))
    return {name: round(value, 5) for name, value in found.items()}


@dataclass(frozen=True)
class _Approach:
    """Two oriented monomers centred at the origin; the second moves out along `direction`."""

    first: np.ndarray
    second: np.ndarray
    direction: np.ndarray
    elements: tuple[tuple[str, ...], tuple[str, ...]]
    charge: int

    def shift_at(self, scale: float) -> float:
        """Centre shift at which the closest pair of atoms is `scale` times its contact distance apart."""
        contact = scale * (_contact_radii(self.elements[0])[:, None] + _contact_radii(self.elements[1])[None])
        gap = self.second[None] - self.first[:, None]
        along = gap @ self.direction
        beside = contact**2 - (gap**2).sum(-1) + along**2
        return float(np.max(np.where(beside > 0, -along + np.sqrt(np.maximum(beside, 0)), -np.inf)))

    def shifts(self) -> list[float]:
        """Centre shifts of one scan, ascending."""
        near = [self.shift_at(scale) for scale in CONTACT_SCALES]
        return [*near, max(FAR_ANGSTROM, near[-1] + 0.6)]

    def binding_rank(self) -> float:
        """GFN2-xTB energy (hartree) at contact; only its order among orientations of a pair has a meaning."""
        return self._gfn2_energy(self.second + self.shift_at(0.94) * self.direction)

    def relaxed(self) -> _Approach:
        """The rigid pair at its nearest GFN2-xTB minimum; `direction` then joins the centres."""
        start = np.concatenate([np.zeros(3), self.shift_at(0.98) * self.direction])

        def moved(x: np.ndarray) -> np.ndarray:
            return self.second @ Rotation.from_rotvec(x[:3]).as_matrix().T + x[3:]

        def millihartree(x: np.ndarray) -> float:
            return 1e3 * self._gfn2_energy(moved(x))

        found = minimize(
            millihartree, start, method="BFGS", options={"gtol": 0.3, "eps": 1e-3, "maxiter": 25}
        )
        second = moved(found.x)
        centre = second.mean(0)
        return replace(self, second=second, direction=centre / np.linalg.norm(centre))

    def energy(self) -> float:
        """GFN2-xTB energy (hartree) as it stands."""
        return self._gfn2_energy(self.second)

    def distances(self) -> np.ndarray:
        """Sorted distances (angstrom) between atoms of the two monomers as they stand."""
        return np.sort(np.linalg.norm(self.first[:, None] - self.second[None], axis=2).ravel())

    def _gfn2_energy(self, second: np.ndarray) -> float:
        atoms = [*self.elements[0], *self.elements[1]]
        positions = np.vstack([self.first, second]) / BOHR_ANGSTROM
        calculator = Calculator("GFN2-xTB", _numbers(atoms), positions, charge=float(self.charge))
        calculator.set("verbosity", 0)
        return float(calculator.singlepoint().get("energy"))


def _distinct_minima(approaches: Sequence[_Approach]) -> list[_Approach]:
    """The MINIMA lowest that differ in the distances between their atoms."""
    kept: list[_Approach] = []
    for approach in sorted(approaches, key=lambda a: a.energy()):
        spectrum = approach.distances()
        if all(np.abs(spectrum - other.distances()).max() > 0.3 for other in kept):
            kept.append(approach)
    return kept[:MINIMA]


def _random_approach(spec: dict[str, Any], rng: np.random.Generator) -> _Approach:
    xyz = []
    for shapes in spec["conformers"]:
        shape = np.array(shapes[rng.integers(len(shapes))])
        xyz.append((shape - shape.mean(0)) @ Rotation.random(rng=rng).as_matrix().T)
    direction = rng.normal(size=3)
    charge = spec["first"]["charge"] + spec["second"]["charge"]
    elements = (tuple(spec["first"]["elements"]), tuple(spec["second"]["elements"]))
    return _Approach(xyz[0], xyz[1], direction / np.linalg.norm(direction), elements, charge)


def _contact_radii(elements: Sequence[str]) -> np.ndarray:
    bondi = vdw_radii(elements) * BOHR_ANGSTROM
    return np.array([ION_CONTACT_RADII.get(e, r) for e, r in zip(elements, bondi, strict=True)])


def _numbers(elements: Sequence[str]) -> np.ndarray:
    return np.array([nuclear_charge(element) for element in elements])


def _identity(partner: Partner) -> dict[str, Any]:
    molecule = partner.molecule
    return {
        "smiles": molecule.smiles,
        "mapped_smiles": molecule.mapped_smiles,
        "elements": list(molecule.elements),
        "charge": molecule.charge,
    }


def _placed(side: dict[str, Any], xyz: list[list[float]]) -> dict[str, Any]:
    return {
        "smiles": side["mapped_smiles"],
        "elements": side["elements"],
        "charge": side["charge"],
        "xyz_angstrom": xyz,
    }
