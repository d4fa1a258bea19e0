"""Heat of vaporisation of a pure liquid from its energy and that of one molecule in vacuum (phyff.md.vapour).

Delta H = <E_gas> - <E_liquid> / N + R T: kinetic energies are equal in both phases, the vapour is ideal, and
the liquid's own p V is left out. The potential energy of oscillators that are not quite at zero temperature,
3/2 R T_D each, is taken off in both phases. Vibrations are classical in both: the usual quantum correction,
which is not made here, lowers values of small molecules by some tenths of a kJ/mol.
"""

import json
import math

from phyff.errors import InputError
from phyff.properties.density import MIN_INDEPENDENT, MIN_ROWS, SeriesMean, series_mean
from phyff.properties.response import read_series
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import NptSeries, Run
from phyff.units import GAS_CONSTANT

ABOUT_FILE = "vapour.json"
TARGET_RELATIVE_ERROR = 0.02


def oscillator_energy(oscillators: int, temperature: float) -> float:
    """Mean potential energy (kJ/mol) of so many three-dimensional oscillators at a temperature (K)."""
    return 1.5 * oscillators * GAS_CONSTANT * temperature


def vaporisation(run: Run, series: NptSeries, mean: SeriesMean | None) -> dict[str, Property]:
    """The heat of vaporisation (kJ/mol), from the window of the density; empty without a simulated vapour."""
    path = run.directory / ABOUT_FILE
    if not path.is_file() or mean is None or series.potentials is None or series.drude_temperatures is None:
        return {}
    try:
        about = json.loads(path.read_text())
        (gas,) = read_series(run, about).values()
        oscillators = int(about["oscillators"])
    except (KeyError, ValueError, TypeError, OSError) as problem:
        raise InputError(
            f"{path} or the series it names cannot be read ({problem}); run it again."
        ) from problem
    if len(gas.values) < MIN_ROWS:
        return {"heat_of_vaporisation": too_short("kJ/mol", f"fewer than {MIN_ROWS} rows of the vapour")}
    (species,) = run.species
    energies = series.potentials[mean.first :] / species.count
    heated = series.drude_temperatures[mean.first :].mean()
    liquid = series_mean(energies, cut_start=False)
    vapour = series_mean(gas.values, cut_start=False)
    liquid_energy = liquid.mean - oscillator_energy(oscillators, float(heated))
    value = vapour.mean - liquid_energy + GAS_CONSTANT * run.temperature
    error = math.hypot(liquid.error, vapour.error)
    details = {
        "vapour_kJ_mol": vapour.mean,
        "liquid_kJ_mol": liquid_energy,
        "independent_samples": min(liquid.independent, vapour.independent),
        "method": "mean energy of a molecule alone less that in the liquid, plus R T; ideal vapour, "
        "classical vibrations in both phases, no quantum correction",
    }
    verdict = _verdict(value, error, liquid, vapour)
    return {"heat_of_vaporisation": Property(value, error, "kJ/mol", verdict, details)}


def _verdict(value: float, error: float, liquid: SeriesMean, vapour: SeriesMean) -> str:
    if value <= 0.0:
        return not_converged("the liquid is no lower in energy than its vapour")
    for name, one in (("liquid", liquid), ("vapour", vapour)):
        if one.independent < MIN_INDEPENDENT:
            return not_converged(f"only {one.independent:.0f} independent samples of the {name}")
    if error > TARGET_RELATIVE_ERROR * value:
        longer = "vapour" if vapour.error > liquid.error else "liquid"
        wanted = f"wanted {100 * TARGET_RELATIVE_ERROR:g} %; most of it from the {longer}"
        return not_converged(f"error {100 * error / value:.1f} %, {wanted}")
    return CONVERGED
