"""Diffusion and conductivity from a constant-volume trajectory, with errors and verdicts.

Self-diffusion: slope of the mean square displacement, with the finite-size correction of Yeh and Hummer,
J. Phys. Chem. B 108, 15873 (2004). Conductivity: Einstein-Helfand (slope of the collective dipole
displacement, barycentric frame) and Nernst-Einstein. The fit window starts where the log-log slope reaches 1
and is kept short, because longer lags carry ever less information. The error is that of the same estimator
applied to random walks of the same length, window and local rattling, or, for self-diffusion and where
larger, the scatter of the molecules.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len  # type: ignore[import-untyped]

from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import Production, Run, SpeciesInBox
from phyff.units import BOLTZMANN, ELEMENTARY_CHARGE

Floats = NDArray[np.float64]
NM2_PER_PS_TO_1E9_M2_S = 1000.0
"""1e-9 m2/s in one nm2/ps."""
YEH_HUMMER_XI = 2.837297
SLIP, STICK = 4.0, 6.0
"""Stokes-Einstein: viscosity = k T / (coefficient pi D radius)."""
TARGET_RELATIVE_ERROR = 0.10
SLOPE_TOLERANCE = 0.10
SLOPE_NOISE = 0.06
"""Lags whose log-log slope is noisier than this cannot tell diffusion from caging."""
MIN_FRAMES = 40
MAX_LAG_FRACTION = 0.25
FALLBACK_WINDOW = (0.05, 0.20)
"""Fractions of the run used as fit window where no diffusive window can be shown to exist."""
SURROGATES = 400
SURROGATE_BATCH = 50


@dataclass(frozen=True)
class Window:
    """Lags (in frames, inclusive) of a straight-line fit to a mean square displacement.

    diffusive: whether the log-log slope is shown to be 1 there; log_slope: its value at log_slope_ps, the
    largest lag with little noise (one frame if none has); needed_ps: run length that could show it.
    """

    first: int
    last: int
    diffusive: bool
    log_slope: float
    log_slope_ps: float
    needed_ps: float


@dataclass(frozen=True)
class MeanSquareDisplacement:
    """A mean square displacement and the line fitted to it.

    lags (n,) in ps; msd (n,) in nm2, or e2 nm2 for the collective dipole; slope and intercept of the line;
    relative_error: one sigma of the slope over the slope's scale.
    """

    label: str
    lags: Floats
    msd: Floats
    window: Window
    slope: float
    slope_error: float
    intercept: float

    @property
    def window_ps(self) -> tuple[float, float]:
        """First and last lag of the fit (ps)."""
        return float(self.lags[self.window.first]), float(self.lags[self.window.last])


@dataclass(frozen=True)
class Transport:
    """Properties by name, and the displacement curves behind them."""

    properties: Mapping[str, Property]
    self_displacements: tuple[MeanSquareDisplacement, ...]
    collective: MeanSquareDisplacement | None


def transport(run: Run, production: Production) -> Transport:
    """Self-diffusion of every species, and the conductivity of an electrolyte."""
    unit = "1e-9 m2/s"
    names = [f"self_diffusion_{s.name}{end}" for s in run.species for end in ("", "_box")]
    if len(production.centres) < MIN_FRAMES:
        why = f"only {len(production.centres)} frames of production"
        conductivities = ("conductivity", "conductivity_nernst_einstein") if run.ions else ()
        properties = {name: too_short("mS/cm", why) for name in conductivities}
        properties |= {name: too_short(unit, why) for name in names}
        return Transport(properties, (), None)

    curves = {s.name: self_displacement(s, production) for s in run.species}
    in_box = {name: _self_diffusion(curve, production.length_ps) for name, curve in curves.items()}
    viscosity = solvent_viscosity(run, production, in_box)
    properties = {}
    collective = None
    if run.ions:
        collective = collective_displacement(run, production, [curves[s.name].window for s in run.ions])
        properties["conductivity"] = _einstein_helfand(collective, run, production)
        properties["conductivity_nernst_einstein"] = _nernst_einstein(run, production, in_box)
    for name, measured in in_box.items():
        corrected = infinite_size(measured, viscosity, run.temperature, production.box_nm)
        properties[f"self_diffusion_{name}"] = corrected
        properties[f"self_diffusion_{name}_box"] = measured
    return Transport(properties, tuple(curves.values()), collective)


def self_displacement(species: SpeciesInBox, production: Production) -> MeanSquareDisplacement:
    """Mean square displacement of one species' molecules and its slope."""
    positions = production.centres[:, species.molecules]
    each = molecular_msd(positions)
    n_frames, n_molecules = positions.shape[:2]
    lags = production.frame_ps * np.arange(len(each), dtype=np.float64)
    msd = each.mean(axis=1)
    window = find_window(msd, n_frames, 3 * n_molecules, production.frame_ps)
    slope, intercept = _line(lags, msd, window)
    error = _slope_error(msd, lags, slope, window, n_frames, 3 * n_molecules)
    if n_molecules >= 10:
        slopes = np.array([_line(lags, each[:, m], window)[0] for m in range(n_molecules)])
        error = max(error, float(slopes.std(ddof=1)) / math.sqrt(n_molecules))
    return MeanSquareDisplacement(species.name, lags, msd, window, slope, error, intercept)


def collective_displacement(
    run: Run, production: Production, ion_windows: list[Window]
) -> MeanSquareDisplacement:
    """Mean square displacement (e2 nm2) of sum(charge x centre), fitted where the ions themselves diffuse."""
    charges = np.concatenate([np.full(s.count, float(s.charge)) for s in run.species])
    dipole = np.einsum("fmd,m->fd", production.centres, charges)
    msd = molecular_msd(dipole[:, None, :])[:, 0]
    lags = production.frame_ps * np.arange(len(msd), dtype=np.float64)
    latest = max(ion_windows, key=lambda window: (not window.diffusive, window.first))
    slope, intercept = _line(lags, msd, latest)
    error = _slope_error(msd, lags, slope, latest, len(dipole), 3)
    return MeanSquareDisplacement("collective dipole", lags, msd, latest, slope, error, intercept)


def molecular_msd(positions: Floats) -> Floats:
    """Mean square displacement of each molecule, all time origins: (n_frames, m, 3) -> (n_lags, m).

    Fast Fourier form of Calandrini et al., Collection SFN 12, 201 (2011); lags reach half of the trajectory.
    """
    n = len(positions)
    padded = next_fast_len(2 * n, real=True)
    origins = np.arange(n, 0, -1)
    columns = []
    for molecule in range(positions.shape[1]):
        xyz = positions[:, molecule] - positions[:, molecule].mean(axis=0)
        spectrum = np.fft.rfft(xyz, padded, axis=0)
        correlation = np.fft.irfft((spectrum * spectrum.conj()).real.sum(axis=1), padded)[:n] / origins
        squares = np.einsum("fd,fd->f", xyz, xyz)
        total = np.cumsum(squares)
        reverse = np.cumsum(squares[::-1])
        squared_ends = (total[::-1] + reverse[::-1]) / origins
        columns.append((squared_ends - 2.0 * correlation)[: n // 2 + 1])
    return np.stack(columns, axis=1)


def find_window(msd: Floats, n_frames: int, n_series: int, frame_ps: float) -> Window:
    """The fit window of a mean square displacement (n_lags,) averaged over n_series one-dimensional series.

    It starts at the first lag from which the log-log slope, taken between a lag and its double, stays within
    SLOPE_TOLERANCE and noise of 1 for every lag where the noise is small, and spans a factor of four.
    """
    length_ps = (n_frames - 1) * frame_ps
    longest = int(MAX_LAG_FRACTION * n_frames)
    grid = np.unique(np.geomspace(1, longest // 2, 40).astype(int))
    slopes = np.log(msd[2 * grid] / msd[grid]) / math.log(2.0)
    noise = np.sqrt(4.0 * grid / (n_series * n_frames)) / math.log(2.0)
    clear = noise <= SLOPE_NOISE
    straight = np.abs(slopes - 1.0) < SLOPE_TOLERANCE + noise
    last_clear = int(np.flatnonzero(clear)[-1]) if clear.any() else 0
    seen = (float(slopes[last_clear]), float(grid[last_clear] * frame_ps))
    for index in np.flatnonzero(clear):
        if straight[clear & (grid >= grid[index])].all():
            first = int(grid[index])
            return Window(first, _last_lag(first, longest), True, *seen, needed_ps=0.0)
    first, last = (max(1, round(fraction * n_frames)) for fraction in FALLBACK_WINDOW)
    slope, intercept = np.polyfit(np.arange(first, last + 1) * frame_ps, msd[first : last + 1], 1)
    diffusive_from = last * frame_ps if slope <= 0.0 else max(last * frame_ps, intercept * 9.0 / slope)
    for_noise = 4.0 * diffusive_from / (n_series * (SLOPE_NOISE * math.log(2.0)) ** 2)
    needed = max(2.0 * length_ps, for_noise, 2.0 * diffusive_from / MAX_LAG_FRACTION)
    return Window(first, last, False, *seen, needed_ps=needed)


def _last_lag(first: int, longest: int) -> int:
    return min(longest, max(4 * first, first + 9))


def _line(lags: Floats, msd: Floats, window: Window) -> tuple[float, float]:
    """Slope and intercept of an unweighted straight line through the window."""
    used = _fit_lags(window.first, window.last)
    slope, intercept = np.polyfit(lags[used], msd[used], 1)
    return float(slope), float(intercept)


def _fit_lags(first: int, last: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(first, last, 25).astype(int))


def _slope_error(
    msd: Floats, lags: Floats, slope: float, window: Window, n_frames: int, n_series: int
) -> float:
    """One-sigma error of a slope from random walks that share length, window and rattling with the data."""
    secant = float(msd[window.last] / lags[window.last])
    rattling = max(0.0, secant - slope) * lags[window.last] / (secant * lags[1])
    spread = _walk_spread(n_frames, window.first, window.last, _round(rattling))
    return spread / math.sqrt(n_series) * max(slope, secant)


def _round(number: float) -> float:
    """One significant digit, so that equal situations share their surrogate walks."""
    return float(f"{number:.0e}")


@lru_cache(maxsize=64)
def _walk_spread(n_frames: int, first: int, last: int, rattling: float) -> float:
    """Standard deviation of the slope fitted to unit random walks with white rattling (mean square, steps^2).

    Long windows are thinned to steps of a tenth of their first lag, which changes nothing a walk can show.
    """
    thin = max(1, first // 10)
    frames, first, last = n_frames // thin, first // thin, last // thin
    lags = _fit_lags(first, last)
    rng = np.random.default_rng(20040914)
    slopes = []
    for _ in range(SURROGATES // SURROGATE_BATCH):
        walks = np.cumsum(rng.normal(size=(SURROGATE_BATCH, frames)), axis=1)
        walks += rng.normal(scale=math.sqrt(0.5 * rattling / thin), size=walks.shape)
        curves = [np.mean((walks[:, lag:] - walks[:, :-lag]) ** 2, axis=1) for lag in lags]
        slopes.append(np.polyfit(lags, np.array(curves), 1)[0])
    return float(np.std(slopes))


@dataclass(frozen=True)
class Viscosity:
    """A viscosity (cP), its error (cP) and where it comes from."""

    value: float
    error: float
    source: str


def _self_diffusion(curve: MeanSquareDisplacement, length_ps: float) -> Property:
    scale = NM2_PER_PS_TO_1E9_M2_S / 6.0
    value, error = curve.slope * scale, curve.slope_error * scale
    details = {
        "window_ps": list(curve.window_ps),
        "log_slope": curve.window.log_slope,
        "log_slope_at_ps": curve.window.log_slope_ps,
        "method": "slope of the mean square displacement in the simulated box, no finite-size correction",
    }
    return Property(value, error, "1e-9 m2/s", _slope_verdict(curve, length_ps), details)


def _slope_verdict(curve: MeanSquareDisplacement, length_ps: float) -> str:
    relative = curve.slope_error / curve.slope if curve.slope > 0.0 else math.inf
    for_error = length_ps * min((relative / TARGET_RELATIVE_ERROR) ** 2, 1e4)
    window = curve.window
    if not window.diffusive:
        if window.log_slope < 1.0 - SLOPE_TOLERANCE:
            why = f"still sub-diffusive, log-log slope {window.log_slope:.2f} at {window.log_slope_ps:.3g} ps"
        else:
            why = "too short to show that the motion is diffusive"
        return not_converged(why, max(window.needed_ps, for_error))
    if relative > TARGET_RELATIVE_ERROR:
        why = "no net growth in the fit window" if math.isinf(relative) else f"error {100 * relative:.0f} %"
        return not_converged(f"{why}, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %", for_error)
    return CONVERGED


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


def solvent_viscosity(run: Run, production: Production, in_box: Mapping[str, Property]) -> Viscosity | None:
    """run.json's viscosity_cP, or else Stokes-Einstein (slip) from the most abundant neutral species."""
    if "viscosity_cP" in run.settings:
        value = float(run.settings["viscosity_cP"])
        error = float(run.settings.get("viscosity_error_cP", 0.0))
        return Viscosity(value, error, "viscosity_cP of run.json")
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


def conductivity_factor(box_nm: float, temperature: float) -> float:
    """mS/cm for one e2 nm2/ps of (1/6) d<dipole displacement^2>/dt in a cubic box: 1 / (V k T)."""
    joule_per_kelvin_volume = box_nm**3 * 1e-27 * BOLTZMANN * temperature
    siemens_per_metre = ELEMENTARY_CHARGE**2 * 1e-18 / 1e-12 / joule_per_kelvin_volume
    return siemens_per_metre * 10.0


def _einstein_helfand(curve: MeanSquareDisplacement, run: Run, production: Production) -> Property:
    factor = conductivity_factor(production.box_nm, run.temperature) / 6.0
    details = {
        "window_ps": list(curve.window_ps),
        "method": "Einstein-Helfand: collective dipole displacement, barycentric frame, window from the ions",
    }
    verdict = _slope_verdict(curve, production.length_ps)
    return Property(curve.slope * factor, curve.slope_error * factor, "mS/cm", verdict, details)


def _nernst_einstein(run: Run, production: Production, in_box: Mapping[str, Property]) -> Property:
    factor = conductivity_factor(production.box_nm, run.temperature) / NM2_PER_PS_TO_1E9_M2_S
    value = error_squared = 0.0
    for s in run.ions:
        diffusion = in_box[s.name]
        value += factor * s.count * s.charge**2 * diffusion.value
        error_squared += (factor * s.count * s.charge**2 * diffusion.error) ** 2
    unsettled = [f"{s.name} {in_box[s.name].verdict}" for s in run.ions if not in_box[s.name].converged]
    verdict = not_converged("; ".join(unsettled).replace("not converged: ", "")) if unsettled else CONVERGED
    details = {"method": "Nernst-Einstein, diffusion in the simulated box, ion correlations ignored"}
    return Property(value, math.sqrt(error_squared), "mS/cm", verdict, details)
