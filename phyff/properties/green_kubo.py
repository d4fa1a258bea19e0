"""Conductivity by Green and Kubo: the integral of the charge current's autocorrelation.

The current is the finite difference of the unwrapped charge displacement between frames, whose low-frequency
spectrum is that of the current itself. The integral is half the spectrum at zero frequency, fitted with its
error by STACIE (Toraman et al., J. Chem. Inf. Model. 65, 10445 (2025)). No fit window of the displacement
enters, so it checks Einstein-Helfand, from which it differs by the estimator alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MIN_STEPS = 100
MAX_POINTS = 300
"""Most frequencies in the fit, as STACIE counts them; long runs gain from blocks instead."""
CUTOFF_SPACING = 1.0
"""Of the cutoffs that STACIE averages over; its default of 0.5 takes twice the time for the same answer."""
BLOCK_STEPS = 1000
BLOCK_LAGS = 20
"""A block is at least so many steps, and so many times the lag at which the ions diffuse."""


@dataclass(frozen=True)
class CurrentSpectrum:
    """Low-frequency spectrum of the current and what it tends to.

    frequencies (n,) in 1/ps; amplitudes (n,): integral of the autocorrelation as each frequency sees it, in
    e2 nm2/ps; integral and its error: the limit at zero frequency; cutoff: end of the fit (1/ps).
    """

    frequencies: Floats
    amplitudes: Floats
    integral: float
    error: float
    cutoff: float


def current_integral(
    dipoles: Sequence[Floats], frame_ps: float, diffusive_lag: int
) -> CurrentSpectrum | None:
    """Integral of the autocorrelation of d(dipole)/dt, e2 nm2/ps, averaged over x, y, z; None if too short.

    dipoles: one array (n_frames, 3), e nm, a replica, unwrapped; diffusive_lag: frames after which the ions
    diffuse. Trajectories are cut into equally long blocks, each a sample of the spectrum.
    """
    from stacie import ExpPolyModel, compute_spectrum, estimate_acint  # with all of matplotlib: late

    shortest = min(len(dipole) for dipole in dipoles) - 1
    if shortest < MIN_STEPS:
        return None
    blocks = max(1, shortest // max(BLOCK_STEPS, BLOCK_LAGS * diffusive_lag))
    steps = shortest // blocks
    currents = np.concatenate([np.diff(dipole, axis=0)[: blocks * steps] / frame_ps for dipole in dipoles])
    sequences = currents.reshape(-1, steps, 3).transpose(0, 2, 1).reshape(-1, steps)
    spectrum = compute_spectrum(sequences, prefactors=1.0, timestep=frame_ps, include_zero_freq=False)
    result = estimate_acint(spectrum, ExpPolyModel([0, 2]), neff_max=MAX_POINTS, fcut_spacing=CUTOFF_SPACING)
    return CurrentSpectrum(
        spectrum.freqs, spectrum.amplitudes, float(result.acint), float(result.acint_std), float(result.fcut)
    )
