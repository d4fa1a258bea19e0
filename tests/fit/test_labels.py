"""Labels of the record store are read once each; what moves molecules as wholes is all of their forces."""

from pathlib import Path

import numpy as np
from library_species import RECORDS
from library_species import load as load_species
from standin_species import ALL

from phyff.fit.labels import load_clusters, load_labels, rigid_motions
from phyff.fit.short_range import IN_LIQUIDS
from phyff.labelling import dimer_force_jobs
from phyff.model.cluster import PARTS
from phyff.qm.clusters import placed
from phyff.qm.level import PHYFF_2026A
from phyff.qm.store import RecordStore


def test_rigid_motions_of_an_atom_and_of_a_rod_are_only_those_they_have() -> None:
    counts = [
        np.linalg.matrix_rank(rigid_motions(np.array(xyz)).reshape(-1, 6), tol=1e-6)
        for xyz in ([[0.1, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]], ALL["water"].xyz)
    ]
    assert counts == [3, 5, 6]


def test_committed_dimers_and_clusters_are_labels(tmp_path: Path) -> None:
    species = {name: load_species(name) for name in ("EC", "DMC", "Li+", "PF6-")}
    labels = load_labels(RECORDS, species)
    assert len(labels) >= 453
    assert len([label for label in labels if IN_LIQUIDS in label.source]) >= 48
    store, lithium = RecordStore(tmp_path), species["Li+"]
    monomers = [
        {"smiles": lithium.mapped_smiles, "elements": ["Li"], "charge": 1, "xyz_angstrom": [[0.0, 0.0, z]]}
        for z in (0.0, 3.0)
    ]
    store.put(
        "cluster", {"monomers": monomers, "source": "box#5"}, {"total": 1.0, "forces": [[0.0, 0.0, 2.0]] * 2}
    )
    (label,) = load_clusters(tmp_path / "cluster", species)
    assert (label.names, label.source, label.total) == (("Li+", "Li+"), "box#5", 1.0)
    np.testing.assert_allclose(label.xyz[1], [[0.0, 0.0, 0.3]])


def test_a_dimer_labelled_again_with_forces_counts_once(tmp_path: Path) -> None:
    species = {name: load_species(name) for name in ("Li+", "PF6-")}
    store, energies = RecordStore(tmp_path), dict.fromkeys(PARTS, 0.0) | {"total": -1.0}
    for step in (0, 1):
        sides = [
            placed(species["Li+"], np.zeros((1, 3))),
            placed(species["PF6-"], species["PF6-"].xyz + 0.3 + 0.05 * step),
        ]
        store.put("dimer", {"first": sides[0], "second": sides[1], "scan": 7, "step": step}, energies)
    assert [label.forces for label in load_labels(tmp_path, species)] == [None, None]
    (job, _) = dimer_force_jobs(tmp_path, species, 5, PHYFF_2026A, around=["Li+"], most_atoms=8)
    assert dimer_force_jobs(tmp_path, species, 5, PHYFF_2026A, most_atoms=7) == []
    store.put(job.kind, job.spec, {"total": -1.0, "forces": [[0.0, 0.0, 1.0]] * 8})
    first, second = load_labels(tmp_path, species)
    assert first.forces is None and second.forces is not None
    assert first.source == second.source == "Li++PF6-#7"
    assert not np.allclose(first.xyz[1], second.xyz[1])
