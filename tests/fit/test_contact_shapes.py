"""Shapes beside cations: taken from clusters of the store, none of those that tests are kept for."""

from pathlib import Path

import library_species
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from phyff.fit.contact_shapes import CONTACT_ANGSTROM, MOST_SHAPES, contact_potentials
from phyff.fit.short_range import LIQUID_DIMER
from phyff.qm import clusters
from phyff.qm.clusters import CutCluster, cluster_job_of, placed
from phyff.qm.level import PHYFF_2026A
from phyff.qm.monomer import CONTACT_SCALES, contact_potential_job, contact_potential_job_of
from phyff.qm.store import RecordStore
from phyff.species.molecule import Molecule
from phyff.units import BOHR_ANGSTROM, BOHR_NM

EC, DMC, LITHIUM = (library_species.load(name) for name in ("EC", "DMC", "Li+"))
MOLECULES = {s.name: Molecule.from_smiles(s.smiles) for s in (EC, DMC, LITHIUM)}


def _store(root: Path) -> RecordStore:
    """A cluster for training and one for tests, of a Li+ that touches EC and not DMC; one for training with
    the EC of the test; other EC in dimers of a liquid."""
    store = RecordStore(root)
    touching = EC.xyz - EC.xyz[0] + np.array([0.0, 0.0, 0.2])
    away = DMC.xyz - DMC.xyz[0] - np.array([0.0, 0.0, 0.6])
    for number, stretch in ((0, 1.0), (2, 1.02), (3, 1.02)):
        xyz = (np.zeros((1, 3)), touching * stretch, away + 0.1 * number)
        job = cluster_job_of(CutCluster((LITHIUM, EC, DMC), xyz, f"box#{number}"), PHYFF_2026A, False)
        store.put(clusters.KIND, job.spec, {"total": -1.0})
    for k in range(6):  # a third of their keys keeps them for tests
        first, second = placed(LITHIUM, np.zeros((1, 3))), placed(EC, touching * (1 - 0.01 * (k + 1)))
        store.put(LIQUID_DIMER, {"first": first, "second": second, "k": k}, {"total": -1.0})
    return store


def test_shapes_are_those_of_molecules_that_touch_a_cation_in_clusters_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = _store(tmp_path), []

    def remember(jobs: list, *_: object) -> None:
        asked.extend(jobs)
        for job in jobs:
            store.put(job.kind, job.spec, _record(len(job.spec["cations_bohr"])))

    monkeypatch.setattr("phyff.fit.contact_shapes.run_jobs", remember)
    assert contact_potentials(MOLECULES, PHYFF_2026A, store, 1) == {}
    assert not asked
    monkeypatch.setattr("phyff.fit.contact_shapes.FEWEST_SHAPES", 2)
    assert contact_potentials(MOLECULES, PHYFF_2026A, store, 1, compute=False) == {}
    found = contact_potentials(MOLECULES, PHYFF_2026A, store, 1)
    assert set(found) == {"EC"}
    assert len(found["EC"]) == len(asked)
    assert 2 <= len(asked) < 7
    for contact in found["EC"]:
        gaps = cdist(contact.cations, contact.xyz).min(axis=1) * BOHR_ANGSTROM
        assert gaps.max() < CONTACT_ANGSTROM
        stretched = np.linalg.norm(contact.xyz[0] - contact.xyz[1]) * BOHR_NM
        assert stretched < 1.015 * np.linalg.norm(EC.xyz[0] - EC.xyz[1])  # the test cluster's is 2 % longer


def _record(cations: int) -> dict:
    shells = len(CONTACT_SCALES)
    return {
        "at_cations_hartree": [-0.1] * cations,
        "points_bohr": np.ones((shells * 4, 3)).tolist(),
        "values_hartree": [0.0] * shells * 4,
    }


def test_the_library_knows_shapes_beside_cations() -> None:
    found = contact_potentials(MOLECULES, PHYFF_2026A, RecordStore(library_species.RECORDS), 1, compute=False)
    for name in ("EC", "DMC"):
        quality = library_species.load(name).quality["charge_flow"]
        assert 20 < quality["contacts"] <= MOST_SHAPES
        assert 20 < len(found[name]) <= MOST_SHAPES


def test_a_potential_far_from_an_ion_is_that_of_its_charge() -> None:
    fluoride = Molecule.from_smiles("[F-]")
    away = np.array([[0.0, 0.0, 12.0], [9.0, 12.0, 0.0]])
    job = contact_potential_job_of(fluoride, np.zeros((1, 3)), away, PHYFF_2026A)
    record = contact_potential_job(job.spec)
    np.testing.assert_allclose(record["at_cations_hartree"], [-1 / 12, -1 / 15], atol=2e-5)
    values = np.array(record["values_hartree"]).reshape(len(CONTACT_SCALES), -1)
    assert np.ptp(values, axis=1).max() < 1e-3
    radii = np.linalg.norm(record["points_bohr"], axis=1).reshape(values.shape).mean(axis=1)
    assert np.all(values.mean(axis=1) < -0.9 / radii)
