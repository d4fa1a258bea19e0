"""Clusters of a liquid are whole and distinct; labels agree with dimers and finite differences."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import library_species
import numpy as np
import pytest
from library_species import random_pose
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from phyff.qm.clusters import Frame, cluster_job, cluster_job_of, cut_clusters
from phyff.qm.dimers import decomposition_key
from phyff.qm.eda import Fragments, Monomer
from phyff.qm.level import PHYFF_2026A
from phyff.qm.scf import converge
from phyff.qm.store import read_record
from phyff.units import HARTREE_KJ

EC, LITHIUM = library_species.load("EC"), library_species.load("Li+")
XYZ = np.array([[0.1, 0.0, 0.0], [0.0, 0.0, 1.9], [0.0, 0.2, 2.8]])
"""Angstrom; Li+ and HF."""
ELEMENTS, CHARGES, SIZES = (("Li",), ("F", "H")), (1, 0), (1, 2)


@pytest.fixture(scope="module")
def frame() -> Frame:
    """26 EC and a lithium ion on a grid in a triclinic box, molecules scattered over periodic images."""
    rng, spacing = np.random.default_rng(3), 0.6
    vectors = 3 * spacing * np.array([[1.0, 0.0, 0.0], [0.3, 1.0, 0.0], [-0.2, 0.4, 1.0]])
    places = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) / 3.0 @ vectors
    places = places + rng.integers(-1, 2, size=(27, 3)) @ vectors
    xyz = [random_pose(EC.xyz, rng) + place for place in places[:26]]
    return Frame((EC,) * 26 + (LITHIUM,), (*xyz, places[26:]), vectors)


def _monomers(xyz: np.ndarray) -> list[Monomer]:
    return [Monomer(e, q, x) for e, q, x in zip(ELEMENTS, CHARGES, np.split(xyz, [1]), strict=True)]


@pytest.fixture(scope="module")
def labelled() -> dict:
    spec = {
        "monomers": [
            {"smiles": "", "elements": list(m.elements), "charge": m.charge, "xyz_angstrom": m.xyz.tolist()}
            for m in _monomers(XYZ)
        ],
        "source": "test#0",
        "forces": True,
        "level": decomposition_key(PHYFF_2026A),
    }
    return cluster_job(spec)


def test_clusters_are_distinct_and_their_molecules_whole_neighbours(frame: Frame) -> None:
    clusters = cut_clusters([frame], 12, "box", seed=1)
    assert [len(c.species) for c in clusters[:5]] == [2, 3, 4, 5, 6]
    for cluster in clusters:
        centre = int(cluster.source.removeprefix("box#"))
        np.testing.assert_array_equal(cluster.xyz[0], frame.xyz[centre])
    assert any(s.name == "Li+" for c in clusters for s in c.species[:1])
    shapes = {tuple(np.round(np.sort(np.concatenate([x.mean(0) for x in c.xyz])), 6)) for c in clusters}
    assert len(shapes) == 12
    for cluster in clusters:
        for species, xyz in zip(cluster.species, cluster.xyz, strict=True):
            np.testing.assert_allclose(cdist(xyz, xyz), cdist(species.xyz, species.xyz), atol=1e-9)
        assert max(cdist(cluster.xyz[0], x).min() for x in cluster.xyz[1:]) < 0.65


def test_neighbours_are_the_images_in_shortest_contact(frame: Frame) -> None:
    found = frame.nearest(26)
    shifts = np.array(np.meshgrid(*[range(-3, 4)] * 3)).reshape(3, -1).T @ frame.vectors
    for gap, k, xyz in found:
        every = [cdist(frame.xyz[26], frame.xyz[k] + shift).min() for shift in shifts]
        assert gap == pytest.approx(min(every), abs=1e-12)
        assert gap == pytest.approx(cdist(frame.xyz[26], xyz).min(), abs=1e-12)
    assert [gap for gap, _, _ in found] == sorted(gap for gap, _, _ in found)


def test_the_same_seed_cuts_the_same_clusters(frame: Frame) -> None:
    first, second, other = (cut_clusters([frame], 8, "box", seed) for seed in (1, 1, 2))
    keys = [
        [cluster_job_of(c, PHYFF_2026A, True).spec for c in clusters] for clusters in (first, second, other)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_clusters_around_one_species_come_from_every_frame_and_keep_its_source(frame: Frame) -> None:
    later = Frame(frame.species, tuple(xyz + 0.01 * k for k, xyz in enumerate(frame.xyz)), frame.vectors)
    clusters = cut_clusters([frame, later], 9, "box", seed=1, sizes=(3,), around=["Li+"])
    assert len(clusters) == 2
    assert {c.source for c in clusters} == {"box#26"}
    assert all(c.species[0].name == "Li+" for c in clusters)
    assert np.abs(clusters[0].xyz[0] - clusters[1].xyz[0]).max() > 0.1


def test_any_molecule_that_touches_may_be_drawn_and_no_farther_one() -> None:
    away = (EC.xyz[0] - EC.xyz.mean(0)) / np.linalg.norm(EC.xyz[0] - EC.xyz.mean(0))
    turns = [Rotation.from_rotvec([0.0, 0.0, 0.5 * np.pi * k]).as_matrix() for k in range(4)]
    gaps = (0.20, 0.24, 0.28, 0.45)
    molecules = [(EC.xyz - EC.xyz[0] - gap * away) @ turn.T for gap, turn in zip(gaps, turns, strict=True)]
    frame = Frame((LITHIUM, EC, EC, EC, EC), (np.zeros((1, 3)), *molecules), 5.0 * np.eye(3))
    moments = [replace(frame, xyz=tuple(xyz + 0.01 * n for xyz in frame.xyz)) for n in range(40)]
    pairs = cut_clusters(moments, 40, "box", seed=1, sizes=(2,), around=["Li+"])
    assert {round(float(cdist(*pair.xyz).min()), 4) for pair in pairs} == set(gaps[:3])
    four = cut_clusters(moments, 1, "box", seed=1, sizes=(5,), around=["Li+"])
    assert len(four[0].species) == 5


def test_a_scaled_cluster_keeps_its_molecules_rigid_and_its_source(frame: Frame) -> None:
    cluster = cut_clusters([frame], 5, "box", seed=1)[4]
    closer = cluster.scaled(0.9)
    assert closer.source == cluster.source
    for before, after in zip(cluster.xyz, closer.xyz, strict=True):
        np.testing.assert_allclose(cdist(after, after), cdist(before, before), atol=1e-12)
    for (a, b), (c, d) in zip(combinations(cluster.xyz, 2), combinations(closer.xyz, 2), strict=True):
        assert np.linalg.norm(c.mean(0) - d.mean(0)) == pytest.approx(
            0.9 * np.linalg.norm(a.mean(0) - b.mean(0))
        )


def test_a_dimer_has_the_total_of_its_decomposition() -> None:
    def is_small(spec: dict) -> bool:
        return all(len(spec[k]["elements"]) == 1 for k in ("first", "second")) and spec["step"] == 2

    records = (read_record(path) for path in sorted((Path(library_species.RECORDS) / "dimer").glob("*.json")))
    content = next(c for c in records if is_small(c["spec"]))
    spec, record = content["spec"], content["record"]
    found = cluster_job(
        {
            "monomers": [spec["first"], spec["second"]],
            "source": "test#0",
            "forces": False,
            "level": decomposition_key(PHYFF_2026A),
        }
    )
    assert found["total"] == pytest.approx(record["total"], abs=0.02)
    assert found["dispersion"] == pytest.approx(record["dispersion"], abs=0.005)


def test_forces_are_the_derivatives_of_the_energy_without_dispersion(labelled: dict) -> None:
    forces, step = np.array(labelled["forces"]), 0.02

    def energy(xyz: np.ndarray) -> float:
        fragments = Fragments.of(_monomers(xyz), PHYFF_2026A, (1e-7, 1e-4))
        converge(fragments.whole, fragments.product)
        return (fragments.whole.e_tot - sum(mf.e_tot for mf in fragments.separate)) * HARTREE_KJ

    rng = np.random.default_rng(0)
    direction = rng.normal(size=XYZ.shape)
    numeric = (energy(XYZ + step * direction) - energy(XYZ - step * direction)) / (0.2 * step)
    # the grid moves with the atoms, which the analytic forces leave out
    assert np.sum(forces * direction) == pytest.approx(-numeric, abs=0.01 * np.linalg.norm(forces))


def test_forces_on_the_whole_cluster_cancel(labelled: dict) -> None:
    np.testing.assert_allclose(np.sum(labelled["forces"], axis=0), 0.0, atol=0.01)
