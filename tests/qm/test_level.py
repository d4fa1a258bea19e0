"""Levels of theory."""

from phyff.qm.level import PHYFF_2026A, build_mol


def test_cations_get_their_own_basis_at_the_density_level_only():
    xyz = [[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]
    dense = build_mol(["Li", "F"], xyz, 0, PHYFF_2026A.density_key())
    lean = build_mol(["Li", "F"], xyz, 0, PHYFF_2026A.geometry_key())
    assert PHYFF_2026A.basis_for("Li") == "def2-tzvppd" and PHYFF_2026A.basis_for("F") == "def2-svpd"
    assert dense.nao > lean.nao
