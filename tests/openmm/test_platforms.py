"""Both engines give every library species the energies and forces of Reference on the CPU platform."""

import os
from dataclasses import replace

import library_species
import numpy as np
import openmm
import pytest

from benchmarks.platforms import (
    DOUBLE,
    FORMULA_UNITS,
    MIXED,
    Box,
    Evaluation,
    Row,
    Target,
    Worker,
    cpu_targets,
    difference,
    droplets,
    evaluate,
    library_force_field,
    system_of,
)
from phyff.openmm.drude import GROUPS
from phyff.openmm.forcefield import ENGINES

FORCE_FIELD = library_force_field()


@pytest.fixture(scope="module")
def boxes() -> list[Box]:
    return list(droplets(FORCE_FIELD, together=3))


@pytest.fixture(scope="module")
def lithium_salt() -> Box:
    ions = tuple(FORCE_FIELD.named(name) for name in ("Li+", "PF6-"))
    (box,) = droplets(replace(FORCE_FIELD, species=ions))
    return box


def test_the_droplets_hold_every_species_of_the_library_and_no_net_charge(boxes: list[Box]) -> None:
    assert {name for box in boxes for name, _ in box.counts} == set(library_species.NAMES)
    for box in boxes:
        assert sum(FORCE_FIELD.named(name).charge * count for name, count in box.counts) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_the_cpu_platform_has_the_energies_and_forces_of_reference(boxes: list[Box], engine: str) -> None:
    for box in boxes:
        system, positions = system_of(FORCE_FIELD, box, engine)
        expected = evaluate(system, positions, Target("Reference"))
        groups = {force.getForceGroup() for force in system.getForces()}
        assert set(expected.energies) == {name for name, group in GROUPS.items() if group in groups}
        for target in cpu_targets(system):
            off = difference(evaluate(system, positions, target), expected)
            assert off.within(MIXED), f"{box.name}, {engine}, {target.label}: {off}"


def test_forces_on_atoms_with_their_oscillators_sum_to_zero(lithium_salt: Box) -> None:
    """Nothing is lost when the two are put together: the reciprocal space alone leaves a net force."""
    system, positions = system_of(FORCE_FIELD, lithium_salt, "drude")
    found = evaluate(system, positions, Target("Reference"))
    assert len(found.forces) == len(lithium_salt.atoms)
    assert np.abs(found.forces.sum(0)).max() < 1e-3 * np.abs(found.forces).sum()
    assert np.linalg.norm(found.displacements, axis=1).max() < 0.02


def test_a_charge_off_by_a_thousandth_breaks_the_limits(lithium_salt: Box) -> None:
    system, positions = system_of(FORCE_FIELD, lithium_salt, "drude")
    expected = evaluate(system, positions, Target("Reference"))
    (charges,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    charge, sigma, epsilon = charges.getParticleParameters(0)
    charges.setParticleParameters(0, 1.001 * charge, sigma, epsilon)
    assert not difference(evaluate(system, positions, Target("Reference")), expected).within(MIXED)


def _evaluation(valence: float, permanent: float, force: float, pull: float) -> Evaluation:
    return Evaluation(
        "a device",
        {"valence": valence, "permanent": permanent},
        apart=valence,
        forces=np.array([[force, 0.0, 0.0], [0.0, 100.0, 0.0]]),
        displacements=np.array([[1e-3, 0.0, 0.0]]),
        pulls=np.array([[pull, 0.0, 0.0]]),
    )


def test_an_energy_that_cancels_is_compared_with_the_magnitudes_it_is_made_of() -> None:
    off = difference(_evaluation(1000.1, -1000.0, 100.0, 0.0), _evaluation(1000.0, -1000.0, 100.0, 0.0))
    assert off.near_zero == {"total"}
    assert off.energies == pytest.approx({"valence": 1e-4, "permanent": 0.0, "total": 5e-5})


@pytest.mark.parametrize(
    ("found", "limits"),
    [
        (_evaluation(1001.1, 500.0, 100.0, 0.0), MIXED),
        (_evaluation(1000.1, 500.0, 100.0, 0.0), DOUBLE),
        (_evaluation(1000.0, 500.0, 100.2, 0.0), MIXED),
        (_evaluation(1000.0, 500.0, 100.02, 0.0), DOUBLE),
        (_evaluation(1000.0, 500.0, 100.0, 1.1e-5), MIXED),
        (_evaluation(1000.0, 500.0, 100.0, 1.1e-8), DOUBLE),
        (_evaluation(1000.0, np.nan, 100.0, 0.0), MIXED),
        (_evaluation(1000.0, 500.0, np.nan, 0.0), MIXED),
        (_evaluation(1000.0, 500.0, 100.0, np.nan), MIXED),
    ],
)
def test_energies_forces_and_displacements_have_limits_of_their_own(found, limits) -> None:
    exact = _evaluation(1000.0, 500.0, 100.0, 0.0)
    assert difference(exact, exact).within(limits)
    assert not difference(found, exact).within(limits)


def test_a_zero_of_its_own_is_told_from_an_error() -> None:
    exact, elsewhere = _evaluation(1000.0, -500.0, 100.0, 0.0), _evaluation(1000.0, -500.1, 100.0, 0.0)
    moved = replace(elsewhere, apart=elsewhere.apart - 0.1)
    stiffer = replace(_evaluation(1000.1, -500.1, 100.0, 0.0), apart=moved.apart + 0.1)
    rows = [
        Row("EC", "drude", "mutual", Target("OpenCL", "double"), "a device", difference(found, exact))
        for found in (exact, moved, elsewhere, stiffer)
    ]
    assert [row.within for row in rows] == [True, False, False, False]
    assert [row.has_another_zero for row in rows] == [False, True, False, False]
    far = replace(_evaluation(1000.0, -510.0, 100.0, 0.0), apart=990.0)
    in_single = Row("EC", "drude", "mutual", Target("CPU"), "a device", difference(far, exact))
    assert not in_single.within and not in_single.has_another_zero


def test_binding_is_the_energy_less_that_of_the_molecules_drawn_apart(lithium_salt: Box) -> None:
    """Ions drawn apart are bound less, and nothing but what is between molecules has changed."""
    system, positions = system_of(FORCE_FIELD, lithium_salt, "drude")
    found = evaluate(system, positions, Target("Reference"))
    binding = sum(found.energies.values()) - found.apart
    assert -1500.0 * FORMULA_UNITS < binding < -100.0 * FORMULA_UNITS


def test_only_the_death_that_is_known_is_excused() -> None:
    died = [
        Row("EC", engine, polarization, Target(platform, "mixed"), None, None)
        for engine, polarization, platform in (
            ("multipole", "mutual", "OpenCL"),
            ("multipole", "mutual", "CUDA"),
            ("multipole", "extrapolated", "OpenCL"),
            ("drude", "mutual", "OpenCL"),
        )
    ]
    assert [row.excused for row in died] == [True, False, False, False]
    assert not any(row.within for row in died)


class _Deadly:
    """Ends the process that it is sent to."""

    def __reduce__(self) -> tuple:
        return os._exit, (1,)


def test_the_death_of_the_process_is_reported_and_survived(lithium_salt: Box) -> None:
    system, positions = system_of(FORCE_FIELD, lithium_salt, "drude")
    reference = Target("Reference")
    with Worker() as worker:
        assert worker.evaluate(system, _Deadly(), reference) is None  # type: ignore[arg-type]
        found = worker.evaluate(system, positions, reference)
    assert found is not None
    assert found.energies == pytest.approx(evaluate(system, positions, reference).energies, rel=1e-12)
