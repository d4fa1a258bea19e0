"""One-line formulations: "1.0 M LiPF6 in EC:DMC 1:1 w/w + 2 wt% VC at 298.15 K" to the fields of a recipe.

line      = [terms "in"] solvents {"+" term} ["at" number ("K" | "C")]     or  counts
term      = number unit species
solvents  = species | term | species ":" species ... number ":" number ... ratio-unit
counts    = species "=" number {"," species "=" number}
"""

import re

from phyff.errors import InputError
from phyff.formulation.amounts import split_number, unit_from
from phyff.species import library
from phyff.species.molecule import Molecule

CELSIUS_ZERO = 273.15

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TEMPERATURE = re.compile(rf"^(?P<rest>.*?)\s+(?:at|@)\s+(?P<value>{_NUMBER})\s*(?P<unit>K|°?C)$")
_COUNTS_TAIL = re.compile(rf"=\s*({_NUMBER}|nan)\s*(?:[,;].*)?$", re.IGNORECASE)
_COUNT = re.compile(rf"(?P<species>.+?)\s*=\s*(?P<number>{_NUMBER}|nan)\s*(?:[,;]\s*|$)", re.IGNORECASE)
_RATIO = re.compile(
    rf"^(?P<names>.+?)[\s(,]+(?P<ratio>{_NUMBER}(?:\s*[:/]\s*{_NUMBER})+)[\s,]*(?P<unit>[^\d:]*?)\)?$",
    re.DOTALL,
)


def parse_one_line(text: str) -> dict:
    """Fields of a recipe (see recipe.Recipe) with the text as name; raises InputError."""
    text = " ".join(text.split())
    if not text:
        raise InputError(
            "composition: the formulation is empty; write one like '1.0 M LiPF6 in EC:DMC 1:1 w/w'."
        )
    fields: dict = {"name": text}
    match = _TEMPERATURE.match(text)
    if match:
        text = match["rest"]
        fields["temperature_K"] = float(match["value"]) + (0.0 if match["unit"] == "K" else CELSIUS_ZERO)
    elif unread := re.search(r"\s(?:at|@)\s+(.*)$", text):
        raise InputError(
            f"temperature_K: {unread[1]!r} is no temperature; write one like 'at 298.15 K' or 'at 25 C'."
        )
    if _COUNTS_TAIL.search(text) and not _is_species(text):
        return fields | {"counts": _counts(text)}
    parts = re.split(r"\s+in(?:\s+|$)", text)
    if len(parts) > 2:
        raise InputError(f"composition: {text!r} has more than one ' in '; write salts in solvents once.")
    if len(parts) == 2:
        fields["salts"] = [_term(term, "salts") for term in _split_plus(parts[0])]
    solvents, *additives = _split_plus(parts[-1])
    fields["solvents"] = _solvents(solvents, salts_given=len(parts) == 2)
    fields["additives"] = [_term(term, "additives") for term in additives]
    return {key: value for key, value in fields.items() if value}


def _counts(text: str) -> list[dict]:
    entries, end = [], 0
    while end < len(text):
        match = _COUNT.match(text, end)
        if match is None:
            raise InputError(f"counts: cannot read {text[end:]!r}; write 'EC=30, DMC=40, LiPF6=6'.")
        entries.append({"name": match["species"].strip(), "amount": match["number"]})
        end = match.end()
    return entries


def _split_plus(text: str) -> list[str]:
    """Pieces between plus signs that stand between blanks or before a number, outside a SMILES' brackets."""
    pieces, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        between_blanks = not text[:i].rstrip() or text[i - 1 : i + 2].rstrip() in (" +",)
        if character == "+" and depth == 0 and (between_blanks or re.match(r"\+\s*\d", text[i:])):
            pieces.append(text[start:i].strip())
            start = i + 1
    return [*pieces, text[start:].strip()]


def _term(text: str, field: str) -> dict:
    """An entry from "1.0 M LiPF6"."""
    if not text:
        raise InputError(f"{field}: nothing stands beside a '+' or 'in'; write each part like '2 wt% VC'.")
    number, rest = split_number(text)
    if number is None or _is_species(text):
        raise InputError(f"{field}: {text!r} has no amount; write it like '1.0 M {text}' or '2 wt% {text}'.")
    if re.match(r",\d+(\s|$)", rest):
        raise InputError(f"{field}: {text!r} has a decimal comma; write decimals with a point.")
    amount, species = _split_unit(text, rest)
    if not species:
        raise InputError(
            f"{field}: {text!r} lacks a unit or a species; write it like '1.0 M LiPF6' or '2 wt% VC'."
        )
    return {"name": species, "amount": amount}


def _split_unit(text: str, rest: str) -> tuple[str, str]:
    """("1.0 M", "LiPF6") from "1.0 M LiPF6"; an unknown unit is left in the amount, to be reported there."""
    number = text[: len(text) - len(rest)].strip() if rest else text
    words = rest.split()
    for n in (2, 1):
        if len(words) > n and unit_from(" ".join(words[:n])) is not None:
            return f"{number} {' '.join(words[:n])}", " ".join(words[n:])
    if len(words) == 1:
        return (number, words[0]) if unit_from(words[0]) is None else (f"{number} {words[0]}", "")
    return (f"{number} {words[0]}", " ".join(words[1:])) if words else (number, "")


def _solvents(text: str, salts_given: bool) -> list[dict]:
    if not text:
        raise InputError("solvents: no solvent is given; write one after 'in', such as '1.0 M LiPF6 in EC'.")
    if _starts_with_amount(text):
        term = _term(text, "solvents")
        if not salts_given and (_names_salt(term["name"]) or term["amount"].split()[-1] in ("M", "m")):
            raise InputError(
                f"solvents: {text!r} names no solvent; write one after 'in', such as '1 M LiPF6 in EC'."
            )
        return [term]
    match = _RATIO.match(text)
    if match is None:
        if len(_split_names(text)) > 1:
            raise InputError(
                f"solvents: {text!r} names several solvents without a ratio that can be read; write it like "
                "'EC:DMC 1:1 w/w'."
            )
        return [{"name": text}]
    names_text, unit = match["names"].strip(), match["unit"].strip(" ()")
    if not unit and unit_from(names_text.split()[-1].strip("(),")) is not None:
        names_text, unit = " ".join(names_text.split()[:-1]), names_text.split()[-1].strip("(),")
    names, ratio = _split_names(names_text), re.split(r"\s*[:/]\s*", match["ratio"])
    if len(names) != len(ratio):
        raise InputError(
            f"solvents: {len(names)} solvents ({', '.join(names)}) but {len(ratio)} numbers in the ratio "
            f"{match['ratio']!r}; give one number a solvent."
        )
    if not unit:
        raise InputError(
            f"solvents: the ratio {match['ratio']} has no unit; add w/w, v/v or mol, as in "
            f"'{text.strip()} w/w'."
        )
    return [{"name": name, "amount": f"{part} {unit}"} for name, part in zip(names, ratio, strict=True)]


def _starts_with_amount(text: str) -> bool:
    """Whether a number and a unit come first ("30 wt% EC"), rather than a name such as 2-MeTHF."""
    number, rest = split_number(text)
    words = rest.split()
    if number is None or not words or _is_species(text):
        return False
    return words[0] == "%" or any(unit_from(" ".join(words[:n])) is not None for n in (1, 2))


def _split_names(text: str) -> list[str]:
    """Solvents between colons outside brackets, or between slashes when every piece is a known name."""
    if _is_species(text):
        return [text]
    pieces = [piece.strip() for piece in re.split(r":(?![^\[]*\])", text)]
    slashed = [piece.strip() for piece in text.split("/")]
    if len(pieces) == 1 and len(slashed) > 1 and all(_is_species(piece) for piece in slashed):
        pieces = slashed
    if not all(pieces):
        raise InputError(
            f"solvents: {text!r} has an empty name beside a colon; write solvents like 'EC:DMC'."
        )
    return pieces


def _is_species(text: str) -> bool:
    """Whether the whole text is a known name or the SMILES of one molecule."""
    try:
        library.find(text)
    except InputError:
        return False
    return True


def _names_salt(text: str) -> bool:
    try:
        species = library.ions_of(text)
    except InputError:
        return False
    return any(Molecule.from_smiles(smiles).charge != 0 for _, smiles, _ in species)
