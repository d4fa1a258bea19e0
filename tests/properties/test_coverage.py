"""Stated errors are honest: of blocks cut from long correlated runs, 68 % lie within one error of the truth.

Tolerances are about three binomial standard errors; the full version is benchmarks/coverage.py.
"""

import numpy as np
import pytest
from synthetic_run import ar1

from benchmarks.coverage import CORRELATION, density_like, of_means
from phyff.properties.density import statistical_inefficiency
from phyff.properties.displacement import Window, molecular_displacement
from phyff.properties.green_kubo import current_integral
from phyff.properties.onsager import onsager_matrix
from phyff.properties.trajectory import SpeciesInBox

FRAMES, MEMORY = 400, 0.6
SLOPE = 3.0
"""Of the mean square of one vector: three directions of unit variance a step at long times."""


def persistent_walk(rng: np.random.Generator, blocks: int, walkers: int) -> np.ndarray:
    """Blocks (blocks, FRAMES, walkers, 3) of one long walk whose steps remember each other, with rattling."""
    memory = -1.0 / np.log(MEMORY)
    steps = ar1(rng, (blocks * FRAMES, walkers, 3), memory) * np.sqrt((1.0 - MEMORY) / (1.0 + MEMORY))
    walk = np.cumsum(steps, axis=0) + 0.5 * ar1(rng, steps.shape, 1.0)
    return walk.reshape(blocks, FRAMES, walkers, 3)


def test_the_series_has_the_correlation_it_is_said_to_have() -> None:
    found = statistical_inefficiency(density_like(np.random.default_rng(1), 400_000))
    assert found == pytest.approx(CORRELATION, rel=0.1)


@pytest.mark.parametrize("samples", [30, 50, 200])
def test_means_of_a_density_like_series_lie_within_their_errors_as_often_as_they_should(samples: int) -> None:
    deviations = np.abs(of_means(2, 300, samples))
    assert np.mean(deviations < 1.0) == pytest.approx(0.68, abs=0.08)
    assert np.mean(deviations < 2.0) == pytest.approx(0.95, abs=0.05)
    assert 0.8 < np.sqrt(np.mean(deviations**2)) < 1.3


def test_self_diffusion_lies_within_its_error_as_often_as_it_should() -> None:
    blocks = persistent_walk(np.random.default_rng(3), 120, 30)
    curves = [molecular_displacement("walkers", [block], 1.0) for block in blocks]
    deviations = np.abs([(curve.slope - SLOPE) / curve.slope_error for curve in curves])
    assert np.mean([curve.window.diffusive for curve in curves]) > 0.9
    assert np.mean(deviations < 1.0) == pytest.approx(0.68, abs=0.13)
    assert np.mean(deviations < 2.0) == pytest.approx(0.95, abs=0.06)


def test_onsager_coefficients_lie_within_their_errors_as_often_as_they_should() -> None:
    blocks = persistent_walk(np.random.default_rng(4), 150, 2)
    ions = [ion("C", 1), ion("A", -1)]
    mix = np.array([[1.0, 0.0], [-0.6, 0.8]])
    known = SLOPE * mix @ mix.T
    deviations = []
    for block in blocks:
        cation, anion = np.einsum("ij,fjd->ifd", mix, block)
        matrix = onsager_matrix(ions, [[cation, anion]], Window(8, 32, True, 1.0, 8.0, 0.0), 1.0)
        assert matrix is not None
        errors = np.sqrt(np.einsum("ijij->ij", matrix.covariance))
        deviations.append(np.abs((matrix.slopes - known) / errors)[[0, 0, 1], [0, 1, 1]])
    inside = np.mean(np.array(deviations) < 1.0, axis=0)
    assert inside == pytest.approx(0.68, abs=0.12)
    assert np.mean(np.array(deviations) < 2.0) == pytest.approx(0.95, abs=0.05)


def test_green_kubo_integrals_lie_within_their_errors_at_least_as_often_as_they_should() -> None:
    # STACIE takes a quarter of a second a block, so they are few; what it states is rather too large.
    blocks = persistent_walk(np.random.default_rng(5), 12, 1)
    found = [current_integral([block[:200, 0]], 1.0, 8) for block in blocks]
    deviations = [abs(one.integral - 0.5) / one.error for one in found if one is not None]
    assert len(deviations) == 12
    assert np.mean(np.array(deviations) < 1.0) >= 0.4
    assert 0.3 < np.mean(deviations) < 1.2 and max(deviations) < 3.5


def ion(name: str, charge: int) -> SpeciesInBox:
    one = np.ones(1)
    return SpeciesInBox(name, name, 1, charge, ("Li",), one, 0.2 * one, np.zeros(1, dtype=bool), 0, 0)
