"""Repeated boxes are the same liquid, sizes are measured, exponents are those of the points."""

import numpy as np
import openmm
import pytest
from library_species import load
from openmm import unit

from benchmarks.platforms import droplets
from benchmarks.scaling import CUTOFF_NM, Box, exponent, measure, repeated
from phyff import builder
from phyff.openmm.forcefield import ForceField

FORCE_FIELD = ForceField((load("Li+"), load("PF6-")), builder.short_range())
REPEATS = (2, 1, 2)


@pytest.fixture(scope="module")
def box() -> Box:
    (droplet,) = droplets(FORCE_FIELD)
    return Box(droplet.counts, len(droplet.atoms), droplet.edge_nm, droplet.positions)


def _energy(box: Box, repeats: tuple[int, int, int]) -> float:
    copies = int(np.prod(repeats))
    topology = FORCE_FIELD.topology([(name, count * copies) for name, count in box.counts])
    topology.setPeriodicBoxVectors(np.diag(repeats) * box.edge_nm * unit.nanometer)
    system = FORCE_FIELD.create_system(topology, CUTOFF_NM)
    context = openmm.Context(
        system, openmm.VerletIntegrator(1e-3), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(repeated(FORCE_FIELD, box, repeats))
    return float(context.getState(energy=True).getPotentialEnergy()._value)


def test_a_repeated_box_has_as_many_times_the_energy(box: Box) -> None:
    one = _energy(box, (1, 1, 1))
    assert abs(one) > 100.0
    assert _energy(box, REPEATS) == pytest.approx(4 * one, rel=1e-4)


def test_a_size_is_measured_with_its_time_and_memory(box: Box) -> None:
    size = measure(box, REPEATS, "CPU")
    assert (size.atoms, size.particles) == (4 * box.n_atoms, 4 * len(box.positions))
    assert 0.0 < size.cpu_ms < 1000.0 and size.wall_ms > 0.0
    assert 10.0 < size.idle_mb <= size.peak_mb
    assert "CPU" in size.ran_on


def test_the_exponent_is_that_of_a_power_law_and_its_error_follows_the_scatter() -> None:
    atoms = [500, 1000, 2000, 4000]
    assert exponent(atoms, [3e-3 * n**1.25 for n in atoms]) == pytest.approx((1.25, 0.0), abs=1e-6)
    rng, deviations = np.random.default_rng(1), []
    for _ in range(300):
        value, error = exponent(atoms, [n * np.exp(rng.normal(scale=0.05)) for n in atoms])
        deviations.append((value - 1.0) / error)
    assert 0.35 < np.mean(np.abs(deviations) < 1.0) < 0.75  # Student's t of two degrees of freedom: 0.58
