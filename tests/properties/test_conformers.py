"""Which bonds turn, and how long they do not: molecules by name, and a two-state process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import BrownianSpecies, SyntheticRun

from phyff.properties import study
from phyff.properties.conformers import conformer_lifetimes, not_of_the_liquid, still
from phyff.properties.dielectric import dielectric
from phyff.properties.trajectory import Production, Run, SpeciesInBox
from phyff.species.library import find
from phyff.species.molecule import Molecule
from phyff.species.rotors import is_achiral, rotors

PEROXIDE = "[H:1][O:2][O:3][H:4]"


@pytest.mark.parametrize(
    ("smiles", "labels"),
    [
        ("DMC", ["C-O-C-O"]),  # two ester bonds that are alike; methyl groups do not count
        ("EMC", ["C-O-C-C", "C-O-C-O", "C-O-C-O"]),
        ("DME", ["C-O-C-C", "O-C-C-O"]),
        ("TFSI-", ["S-N-S-C"]),  # CF3 turns unseen
        ("EC", []),
        ("PF6-", []),
        ("CCC#N", []),  # the far side is straight
    ],
)
def test_bonds_that_change_the_shape_are_found(smiles: str, labels: list[str]) -> None:
    found = rotors(Molecule.from_smiles(find(smiles)[1]).mapped_smiles)
    assert sorted(rotor.label for rotor in found) == labels


def test_bonds_that_are_alike_stand_together_with_torsions_that_are_alike() -> None:
    molecule = Molecule.from_smiles(find("DMC")[1])
    (rotor,) = rotors(molecule.mapped_smiles)
    assert len(rotor.torsions) == 2
    carbonyl = {torsion[3] for torsion in rotor.torsions}
    assert len(carbonyl) == 1
    assert molecule.atom_classes[carbonyl.pop()][2] == "O1"


def test_mirror_images_are_told_apart_by_their_atoms() -> None:
    assert is_achiral(Molecule.from_smiles(find("EMC")[1]).mapped_smiles)
    assert not is_achiral(Molecule.from_smiles(find("PC")[1]).mapped_smiles)


def _peroxides(angles: np.ndarray) -> tuple[Run, list[Production]]:
    """A trajectory of peroxides with these dihedral angles (n_frames, n_molecules), one ps apart."""
    n_frames, count = angles.shape
    ends = 0.1 * np.stack([0.0 * angles, np.cos(angles), np.sin(angles)], axis=-1)
    first, second = np.array([0.0, 0.0, 0.0]), np.array([0.15, 0.0, 0.0])
    fixed = np.broadcast_to([first + [0.0, 0.1, 0.0], first, second], (n_frames, count, 3, 3))
    xyz = np.concatenate([fixed, (second + ends)[:, :, None]], axis=2).reshape(n_frames, -1, 3)
    ones = np.ones(4)
    species = SpeciesInBox(
        *("HOOH", "OO", count, 0, ("H", "O", "O", "H"), ones, ones, ones > 2, 0, 0), mapped_smiles=PEROXIDE
    )
    centres = np.zeros((n_frames, count, 3))
    production = Production(centres, xyz.astype(np.float32), 1, 1.0, 3.0)
    return Run(Path(), {}, (species,)), [production]


def test_the_lifetime_of_a_two_state_process_is_found() -> None:
    rng = np.random.default_rng(3)
    turns = np.cumsum(rng.random((2000, 60)) < 0.004, axis=0)  # every 250 ps
    angles = np.where(turns % 2, np.pi, 1.0) + 0.25 * rng.normal(size=turns.shape)
    found = conformer_lifetimes(*_peroxides(angles))["conformer_lifetime_HOOH"]
    assert found.value == pytest.approx(250.0, rel=0.1)
    assert found.error == pytest.approx(found.value / np.sqrt(turns[-1].sum()), rel=0.1)
    assert found.converged
    assert f"{100 * np.mean(turns % 2):.0f} % trans" in found.details["rotatable_bonds"]


def test_a_run_shorter_than_three_lifetimes_says_so() -> None:
    rng = np.random.default_rng(4)
    turns = np.cumsum(rng.random((400, 60)) < 0.004, axis=0)
    lifetimes = conformer_lifetimes(*_peroxides(np.where(turns % 2, np.pi, 1.0)))
    verdict = lifetimes["conformer_lifetime_HOOH"].verdict
    assert verdict.startswith("not converged: bonds turn every 0.") and "the run is 0.4 ns" in verdict
    assert still(lifetimes) == ["HOOH"]


def test_bonds_that_never_turn_have_no_lifetime_and_vibrations_are_no_turns() -> None:
    noise = 0.35 * np.random.default_rng(5).normal(size=(400, 60))  # 20 degrees
    found = conformer_lifetimes(*_peroxides(np.pi + noise))["conformer_lifetime_HOOH"]
    assert np.isnan(found.value)
    assert found.verdict == "not converged: no such bond turned in 0.4 ns"
    assert found.details["rotatable_bonds"] == "H-O-O-H 100 % trans, 0 turns"


def test_a_few_frames_say_nothing() -> None:
    found = conformer_lifetimes(*_peroxides(np.zeros((10, 3))))
    assert found["conformer_lifetime_HOOH"].verdict == "not converged: too few frames of production"


def test_a_dielectric_constant_of_conformers_as_packed_is_not_converged() -> None:
    run, production = _peroxides(np.zeros((2000, 60)))
    run = replace(run, settings={"temperature_K": 300.0})
    draw = np.random.default_rng(6)
    dipoles = {"HOOH": lambda xyz: 0.02 * draw.normal(size=(len(xyz), 3))}
    assert dielectric(run, production, dipoles, True)["dielectric_constant"].converged
    why = not_of_the_liquid(["HOOH"], [], 1)
    verdict = dielectric(run, production, dipoles, True, why)["dielectric_constant"].verdict
    assert verdict == "not converged: conformers of HOOH keep the shares the box was packed with"


def test_conformers_of_one_draw_are_not_those_of_the_liquid_and_replicas_draw_more() -> None:
    why = not_of_the_liquid([], ["DMC"], 1)
    assert why == "conformers of DMC keep the shares of one draw; --replicas makes more"
    assert not_of_the_liquid([], ["DMC"], 2) is None
    assert not_of_the_liquid([], [], 1) is None


@pytest.mark.parametrize("lowered", [False, True])
def test_conformers_as_packed_are_warned_of_unless_barriers_were_lowered(tmp_path, lowered: bool) -> None:  # type: ignore[no-untyped-def]
    smiles = Molecule.from_smiles(find("DMC")[1]).mapped_smiles
    rigid = SyntheticRun(
        species=(BrownianSpecies("DMC", smiles, 0, 20, 0.001),),
        n_frames=100,
        settings={"lowered_barriers": {"DMC": []}} if lowered else {},
    )
    found = study(rigid.write(tmp_path))
    assert found.properties["conformer_lifetime_DMC"].verdict.startswith("not converged: no such bond turned")
    warned = any(line.startswith("Conformers of DMC do not come to equilibrium") for line in found.warnings)
    assert warned != lowered
