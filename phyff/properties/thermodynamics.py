"""Response functions from the fluctuations of volume and enthalpy at constant pressure and temperature.

Allen and Tildesley, Computer Simulation of Liquids, section 2.5: isothermal compressibility var(V) / (k T V),
thermal expansion cov(V, U + p V) / (k T^2 V); the kinetic energy is independent of V and drops out.
"""

from phyff.properties.density import MIN_INDEPENDENT, MIN_ROWS, Floats, SeriesMean, series_mean
from phyff.properties.result import CONVERGED, Property, not_converged, too_short
from phyff.properties.trajectory import NptSeries
from phyff.units import AVOGADRO, BOLTZMANN, GAS_CONSTANT

BAR_NM3_KJ_MOL = 1e5 * 1e-27 * AVOGADRO / 1000.0
"""kJ/mol in one bar nm3."""
TARGET_RELATIVE_ERROR = 0.15


def thermodynamics(
    series: NptSeries, mean: SeriesMean | None, temperature: float, pressure: float
) -> dict[str, Property]:
    """Compressibility (1/GPa) and thermal expansion (1/K) of the window that the density was taken from.

    temperature in K, pressure in bar. Empty when the series has no volumes; expansion also needs energies.
    """
    if series.volumes is None or mean is None:
        return {}
    volumes = series.volumes[mean.first :]
    thermal = BOLTZMANN * temperature * 1e27 * 1e-9  # GPa nm3
    kinds = {"compressibility": ("1/GPa", volumes, 1.0 / (thermal * float(volumes.mean())))}
    if series.potentials is not None:
        enthalpies = series.potentials[mean.first :] + BAR_NM3_KJ_MOL * pressure * volumes
        scale = 1.0 / (GAS_CONSTANT * temperature**2 * float(volumes.mean()))
        kinds["thermal_expansion"] = ("1/K", enthalpies, scale)
    length_ps = float(series.times[-1] - series.times[mean.first])
    return {
        name: _fluctuation(volumes, other, scale, unit, mean.independent, length_ps)
        for name, (unit, other, scale) in kinds.items()
    }


def _fluctuation(
    first: Floats, second: Floats, scale: float, unit: str, independent: float, length_ps: float
) -> Property:
    """scale x covariance of two series (n,), the bias of so many independent samples taken off."""
    if len(first) < MIN_ROWS or first.std() < 1e-9 * abs(first.mean()):
        return too_short(unit, "the volume does not fluctuate in npt.csv")
    product = series_mean((first - first.mean()) * (second - second.mean()), cut_start=False)
    unbiased = scale * independent / (independent - 1.0)
    value, error = product.mean * unbiased, product.error * unbiased
    details = {
        "independent_samples": independent,
        "method": "fluctuations at constant pressure in the window of the density",
    }
    relative = error / abs(value) if value else float("inf")
    needed = length_ps * min((relative / TARGET_RELATIVE_ERROR) ** 2, 1e4)
    if independent < MIN_INDEPENDENT:
        needed = max(needed, length_ps * MIN_INDEPENDENT / independent)
        verdict = not_converged(f"only {independent:.0f} independent samples", needed)
    elif relative > TARGET_RELATIVE_ERROR:
        wanted = f"wanted {100 * TARGET_RELATIVE_ERROR:.0f} %"
        verdict = not_converged(f"error {100 * min(relative, 99.0):.0f} %, {wanted}", needed)
    else:
        verdict = CONVERGED
    return Property(value, error, unit, verdict, details)
