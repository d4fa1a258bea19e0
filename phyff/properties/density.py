"""Density at constant pressure: where equilibration ends, the mean, an error aware of correlation.

Equilibration: the start that leaves the most independent samples (Chodera, J. Chem. Theory Comput. 12, 1799
(2016)), or rather the earliest that leaves 80 % of the most: the best of many noisy estimates is optimistic.
Error: the standard error of the mean inflated by the statistical inefficiency, with small-sample corrections
of which INEFFICIENCY_BIAS is calibrated, not derived: on series with several correlation times
(benchmarks/coverage.py). STACIE's spectral estimate gives the same error on autoregressive test series (0.135
against 0.135 for 100 correlation times) at a second a call, so it is not used here.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len  # type: ignore[import-untyped]
from scipy.stats import norm  # type: ignore[import-untyped]
from scipy.stats import t as student_t

from phyff.properties.result import CONVERGED, Property, not_converged, too_short

Floats = NDArray[np.float64]
TARGET_RELATIVE_ERROR = 0.005
MIN_INDEPENDENT = 30.0
"""With fewer, the stated error itself is too uncertain to call a mean converged."""
KEEP = 0.8
INEFFICIENCY_BIAS = 20.0
"""A short series hides its slow motion: the inefficiency is taken for larger by this over the samples."""
MIN_ROWS = 20
STARTS = 40


@dataclass(frozen=True)
class SeriesMean:
    """Mean of a correlated series after equilibration.

    first: index where the used window starts; inefficiency: rows per independent sample;
    independent: number of independent samples in the window; half_difference: mean of the second half of the
    window less that of the first, in standard deviations.
    """

    mean: float
    error: float
    first: int
    inefficiency: float
    independent: float
    half_difference: float


def density(times: Floats, densities: Floats) -> tuple[Property, SeriesMean | None]:
    """The density (g/cm3) of a constant-pressure run: times (n,) ps, densities (n,) g/cm3."""
    if len(times) < MIN_ROWS:
        return too_short("g/cm3", f"only {len(times)} rows in npt.csv"), None
    mean = series_mean(densities)
    interval = (times[-1] - times[0]) / (len(times) - 1)
    window = (len(times) - mean.first) * interval
    details = {
        "window_ps": [float(times[mean.first]), float(times[-1])],
        "correlation_time_ps": 0.5 * mean.inefficiency * interval,
        "independent_samples": mean.independent,
        "method": "equilibration by most independent samples; error from the statistical inefficiency",
    }
    return Property(mean.mean, mean.error, "g/cm3", _verdict(mean, window), details), mean


def series_mean(series: Floats, cut_start: bool = True) -> SeriesMean:
    """Mean and one-sigma error of a correlated series (n,).

    cut_start: leave out the start where that adds information; not for a series known to be in equilibrium.
    """
    n = len(series)
    starts = np.unique(np.linspace(0, n // 2 if cut_start else 0, STARTS).astype(int))
    inefficiencies = np.array([statistical_inefficiency(series[start:]) for start in starts])
    samples = (n - starts) / inefficiencies
    best = int(np.flatnonzero(samples >= KEEP * samples.max())[0])
    used = series[starts[best] :]
    inefficiency = inefficiencies[best] * (1.0 + INEFFICIENCY_BIAS / samples[best])
    independent = max(2.0, len(used) / inefficiency)
    student = float(student_t.ppf(norm.cdf(1.0), independent - 1.0))
    error = student * float(used.std(ddof=1)) / math.sqrt(independent - 1.0)
    half = len(used) // 2
    difference = float(used[half:].mean() - used[:half].mean())
    return SeriesMean(
        mean=float(used.mean()),
        error=error,
        first=int(starts[best]),
        inefficiency=float(inefficiency),
        independent=float(independent),
        half_difference=difference / (2.0 * error) if error > 0.0 else 0.0,
    )


def statistical_inefficiency(series: Floats) -> float:
    """Rows per independent sample: 1 + 2 sum of the normalised autocorrelation up to its first zero."""
    n = len(series)
    deviation = series - series.mean()
    variance = float(deviation @ deviation) / n
    if variance == 0.0:
        return float(n)
    padded = next_fast_len(2 * n, real=True)
    spectrum = np.fft.rfft(deviation, padded)
    correlation = np.fft.irfft(spectrum * spectrum.conj(), padded)[:n] / (np.arange(n, 0, -1) * variance)
    negative = np.flatnonzero(correlation <= 0.0)
    end = int(negative[0]) if len(negative) else n
    lags = np.arange(1, end)
    return max(1.0, float(1.0 + 2.0 * np.sum((1.0 - lags / n) * correlation[1:end])))


def _verdict(mean: SeriesMean, window_ps: float) -> str:
    relative = mean.error / mean.mean
    needed = window_ps * max((relative / TARGET_RELATIVE_ERROR) ** 2, MIN_INDEPENDENT / mean.independent)
    if mean.independent < MIN_INDEPENDENT:
        return not_converged(f"only {mean.independent:.0f} independent samples", needed)
    if relative > TARGET_RELATIVE_ERROR:
        why = f"error {100 * relative:.1f} %, wanted {100 * TARGET_RELATIVE_ERROR:g} %"
        return not_converged(why, needed)
    if abs(mean.half_difference) > 3.0:
        return not_converged("still drifting, the two halves of the window disagree", 4.0 * window_ps)
    return CONVERGED
