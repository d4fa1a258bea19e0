"""The torch valence energy: right numbers, smooth when straight or planar, unchanged by rigid motion."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from phyff.model.valence import (
    AngleTerm,
    BondTerm,
    ImproperTerm,
    LinearAngleTerm,
    OneFourTerm,
    TorsionPairTerm,
    TorsionTerm,
    UreyBradleyTerm,
    ValenceTerms,
    valence_components,
    valence_energy,
)

CHAIN = ValenceTerms(
    n_atoms=4,
    bonds=(BondTerm(atoms=(0, 1), k=3e5, r0=0.14, anharmonicity=20.0),),
    angles=(AngleTerm(atoms=(0, 1, 2), k=500.0, theta0=1.9),),
    linear_angles=(LinearAngleTerm(atoms=(1, 2, 3), k=200.0),),
    urey_bradleys=(UreyBradleyTerm(atoms=(0, 2), k=2e4, r0=0.24),),
    one_fours=(OneFourTerm(atoms=(0, 3), g=50.0, k=1000.0, centre=0.3),),
    torsions=(TorsionTerm(atoms=(0, 1, 2, 3), k=(1.0, -2.0, 3.0)),),
    impropers=(ImproperTerm(atoms=(1, 0, 2, 3), k=30.0),),
)
XYZ = torch.tensor([[0.0, 0.14, 0.02], [0.0, 0, 0], [0.15, 0, 0], [0.2, 0.05, 0.12]], dtype=torch.float64)


def test_energy_is_the_sum_of_its_components_and_batches() -> None:
    batch = torch.stack([XYZ, XYZ * 1.1])
    total = valence_energy(CHAIN, batch)
    assert total.shape == (2,)
    assert torch.allclose(total[0], sum(valence_components(CHAIN, XYZ).values()))


def test_energy_does_not_change_when_the_molecule_turns_and_moves() -> None:
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.manual_seed(1)))[0]
    assert torch.allclose(
        valence_energy(CHAIN, XYZ @ rotation.T + 3.0), valence_energy(CHAIN, XYZ), rtol=1e-10
    )


def test_forces_agree_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(
        lambda x: valence_energy(CHAIN, x), XYZ.clone().requires_grad_(), eps=1e-6
    )


def test_forces_stay_finite_when_an_angle_is_straight() -> None:
    terms = CHAIN.model_copy(update={"torsions": (), "impropers": ()})
    x = torch.tensor([[-0.14, 0, 0], [0, 0, 0], [0.15, 0, 0], [0.30, 0, 0]], dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(valence_energy(terms, x), x)
    assert torch.isfinite(gradient).all()


def test_an_improper_is_zero_and_flat_when_planar_and_rises_both_ways() -> None:
    terms = ValenceTerms(n_atoms=4, impropers=(ImproperTerm(atoms=(0, 1, 2, 3), k=30.0),))
    angles = np.deg2rad([0, 120, 240])

    def energy(height: torch.Tensor) -> torch.Tensor:
        ring = torch.tensor(0.14 * np.array([np.cos(angles), np.sin(angles), 0 * angles]).T)
        apex = torch.stack([0 * height, 0 * height, height])
        return valence_energy(terms, torch.cat([apex[None], ring]))

    up, down, flat = (energy(torch.tensor(h, dtype=torch.float64)) for h in (0.02, -0.02, 0.0))
    height = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert flat.abs() < 1e-12 and up > 0.1 and torch.isclose(up, down)
    assert torch.autograd.grad(energy(height), height)[0].abs() < 1e-9


def test_a_torsion_pair_tells_gauche_turns_of_one_sense_from_those_of_opposite_senses() -> None:
    terms = ValenceTerms(n_atoms=5, torsion_pairs=(TorsionPairTerm(atoms=(0, 1, 2, 3, 4), c=3.0, s=-8.0),))

    def energy(phi: float, psi: float) -> float:
        first = [np.cos(np.deg2rad(phi)), np.sin(np.deg2rad(phi))]
        last = [np.cos(np.deg2rad(psi)), np.sin(np.deg2rad(psi))]
        # a right angle in the middle: the first torsion turns about x, the second about y
        chain = [[0, first[0], first[1]], [0, 0, 0], [1, 0, 0], [1, 1, 0], [1 - last[0], 1, last[1]]]
        return valence_energy(terms, torch.tensor(chain, dtype=torch.float64)).item()

    assert energy(180, 180) == pytest.approx(3.0)
    assert energy(0, 180) == pytest.approx(-3.0)
    assert energy(90, 90) == pytest.approx(-energy(90, -90))
    assert abs(energy(90, 90)) == pytest.approx(8.0)
    assert energy(60, 70) == pytest.approx(energy(-60, -70))


def test_terms_survive_a_round_trip_through_json() -> None:
    assert ValenceTerms.model_validate_json(CHAIN.model_dump_json()) == CHAIN


def test_a_term_on_an_atom_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="bonds"):
        ValenceTerms(n_atoms=2, bonds=(BondTerm(atoms=(0, 2), k=1.0, r0=0.1),))
