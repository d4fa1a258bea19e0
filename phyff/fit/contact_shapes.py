"""Shapes that molecules have beside bare cations in liquids, for the potential they have there.

They are cut out of the labelled clusters and of the dimers of liquids in a record store, of which only the
geometry is taken: one calculation of the molecule alone says what no sample around its minima does, above all
where two of its atoms hold a cation. Shapes of clusters and dimers that tests are kept for are left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist

from phyff.fit.short_range import LIQUID_DIMER, is_held_out, liquid_scan
from phyff.qm import clusters
from phyff.qm.executor import run_jobs
from phyff.qm.level import LevelOfTheory
from phyff.qm.monomer import ContactPotential, contact_potential_from_record, contact_potential_job_of
from phyff.qm.store import RecordStore, read_record
from phyff.species.molecule import Molecule
from phyff.units import BOHR_ANGSTROM

CONTACT_ANGSTROM = 3.0
"""Longest contact of a molecule with a cation beside it."""
MOST_SHAPES = 40
"""Of a species; a few seconds each."""
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
    """Of molecules by name, the potential in up to MOST_SHAPES shapes beside cations, of those of which the
    store has geometries of FEWEST_SHAPES. compute: False takes what the store has of these.

    Raises:
        JobError: a calculation failed; run again to repeat only what is missing.
        StoreError: a record is damaged.
    """
    jobs = {
        name: [
            contact_potential_job_of(molecules[name], xyz / BOHR_ANGSTROM, cations / BOHR_ANGSTROM, level)
            for xyz, cations in own
        ]
        for name, own in _shapes(store.root, {m.mapped_smiles: n for n, m in molecules.items()}).items()
    }
    if compute:
        chosen = [job for own in jobs.values() if len(own) >= FEWEST_SHAPES for job in own[:MOST_SHAPES]]
        run_jobs(chosen, store, workers, "potentials beside cations")
    found = {}
    for name, own_jobs in jobs.items():
        records = [(job.spec, store.get(job.kind, job.spec)) for job in own_jobs]
        known = [contact_potential_from_record(spec, record) for spec, record in records if record]
        if len(known) >= FEWEST_SHAPES:
            found[name] = known[:MOST_SHAPES]
    return found


def _shapes(root: Path, names: Mapping[str, str]) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Atoms (N, 3) and all cations (C, 3) that touch them in that shape, angstrom, by name; in an order drawn
    by a hash, so that more records add to it evenly."""
    found: dict[str, dict[bytes, tuple[np.ndarray, list[np.ndarray]]]] = {}
    for monomers in _clusters(root):
        places = [np.array(m["xyz_angstrom"]) for m in monomers]
        bare = [xyz for m, xyz in zip(monomers, places, strict=True) if len(xyz) == 1 and m["charge"] > 0]
        if not bare:
            continue
        cations = np.concatenate(bare)
        for monomer, xyz in zip(monomers, places, strict=True):
            near = cdist(cations, xyz).min(axis=1) < CONTACT_ANGSTROM
            if len(xyz) > 1 and near.any() and monomer["smiles"] in names:
                centre = xyz.mean(axis=0)
                key = hashlib.sha256(np.round(xyz - centre, 3).tobytes()).digest()
                of_species = found.setdefault(names[monomer["smiles"]], {})
                _, touching = of_species.setdefault(key, (xyz - centre, []))
                touching.append(cations[near] - centre)
    return {
        name: [(own[key][0], np.concatenate(own[key][1])) for key in sorted(own)]
        for name, own in sorted(found.items())
    }


def _clusters(root: Path) -> Iterator[list[dict[str, Any]]]:
    """Monomers of every cluster and liquid dimer that no test is kept for."""
    for path in sorted((root / clusters.KIND).glob("*.json")):
        spec = read_record(path)["spec"]
        if not is_held_out(spec["source"]):
            yield spec["monomers"]
    for path in sorted((root / LIQUID_DIMER).glob("*.json")):
        if not is_held_out(liquid_scan(path)):
            spec = read_record(path)["spec"]
            yield [spec["first"], spec["second"]]
