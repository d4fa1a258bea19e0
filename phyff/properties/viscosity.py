"""Shear viscosity from the flow that phyff.md.viscosity drives, extrapolated to no driving.

V (gamma + viscosity k^2 / density) = A. With m the linear response of V to A (phyff.properties.response),
viscosity = density / k^2 (1/m - gamma). Unlike A / V of each run, m has no bias from the noise of V.
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from phyff.errors import InputError
from phyff.properties.density import MIN_INDEPENDENT, MIN_ROWS, series_mean
from phyff.properties.response import LinearResponse, Series, linear_response, read_series
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import Run

Floats = NDArray[np.float64]
ABOUT_FILE = "viscosity.json"
TARGET_RELATIVE_ERROR = 0.10


def viscosity(run: Run) -> tuple[Property | None, LinearResponse | None]:
    """The viscosity (cP) of a run directory's flow simulation; None when there is none."""
    path = run.directory / ABOUT_FILE
    if not path.is_file():
        return None, None
    try:
        about = json.loads(path.read_text())
        series = read_series(run, about)
        return viscosity_of_flow(
            series, about["wave_number_per_nm"], about["density_g_cm3"], about["friction_per_ps"]
        )
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} or the series it names cannot be read ({error}); run it again.") from error


def viscosity_of_flow(
    series: Mapping[float, Series], wave_number: float, density: float, friction: float
) -> tuple[Property, LinearResponse | None]:
    """From series[A nm/ps2] of V (nm/ps), k in 1/nm, g/cm3 and 1/ps to cP."""
    if min(len(one.values) for one in series.values()) < MIN_ROWS:
        return too_short("cP", f"fewer than {MIN_ROWS} rows at one acceleration"), None
    means = {amplitude: series_mean(one.values, cut_start=False) for amplitude, one in series.items()}
    accelerations = np.array(list(means))
    velocities = np.array([mean.mean for mean in means.values()])
    errors = np.array([mean.error for mean in means.values()])
    independent = min(mean.independent for mean in means.values())
    length_ps = sum(one.length_ps for one in series.values())
    flow = linear_response(accelerations, velocities, errors)
    scale = density / wave_number**2
    # As fast as the thermostat's friction alone would let it: noise.
    if not flow.visible or scale * (1.0 / flow.linear - friction) <= 0.0:
        return too_short("cP", "the flow does not show above the noise", 20.0 * length_ps), flow
    value, error = scale * (1.0 / flow.linear - friction), scale * flow.linear_error / flow.linear**2
    details = {
        "accelerations_nm_ps2": accelerations.tolist(),
        "velocities_nm_ps": velocities.tolist(),
        "linear_response": flow.cubic == 0.0,
        "highest_shear_rate_per_ps": float(np.max(velocities)) * wave_number,
        "method": "periodic perturbation (cosine acceleration), extrapolated to zero; thermostat "
        "friction taken off; of the box's own wavelength, which in small boxes is a few per cent too low",
    }
    return Property(value, error, "cP", _verdict(value, error, independent, length_ps), details), flow


def _verdict(value: float, error: float, independent: float, length_ps: float) -> str:
    relative = error / value
    if independent < MIN_INDEPENDENT:
        return not_converged(
            f"only {independent:.0f} independent samples", length_ps * MIN_INDEPENDENT / independent
        )
    if relative > TARGET_RELATIVE_ERROR:
        why = f"error {100 * relative:.0f} %, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %"
        return not_converged(why, length_ps * (relative / TARGET_RELATIVE_ERROR) ** 2)
    return CONVERGED
