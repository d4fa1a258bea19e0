"""Shapes that molecules have beside bare cations in liquids, for the potential they have there.

They are cut out of the labelled clusters and of the dimers of liquids in a record store, of which only the
geometry is taken, and out of runs (`phyff label-shapes`): one calculation of the molecule alone says what no
sample around its minima does, above all where two of its atoms hold a cation. Shapes of clusters and dimers
that tests are kept for are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist, pdist

from phyff.fit.short_range import LIQUID_DIMER, is_held_out, liquid_scan
from phyff.qm import clusters
from phyff.qm.clusters import Frame
from phyff.qm.executor import run_jobs
from phyff.qm.level import LevelOfTheory
from phyff.qm.monomer import (
    CONTACT_POTENTIAL,
    ContactPotential,
    contact_potential_from_record,
    contact_potential_job_of,
)
from phyff.qm.store import RecordStore, canonical, read_record
from phyff.species.molecule import Molecule
from phyff.species.parameters import SpeciesParameters
from phyff.units import BOHR_ANGSTROM

PER_NM = 10.0
"""Angstrom."""
CONTACT_ANGSTROM = 3.0
"""Longest contact of a molecule with a cation beside it."""
MOST_SHAPES = 40
"""Of a species, that are cut out of clusters and dimers; a few seconds each."""
SAME_SHAPE = 0.01
"""Angstrom; shapes are the same when no distance between two atoms differs by more: files round them."""
FEWEST_SHAPES = 10
"""Fewer are not used: flows fitted to 2 and to 5 said nothing about one they had not seen (BOB-, DFOB-), and
scans of Li+ with PC and sulfolane (6 and 7) came out worse."""


def contact_potentials(
    molecules: Mapping[str, Molecule],
    level: LevelOfTheory,
    store: RecordStore,
    workers: int,
    compute: bool = True,
) -> dict[str, list[ContactPotential]]:
    """Of molecules by name, the potential in shapes beside cations, of those with FEWEST_SHAPES: all that the
    store has, after up to MOST_SHAPES that its clusters and dimers hold have been computed (compute: False:
    have not).

    Raises:
        JobError: a calculation failed; run again to repeat only what is missing.
        StoreError: a record is damaged.
    """
    names = {m.mapped_smiles: n for n, m in molecules.items()}
    of_training, of_tests = _shapes(store.root, names)
    if compute:
        jobs = [
            contact_potential_job_of(molecules[name], xyz / BOHR_ANGSTROM, cations / BOHR_ANGSTROM, level)
            for name, own in of_training.items()
            for xyz, cations in (own[:MOST_SHAPES] if len(own) >= FEWEST_SHAPES else ())
        ]
        run_jobs(jobs, store, workers, "potentials beside cations")
    found: dict[str, list[ContactPotential]] = {}
    key = canonical(level.density_key())
    for path in sorted((store.root / CONTACT_POTENTIAL).glob("*.json")):
        content = read_record(path)
        name = names.get(content["spec"]["mapped_smiles"])
        if name is None or content["spec"]["level"] != key:
            continue
        contact = contact_potential_from_record(content["spec"], content["record"])
        if not _is_one_of(BOHR_ANGSTROM * contact.xyz, of_tests.get(name, [])):
            found.setdefault(name, []).append(contact)
    return {name: own for name, own in sorted(found.items()) if len(own) >= FEWEST_SHAPES}


def _is_one_of(xyz: np.ndarray, shapes: Sequence[np.ndarray]) -> bool:
    """Whether a molecule has one of some shapes (N, 3), angstrom, wherever they lie."""
    if not shapes:
        return False
    gaps = cdist([pdist(xyz)], [pdist(shape) for shape in shapes], "chebyshev")
    return bool(gaps.min() < SAME_SHAPE)


def shapes_in_frames(
    frames: Sequence[Frame], number: int, seed: int, species: Collection[str] = ()
) -> Iterator[tuple[SpeciesParameters, np.ndarray, np.ndarray]]:
    """Up to `number` molecules of each of some species (none: all) that touch bare cations at one of the
    moments of a box, drawn at random: the species, its atoms (N, 3) and these cations (C, 3), nm."""
    rng = np.random.default_rng(seed)
    first = frames[0].species
    for name in sorted({s.name for s in first if s.n_atoms > 1 and s.name in (species or {s.name})}):
        places = [(frame, k) for frame in frames for k, own in enumerate(first) if own.name == name]
        drawn = 0
        for turn in rng.permutation(len(places)):
            if drawn == number:
                break
            frame, k = places[turn]
            beside = [
                xyz
                for gap, other, xyz in frame.nearest(k)
                if PER_NM * gap < CONTACT_ANGSTROM and first[other].is_bare_cation
            ]
            if beside:
                drawn += 1
                yield first[k], frame.xyz[k], np.concatenate(beside)


Shapes = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def _shapes(root: Path, names: Mapping[str, str]) -> tuple[Shapes, dict[str, list[np.ndarray]]]:
    """By name, of clusters and dimers for training: atoms (N, 3) and all cations (C, 3) that touch them in
    that shape, angstrom, in an order drawn by a hash, so that more records add to it evenly, but not shapes
    that tests have too; and of those that tests are kept for the atoms, whether cations touch them or not."""
    found: dict[str, dict[bytes, tuple[np.ndarray, list[np.ndarray]]]] = {}
    kept: dict[str, list[np.ndarray]] = {}
    for for_tests, monomers in _clusters(root):
        known = [(m, np.array(m["xyz_angstrom"])) for m in monomers]
        bare = [xyz for m, xyz in known if len(xyz) == 1 and m["charge"] > 0]
        cations = np.concatenate([np.zeros((0, 3)), *bare])
        for monomer, xyz in known:
            if len(xyz) == 1 or monomer["smiles"] not in names:
                continue
            name = names[monomer["smiles"]]
            if for_tests:
                kept.setdefault(name, []).append(xyz)
                continue
            near = cdist(cations, xyz).min(axis=1) < CONTACT_ANGSTROM
            if near.any():
                centre = xyz.mean(axis=0)
                key = hashlib.sha256(np.round(xyz - centre, 3).tobytes()).digest()
                _, touching = found.setdefault(name, {}).setdefault(key, (xyz - centre, []))
                touching.append(cations[near] - centre)
    ordered: Shapes = {}
    for name, own in sorted(found.items()):
        shapes = [(own[key][0], np.concatenate(own[key][1])) for key in sorted(own)]
        ordered[name] = [shape for shape in shapes if not _is_one_of(shape[0], kept.get(name, []))]
    return ordered, kept


def _clusters(root: Path) -> Iterator[tuple[bool, list[dict[str, Any]]]]:
    """Monomers of every cluster and liquid dimer, and whether tests are kept for it."""
    for path in sorted((root / clusters.KIND).glob("*.json")):
        spec = read_record(path)["spec"]
        yield is_held_out(spec["source"]), spec["monomers"]
    for path in sorted((root / LIQUID_DIMER).glob("*.json")):
        spec = read_record(path)["spec"]
        yield is_held_out(liquid_scan(path)), [spec["first"], spec["second"]]
