"""What a property is: a value, its one-sigma error, its unit, and a verdict a reader can act on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONVERGED = "converged"
MORE_OF_THE_SAME = ("not converged: only ", "not converged: error ")
"""So begin verdicts on too few independent samples and on too large an error."""


@dataclass(frozen=True)
class Property:
    """One computed property.

    value and error are in `unit`, error is one standard deviation; NaN means that nothing could be computed.
    verdict is "converged" or "not converged: why (needs about X ns)". details says how the number came about
    (window, method, notes): plain numbers and strings, written beside the provenance.
    """

    value: float
    error: float
    unit: str
    verdict: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def converged(self) -> bool:
        """Whether the verdict is an unconditional yes."""
        return self.verdict == CONVERGED

    def to_json(self) -> dict[str, Any]:
        """The four stable fields; a value that could not be computed becomes null."""
        return {
            "value": _finite(self.value),
            "error": _finite(self.error),
            "unit": self.unit,
            "verdict": self.verdict,
        }


def not_converged(why: str, needed_ps: float | None = None) -> str:
    """The verdict for a property that needs more sampling; a run of needed_ps (ps) would do."""
    if needed_ps is None:
        return f"not converged: {why}"
    return f"not converged: {why} (needs about {duration(needed_ps)})"


def lacks_sampling(verdict: str) -> bool:
    """Whether a property is not converged for want of independent samples alone."""
    return verdict.startswith(MORE_OF_THE_SAME)


def too_short(unit: str, why: str, needed_ps: float | None = None) -> Property:
    """A property without a value, and the reason."""
    return Property(math.nan, math.nan, unit, not_converged(why, needed_ps))


def duration(time_ps: float) -> str:
    """A time in words, with as many digits as an estimate deserves: '0.08 ns', '8 ns', '120 ns'."""
    time_ns = time_ps / 1000.0
    if time_ns <= 0.0:
        return "0 ns"
    digits = 1 if time_ns < 10.0 else 2
    rounded = round(time_ns, digits - 1 - math.floor(math.log10(time_ns)))
    return f"{rounded:g} ns" if rounded < 1e5 else "more than 100 microseconds"


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
