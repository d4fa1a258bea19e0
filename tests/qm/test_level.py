"""Levels of theory."""

import pytest

from phyff.errors import InputError
from phyff.qm.level import PHYFF_2026A, LevelOfTheory, build_mol, level_named


def test_a_level_survives_the_way_through_json():
    assert LevelOfTheory.from_dict(PHYFF_2026A.to_dict()) == PHYFF_2026A


def test_an_unknown_level_lists_the_known_ones():
    with pytest.raises(InputError, match="phyff-2026a"):
        level_named("b3lyp")


def test_cations_get_their_own_basis_at_the_density_level_only():
    xyz = [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    dense = build_mol(["Li", "F"], xyz, 0, PHYFF_2026A.density_key())
    lean = build_mol(["Li", "F"], xyz, 0, PHYFF_2026A.geometry_key())
    assert PHYFF_2026A.basis_for("Li") == "def2-tzvppd" and PHYFF_2026A.basis_for("F") == "def2-svpd"
    assert dense.nao > lean.nao
