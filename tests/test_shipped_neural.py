"""The neural term that comes with the library corrects the library that is there."""

import numpy as np
import pytest
import torch
from library_species import FOLDER, NAMES, RECORDS, at_contact, load, random_pose

from phyff import builder
from phyff.fit.labels import Sample, load_clusters, load_library, rigid_part, split_of, with_physics
from phyff.model.cluster import Cluster
from phyff.model.neural import NeuralTerm, neural_energies, predict
from phyff.model.parameters import SpeciesTensors, species_tensors


@pytest.fixture(scope="module")
def term() -> NeuralTerm:
    return builder.neural_term(builder.short_range())


@pytest.fixture(scope="module")
def tensors() -> dict[str, SpeciesTensors]:
    model, species = load_library(FOLDER)
    return {name: species_tensors(one, model) for name, one in species.items()}


@pytest.fixture(scope="module")
def unseen(tensors) -> list[Sample]:
    """Trimers that are not in the training, with forces."""
    _, species = load_library(FOLDER)
    labels = [
        label
        for label in load_clusters(RECORDS / "cluster", species)
        if len(label.names) > 2 and label.forces is not None and split_of(label.source) == "test"
    ]
    return with_physics(labels, tensors)


def test_it_takes_a_third_of_the_error_of_clusters_it_has_not_seen(term, tensors, unseen) -> None:
    # the goals are half, met before charge flow took a third of the physics' error, and 40 % of the forces,
    # met before near fields took a quarter of theirs
    found = [
        predict(
            term,
            Cluster.of([tensors[n] for n in s.label.names], [torch.tensor(x) for x in s.label.xyz]),
        )
        for s in unseen
    ]
    residual = np.array([s.residual for s in unseen])
    left = residual - np.array([p.energy for p in found])
    assert len(unseen) >= 70
    assert np.sqrt(np.mean(left**2)) < 0.65 * np.sqrt(np.mean(residual**2))
    assert np.sqrt(np.mean(left**2)) < 3.7  # kJ/mol
    missed = [rigid_part(s.label.forces - s.physics_forces, s.label) for s in unseen]
    mended = [
        m - rigid_part(p.forces.numpy(), s.label) for m, p, s in zip(missed, found, unseen, strict=True)
    ]
    physics, hybrid = (np.sqrt(np.mean(np.concatenate(rows) ** 2)) for rows in (missed, mended))
    assert hybrid < 0.57 * physics
    assert hybrid < 17.0  # kJ/mol/nm


@pytest.mark.parametrize("name", NAMES)
def test_a_species_alone_has_none_and_in_contact_with_lithium_little(term, tensors, name: str) -> None:
    rng, xyz = np.random.default_rng(7), load(name).xyz
    alone = Cluster.of([tensors[name]], [torch.tensor(xyz)])
    assert neural_energies(term, alone).abs().max() == 0.0
    for gap in (0.12, 0.18, 0.2, 0.25, 0.35):  # from where the wall rules to where little is left to correct
        posed = random_pose(xyz, rng)
        places = [posed, at_contact(posed, np.zeros((1, 3)), gap, rng)]
        pair = Cluster.of([tensors[name], tensors["Li+"]], [torch.tensor(place) for place in places])
        assert neural_energies(term, pair).mean().abs() < 100.0  # kJ/mol
