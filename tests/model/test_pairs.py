"""Pair functions against their definitions, and the OpenMM expressions against the torch functions."""

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad
from scipy.special import gammaincc

from phyff.model import pairs

R = torch.linspace(0.08, 2.5, 60, dtype=torch.float64)


@pytest.mark.parametrize("n", [6, 8, 10])
def test_what_tang_and_toennies_leave_is_the_upper_incomplete_gamma_function(n: int) -> None:
    y = torch.linspace(0.0, 60.0, 200, dtype=torch.float64)
    np.testing.assert_allclose(
        pairs.tang_toennies_rest(y, n).numpy(), gammaincc(n + 1, y.numpy()), rtol=1e-10, atol=1e-25
    )


@pytest.mark.parametrize("distance", [0.1, 0.25, 0.4])
def test_the_slater_overlap_is_the_overlap_integral_of_two_exponential_densities(distance: float) -> None:
    b = 22.0

    def density_product(mu: float, nu: float) -> float:
        """In prolate spheroidal coordinates: r_a + r_b = R mu, volume element R^3/8 (mu^2 - nu^2) 2 pi."""
        return np.exp(-b * distance * mu) * (mu**2 - nu**2) * 2 * np.pi * distance**3 / 8

    integral, _ = dblquad(lambda nu, mu: density_product(mu, nu), 1.0, 1.0 + 40 / (b * distance), -1.0, 1.0)
    at_contact = np.pi / b**3
    overlap = pairs.slater_overlap(torch.tensor(distance), torch.tensor(b)).item()
    assert overlap == pytest.approx(integral / at_contact, rel=1e-6)


def test_exchange_between_molecules_repels_at_contact_and_attracts_a_little_beyond() -> None:
    b = torch.tensor(36.0, dtype=torch.float64)
    whole, bare = pairs.exchange_overlap(R, b), pairs.exchange_overlap(R, b, tail=0.0)
    torch.testing.assert_close(bare, pairs.slater_overlap(R, b))
    ratio = whole / bare
    assert torch.all(torch.diff(ratio) < 0)
    assert ratio[0] > 0.9 and ratio[-1] < 0
    assert -1e-3 < whole.min() < 0


def test_the_dispersion_damping_argument_is_the_logarithmic_slope_of_the_overlap() -> None:
    r, b = R.clone().requires_grad_(True), torch.tensor(20.0, dtype=torch.float64)
    overlap = pairs.slater_overlap(r, b)
    (slope,) = torch.autograd.grad(overlap.sum(), r)
    expected = (-r * slope / overlap).detach()
    torch.testing.assert_close(pairs.slater_argument(r.detach(), b), expected, rtol=1e-9, atol=0.0)


def test_dispersion_is_tame_inside_an_atom_and_undamped_far_away() -> None:
    one = torch.ones((), dtype=torch.float64)
    near, far = torch.tensor([0.05, 5.0], dtype=torch.float64)
    assert abs(pairs.damped_dispersion(near, 30.0 * one, one, one, one)) < 1e4  # bare: 1e13
    bare = -(1 / far**6 + 1 / far**8 + 1 / far**10)
    torch.testing.assert_close(pairs.damped_dispersion(far, 30.0 * one, one, one, one), bare)


def test_thole_screening_rises_from_half_its_argument_to_one() -> None:
    u = torch.linspace(0.0, 80.0, 400, dtype=torch.float64)
    screening = pairs.thole_screening(u)
    assert screening[0] == 0.0
    assert pairs.thole_screening(torch.tensor(1e-4, dtype=torch.float64)) == pytest.approx(5e-5, rel=1e-3)
    assert torch.all(torch.diff(screening) >= 0)
    assert screening[-1] == pytest.approx(1.0, abs=1e-15)


def test_two_unit_charges_a_nanometre_apart_repel_with_coulomb_s_constant() -> None:
    one = torch.ones((), dtype=torch.float64)
    # e^2/(4 pi epsilon_0) N_A / 1 nm from CODATA 2018
    expected = 1.602176634e-19**2 / (4 * np.pi * 8.8541878128e-12 * 1e-9) * 6.02214076e23 / 1e3
    assert pairs.coulomb(one, one, one).item() == pytest.approx(expected, rel=1e-8)


def _evaluated(expression: str, **known: float) -> float:
    """Value of an OpenMM expression: the last definition comes first."""
    value, *definitions = expression.replace("^", "**").split(";")
    names = {"exp": np.exp, **known}
    for definition in reversed(definitions):
        name, right = definition.split("=")
        names[name.strip()] = eval(right.strip(), {}, names)
    return eval(value.strip(), {}, names)


@pytest.mark.parametrize("r", [0.05, 0.2, 0.31, 0.6])
def test_the_openmm_expressions_say_what_the_torch_functions_say(r: float) -> None:
    b, c6, c8, c10 = 33.0, 2e-3, 1e-4, 5e-6
    tensors = [torch.tensor(v, dtype=torch.float64) for v in (r, b, c6, c8, c10)]
    x = b * r
    assert _evaluated(pairs.slater_overlap_expression("x", "br"), x=x, br=x) == pytest.approx(
        pairs.slater_overlap(*tensors[:2]).item(), rel=1e-12
    )
    assert _evaluated(pairs.exchange_overlap_expression("x", "br"), x=x, br=x) == pytest.approx(
        pairs.exchange_overlap(*tensors[:2]).item(), rel=1e-12
    )
    y = _evaluated(pairs.SLATER_ARGUMENT, z=x)
    assert y == pytest.approx(pairs.slater_argument(*tensors[:2]).item(), rel=1e-12)
    beyond = _evaluated(pairs.DISPERSION_BEYOND_C6, r=r, y=y, c6=c6, c8=c8, c10=c10)
    # at contact 1 - f_n is a small difference of large numbers, and its rounding differs between processors
    assert beyond - c6 / r**6 == pytest.approx(
        pairs.damped_dispersion(*tensors).item(), rel=1e-8, abs=1e-15 * c10 / r**10
    )
    assert 1 - _evaluated(pairs.THOLE_REST, u=x) == pytest.approx(
        pairs.thole_screening(torch.tensor(x)).item(), rel=1e-6
    )
