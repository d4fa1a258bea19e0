"""Widths of the dispersion's damping are recovered, and elements without a say keep the shared one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from library_species import at_contact, random_pose
from standin_species import ALL

from phyff.fit.dispersion import fit_dispersion_widths
from phyff.fit.short_range import DimerPoint
from phyff.model.cluster import Cluster, dispersion_energy
from phyff.model.parameters import FALLBACK, ShortRange, species_tensors

TRUTH = {"O": 0.9, "Cl": 0.7}
"""The stand-in water has no dispersion on its hydrogens."""


@pytest.fixture(scope="module")
def points() -> list[DimerPoint]:
    """Dimers of water and chloride with the dispersion of the known widths, damped in part."""
    model = ShortRange.charges_only().model_copy(update={"dispersion_widths": TRUTH})
    tensors = {name: species_tensors(ALL[name], model) for name in ("water", "Cl-")}
    rng, made = np.random.default_rng(4), []
    for names in (("water", "water"), ("Cl-", "water")):
        for gap in np.repeat([0.14, 0.17, 0.2, 0.25], 6):
            first, second = (random_pose(ALL[n].xyz, rng) for n in names)
            xyz = first, at_contact(first, second, gap, rng)
            energy = dispersion_energy(
                Cluster.of([tensors[n] for n in names], [torch.tensor(x) for x in xyz])
            )
            parts = {"electrostatics": 0.0, "exchange": 0.0, "induction": 0.0, "dispersion": energy.item()}
            made.append(DimerPoint(names, xyz, parts, "+".join(names) + "#0"))
    return made


def test_widths_of_the_elements_are_recovered(points: list[DimerPoint]) -> None:
    found = fit_dispersion_widths(points, {n: ALL[n] for n in ("water", "Cl-")})
    assert {e: found[e] for e in TRUTH} == pytest.approx(TRUTH, abs=0.03)
    assert min(TRUTH.values()) < found[FALLBACK] < max(TRUTH.values())


def test_an_element_no_dimer_holds_keeps_the_shared_width(points: list[DimerPoint]) -> None:
    found = fit_dispersion_widths(points, ALL)
    assert found["Li"] == pytest.approx(found[FALLBACK], abs=1e-4)
    assert found["H"] == pytest.approx(found[FALLBACK], abs=1e-4)


def test_dimers_far_up_the_wall_hardly_count(points: list[DimerPoint]) -> None:
    spoilt = replace(points[0], components={**points[0].components, "dispersion": -900.0, "exchange": 1e5})
    species = {n: ALL[n] for n in ("water", "Cl-")}
    found, expected = (fit_dispersion_widths(p, species) for p in ([spoilt, *points[1:]], points))
    assert found == pytest.approx(expected, abs=0.01)
