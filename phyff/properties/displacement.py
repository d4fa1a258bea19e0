"""Mean square displacements, the lags where they show diffusion, and the slope there with an honest error.

The fit window starts where the log-log slope reaches 1 (where sub-diffusion ends) and is kept short, because
longer lags carry ever less information. The error is that of the same estimator applied to random walks of
the same length, window and local rattling, or the scatter over molecules where that is larger; for collective
motion the scatter over replicas and time blocks replaces it where it is larger by more than chance.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len  # type: ignore[import-untyped]
from scipy.stats import chi2, norm  # type: ignore[import-untyped]
from scipy.stats import t as student_t

from phyff.properties.result import CONVERGED, not_converged

Floats = NDArray[np.float64]
TARGET_RELATIVE_ERROR = 0.10
SLOPE_TOLERANCE = 0.10
SHORTEST_LAG_PS = 1.0
"""Below, molecules pass from free flight (slope 2) into cages (less than 1): a slope of 1 tells nothing."""
SLOPE_NOISE = 0.06
"""Lags whose log-log slope is noisier than this cannot tell diffusion from caging."""
MIN_FRAMES = 40
MAX_LAG_FRACTION = 0.25
FALLBACK_WINDOW = (0.05, 0.20)
"""Fractions of the run used as fit window where no diffusive window can be shown to exist."""
SURROGATES = 400
SURROGATE_BATCH = 50
MAX_SEGMENTS = 10
SEGMENT_WINDOWS = 5
"""A time block holds at least so many times the last lag of the fit."""
MIN_MOLECULES = 10
"""With fewer the scatter over molecules says nothing."""


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
    slope_error: one sigma; length_ps: all the sampling behind it, replicas added up.
    """

    label: str
    lags: Floats
    msd: Floats
    window: Window
    slope: float
    slope_error: float
    intercept: float
    length_ps: float

    @property
    def window_ps(self) -> tuple[float, float]:
        """First and last lag of the fit (ps)."""
        return float(self.lags[self.window.first]), float(self.lags[self.window.last])


def molecular_displacement(label: str, series: Sequence[Floats], frame_ps: float) -> MeanSquareDisplacement:
    """Mean square displacement of like molecules, each replica of shape (n_frames, m, 3), and its slope."""
    each = _common([molecular_msd(positions) for positions in series])
    lengths, n_molecules = [len(positions) for positions in series], series[0].shape[1]
    n_series = 3 * n_molecules * sum(lengths) / min(lengths)
    msd = np.average([one.mean(axis=1) for one in each], axis=0, weights=lengths)
    lags = frame_ps * np.arange(len(msd), dtype=np.float64)
    window = find_window(msd, min(lengths), n_series, frame_ps)
    slope, intercept = line(lags, msd, window)
    error = walk_error(msd, lags, slope, window, min(lengths), n_series)
    walkers = np.concatenate(each, axis=1)
    if walkers.shape[1] >= MIN_MOLECULES:
        slopes = np.array([line(lags, walker, window)[0] for walker in walkers.T])
        error = max(error, float(slopes.std(ddof=1)) / math.sqrt(len(slopes)))
    return MeanSquareDisplacement(
        label, lags, msd, window, slope, error, intercept, frame_ps * sum(n - 1 for n in lengths)
    )


def collective_displacement(
    label: str, series: Sequence[Floats], window: Window, frame_ps: float
) -> MeanSquareDisplacement:
    """Mean square displacement of one vector, each replica (n_frames, 3), and its slope in a given window."""
    lengths = [len(vector) for vector in series]
    n_series = 3 * sum(lengths) / min(lengths)
    msd = _vector_msd(series)
    lags = frame_ps * np.arange(len(msd), dtype=np.float64)
    slope, intercept = line(lags, msd, window)
    error = walk_error(msd, lags, slope, window, min(lengths), n_series)
    error = _checked_by_segments(error, _segment_slopes(series, window, frame_ps))
    return MeanSquareDisplacement(
        label, lags, msd, window, slope, error, intercept, frame_ps * sum(n - 1 for n in lengths)
    )


def cross_slope(first: Sequence[Floats], second: Sequence[Floats], window: Window, frame_ps: float) -> float:
    """Slope of <dA . dB> of two vectors, (n_frames, 3) a replica, from the displacements of A +- B."""
    together = _vector_msd([a + b for a, b in zip(first, second, strict=True)])
    apart = _vector_msd([a - b for a, b in zip(first, second, strict=True)])
    lags = frame_ps * np.arange(len(together), dtype=np.float64)
    return line(lags, 0.25 * (together - apart), window)[0]


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


def _vector_msd(series: Sequence[Floats]) -> Floats:
    each = _common([molecular_msd(vector[:, None, :])[:, 0] for vector in series])
    return np.average(each, axis=0, weights=[len(vector) for vector in series])


def _common(curves: list[Floats]) -> list[Floats]:
    """Curves of several replicas cut to the lags that all of them have."""
    shortest = min(len(curve) for curve in curves)
    return [curve[:shortest] for curve in curves]


def find_window(msd: Floats, n_frames: int, n_series: float, frame_ps: float) -> Window:
    """The fit window of a mean square displacement (n_lags,) averaged over n_series one-dimensional series.

    It starts at the first lag, SHORTEST_LAG_PS or longer, from which the log-log slope, taken between a lag
    and its double, stays within SLOPE_TOLERANCE and noise of 1 for every lag where the noise is small, and
    spans a factor of four.
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
    for index in np.flatnonzero(clear & (grid * frame_ps >= SHORTEST_LAG_PS)):
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


def line(lags: Floats, msd: Floats, window: Window) -> tuple[float, float]:
    """Slope and intercept of an unweighted straight line through the window."""
    used = _fit_lags(window.first, window.last)
    slope, intercept = np.polyfit(lags[used], msd[used], 1)
    return float(slope), float(intercept)


def _fit_lags(first: int, last: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(first, last, 25).astype(int))


def walk_error(
    msd: Floats, lags: Floats, slope: float, window: Window, n_frames: int, n_series: float
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


def _segment_slopes(series: Sequence[Floats], window: Window, frame_ps: float) -> Floats:
    """Slopes of equally long time blocks of every replica, at least one a replica."""
    shortest = min(len(vector) for vector in series)
    blocks = max(1, min(shortest // (SEGMENT_WINDOWS * window.last), MAX_SEGMENTS // len(series)))
    length = shortest // blocks
    slopes = []
    for vector in series:
        for block in range(blocks):
            msd = molecular_msd(vector[block * length : (block + 1) * length, None, :])[:, 0]
            slopes.append(line(frame_ps * np.arange(len(msd), dtype=np.float64), msd, window)[0])
    return np.array(slopes)


def _checked_by_segments(error: float, slopes: Floats) -> float:
    """The error, or the one from the scatter of segments where that is larger by more than chance (1 %)."""
    n = len(slopes)
    if n < 3:
        return error
    scatter = float(slopes.std(ddof=1)) / math.sqrt(n)
    if (n - 1) * (scatter / error) ** 2 <= chi2.ppf(0.99, n - 1):
        return error
    return scatter * float(student_t.ppf(norm.cdf(1.0), n - 1))


def slope_verdict(curve: MeanSquareDisplacement) -> str:
    """Whether a slope is diffusive and known to TARGET_RELATIVE_ERROR, or how long a run would show it."""
    relative = curve.slope_error / curve.slope if curve.slope > 0.0 else math.inf
    for_error = curve.length_ps * min((relative / TARGET_RELATIVE_ERROR) ** 2, 1e4)
    window = curve.window
    if not window.diffusive:
        if window.log_slope_ps >= SHORTEST_LAG_PS and window.log_slope < 1.0 - SLOPE_TOLERANCE:
            why = f"still sub-diffusive, log-log slope {window.log_slope:.2f} at {window.log_slope_ps:.3g} ps"
        else:
            why = "too short to show that the motion is diffusive"
        return not_converged(why, max(window.needed_ps, for_error))
    if relative > TARGET_RELATIVE_ERROR:
        why = "no net growth in the fit window" if math.isinf(relative) else f"error {100 * relative:.0f} %"
        return not_converged(f"{why}, wanted {100 * TARGET_RELATIVE_ERROR:.0f} %", for_error)
    return CONVERGED
