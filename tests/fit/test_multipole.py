"""The size of a cation in AMOEBA's damping."""

import numpy as np
import pytest
import torch
from standin_species import CHLORIDE, LITHIUM, SHORT_RANGE

from phyff.fit.multipole import cation_sizes
from phyff.fit.short_range import DimerPoint
from phyff.model.cluster import Cluster, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.parameters import ShortRange, species_tensors

SPECIES = {"Cl-": CHLORIDE, "Li+": LITHIUM}
DISTANCE = 0.21
PAIR = DimerPoint(
    ("Cl-", "Li+"), (np.zeros((1, 3)), np.array([[DISTANCE, 0.0, 0.0]])), {"total": -1.0}, "Cl-+Li+#0"
)


def test_the_fitted_size_gives_both_engines_the_same_polarization() -> None:
    model = SHORT_RANGE.model_copy(update={"damping_alpha": {"Li": 8e-4}})
    sizes = cation_sizes([PAIR], SPECIES, model)
    drude, before = _polarizations(model)
    _, after = _polarizations(model.model_copy(update={"multipole_damping_alpha": sizes}))
    assert before < 1.02 * drude < 0.0
    assert after == pytest.approx(drude, rel=1e-3)


def test_a_cation_without_bound_dimers_keeps_its_size() -> None:
    assert cation_sizes([], SPECIES, SHORT_RANGE) == {}


def _polarizations(model: ShortRange) -> tuple[float, float]:
    """Of the drude and of the multipole engine."""
    tensors = [species_tensors(SPECIES[name], model) for name in PAIR.names]
    cluster = Cluster.of(tensors, [torch.tensor(xyz) for xyz in PAIR.xyz])
    drude = oscillator_energy(cluster, relaxed_displacements(cluster))
    return drude.item(), induced_energy(cluster, laboratory_moments(cluster)).item()
