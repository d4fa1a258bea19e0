"""Finite-size correction of self-diffusion (Yeh and Hummer, J. Phys. Chem. B 108, 15873 (2004)).

The viscosity it needs is given, computed, or else estimated by Stokes-Einstein from the solvent's diffusion.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phyff.properties.displacement import TARGET_RELATIVE_ERROR
from phyff.properties.result import Property, not_converged
from phyff.properties.trajectory import Production, Run
from phyff.units import BOLTZMANN

Floats = NDArray[np.float64]
YEH_HUMMER_XI = 2.837297
SLIP, STICK = 4.0, 6.0
"""Stokes-Einstein: viscosity = k T / (coefficient pi D radius)."""


@dataclass(frozen=True)
class Viscosity:
    """A viscosity (cP), its error (cP) and where it comes from."""

    value: float
    error: float
    source: str


def yeh_hummer(temperature: float, viscosity_cp: float, box_nm: float) -> float:
    """What a cubic periodic box takes off a diffusion coefficient: k T xi / (6 pi eta L), in 1e-9 m2/s."""
    return (
        BOLTZMANN * temperature * YEH_HUMMER_XI / (6.0 * math.pi * viscosity_cp * 1e-3 * box_nm * 1e-9) * 1e9
    )


def stokes_einstein_viscosity(
    diffusion_box: float, radius_nm: float, temperature: float, box_nm: float, coefficient: float = SLIP
) -> float:
    """Viscosity (cP) that is consistent with a molecule's diffusion in the box (1e-9 m2/s) and its radius.

    Solves eta = k T / (coefficient pi D_inf r) and D_inf = D_box + yeh_hummer(eta) by iteration.
    """
    diffusion = diffusion_box
    for _ in range(200):
        viscosity = _stokes_einstein(diffusion, radius_nm, temperature, coefficient)
        updated = diffusion_box + yeh_hummer(temperature, viscosity, box_nm)
        if abs(updated - diffusion) < 1e-10 * updated:
            return viscosity
        diffusion = updated
    raise ArithmeticError(f"no viscosity is consistent with radius {radius_nm} nm in a box of {box_nm} nm")


def _stokes_einstein(diffusion: float, radius_nm: float, temperature: float, coefficient: float) -> float:
    return BOLTZMANN * temperature / (coefficient * math.pi * diffusion * 1e-9 * radius_nm * 1e-9) * 1e3


def known_viscosity(
    run: Run, production: Production, in_box: Mapping[str, Property], computed: Property | None
) -> Viscosity | None:
    """run.json's viscosity_cP, the computed one, or Stokes-Einstein (slip) of the main neutral species."""
    if "viscosity_cP" in run.settings:
        value = float(run.settings["viscosity_cP"])
        error = float(run.settings.get("viscosity_error_cP", 0.0))
        return Viscosity(value, error, "viscosity_cP of run.json")
    if computed is not None and math.isfinite(computed.value):
        return Viscosity(computed.value, computed.error, "computed (periodic perturbation)")
    neutral = [s for s in run.species if s.charge == 0]
    if not neutral:
        return None
    solvent = max(neutral, key=lambda s: s.count)
    diffusion = in_box[solvent.name].value
    if diffusion <= 0.0:
        return None
    start = solvent.first_atom
    radius = vdw_radius(production.snapshots[0, start : start + solvent.n_atoms], solvent.vdw_radii)
    if YEH_HUMMER_XI * radius >= 0.9 * production.box_nm:
        return None
    slip, stick = (
        stokes_einstein_viscosity(diffusion, radius, run.temperature, production.box_nm, coefficient)
        for coefficient in (SLIP, STICK)
    )
    source = (
        f"estimated by Stokes-Einstein (slip) from the diffusion of {solvent.name} and its van der Waals "
        f"radius {radius:.3f} nm; the difference to stick counts as its error"
    )
    error = math.hypot(slip - stick, slip * in_box[solvent.name].error / diffusion)
    return Viscosity(slip, error, source)


def vdw_radius(xyz: NDArray[np.floating], radii: Floats, spacing_nm: float = 0.01) -> float:
    """Radius (nm) of a sphere as large as the union of atomic spheres: xyz (n, 3) nm, radii (n,) nm."""
    low = (xyz - radii[:, None]).min(axis=0)
    high = (xyz + radii[:, None]).max(axis=0)
    axes = [np.arange(start, stop + spacing_nm, spacing_nm) for start, stop in zip(low, high, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    inside = np.zeros([len(axis) for axis in axes], dtype=bool)
    for centre, radius in zip(xyz, radii, strict=True):
        inside |= sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < radius**2
    return float((3.0 * inside.sum() * spacing_nm**3 / (4.0 * math.pi)) ** (1.0 / 3.0))


def infinite_size(
    measured: Property, viscosity: Viscosity | None, temperature: float, box_nm: float
) -> Property:
    """A diffusion coefficient in the box plus its Yeh-Hummer correction, which needs a viscosity."""
    details = dict(measured.details) | {"in_box": measured.value, "in_box_error": measured.error}
    if viscosity is None:
        details["method"] = "in the simulated box; not corrected for its size because no viscosity is known"
        why = "no viscosity for the finite-size correction"
        verdict = not_converged(why) if measured.converged else measured.verdict
        return Property(measured.value, measured.error, measured.unit, verdict, details)
    correction = yeh_hummer(temperature, viscosity.value, box_nm)
    error = math.hypot(measured.error, correction * viscosity.error / viscosity.value)
    details |= {
        "finite_size_correction": correction,
        "viscosity_cP": viscosity.value,
        "viscosity_source": viscosity.source,
        "method": "mean square displacement plus k T 2.837297 / (6 pi viscosity L) (Yeh and Hummer)",
    }
    value, verdict = measured.value + correction, measured.verdict
    if measured.converged and error > TARGET_RELATIVE_ERROR * value:
        verdict = not_converged(
            f"error {100 * error / value:.0f} %, most of it from the finite-size correction; "
            "a larger box or a computed viscosity would settle it"
        )
    return Property(value, error, measured.unit, verdict, details)
