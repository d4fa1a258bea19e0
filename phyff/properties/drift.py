"""Conductivity from the current that phyff.md.field drives, extrapolated to no field.

J = (1/V) d<sum of z_i x_i>/dt and sigma = dJ/dE at E = 0 (phyff.properties.response). The mean current of a
stretch is its whole displacement over its length; its error comes from the scatter of the same ratio over
time blocks, which rattling ions can only make too large. In linear response the noise is that of equilibrium,
the same in every field, so the scatter is pooled over fields.
"""

import json
import math
from collections.abc import Mapping

import numpy as np

from phyff.errors import InputError
from phyff.properties.response import Floats, LinearResponse, Series, linear_response, read_series
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import Run
from phyff.units import ELEMENTARY_CHARGE

ABOUT_FILE = "field.json"
TARGET_RELATIVE_ERROR = 0.10
BLOCKS = 16
MIN_ROWS = 10 * BLOCKS
LARGEST_CURVATURE = 0.2
"""Share of the cubic term at the weakest field from which on its extrapolation is not trusted."""
MS_CM = ELEMENTARY_CHARGE / (1e-18 * 1e-12) / 1e9 * 10.0
"""mS/cm of one e/nm2/ps in one V/nm."""


def field_conductivity(run: Run, helfand: Property | None) -> tuple[Property | None, LinearResponse | None]:
    """The conductivity (mS/cm) of a run directory's field simulation; None when there is none.

    helfand: the Einstein-Helfand conductivity of the same run, which it must agree with.
    """
    path = run.directory / ABOUT_FILE
    if not path.is_file():
        return None, None
    try:
        about = json.loads(path.read_text())
        return conductivity_of_drift(read_series(run, about), float(about["volume_nm3"]), helfand)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise InputError(f"{path} or the series it names cannot be read ({error}); run it again.") from error


def conductivity_of_drift(
    series: Mapping[float, Series], volume_nm3: float, helfand: Property | None = None
) -> tuple[Property, LinearResponse | None]:
    """From series[E V/nm] of the ions' charge displacement (e nm) to mS/cm."""
    if min(len(one.values) for one in series.values()) < MIN_ROWS:
        return too_short("mS/cm", f"fewer than {MIN_ROWS} rows at one field"), None
    currents = [_block_currents(one) / volume_nm3 for one in series.values()]
    noise = np.mean(
        [blocks.var(ddof=1) * one.length_ps for blocks, one in zip(currents, series.values(), strict=True)]
    )
    errors = np.array([math.sqrt(noise / (BLOCKS * one.length_ps)) for one in series.values()])
    drift = linear_response(np.array(list(series)), np.array([c.mean() for c in currents]), errors)
    length_ps = sum(one.length_ps for one in series.values())
    if not drift.visible:
        return too_short("mS/cm", "the current does not show above the noise", 20.0 * length_ps), drift
    value, error = MS_CM * drift.linear, MS_CM * drift.linear_error
    details = {
        "fields_V_nm": drift.drives.tolist(),
        "currents_e_nm2_ps": drift.responses.tolist(),
        "linear_response": drift.cubic == 0.0,
        "method": "drift of the ions in constant fields, extrapolated to zero"
        + ("" if drift.cubic == 0.0 else "; strong fields leave linear response, a cubic term is kept"),
    }
    return Property(value, error, "mS/cm", _verdict(drift, length_ps, value, error, helfand), details), drift


def _block_currents(series: Series) -> Floats:
    """d(displacement)/dt of BLOCKS equally long blocks, e nm/ps."""
    steps = (len(series.values) - 1) // BLOCKS
    ends = series.values[: BLOCKS * steps + 1 : steps]
    return np.diff(ends) / (steps * series.interval_ps)


def _verdict(
    drift: LinearResponse, length_ps: float, value: float, error: float, helfand: Property | None
) -> str:
    relative = error / value
    if abs(drift.cubic) * float(drift.drives.min()) ** 2 > LARGEST_CURVATURE * drift.linear:
        return not_converged("beyond linear response even in the weakest field")
    if relative > TARGET_RELATIVE_ERROR:
        why = f"error {100 * relative:.0f} %, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %"
        return not_converged(why, length_ps * (relative / TARGET_RELATIVE_ERROR) ** 2)
    if helfand is not None and abs(value - helfand.value) > 3.0 * math.hypot(error, helfand.error):
        return not_converged("disagrees with Einstein-Helfand by more than three standard errors")
    return CONVERGED
