"""Diffusion, Onsager coefficients, conductivity and transference from constant-volume trajectories.

Conductivity three ways: Einstein-Helfand (slope of the collective dipole displacement), Green-Kubo (charge
current) and Nernst-Einstein (ions taken as independent); all in the barycentric frame and the simulated box.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phyff.properties.displacement import (
    MIN_FRAMES,
    TARGET_RELATIVE_ERROR,
    MeanSquareDisplacement,
    Window,
    collective_displacement,
    molecular_displacement,
    slope_verdict,
)
from phyff.properties.finite_size import infinite_size, known_viscosity
from phyff.properties.green_kubo import CurrentSpectrum, current_integral
from phyff.properties.onsager import (
    OnsagerMatrix,
    onsager_matrix,
    relative_to_solvent,
    salt_diffusion,
    species_sums,
    transference,
)
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import Production, Run
from phyff.units import BOLTZMANN, ELEMENTARY_CHARGE

Floats = NDArray[np.float64]
NM2_PER_PS_TO_1E9_M2_S = 1000.0
"""1e-9 m2/s in one nm2/ps."""
DIFFUSION_UNIT = "1e-9 m2/s"
TARGET_TRANSFERENCE_ERROR = 0.05
CONDUCTIVITIES = {
    "conductivity": "mS/cm",
    "conductivity_green_kubo": "mS/cm",
    "conductivity_nernst_einstein": "mS/cm",
    "ionicity": "",
}


@dataclass(frozen=True)
class Transport:
    """Properties by name, and the curves behind them."""

    properties: Mapping[str, Property]
    self_displacements: tuple[MeanSquareDisplacement, ...]
    collective: MeanSquareDisplacement | None
    current: CurrentSpectrum | None


def transport(run: Run, replicas: Sequence[Production], viscosity: Property | None = None) -> Transport:
    """Self-diffusion of every species and, of an electrolyte, all that its ions' collective motion tells.

    replicas: trajectories of the same box; those with fewer than MIN_FRAMES are left out. viscosity: computed
    one, for the finite-size correction.
    """
    names = [f"self_diffusion_{s.name}{end}" for s in run.species for end in ("", "_box")]
    used = [production for production in replicas if len(production.centres) >= MIN_FRAMES]
    if not used:
        why = f"only {max(len(production.centres) for production in replicas)} frames of production"
        conductivities = CONDUCTIVITIES if run.ions else {}
        properties = {name: too_short(unit, why) for name, unit in conductivities.items()}
        properties |= {name: too_short(DIFFUSION_UNIT, why) for name in names}
        return Transport(properties, (), None, None)

    curves = {
        s.name: molecular_displacement(s.name, [p.centres[:, s.molecules] for p in used], used[0].frame_ps)
        for s in run.species
    }
    in_box = {name: _self_diffusion(curve) for name, curve in curves.items()}
    properties = {}
    collective = current = None
    if run.ions:
        windows = [curves[s.name].window for s in run.ions]
        window = max(windows, key=lambda one: (not one.diffusive, one.first))
        properties, collective, current = _collective(run, used, in_box, window)
    known = known_viscosity(run, used[0], in_box, viscosity)
    for name, measured in in_box.items():
        corrected = infinite_size(measured, known, run.temperature, used[0].box_nm)
        properties[f"self_diffusion_{name}"] = corrected
        properties[f"self_diffusion_{name}_box"] = measured
    return Transport(properties, tuple(curves.values()), collective, current)


def _collective(
    run: Run, replicas: Sequence[Production], in_box: Mapping[str, Property], window: Window
) -> tuple[dict[str, Property], MeanSquareDisplacement, CurrentSpectrum | None]:
    """Everything that depends on how the ions move together, fitted where the ions themselves diffuse."""
    frame_ps, factor = replicas[0].frame_ps, conductivity_factor(replicas[0].box_nm, run.temperature)
    charges = np.array([float(s.charge) for s in run.ions])
    sums = [species_sums(run, production) for production in replicas]
    dipoles = [np.einsum("s,sfd->fd", charges, np.array(replica)) for replica in sums]
    collective = collective_displacement("collective dipole", dipoles, window, frame_ps)
    current = current_integral(dipoles, frame_ps, window.last)
    helfand = _einstein_helfand(collective, factor)
    nernst = _nernst_einstein(run, factor, in_box)
    properties = {
        "conductivity": helfand,
        "conductivity_green_kubo": _green_kubo(current, factor, collective, helfand),
        "conductivity_nernst_einstein": nernst,
        "ionicity": _ionicity(helfand, nernst),
    }
    barycentric = onsager_matrix(run.ions, sums, window, frame_ps)
    properties |= _onsager(run, barycentric, factor)
    properties |= _transference(run, barycentric, "", "barycentric frame", collective)
    if any(s.charge == 0 for s in run.species):
        relative = [relative_to_solvent(run, p, r) for p, r in zip(replicas, sums, strict=True)]
        solvent = onsager_matrix(run.ions, relative, window, frame_ps)
        frame = "relative to the centre of mass of the neutral species"
        properties |= _transference(run, solvent, "_solvent_frame", frame, collective)
        properties |= _salt_diffusion(run, solvent, collective)
    return properties, collective, current


def _self_diffusion(curve: MeanSquareDisplacement) -> Property:
    scale = NM2_PER_PS_TO_1E9_M2_S / 6.0
    value, error = curve.slope * scale, curve.slope_error * scale
    details = {
        "window_ps": list(curve.window_ps),
        "log_slope": curve.window.log_slope,
        "log_slope_at_ps": curve.window.log_slope_ps,
        "method": "slope of the mean square displacement in the simulated box, no finite-size correction",
    }
    return Property(value, error, DIFFUSION_UNIT, slope_verdict(curve), details)


def conductivity_factor(box_nm: float, temperature: float) -> float:
    """mS/cm for one e2 nm2/ps of (1/6) d<dipole displacement^2>/dt in a cubic box: 1 / (V k T)."""
    joule_per_kelvin_volume = box_nm**3 * 1e-27 * BOLTZMANN * temperature
    siemens_per_metre = ELEMENTARY_CHARGE**2 * 1e-18 / 1e-12 / joule_per_kelvin_volume
    return siemens_per_metre * 10.0


def _einstein_helfand(curve: MeanSquareDisplacement, factor: float) -> Property:
    details = {
        "window_ps": list(curve.window_ps),
        "method": "Einstein-Helfand: collective dipole displacement, barycentric frame, window from the ions",
    }
    scale = factor / 6.0
    return Property(curve.slope * scale, curve.slope_error * scale, "mS/cm", slope_verdict(curve), details)


def _green_kubo(
    current: CurrentSpectrum | None, factor: float, collective: MeanSquareDisplacement, helfand: Property
) -> Property:
    if current is None:
        return too_short("mS/cm", "too few frames for a spectrum of the current")
    value, error = current.integral * factor, current.error * factor
    details = {
        "method": "Green-Kubo: zero-frequency spectrum of the charge current (STACIE), the current being the "
        "finite difference of the charge displacement between frames",
        "fit_up_to_per_ps": current.cutoff,
    }
    wanted = TARGET_RELATIVE_ERROR * value
    if not collective.window.diffusive:  # nor does the spectrum then reach frequencies low enough
        verdict = helfand.verdict
        # Two answers of one trajectory: what sets them apart is not the chance that the fit's error is about.
        if abs(value - helfand.value) > error:
            details["statistical_error"] = error
            error = abs(value - helfand.value)
    elif error > wanted:
        why = f"error {100 * error / value:.0f} %, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %"
        verdict = not_converged(why, collective.length_ps * min((error / wanted) ** 2, 1e4))
    elif abs(value - helfand.value) > 3.0 * math.hypot(error, helfand.error):
        verdict = not_converged("disagrees with Einstein-Helfand by more than three standard errors")
    else:
        verdict = CONVERGED
    return Property(value, error, "mS/cm", verdict, details)


def _nernst_einstein(run: Run, factor: float, in_box: Mapping[str, Property]) -> Property:
    factor = factor / NM2_PER_PS_TO_1E9_M2_S
    value = error_squared = 0.0
    for s in run.ions:
        diffusion = in_box[s.name]
        value += factor * s.count * s.charge**2 * diffusion.value
        error_squared += (factor * s.count * s.charge**2 * diffusion.error) ** 2
    unsettled = [f"{s.name} {in_box[s.name].verdict}" for s in run.ions if not in_box[s.name].converged]
    verdict = not_converged("; ".join(unsettled).replace("not converged: ", "")) if unsettled else CONVERGED
    details = {"method": "Nernst-Einstein, diffusion in the simulated box, ion correlations ignored"}
    return Property(value, math.sqrt(error_squared), "mS/cm", verdict, details)


def _ionicity(helfand: Property, nernst: Property) -> Property:
    """Einstein-Helfand over Nernst-Einstein; their errors are taken as independent."""
    if nernst.value <= 0.0:
        return too_short("", "the ions show no net diffusion")
    value = helfand.value / nernst.value
    error = math.hypot(helfand.error, value * nernst.error) / nernst.value
    verdict = next((p.verdict for p in (helfand, nernst) if not p.converged), CONVERGED)
    details = {"method": "collective over Nernst-Einstein conductivity, both in the simulated box"}
    return Property(value, error, "", verdict, details)


def _onsager(run: Run, matrix: OnsagerMatrix | None, factor: float) -> dict[str, Property]:
    """L_ij in units of conductivity: the conductivity is the sum of z_i z_j L_ij over all i and j."""
    pairs = [(i, j) for i in range(len(run.ions)) for j in range(i, len(run.ions))]
    names = {(i, j): f"onsager_{run.ions[i].name}_{run.ions[j].name}" for i, j in pairs}
    if matrix is None:
        return {
            name: too_short("mS/cm", "ions show no net motion in the fit window") for name in names.values()
        }
    details = {
        "method": "e^2 L_ij, barycentric frame; conductivity = sum of z_i z_j L_ij over all ordered pairs"
    }
    found = {}
    for (i, j), name in names.items():
        value = matrix.slopes[i, j] * factor / 6.0
        error = math.sqrt(matrix.covariance[i, j, i, j]) * factor / 6.0
        scale = math.sqrt(matrix.slopes[i, i] * matrix.slopes[j, j]) * factor / 6.0
        verdict = _error_verdict(error, TARGET_RELATIVE_ERROR * scale, matrix.curves[i])
        found[name] = Property(value, error, "mS/cm", verdict, details)
    return found


def _transference(
    run: Run,
    matrix: OnsagerMatrix | None,
    ending: str,
    frame: str,
    collective: MeanSquareDisplacement,
) -> dict[str, Property]:
    charges = np.array([float(s.charge) for s in run.ions])
    found = {}
    for index, s in enumerate(run.ions):
        if s.charge < 0:
            continue
        name = f"transference_{s.name}{ending}"
        if matrix is None or float(charges @ matrix.slopes @ charges) <= 0.0:
            found[name] = too_short("", "the ions carry no net current in the fit window")
            continue
        value, error = matrix.derived(transference(charges, index))
        verdict = _error_verdict(error, TARGET_TRANSFERENCE_ERROR, collective)
        method = f"share of the collective conductivity, {frame}"
        found[name] = Property(value, error, "", verdict, {"frame": frame, "method": method})
    return found


def _salt_diffusion(
    run: Run, matrix: OnsagerMatrix | None, collective: MeanSquareDisplacement
) -> dict[str, Property]:
    """Only of one 1:1 salt in a solvent; other mixtures have a matrix of diffusion coefficients."""
    if [abs(s.charge) for s in run.ions] != [1, 1] or run.ions[0].count != run.ions[1].count:
        return {}
    if matrix is None:
        return {"salt_diffusion": too_short(DIFFUSION_UNIT, "ions show no net motion in the fit window")}
    value, error = (NM2_PER_PS_TO_1E9_M2_S * one for one in matrix.derived(salt_diffusion(run.ions[0].count)))
    details = {
        "method": "from the Onsager matrix relative to the solvent, with a thermodynamic factor of 1: "
        "multiply by 1 + dln(activity coefficient)/dln(concentration)"
    }
    verdict = _error_verdict(error, TARGET_RELATIVE_ERROR * value, collective)
    return {"salt_diffusion": Property(value, error, DIFFUSION_UNIT, verdict, details)}


def _error_verdict(error: float, wanted: float, curve: MeanSquareDisplacement) -> str:
    """Converged when the motion is diffusive and the error small enough."""
    if not curve.window.diffusive:
        return slope_verdict(curve)
    if wanted <= 0.0:
        return not_converged("no net motion in the fit window")
    if error > wanted:
        needed = curve.length_ps * min((error / wanted) ** 2, 1e4)
        return not_converged(f"error {error:.2g}, wanted {wanted:.2g}", needed)
    return CONVERGED
