"""Near fields of molecules as a stock OpenMM force: torch's energy and forces, in vacuum and boxes."""

import library_species
import numpy as np
import pytest
import torch
from cations_in_contact import COUNTS, NAMES, evaluated, placed, skewed_box
from library_species import SHORT_RANGE

from phyff.model.near_field import near_field_energies
from phyff.openmm.forcefield import ENGINES, ForceField
from phyff.openmm.near_field import NAME

FORCE_FIELD = ForceField(tuple(library_species.load(name) for name in NAMES), SHORT_RANGE)


def _expected(atoms: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """Energy and forces on the atoms by torch."""
    species = [FORCE_FIELD.tensors[name] for name, count in COUNTS for _ in range(count)]
    xyz = torch.tensor(np.vstack(atoms), requires_grad=True)
    parts = near_field_energies(xyz, species, np.cumsum([0, *map(len, atoms)])[:-1].tolist())
    energy = parts["exchange"] - parts["penetration"] + parts["potential"]
    (gradient,) = torch.autograd.grad(energy, xyz)
    return energy.item(), -gradient.numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_energy_and_forces_in_vacuum_are_those_of_torch(engine: str, platform: str) -> None:
    atoms = placed(FORCE_FIELD, 0.2)
    energy, forces = _expected(atoms)
    assert abs(energy) > 1.0 and np.abs(forces).max() > 100.0
    found = evaluated(
        FORCE_FIELD, FORCE_FIELD.topology(COUNTS, engine=engine), engine, atoms, None, platform, NAME
    )
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_in_a_box_the_nearest_images_meet_wherever_molecules_are_written(skew: float) -> None:
    atoms = placed(FORCE_FIELD, 0.2)
    energy, forces = _expected(atoms)
    topology, elsewhere = skewed_box(FORCE_FIELD, atoms, skew)
    found = evaluated(FORCE_FIELD, topology, "drude", elsewhere, 0.8, "Reference", NAME)
    assert found[0] == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(found[1], forces, atol=1e-5 * np.abs(forces).max())


def test_the_force_is_there_only_where_a_cation_meets_a_molecule() -> None:
    def has(counts: list[tuple[str, int]]) -> bool:
        system = FORCE_FIELD.create_system(FORCE_FIELD.topology(counts), None)
        return any(NAME in force.getName() for force in system.getForces())

    assert has([("Li+", 1), ("EC", 1)])
    assert not has([("PF6-", 1), ("EC", 1)])
    assert not has([("Li+", 1), ("Na+", 1)])
