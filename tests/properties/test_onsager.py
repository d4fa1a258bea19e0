"""Onsager matrix, transference and Green-Kubo: known answers come back within their stated errors."""

import numpy as np
import pytest

from benchmarks.transport_known_answer import deviations, synthetic_run, walk
from phyff.properties.displacement import Window, collective_displacement
from phyff.properties.green_kubo import current_integral
from phyff.properties.onsager import salt_diffusion, transference
from phyff.properties.transport import transport


def test_brownian_ions_give_back_their_known_onsager_matrix_and_what_follows_from_it() -> None:
    # The full version, 200 trials: benchmarks/transport_known_answer.py.
    found = np.array([list(deviations(seed).values()) for seed in range(5)])
    assert np.abs(found).max() < 4.5
    assert np.mean(np.abs(found) < 2.0) >= 0.85
    assert np.mean(np.abs(found) < 1.0) >= 0.5


def test_onsager_coefficients_add_up_to_the_conductivity() -> None:
    run = synthetic_run()
    found = transport(run, [walk(np.random.default_rng(5), run)]).properties
    total = found["onsager_C_C"].value + found["onsager_A_A"].value - 2.0 * found["onsager_C_A"].value
    assert found["conductivity"].value == pytest.approx(total, rel=1e-6)
    assert found["ionicity"].value == pytest.approx(
        found["conductivity"].value / found["conductivity_nernst_einstein"].value
    )
    assert found["transference_C"].details["frame"] == "barycentric frame"


def test_three_replicas_have_a_smaller_error_than_one() -> None:
    run, rng = synthetic_run(), np.random.default_rng(6)
    replicas = [walk(rng, run) for _ in range(3)]
    one, three = transport(run, replicas[:1]).properties, transport(run, replicas).properties
    for name in ("conductivity", "self_diffusion_C_box", "onsager_A_A"):
        assert three[name].error < 0.8 * one[name].error


def test_replicas_that_disagree_widen_the_error_to_their_scatter() -> None:
    rng = np.random.default_rng(7)
    window = Window(1, 10, True, 1.0, 1.0, 0.0)
    alike = [np.cumsum(rng.normal(size=(1000, 3)), axis=0) for _ in range(3)]
    unlike = [factor * vector for factor, vector in zip((0.5, 1.0, 2.0), alike, strict=True)]
    calm = collective_displacement("calm", alike, window, 1.0)
    torn = collective_displacement("torn", unlike, window, 1.0)
    assert calm.slope_error < 0.12 * calm.slope
    assert torn.slope_error > 0.2 * torn.slope


def test_independent_ions_share_the_current_by_their_diffusion() -> None:
    slopes = np.diag([1.0, 3.0])
    assert transference(np.array([1.0, -1.0]), 0)(slopes) == pytest.approx(0.25)
    # Nernst and Hartley: 2 D+ D- / (D+ + D-), D = slope / (6 pairs).
    assert salt_diffusion(10)(slopes) == pytest.approx(2.0 * (1 / 60) * (3 / 60) / (4 / 60))


def test_the_spectrum_of_a_random_walk_tends_to_half_its_step_variance() -> None:
    rng = np.random.default_rng(8)
    found = current_integral([np.cumsum(rng.normal(size=(3000, 3)), axis=0) for _ in range(2)], 2.0, 5)
    assert found is not None
    assert abs(found.integral - 0.25) < 3.0 * found.error
    assert found.error < 0.03
    assert current_integral([np.zeros((50, 3))], 1.0, 5) is None
