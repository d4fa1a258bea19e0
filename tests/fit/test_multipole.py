"""Around bare cations the `multipole` engine is fitted to what the `drude` engine gives."""

import numpy as np
import pytest
import torch
from library_species import load
from standin_species import CHLORIDE, LITHIUM, SHORT_RANGE

from phyff.builder import short_range
from phyff.fit.multipole import cation_sizes, contact_shares
from phyff.fit.short_range import DimerPoint
from phyff.model import multipoles
from phyff.model.cluster import Cluster, interaction_energy, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.parameters import ShortRange, species_tensors
from phyff.qm.dimers import Partner, random_contacts
from phyff.species.parameters import SpeciesParameters

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


def test_shares_of_contacts_bring_the_engines_together_where_they_were_not_fitted() -> None:
    species, model = [load("Li+"), load("AN")], short_range().model_copy(update={"multipole_contacts": {}})
    shares = contact_shares([], species, model)
    assert set(shares) == {"Li"} and {"C", "N", "H"} < set(shares["Li"])
    before = _difference(species, model)
    after = _difference(species, model.model_copy(update={"multipole_contacts": shares}))
    assert after < 0.5 * before, (before, after)


def _difference(species: list[SpeciesParameters], model: ShortRange) -> float:
    """Root mean square of electrostatics and induction, drude less multipole, of bound contacts, kJ/mol."""
    tensors, differences = [species_tensors(s, model) for s in species], []
    for xyz in random_contacts(*map(Partner.of, species), orientations=8, seed=5):
        cluster = Cluster.of(tensors, [torch.tensor(0.1 * x) for x in xyz])
        one = interaction_energy(cluster)
        if one["total"] < 0:
            other = multipoles.interaction_energy(cluster)
            differences.append(sum(float(one[k] - other[k]) for k in ("electrostatics", "induction")))
    return float(np.sqrt(np.mean(np.square(differences))))


def _polarizations(model: ShortRange) -> tuple[float, float]:
    """Of the drude and of the multipole engine."""
    tensors = [species_tensors(SPECIES[name], model) for name in PAIR.names]
    cluster = Cluster.of(tensors, [torch.tensor(xyz) for xyz in PAIR.xyz])
    drude = oscillator_energy(cluster, relaxed_displacements(cluster))
    return drude.item(), induced_energy(cluster, laboratory_moments(cluster)).item()
