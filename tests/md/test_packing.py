import numpy as np
import pytest
from standin import SPECIES

from phyff.errors import SimulationError
from phyff.md import packing
from phyff.md.packing import PackedSpecies, closest_contact, conformer_counts, pack


def species(waters: int, neons: int) -> list[PackedSpecies]:
    return [
        PackedSpecies(
            s.name,
            s.elements,
            tuple(np.array(c.xyz_nm) for c in s.conformers),
            tuple(c.weight for c in s.conformers),
            n,
        )
        for s, n in zip(SPECIES, (waters, neons), strict=True)
    ]


def test_packing_is_deterministic_whole_and_free_of_overlaps_across_the_boundary():
    edge = 1.3
    first, again = (pack(species(40, 3), edge, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (123, 3)
    water = first[:120].reshape(40, 3, 3)
    np.testing.assert_allclose(np.linalg.norm(water[:, 1] - water[:, 0], axis=1), 0.09572, atol=1e-4)
    owner = np.concatenate([np.repeat(np.arange(40), 3), [40, 41, 42]])
    assert closest_contact(first, owner, edge, 0.18) is None
    assert not np.allclose(pack(species(40, 3), edge, seed=6), first)


def test_conformers_are_drawn_by_weight_and_the_numbers_add_up():
    assert conformer_counts([0.7, 0.3], 10) == [7, 3]
    assert conformer_counts([1.0, 1.0, 1.0], 10) == [4, 3, 3]
    with pytest.raises(SimulationError, match="weights"):
        conformer_counts([0.0], 3)


def test_closest_contact_sees_through_the_periodic_boundary():
    positions = np.array([[0.01, 0.5, 0.5], [0.99, 0.5, 0.5], [0.5, 0.5, 0.5]])
    found = closest_contact(positions, np.array([0, 1, 2]), 1.0, 0.1)
    assert found is not None and set(found[:2]) == {0, 1} and found[2] == pytest.approx(0.02)


def test_a_box_that_cannot_hold_the_molecules_is_one_clear_error():
    with pytest.raises(SimulationError, match="box of 0.60 nm"):
        pack(species(60, 0), 0.6, seed=1, timeout_s=1)


def test_a_missing_packmol_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(packing.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulationError, match="pip install packmol"):
        pack(species(1, 0), 1.0, seed=1)
