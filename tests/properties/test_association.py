"""Contacts, residence times and speciation against counts made by hand and a two-state process."""

from dataclasses import replace

import numpy as np
import pytest
from synthetic_run import LI, PF6, BrownianSpecies, SyntheticRun

from phyff.properties.association import association
from phyff.properties.contacts import Contacts, contact_survival, find_contacts, residence_time
from phyff.properties.trajectory import Production, read_run

BOX = 4.0


def test_contacts_are_found_across_the_box_edge_and_by_molecule() -> None:
    xyz = np.array([[[0.02, 1.0, 1.0], [3.95, 1.0, 1.0], [3.0, 1.0, 1.0], [0.3, 3.0, 1.0], [0.1, 1.1, 1.0]]])
    frame = Production(np.zeros((1, 1, 3)), xyz.astype(np.float32), 1, 1.0, BOX)
    found = find_contacts(np.array([0]), np.arange(1, 5), 2, 0.2, frame)
    assert found.pairs.tolist() == [[0, 0], [0, 1]]
    assert found.touching.tolist() == [[True, True]]


def test_the_residence_time_of_a_two_state_process_is_found() -> None:
    # Off at rate a, on at rate b: the contact correlation decays with 1 / (a + b), here 20 steps.
    rng = np.random.default_rng(1)
    touching = np.zeros((2000, 400), dtype=bool)
    for step in range(1, 2000):
        change = rng.random(400)
        touching[step] = np.where(touching[step - 1], change > 0.045, change < 0.005)
    contacts = Contacts(np.zeros((400, 2), int), touching[200:], 400, 2.0)
    assert residence_time([contacts]) == pytest.approx(40.0, rel=0.1)
    assert contact_survival([contacts])[0] == pytest.approx(1.0)


def test_contacts_that_never_end_or_never_were_have_no_residence_time() -> None:
    always = Contacts(np.zeros((1, 2), int), np.ones((30, 1), bool), 10, 1.0)
    never = Contacts(np.zeros((0, 2), int), np.zeros((30, 0), bool), 10, 1.0)
    assert residence_time([always]) == np.inf
    assert residence_time([replace(always, possible=1)]) == np.inf  # a box with one cation and one anion
    assert residence_time([never]) == 0.0


def test_free_ions_pairs_and_aggregates_are_counted(tmp_path) -> None:  # type: ignore[no-untyped-def]
    species = (BrownianSpecies("Li", LI, 1, 8, 0.0003), BrownianSpecies("PF6", PF6, -1, 8, 0.0003))
    run = read_run(SyntheticRun(species=species, n_frames=1, box_nm=BOX).write(tmp_path))
    rng = np.random.default_rng(2)
    # Sites on a grid 1.3 nm apart: cations 0-3 free, 4 and 5 paired, 6 and 7 share anion 6; anion 7 is alone.
    grid = 1.3 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    arms = 0.16 * np.concatenate([np.eye(3), -np.eye(3)])
    shape = np.concatenate([arms[:1], np.zeros((1, 3)), arms[1:]])
    snapshots = []
    for _ in range(40):
        anions = grid[10:18]
        cations = grid[:8].copy()
        cations[4:7] = anions[4:7] + [0.36, 0.0, 0.0]
        cations[7] = anions[6] - [0.36, 0.0, 0.0]
        cations += rng.normal(scale=0.01, size=cations.shape)
        snapshots.append(np.concatenate([cations, (anions[:, None] + shape).reshape(-1, 3)]))
    frames = Production(np.zeros((40, 16, 3)), np.array(snapshots, np.float32), 1, 1.0, BOX)
    found = association(run, [frames])
    assert found["fraction_free_ions"].value == pytest.approx(0.5)
    assert found["fraction_contact_pairs"].value == pytest.approx(0.25)
    assert found["fraction_aggregates"].value == pytest.approx(0.25)
    # Nothing moves, so that eight cations have been seen once: like eight throws of a coin of 0.3.
    assert found["fraction_aggregates"].error == pytest.approx(np.sqrt(0.3 * 0.7 / 8))
    assert "no first neighbour left" in found["fraction_aggregates"].verdict
    assert found["residence_time_Li_PF6"].verdict.startswith("not converged: no neighbour left its cation")
