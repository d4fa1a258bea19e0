"""Around bare cations the `multipole` engine is fitted to what the `drude` engine gives."""

import re
from dataclasses import replace

import numpy as np
import torch
from library_species import load
from standin_species import CHLORIDE, LITHIUM, SHORT_RANGE

from phyff.builder import short_range
from phyff.fit.multipole import cation_sizes, contact_shares
from phyff.fit.short_range import DimerPoint
from phyff.model import multipoles
from phyff.model.cluster import Cluster, interaction_energy, oscillator_energy, relaxed_displacements
from phyff.model.multipoles import induced_energy, laboratory_moments
from phyff.model.parameters import ShortRange, in_species, species_tensors
from phyff.qm.dimers import Partner, random_contacts
from phyff.species.parameters import SpeciesParameters

SPECIES = {"Cl-": CHLORIDE, "Li+": LITHIUM}
DISTANCE = 0.21
PAIR = DimerPoint(
    ("Cl-", "Li+"), (np.zeros((1, 3)), np.array([[DISTANCE, 0.0, 0.0]])), {"total": -1.0}, "Cl-+Li+#0"
)


def test_the_fitted_size_gives_both_engines_the_same_three_body_energy(monkeypatch) -> None:
    monkeypatch.setattr("phyff.fit.multipole.TRIPLES", 30)
    model = SHORT_RANGE.model_copy(update={"damping_alpha": {"Li": 8e-4}})
    sizes = cation_sizes([PAIR], SPECIES, model)
    drude, before = _three_body_polarizations(model)
    _, after = _three_body_polarizations(model.model_copy(update={"multipole_damping_alpha": sizes}))
    assert abs(before - drude) > 0.05 * drude > 0.0
    assert abs(after - drude) < 0.5 * abs(before - drude)


def test_a_cation_without_bound_dimers_keeps_its_size() -> None:
    assert cation_sizes([], SPECIES, SHORT_RANGE) == {}


def test_triples_that_are_left_out_are_counted(monkeypatch) -> None:
    monkeypatch.setattr("phyff.fit.multipole.TRIPLES", 3)
    near = replace(PAIR, xyz=(np.zeros((1, 3)), np.array([[0.135, 0.0, 0.0]])))
    model, said = SHORT_RANGE.model_copy(update={"damping": 100.0, "damping_alpha": {"Li": 8e-4}}), []
    assert cation_sizes([near], SPECIES, model, said.append) == {}
    assert len(said) == 1 and re.match(r"Li\+: (\d+) of \1 triples left out", said[0])


def test_shares_of_contacts_bring_the_engines_together_where_they_were_not_fitted() -> None:
    species, model = [load("Li+"), load("AN")], short_range().model_copy(update={"multipole_contacts": {}})
    shares = contact_shares([], species, model)
    assert set(shares) == {"Li"} and {"C", "N", "H"} < set(shares["Li"])
    assert all(in_species("AN", labels) in shares["Li"] for labels in load("AN").atom_classes)
    before = _difference(species, model)
    after = _difference(species, model.model_copy(update={"multipole_contacts": shares}))
    assert after < 0.5 * before, (before, after)


def test_an_atom_has_the_share_of_its_species_before_that_of_its_class() -> None:
    labels = load("AN").atom_classes[0]
    own, of_class = in_species("AN", labels), labels[0]
    model = SHORT_RANGE.model_copy(
        update={"multipole_contacts": {"Li": {own: (0.3, 0.1), of_class: (0.2, 0.0)}}}
    )
    known = species_tensors(load("AN"), model).multipoles.contacts["Li"]
    elsewhere = species_tensors(load("AN").model_copy(update={"name": "other"}), model)
    assert torch.allclose(elsewhere.multipoles.contacts["Li"][0, 0] * 1.5, known[0, 0])
    assert known[1, 0] > 0.0 == elsewhere.multipoles.contacts["Li"][1, 0]


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


def _three_body_polarizations(model: ShortRange) -> tuple[float, float]:
    """Of two chlorides at a right angle to one lithium, in the drude and in the multipole engine."""
    places = [np.zeros((1, 3)), np.array([[DISTANCE, 0.0, 0.0]]), np.array([[0.0, DISTANCE, 0.0]])]
    names = ("Li+", "Cl-", "Cl-")
    sums = np.zeros(2)
    for members, sign in (((0, 1, 2), 1), ((0, 1), -1), ((0, 2), -1), ((1, 2), -1)):
        cluster = Cluster.of(
            [species_tensors(SPECIES[names[k]], model) for k in members],
            [torch.tensor(places[k]) for k in members],
        )
        drude = oscillator_energy(cluster, relaxed_displacements(cluster))
        sums += sign * np.array([drude.item(), induced_energy(cluster, laboratory_moments(cluster)).item()])
    return sums[0], sums[1]
