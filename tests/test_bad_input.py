"""Bad recipes, SMILES and one-liners end with one clear sentence that names the field and the fix."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phyff.errors import InputError
from phyff.formulation import Formulation

ONE_LINERS = {
    "empty": ("", "composition", "write one like"),
    "blank": ("   ", "composition", "write one like"),
    "unknown solvent": ("DMX", "solvents", "DMC"),
    "unknown salt": ("1 M LiPF7 in EC", "salts", "did you mean LiPF6"),
    "ring left open": ("C1CC", "solvents", "ring numbers"),
    "bracket left open": ("1 M [Li+.F[P-](F)(F)(F)(F)F in EC", "salts", "check brackets"),
    "valence of five": ("CC(C)(C)(C)C", "solvents", "valences"),
    "radical": ("[CH3]", "solvents", "add the missing hydrogens"),
    "unsupported element": ("C[Sn](C)(C)C", "solvents", "supported are"),
    "salt not neutral": ("1 M [Mg+2].F[P-](F)(F)(F)(F)F in EC", "salts", "repeat ions"),
    "lone ion as salt": ("1 M Li+ in EC", "salts", "give a neutral salt"),
    "salt without solvent": ("1 M LiPF6", "solvents", "after 'in'"),
    "salt alone": ("LiPF6", "solvents", "list salts under salts"),
    "ion alone": ("PF6-", "solvents", "give a neutral salt"),
    "only counted ions": ("Li+=10, PF6-=10", "solvents", "add one"),
    "charged counts": ("EC=30, Li+=2, PF6-=1", "counts", "until the box is neutral"),
    "fractional count": ("EC=30.5", "counts", "whole molecules"),
    "unreadable counts": ("EC, DMC=30 40, LiPF6=6", "counts", "check the spelling"),
    "salt without amount": ("LiPF6 in EC", "salts", "no amount"),
    "salt without unit": ("1.0 LiPF6 in EC", "salts", "no unit"),
    "unknown unit": ("1 molal/L LiPF6 in EC", "salts", "did you mean"),
    "bare percent": ("EC + 2 % VC", "additives", "write wt%"),
    "decimal comma": ("1,0 M LiPF6 in EC", "salts", "point"),
    "negative molarity": ("-1 M LiPF6 in EC", "salts", "positive"),
    "zero molarity": ("0 M LiPF6 in EC", "salts", "leave the component out"),
    "not a number": ("nan M LiPF6 in EC", "salts", "positive number"),
    "infinite": ("inf M LiPF6 in EC", "salts", "positive number"),
    "more than the whole": ("EC + 120 wt% VC", "additives", "smaller share"),
    "no room for the solvent": ("1000 M LiPF6 in EC", "salts", "lower these amounts"),
    "additives beyond the whole": ("EC + 60 wt% VC + 50 wt% FEC", "additives", "lower these amounts"),
    "ratio without unit": ("EC:DMC 1:1", "solvents", "add w/w"),
    "ratio of wrong length": ("EC:DMC:EMC 1:1 w/w", "solvents", "one number a solvent"),
    "ratio missing": ("EC:DMC", "solvents", "without a ratio"),
    "ratio with zero": ("EC:DMC 1:0 w/w", "solvents", "leave the component out"),
    "ratio with negative": ("EC:DMC 1:-1 w/w", "solvents", "positive"),
    "percentages off": ("EC:DMC 30:60 wt%", "solvents", "add up to 90"),
    "percentages off, of everything": ("50 wt% EC + 60 wt% DMC", "solvents", "add up to 110"),
    "millimolar": ("1 mM LiPF6 in EC", "salts", "write '0.001 M'"),
    "molarity of solvents": ("EC:DMC 1:1 M", "solvents", "use w/w"),
    "same solvent twice": ("EC:O=C1OCCO1 1:1 w/w", "solvents", "given twice"),
    "same salt twice": ("1 M LiPF6 + 1 M [Li+].F[P-](F)(F)(F)(F)F in EC", "salts", "given twice"),
    "additive is the solvent": ("EC + 2 wt% EC", "additives", "given twice"),
    "salt as solvent": ("EC:LiPF6 1:1 w/w", "solvents", "list salts under salts"),
    "solvent as salt": ("1 M EC in DMC", "salts", "list it under solvents"),
    "mixture as solvent": ("CCO.O", "solvents", "one by one"),
    "volume share of a salt": ("EC + 2 vol% LiPF6", "additives", "use wt%"),
    "in left out": ("1 M LiPF6 EC", "solvents", "after 'in'"),
    "ratio with a letter": ("EC:DMC 1:x w/w", "solvents", "EC:DMC 1:1 w/w"),
    "words": ("some electrolyte please", "solvents", "check the spelling"),
    "two ins": ("1 M LiPF6 in EC in DMC", "composition", "once"),
    "nothing after plus": ("EC + ", "additives", "2 wt% VC"),
    "additive without amount": ("EC + 1,2-dimethoxyethane", "additives", "has no amount"),
    "nothing after in": ("1 M LiPF6 in ", "solvents", "after 'in'"),
    "empty name": ("EC:: 1:1 w/w", "solvents", "empty name"),
    "too cold": ("EC at 25 K", "temperature_K", "Celsius"),
    "temperature without unit": ("1 M LiPF6 in EC at 25", "temperature_K", "at 25 C"),
    "temperature in words": ("1 M LiPF6 in EC at room temperature", "temperature_K", "at 25 C"),
    "file missing": ("recipes/no-such-recipe.yaml", "recipe", "does not exist"),
    "folder": ("recipes/", "recipe", "name a recipe file"),
}  # fmt: skip
"""Case -> text, field that the sentence starts with, part of the fix."""

RECIPES = {
    "empty file": ("", "recipe", "give at least solvents"),
    "only a comment": ("# nothing yet\n", "recipe", "give at least solvents"),
    "no species": ("name: x\n", "recipe", "give at least solvents"),
    "no solvent": ("salts: {LiPF6: 1 M}\n", "solvents", "add one"),
    "bad yaml": ("solvents: {EC: 1 w/w\nsalts: ]\n", "recipe", "put SMILES in quotes"),
    "tab": ("solvents:\n\tEC: 1 w/w\n", "recipe", "indentation"),
    "list instead of fields": ("- EC\n- DMC\n", "recipe", "write lines like"),
    "misspelt key": ("solvnets: {EC: 1 w/w}\n", "recipe", "did you mean 'solvents'"),
    "misspelt temperature": ("solvents: EC\ntemperature: 300\n", "recipe", "did you mean 'temperature_K'"),
    "misspelt entry key": ("solvents: [{name: EC, smile: O=C1OCCO1}]\n", "recipe", "did you mean 'smiles'"),
    "unrelated key": ("solvents: EC\nzzz: 3\n", "recipe", "valid keys are"),
    "key twice": ("solvents: EC\nsolvents: DMC\n", "recipe", "keep one"),
    "solvent twice": ("solvents: {EC: 1 w/w, EC: 2 w/w}\n", "recipe", "keep one"),
    "temperature as text": ("solvents: EC\ntemperature_K: warm\n", "temperature_K", "in kelvin"),
    "temperature in Celsius": ("solvents: EC\ntemperature_K: 25\n", "temperature_K", "add 273.15"),
    "temperature nan": ("solvents: EC\ntemperature_K: .nan\n", "temperature_K", "in kelvin"),
    "temperature too high": ("solvents: EC\ntemperature_K: 5000\n", "temperature_K", "in kelvin"),
    "temperature given twice": ("composition: EC at 300 K\ntemperature_K: 310\n", "recipe", "keep one"),
    "negative pressure": ("solvents: EC\npressure_bar: -1\n", "pressure_bar", "in bar"),
    "atoms as text": ("solvents: EC\natoms: many\n", "atoms", "whole number"),
    "atoms negative": ("solvents: EC\natoms: -5\n", "atoms", "such as 2000"),
    "atoms fractional": ("solvents: EC\natoms: 10.5\n", "atoms", "whole number"),
    "atoms and edge": ("solvents: EC\natoms: 1000\nbox_nm: 3.0\n", "box_nm", "keep one"),
    "edge absurd": ("solvents: EC\nbox_nm: 3000\n", "box_nm", "in nm"),
    "box below the cut-off": ("solvents: EC\natoms: 100\n", "atoms", "cut-off"),
    "edge below the cut-off": ("solvents: EC\nbox_nm: 1.1\n", "box_nm", "cut-off"),
    "counts below the cut-off": ("counts: {EC: 5}\n", "counts", "cut-off"),
    "additive does not fit once": (
        "composition: EC + 0.01 wt% VC\natoms: 1000\n", "atoms", "take a larger preset"),
    "amount missing": ("solvents: {EC: 1 w/w, DMC: }\n", "solvents", "add one"),
    "amount without unit": ("solvents: EC\nsalts: {LiPF6: 1.0}\n", "salts", "no unit"),
    "amount as list": ("solvents: EC\nsalts: {LiPF6: [1, M]}\n", "salts", "such as"),
    "amount true": ("counts: {EC: yes}\n", "counts", "such as"),
    "mixed solvent units": ("solvents: {EC: 1 w/w, DMC: 1 v/v}\n", "solvents", "one unit"),
    "salt in parts": ("solvents: {EC: 1 w/w}\nsalts: {LiPF6: 1 mol}\n", "salts", "use M"),
    "counts beside solvents": ("solvents: EC\ncounts: {EC: 100}\n", "recipe", "keep one"),
    "counts beside atoms": ("counts: {EC: 100}\natoms: 1000\n", "atoms", "keep one"),
    "name of another species": (
        "solvents: {EC: {smiles: COC(=O)OC, amount: 1 w/w}}\n", "solvents", "choose another name"),
    "blank name": ("name: ' '\nsolvents: EC\n", "name", "leave the key out"),
    "numeric component name": ("solvents: {12: 1 w/w}\n", "recipe", "quotes"),
    "entry without species": ("solvents: [{amount: 1 w/w}]\n", "solvents", "give one"),
    "solvents as number": ("solvents: 5\n", "solvents", "species with amounts"),
    "charged solvent": ("solvents: {'[Cl-]': 1 w/w}\n", "solvents", "neutral salt"),
}  # fmt: skip
"""Case -> YAML text, field that the sentence starts with, part of the fix."""


def assert_one_sentence(message: str, field: str, fix: str | None) -> None:
    assert re.match(rf"{field}\b", message), message
    assert "\n" not in message
    assert message.endswith((".", "?")), message
    assert not re.search(r"[.?!] [A-Z]", message), message
    assert fix is None or fix in message, message


@pytest.fixture
def as_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(("text", "field", "fix"), ONE_LINERS.values(), ids=ONE_LINERS)
def test_a_bad_one_liner_is_refused_in_one_sentence(text, field, fix):
    with pytest.raises(InputError) as caught:
        Formulation.parse(text).box()
    assert_one_sentence(str(caught.value), field, fix)


@pytest.mark.parametrize(("text", "field", "fix"), RECIPES.values(), ids=RECIPES)
def test_a_bad_recipe_is_refused_in_one_sentence(as_file, text, field, fix):
    with pytest.raises(InputError) as caught:
        Formulation.parse(as_file(text)).box()
    assert_one_sentence(str(caught.value), field, fix)


def test_a_recipe_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        Formulation.parse(path)


def test_an_unknown_molar_volume_key_is_refused():
    with pytest.raises(InputError, match="molar_volumes: 'DMC' is not in the formulation"):
        Formulation.parse("EC").box(molar_volumes={"DMC": 84.0})


def test_a_negative_molar_volume_of_a_solvent_is_refused():
    with pytest.raises(InputError, match="molar_volumes.EC"):
        Formulation.parse("EC").box(molar_volumes={"EC": -1.0})


COMMAND_LINE_CASES = {
    f"{command}: {case}": (command, kind, *rest)
    for command in ("build", "run")
    for kind, cases in (("text", ONE_LINERS), ("file", RECIPES))
    for case, rest in cases.items()
    if (command, case) != ("build", "ion alone")
}
"""build takes the SMILES of a lone ion, so that one case is no error there."""


@pytest.mark.parametrize(
    ("command", "kind", "text", "field", "fix"), COMMAND_LINE_CASES.values(), ids=COMMAND_LINE_CASES
)
def test_the_command_line_refuses_bad_input_with_exit_code_2(
    as_file, tmp_path, command, kind, text, field, fix
):
    from phyff.cli import app

    source = str(as_file(text)) if kind == "file" else text
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [command, "--out", str(out), "--", source])
    message = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert re.search(rf"\b{field}\b", message), message
    assert message.endswith((".", "?")), message
    assert fix is None or fix in message, message
    assert "Traceback" not in result.output
    assert not out.exists() or not any(out.iterdir())
