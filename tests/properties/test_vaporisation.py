"""Heat of vaporisation: made-up energies of a liquid and its vapour give back a known difference."""

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import EC, BrownianSpecies, SyntheticRun, ar1

from phyff.errors import InputError
from phyff.properties import study
from phyff.properties.density import density
from phyff.properties.trajectory import NptSeries, read_run
from phyff.properties.vaporisation import vaporisation
from phyff.units import GAS_CONSTANT

COUNT, OSCILLATORS, COHESION, HEATED = 60, 10, 55.0, 4.0
TEMPERATURE = 298.15


@pytest.fixture
def liquid(tmp_path: Path) -> Path:
    return SyntheticRun(species=(BrownianSpecies("EC", EC, 0, COUNT, 0.0008),), production=False).write(
        tmp_path
    )


def write_vapour(folder: Path, rng: np.random.Generator, rows: int = 5000) -> None:
    energies = 20.0 + 8.0 * ar1(rng, rows, 4.0)
    lines = [f"{0.05 * k:.3f},{energy:.5f}" for k, energy in enumerate(energies, start=1)]
    (folder / "vapour-EC.csv").write_text("\n".join(["time_ps,energy_kJ_mol", *lines]) + "\n")
    about = {
        "series": [{"file": "vapour-EC.csv", "strength": 1.0}],
        "steady_ps": 5.0,
        "oscillators": OSCILLATORS,
    }
    (folder / "vapour.json").write_text(json.dumps(about))


def npt(rng: np.random.Generator, rows: int = 3000) -> NptSeries:
    """A liquid at 20 - COHESION kJ/mol a molecule, beside 3/2 R T_D in each of its heated oscillators."""
    hot = 1.5 * OSCILLATORS * GAS_CONSTANT * HEATED
    potentials = COUNT * (20.0 - COHESION + hot) + 40.0 * ar1(rng, rows, 10.0)
    times = 0.1 * np.arange(1, rows + 1)
    densities = 1.3 + 0.01 * ar1(rng, rows, 10.0)
    return NptSeries(times, densities, 15.0 / densities, potentials, np.full(rows, HEATED))


def test_the_stated_error_covers_the_known_heat(liquid: Path) -> None:
    rng, run = np.random.default_rng(1), read_run(liquid)
    deviations = []
    for _ in range(100):
        write_vapour(liquid, rng)
        series = npt(rng)
        found = vaporisation(run, series, density(series.times, series.densities)[1])["heat_of_vaporisation"]
        deviations.append((found.value - COHESION - GAS_CONSTANT * TEMPERATURE) / found.error)
    assert 0.54 <= np.mean(np.abs(deviations) < 1.0) <= 0.82  # 68 % +- three binomial standard errors
    assert np.mean(np.abs(deviations) < 2.0) >= 0.88
    assert found.converged and found.unit == "kJ/mol"


def test_a_short_vapour_is_not_converged_and_a_broken_one_named(liquid: Path) -> None:
    rng, run = np.random.default_rng(2), read_run(liquid)
    series = npt(rng)
    mean = density(series.times, series.densities)[1]
    assert vaporisation(run, series, mean) == {}
    write_vapour(liquid, rng, rows=200)
    assert (
        "independent samples of the vapour" in vaporisation(run, series, mean)["heat_of_vaporisation"].verdict
    )
    (liquid / "vapour-EC.csv").unlink()
    with pytest.raises(InputError, match=r"vapour\.json"):
        vaporisation(run, series, mean)


def test_a_run_directory_reports_it(liquid: Path) -> None:
    write_vapour(liquid, np.random.default_rng(3))
    found = study(liquid).properties["heat_of_vaporisation"]
    per_molecule = (
        -1000.0 / COUNT - 1.5 * OSCILLATORS * GAS_CONSTANT * 1.0
    )  # the synthetic log: -1000 kJ/mol, 1 K
    known = 20.0 - per_molecule + GAS_CONSTANT * TEMPERATURE
    assert abs(found.value - known) < 3.0 * found.error
