"""Labels for the neural term: interaction energies of clusters cut from a liquid, and forces on their atoms.

The energy is that of `phyff.qm.eda` for any number of monomers: counterpoise-corrected in the basis of the
whole cluster (Boys and Bernardi 1970, doi 10.1080/00268977000101561), VV10 evaluated once on the
antisymmetrised product of the monomers, so a dimer's total is the one `decompose` gives. VV10 has no gradient
here: forces are those of everything but dispersion, and are compared with the model without its dispersion,
which by itself is within 0.15 kJ/mol rms of VV10 for the dimers of the training set. Angstrom in a job's
specification; records kJ/mol, nm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import Any

import numpy as np

from phyff.qm.dimers import decomposition_key, level_of
from phyff.qm.eda import CONVERGENCE, Fragments, Monomer
from phyff.qm.executor import Job
from phyff.qm.gradient import combined_gradient
from phyff.qm.level import LevelOfTheory
from phyff.qm.scf import converge
from phyff.species.parameters import SpeciesParameters
from phyff.units import BOHR_NM, HARTREE_KJ

KIND = "cluster"
SIZES = (2, 3, 4, 5, 6)
TOUCHING_NM = 0.32
"""Shortest contact of molecules that touch: the first shell, whose far members the term has to know as well
as the nearest."""
DRAWS = 3
"""Times that a molecule may be the centre at one moment, each time with neighbours drawn anew."""
SCALES = (1.0, 0.95, 1.08)
"""A cluster as it stands in the liquid, compressed, and stretched."""
FORCE_CONVERGENCE = (1e-6, 5e-4)
"""Hartree between cycles, orbital gradient, where forces are asked for: they err in first order."""


@dataclass(frozen=True)
class Frame:
    """A liquid at one moment.

    Attributes:
        species: of each molecule.
        xyz: (n, 3) nm of each molecule's atoms; molecules are whole.
        vectors: (3, 3) nm, rows are the periodic box vectors.
    """

    species: tuple[SpeciesParameters, ...]
    xyz: tuple[np.ndarray, ...]
    vectors: np.ndarray

    def nearest(self, centre: int) -> list[tuple[float, int, np.ndarray]]:
        """Shortest contact (nm), number and (n, 3) position of the image in contact, of every other molecule,
        nearest first."""
        own = self.xyz[centre]
        images = np.array(list(product((-1, 0, 1), repeat=3))) @ self.vectors
        found = []
        for k, xyz in enumerate(self.xyz):
            if k == centre:
                continue
            fraction = np.round((own.mean(0) - xyz.mean(0)) @ np.linalg.inv(self.vectors))
            near = xyz + fraction @ self.vectors
            gaps = np.linalg.norm(near[None, :, None] + images[:, None, None] - own[None, None], axis=3)
            image = int(np.argmin(gaps.min(axis=(1, 2))))
            found.append((float(gaps[image].min()), k, near + images[image]))
        return sorted(found, key=lambda entry: entry[0])


@dataclass(frozen=True)
class CutCluster:
    """Molecules cut out of a liquid: species, positions (n, 3) nm of each, and where they come from.

    `source` is the same for all copies of a cluster, so that they stay on one side of a split.
    """

    species: tuple[SpeciesParameters, ...]
    xyz: tuple[np.ndarray, ...]
    source: str

    def scaled(self, factor: float) -> CutCluster:
        """The same rigid molecules with their centres moved from or to the centre of the cluster."""
        middle = np.mean([xyz.mean(0) for xyz in self.xyz], axis=0)
        moved = [xyz + (factor - 1.0) * (xyz.mean(0) - middle) for xyz in self.xyz]
        return replace(self, xyz=tuple(moved))


def cut_clusters(
    frames: Sequence[Frame],
    number: int,
    label: str,
    seed: int,
    sizes: Sequence[int] = SIZES,
    around: Sequence[str] = (),
    most_atoms: int | None = None,
) -> list[CutCluster]:
    """Up to `number` distinct clusters: a molecule with some of those that touch it, drawn at random, at one
    of the moments of a box. Species, of those named in `around` or all, take turns as the centre; label,
    sizes, most_atoms: see cut_around."""
    rng = np.random.default_rng(seed)
    names = [s.name for s in frames[0].species]
    queues = []
    for name in sorted(set(around or names)):
        places = [(frame, k) for frame in frames for k, n in enumerate(names) if n == name]
        queues.append([places[p] for p in rng.permutation(len(places))])
    turns = [queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue)]
    turns *= DRAWS
    return cut_around(turns, number, label, sizes, by_molecule=True, most_atoms=most_atoms, drawn_by=rng)


def cut_around(
    centres: Sequence[tuple[Frame, int]],
    number: int,
    label: str,
    sizes: Sequence[int] = SIZES,
    by_molecule: bool = False,
    most_atoms: int | None = None,
    drawn_by: np.random.Generator | None = None,
) -> list[CutCluster]:
    """Up to `number` distinct clusters around molecules of frames, in that order: each with those in shortest
    contact with it, or, with `drawn_by`, with some of those that touch it. Sizes take turns; clusters of more
    than `most_atoms` are left out. The source is LABEL#k of the kth; `by_molecule` k is the number of the
    molecule in its box, so that what is cut around it at other moments stays on its side of a split."""
    seen: set[tuple[int, frozenset[int]]] = set()
    found: list[CutCluster] = []
    for (frame, centre), size in zip(centres, cycle(sizes), strict=False):
        if len(found) == number:
            break
        neighbours = frame.nearest(centre)
        if drawn_by is not None:
            touching = sum(gap < TOUCHING_NM for gap, _, _ in neighbours)
            pool = neighbours[: max(size - 1, touching)]
            drawn = drawn_by.permutation(len(pool))[: size - 1]
            neighbours = [pool[k] for k in sorted(drawn)]
        neighbours = neighbours[: size - 1]
        members = (id(frame), frozenset([centre, *(k for _, k, _ in neighbours)]))
        species = (frame.species[centre], *(frame.species[k] for _, k, _ in neighbours))
        small = most_atoms is None or sum(s.n_atoms for s in species) <= most_atoms
        if small and members not in seen:
            seen.add(members)
            xyz = (frame.xyz[centre], *(xyz for _, _, xyz in neighbours))
            source = f"{label}#{centre if by_molecule else len(found)}"
            found.append(CutCluster(species, xyz, source))
    return found


def cluster_job_of(cluster: CutCluster, level: LevelOfTheory, forces: bool, name: str = "") -> Job:
    """The job that labels a cluster."""
    spec = {
        "monomers": [placed(s, xyz) for s, xyz in zip(cluster.species, cluster.xyz, strict=True)],
        "source": cluster.source,
        "forces": forces,
        "level": decomposition_key(level),
    }
    return Job(KIND, spec, cluster_job, name or f"{' + '.join(s.name for s in cluster.species)}")


def placed(species: SpeciesParameters, xyz_nm: np.ndarray) -> dict[str, Any]:
    """A molecule at (n, 3) nm as it stands in a job's specification."""
    return {
        "smiles": species.mapped_smiles,
        "elements": list(species.elements),
        "charge": species.charge,
        "xyz_angstrom": np.round(10.0 * xyz_nm, 5).tolist(),
    }


def cluster_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Record of one cluster: "dispersion" and "total" energies, kJ/mol, and if the specification asks for
    them "forces" without dispersion on the atoms of all monomers in turn, (A, 3) kJ/mol/nm."""
    level = level_of(spec["level"])
    monomers = [
        Monomer(tuple(m["elements"]), m["charge"], np.array(m["xyz_angstrom"])) for m in spec["monomers"]
    ]
    fragments = Fragments.of(monomers, level, FORCE_CONVERGENCE if spec["forces"] else CONVERGENCE)
    converge(fragments.whole, fragments.product)
    dispersion = fragments.dispersion(level)
    total = fragments.whole.e_tot - sum(mf.e_tot for mf in fragments.separate) + dispersion
    record: dict[str, Any] = {
        "dispersion": round(dispersion * HARTREE_KJ, 5),
        "total": round(float(total) * HARTREE_KJ, 5),
    }
    if spec["forces"]:
        record["forces"] = np.round(interaction_forces(fragments, level.auxbasis), 3).tolist()
    return record


def interaction_forces(fragments: Fragments, auxbasis: str) -> np.ndarray:
    """(A, 3) kJ/mol/nm of the counterpoise-corrected SCF energy: the cluster's less those of each monomer in
    the cluster's basis, whose ghost centres carry forces too."""
    fields = [fragments.whole, *fragments.separate]
    factors = [1.0] + [-1.0] * len(fragments.separate)
    return -combined_gradient(fields, factors, auxbasis) * HARTREE_KJ / BOHR_NM
