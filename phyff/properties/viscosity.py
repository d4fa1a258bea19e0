"""Shear viscosity from the flow that phyff.md.viscosity drives, extrapolated to no driving.

V (gamma + viscosity k^2 / density) = A. V(A) is fitted by m A + n A^3, each point with its own error, and
viscosity = density / k^2 (1/m - gamma). Unlike A / V of each run, m has no bias from the noise of V.
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.properties.density import MIN_INDEPENDENT, MIN_ROWS, series_mean
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import Run

Floats = NDArray[np.float64]
ABOUT_FILE = "viscosity.json"
TARGET_RELATIVE_ERROR = 0.10
CURVATURE_SIGNIFICANCE = 2.0
"""Standard errors from which on the cubic term, the end of linear response, is kept in the fit."""


@dataclass(frozen=True)
class Flow:
    """Profile velocities V and errors (n,) nm/ps at accelerations A (n,) nm/ps2, and the fit through them."""

    accelerations: Floats
    velocities: Floats
    errors: Floats
    linear: float
    cubic: float


def viscosity(run: Run) -> tuple[Property | None, Flow | None]:
    """The viscosity (cP) of a run directory's flow simulation; None when there is none."""
    path = run.directory / ABOUT_FILE
    if not path.is_file():
        return None, None
    try:
        about = json.loads(path.read_text())
        series = _read_series(run, about)
        return viscosity_of_flow(
            series, about["wave_number_per_nm"], about["density_g_cm3"], about["friction_per_ps"]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path} or the series it names cannot be read ({error}); run it again.") from error


def viscosity_of_flow(
    series: Mapping[float, tuple[Floats, float]], wave_number: float, density: float, friction: float
) -> tuple[Property, Flow | None]:
    """From series[A nm/ps2] = (V series (n,) nm/ps, ps between rows), k 1/nm, g/cm3 and 1/ps to cP."""
    if min(len(rows) for rows, _ in series.values()) < MIN_ROWS:
        return too_short("cP", f"fewer than {MIN_ROWS} rows at one amplitude of viscosity.csv"), None
    means = {amplitude: series_mean(rows, cut_start=False) for amplitude, (rows, _) in series.items()}
    accelerations = np.array(list(means))
    velocities = np.array([mean.mean for mean in means.values()])
    errors = np.array([mean.error for mean in means.values()])
    independent = min(mean.independent for mean in means.values())
    length_ps = sum(len(rows) * interval for rows, interval in series.values())
    (linear, cubic), variance = _fit(accelerations, velocities, errors)
    flow = Flow(accelerations, velocities, errors, linear, cubic)
    if linear <= 2.0 * math.sqrt(variance):
        return too_short("cP", "the flow does not show above the noise", 20.0 * length_ps), flow
    scale = density / wave_number**2
    value, error = scale * (1.0 / linear - friction), scale * math.sqrt(variance) / linear**2
    details = {
        "accelerations_nm_ps2": accelerations.tolist(),
        "velocities_nm_ps": velocities.tolist(),
        "linear_response": cubic == 0.0,
        "highest_shear_rate_per_ps": float(np.max(velocities)) * wave_number,
        "method": "periodic perturbation (cosine acceleration), extrapolated to zero; thermostat "
        "friction taken off; of the box's own wavelength, which in small boxes is a few per cent too low",
    }
    return Property(value, error, "cP", _verdict(value, error, independent, length_ps), details), flow


def _fit(accelerations: Floats, velocities: Floats, errors: Floats) -> tuple[tuple[float, float], float]:
    """Linear and cubic coefficient of V(A) and the variance of the linear one; no cubic where it is noise."""
    if len(accelerations) >= 3:
        design = np.stack([accelerations, accelerations**3], axis=1) / errors[:, None]
        covariance = np.linalg.inv(design.T @ design)
        linear, cubic = covariance @ design.T @ (velocities / errors)
        if abs(cubic) > CURVATURE_SIGNIFICANCE * math.sqrt(covariance[1, 1]):
            return (float(linear), float(cubic)), float(covariance[0, 0])
    weights = accelerations**2 / errors**2
    return (float(np.average(velocities / accelerations, weights=weights)), 0.0), float(1.0 / weights.sum())


def _verdict(value: float, error: float, independent: float, length_ps: float) -> str:
    if value <= 0.0:
        return not_converged("the flow does not show above the noise", 20.0 * length_ps)
    relative = error / value
    if independent < MIN_INDEPENDENT:
        return not_converged(
            f"only {independent:.0f} independent samples", length_ps * MIN_INDEPENDENT / independent
        )
    if relative > TARGET_RELATIVE_ERROR:
        why = f"error {100 * relative:.0f} %, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %"
        return not_converged(why, length_ps * (relative / TARGET_RELATIVE_ERROR) ** 2)
    return CONVERGED


def _read_series(run: Run, about: Mapping[str, Any]) -> dict[float, tuple[Floats, float]]:
    rows: dict[float, list[tuple[float, float]]] = {}
    with (run.directory / str(about["series"])).open(newline="") as handle:
        for row in csv.DictReader(handle):
            pair = float(row["time_ps"]), float(row["velocity_nm_ps"])
            rows.setdefault(float(row["amplitude_nm_ps2"]), []).append(pair)
    if not rows:
        raise ValueError("it holds no rows")
    tables = {amplitude: np.array(pairs) for amplitude, pairs in rows.items()}
    return {
        amplitude: (table[:, 1], float(np.ptp(table[:, 0])) / max(1, len(table) - 1))
        for amplitude, table in tables.items()
    }
