"""An amount is a positive number with a unit; this file knows every unit and how people spell it."""

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches

from phyff.errors import InputError

UNITS = {
    "M": ("mol/L", "mol/l", "mol/dm3", "mol L-1", "mol l-1", "molar"),
    "m": ("mol/kg", "mol kg-1", "molal"),
    "wt%": ("w%", "mass%", "weight%", "% w/w", "%w/w", "% wt", "wt.%", "wt %", "wt-%"),
    "vol%": ("v%", "% v/v", "%v/v", "% vol", "vol.%", "vol %", "vol-%"),
    "mol%": ("% mol", "mole%", "mol.%", "mol %", "mol-%"),
    "x": ("mole fraction",),
    "w/w": ("wt", "weight", "mass", "w:w", "wt/wt", "g", "kg", "by weight", "by mass"),
    "v/v": ("vol", "volume", "v:v", "vol/vol", "mL", "ml", "L", "by volume"),
    "mol": ("mole", "moles", "molar ratio", "mol/mol", "mol:mol", "n/n", "x/x", "by mole", "by moles"),
    "count": ("molecules", "counts", "formula units"),
}
"""Unit -> other spellings. Case matters in M (mol per litre of solution) and m (mol per kg of solvent)."""

THOUSANDFOLD = ("kg", "L")
"""Spellings of parts that are a thousand of those in g or mL."""

RATIO_UNITS = ("w/w", "v/v", "mol")
"""Units of parts: only the ratio between components given in the same unit has a meaning."""
PERCENT_UNITS = {"wt%": 100.0, "vol%": 100.0, "mol%": 100.0, "x": 1.0}
"""Units of a share -> the whole."""

_SPELLINGS = {alias: unit for unit, aliases in UNITS.items() for alias in (unit, *aliases)}
_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)\b)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Amount:
    """A positive, finite number and one of UNITS."""

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:.6g} {self.unit}"


def unit_from(text: str) -> str | None:
    """The unit that a text spells, or None."""
    text = " ".join(text.split())
    if text in _SPELLINGS:
        return _SPELLINGS[text]
    return None if text in ("M", "m") else _SPELLINGS.get(text.lower()) if len(text) > 1 else None


def parse_amount(text: object, field: str) -> Amount:
    """Read "1.0 M" or "2 wt%"; raises InputError that names the field."""
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise InputError(
            f"{field}: amount {text!r} is not a number with a unit; write it like '1.0 M' or '2 wt%'."
        )
    number, rest = split_number(str(text))
    if number is None:
        raise InputError(
            f"{field}: amount {text!r} does not start with a number; write it like '1.0 M' or '2 wt%'."
        )
    scale = 1000.0 if rest in THOUSANDFOLD or rest.lower() in THOUSANDFOLD else 1.0
    return checked_amount(number * scale, _unit(rest, number, field), field)


def split_number(text: str) -> tuple[float | None, str]:
    """The number a text starts with and the rest of the text; None and the text when it starts with none."""
    match = _NUMBER.match(text)
    return (float(match[1]), text[match.end() :].strip()) if match else (None, text.strip())


def checked_amount(value: float, unit: str, field: str) -> Amount:
    """An amount in its allowed range; raises InputError that names the field."""
    if not math.isfinite(value):
        raise InputError(f"{field}: amount {value} is not a finite number; give a positive number.")
    if value == 0.0:
        raise InputError(f"{field}: amount is zero; leave the component out or give a positive amount.")
    if value < 0.0:
        raise InputError(f"{field}: amount {value:g} {unit} is negative; give a positive amount.")
    whole = PERCENT_UNITS.get(unit)
    if whole is not None and value > whole:
        raise InputError(
            f"{field}: amount {value:g} {unit} is more than the whole ({whole:g}); give a smaller share."
        )
    if unit == "count" and value != int(value):
        raise InputError(
            f"{field}: count {value:g} is not a whole number; give whole molecules or formula units."
        )
    return Amount(value, unit)


def _unit(text: str, number: float, field: str) -> str:
    if not text:
        raise InputError(
            f"{field}: amount {number:g} has no unit; add one, such as '{number:g} M', '{number:g} w/w' or "
            f"'{number:g} wt%'."
        )
    unit = unit_from(text)
    if unit is not None:
        return unit
    if text == "%":
        raise InputError(f"{field}: '{number:g} %' does not say of what; write wt%, vol% or mol%.")
    if text.startswith(","):
        raise InputError(f"{field}: amount '{number:g}{text}' has a comma; write decimals with a point.")
    if text == "mM":
        raise InputError(f"{field}: unit 'mM' is not known; write '{number / 1000:g} M'.")
    near = get_close_matches(text, _SPELLINGS, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"known units are {', '.join(UNITS)}."
    raise InputError(f"{field}: unit {text!r} is not known; {hint}")
