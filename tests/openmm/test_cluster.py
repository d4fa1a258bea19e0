"""The OpenMM engine gives the torch energies of clusters, component by component."""

from itertools import combinations_with_replacement

import library_species
import numpy as np
import pytest
import torch
from library_species import SHORT_RANGE, at_contact, random_pose

from phyff.model.cluster import PARTS, Cluster
from phyff.model.cluster import interaction_energy as torch_energy
from phyff.openmm.cluster import interaction_energy
from phyff.openmm.forcefield import ForceField

NAMES = [name for name in ("EC", "DMC", "Li+", "PF6-") if name in library_species.NAMES]
FORCE_FIELD = ForceField(tuple(library_species.load(name) for name in NAMES), SHORT_RANGE)
LIKE_IONS = ("Li+", "Li+"), ("PF6-", "PF6-")
DIMERS = [pair for pair in combinations_with_replacement(NAMES, 2) if pair not in LIKE_IONS]
CLUSTERS = [("Li+", "EC", "EC", "EC"), ("Li+", *NAMES[:2], NAMES[-1])]


def _assembled(names: tuple[str, ...], rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Monomers added one by one in contact with the others, in random conformers and orientations."""
    monomers: list[tuple[str, np.ndarray]] = []
    for name in names:
        conformers = FORCE_FIELD.named(name).conformers
        xyz = random_pose(np.array(conformers[rng.integers(len(conformers))].xyz_nm), rng)
        if monomers:
            gap = 0.2 if "Li+" in (name, *(n for n, _ in monomers)) else 0.27
            xyz = at_contact(np.vstack([x for _, x in monomers]), xyz, gap, rng)
        monomers.append((name, xyz))
    return monomers


@pytest.mark.parametrize("names", [*DIMERS, *CLUSTERS], ids=" ".join)
def test_openmm_gives_every_component_of_the_torch_energy(names: tuple[str, ...]) -> None:
    monomers = _assembled(names, np.random.default_rng([11, *map(ord, "".join(names))]))
    cluster = Cluster.of(
        [FORCE_FIELD.tensors[name] for name, _ in monomers], [torch.tensor(xyz) for _, xyz in monomers]
    )
    expected = {part: value.item() for part, value in torch_energy(cluster).items()}
    found = interaction_energy(FORCE_FIELD, monomers)
    assert max(abs(expected[part]) for part in PARTS) > 1.0
    assert found == pytest.approx(expected, rel=1e-4, abs=0.02)
