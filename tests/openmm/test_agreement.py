"""The `drude` engine against torch with the fitted library: random dimers and clusters of all its species."""

from collections.abc import Iterator
from itertools import combinations

import library_species
import numpy as np
import openmm
import pytest
import torch
from library_species import FOLDER, NAMES, at_contact, random_pose
from scipy.spatial.distance import cdist

from phyff.model.cluster import PARTS, Cluster
from phyff.model.cluster import interaction_energy as torch_energy
from phyff.model.parameters import ShortRange
from phyff.openmm.cluster import interaction_energy
from phyff.openmm.forcefield import ForceField

FORCE_FIELD = ForceField(
    tuple(library_species.load(name) for name in NAMES), ShortRange.load(FOLDER / "short_range.json")
)
CONTACT_NM, FAR_NM = 0.25, 0.8
DISPLACED_NM = 0.003
ION_CONTACT_NM = {"Li+": 0.19, "Na+": 0.22, "K+": 0.26}
"""Closest atoms of a bare cation and its neighbour."""
ABSOLUTE, RELATIVE = 0.02, 1e-4
"""kJ/mol; a component agrees within either."""
Monomers = list[tuple[str, np.ndarray]]


def _dimers(rounds: int) -> list[Monomers]:
    """In every round each species with another one, drawn once; separations from contact to FAR_NM, mostly
    near."""
    rng = np.random.default_rng(51)
    pairs = [
        pair for _ in range(rounds) for pair in zip(NAMES, map(str, rng.permutation(NAMES)), strict=True)
    ]
    return [_assembled(pair, FAR_NM, rng) for pair in pairs]


def _clusters(number: int) -> list[Monomers]:
    """Three to six monomers in contact, one or two of them ions."""
    rng = np.random.default_rng(10)
    charged = {s.name: s.charge != 0 for s in FORCE_FIELD.species}
    ions, molecules = [n for n in NAMES if charged[n]], [n for n in NAMES if not charged[n]]
    chosen = [
        (*rng.choice(ions, 1 + k % 2, replace=False), *rng.choice(molecules, 2 + (k + 1) // 2 % 3))
        for k in range(number)
    ]
    return [_assembled(tuple(map(str, names)), CONTACT_NM, rng) for names in chosen]


def _assembled(names: tuple[str, ...], farthest: float, rng: np.random.Generator) -> Monomers:
    """Random conformers and orientations, atoms displaced a little (charge flows then), each added between
    contact with the others and `farthest`."""
    monomers: Monomers = []
    for name in names:
        conformers = FORCE_FIELD.named(name).conformers
        xyz = random_pose(np.array(conformers[rng.integers(len(conformers))].xyz_nm), rng)
        xyz += rng.normal(scale=DISPLACED_NM, size=xyz.shape)
        if monomers:
            contact = min(ION_CONTACT_NM.get(n, CONTACT_NM) for n in (name, *(n for n, _ in monomers)))
            gap = contact + max(farthest - contact, 0.0) * rng.uniform() ** 2
            xyz = at_contact(np.vstack([x for _, x in monomers]), xyz, gap, rng)
        monomers.append((name, xyz))
    return monomers


def _gap(monomers: Monomers) -> float:
    return min(cdist(a, b).min() for (_, a), (_, b) in combinations(monomers, 2))


def _label(monomers: Monomers) -> str:
    return f"{' '.join(name for name, _ in monomers)} {_gap(monomers):.2f}"


def _torch_energy(monomers: Monomers) -> dict[str, float]:
    cluster = Cluster.of(
        [FORCE_FIELD.tensors[name] for name, _ in monomers], [torch.tensor(xyz) for _, xyz in monomers]
    )
    return {part: value.item() for part, value in torch_energy(cluster).items()}


DIMERS, CLUSTERS = _dimers(2), _clusters(10)


@pytest.fixture(scope="module", autouse=True)
def shared_contexts() -> Iterator[None]:
    """Equal Systems share a Context: making one takes OpenMM a third of a second."""
    made: dict[str, openmm.Context] = {}
    make = openmm.Context

    def shared(
        system: openmm.System, integrator: openmm.Integrator, platform: openmm.Platform
    ) -> openmm.Context:
        key = platform.getName() + openmm.XmlSerializer.serialize(system)
        if key not in made:
            made[key] = make(system, integrator, platform)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openmm, "Context", shared)
        yield


def test_the_dimers_hold_every_species_and_reach_from_contact_to_far_away() -> None:
    assert {name for dimer in DIMERS for name, _ in dimer} == set(NAMES)
    gaps = [_gap(dimer) for dimer in DIMERS]
    assert min(gaps) < 0.25 and max(gaps) > 0.6
    energies = [_torch_energy(dimer) for dimer in DIMERS]
    for part in PARTS:
        assert sum(abs(energy[part]) > 1.0 for energy in energies) >= 10


@pytest.mark.parametrize("monomers", DIMERS + CLUSTERS, ids=_label)
def test_openmm_gives_every_component_of_the_torch_energy(monomers: Monomers) -> None:
    found = interaction_energy(FORCE_FIELD, monomers)
    assert found == pytest.approx(_torch_energy(monomers), abs=ABSOLUTE, rel=RELATIVE)
