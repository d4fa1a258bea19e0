"""Formulations: every way to give an amount ends in the right whole numbers of molecules and ions."""

import json
from pathlib import Path

import pytest
import yaml

from phyff.errors import InputError
from phyff.formulation import Box, Formulation, estimated_molar_volume
from phyff.species.molecule import Molecule

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
LP30 = "1.0 M LiPF6 in EC:DMC 1:1 w/w"
LIPF6 = "[Li+].F[P-](F)(F)(F)(F)F"


def counts(box: Box) -> dict[str, int]:
    return {name: count for name, _, count in box.counts}


def row(box: Box, name: str):
    return next(row for row in box.rows if row.name == name)


def charge(box: Box) -> int:
    return sum(count * Molecule.from_smiles(smiles).charge for _, smiles, count in box.counts)


def test_one_line_with_molarity_and_mass_ratio_reproduces_both():
    box = Formulation.parse(LP30).box(2000)
    assert row(box, "LiPF6").molarity == pytest.approx(1.0, rel=0.01)
    assert row(box, "EC").mass_fraction == pytest.approx(row(box, "DMC").mass_fraction, rel=0.01)
    assert abs(box.n_atoms - 2000) <= 100
    assert 1.15 < box.density < 1.40


def test_molarity_is_consistent_with_the_density_of_the_same_box():
    box = Formulation.parse(LP30).box(20_000)
    litres = (box.edge_nm * 1e-8) ** 3
    assert row(box, "LiPF6").count / 6.02214076e23 / litres == pytest.approx(1.0, rel=0.005)


def test_given_molar_volumes_replace_the_estimates_and_the_notes_say_so():
    volumes = {"EC": 66.0, "DMC": 84.5, "LiPF6": 38.0}
    formulation = Formulation.parse(LP30)
    box = formulation.box(20_000, molar_volumes=volumes)
    n_ec, n_dmc, n_salt = (row(box, name).count for name in volumes)
    litres = (66.0 * n_ec + 84.5 * n_dmc + 38.0 * n_salt) / 1000.0
    assert n_salt / litres == pytest.approx(1.0, rel=0.005)
    assert any("given by the caller" in note for note in box.notes)
    assert not any("estimated" in note for note in box.notes)
    assert any("estimated" in note for note in formulation.box(2000).notes)


def test_volume_of_an_ion_can_be_given_by_its_name():
    formulation = Formulation.parse("1 M LiPF6 in EC")
    assert formulation.box(2000, {"PF6-": 200.0}).density < formulation.box(2000, {"PF6-": 20.0}).density


def test_additive_in_weight_percent_is_a_share_of_the_whole_solution():
    box = Formulation.parse("1.0 M LiPF6 in EC:DMC 1:1 w/w + 2 wt% VC").box(20_000)
    assert row(box, "VC").mass_fraction == pytest.approx(0.02, rel=0.02)
    assert row(box, "LiPF6").molarity == pytest.approx(1.0, rel=0.01)


def test_two_salts_share_one_lithium_species():
    box = Formulation.parse("0.5 M LiPF6 + 0.5 M LiFSI in EC:EMC 3:7 v/v").box(2000)
    found = counts(box)
    assert found["Li+"] == found["PF6-"] + found["FSI-"]
    assert [name for name, _, _ in box.counts] == ["EC", "EMC", "Li+", "PF6-", "FSI-"]
    assert charge(box) == 0


def test_volume_ratio_uses_pure_molar_volumes():
    box = Formulation.parse("EC:EMC 3:7 v/v").box(20_000, {"EC": 66.0, "EMC": 104.0})
    found = counts(box)
    assert found["EC"] * 66.0 / (found["EMC"] * 104.0) == pytest.approx(3 / 7, rel=0.005)


def test_molality_counts_moles_per_kilogram_of_solvent():
    box = Formulation.parse("1 m LiTFSI in DME").box(20_000)
    found = counts(box)
    assert found["Li+"] / (found["DME"] * 90.122e-3) == pytest.approx(1.0, rel=0.01)


def test_mole_fraction_of_salt_is_counted_in_formula_units():
    box = Formulation.parse("0.2 x LiTFSI in DME").box(5000)
    found = counts(box)
    assert found["Li+"] / (found["Li+"] + found["DME"]) == pytest.approx(0.2, rel=0.01)


def test_explicit_counts_are_kept():
    box = Formulation.parse("EC=60, DMC=80, LiPF6=12").box(999)
    assert counts(box) == {"EC": 60, "DMC": 80, "Li+": 12, "PF6-": 12}
    assert any("not used" in note for note in box.notes)


def test_explicit_counts_take_ions_and_smiles_with_equal_signs():
    box = Formulation.parse("O=C1OCCO1=90,Li+=6, PF6- = 6").box()
    assert counts(box) == {"EC": 90, "Li+": 6, "PF6-": 6}


def test_counts_may_name_their_unit():
    fields = {"counts": {"EC": 60, "DMC": "80", "Li+": "12 molecules", "PF6-": "12 formula units"}}
    assert counts(Formulation.parse(fields).box()) == {"EC": 60, "DMC": 80, "Li+": 12, "PF6-": 12}


@pytest.mark.parametrize("one, other", [("1 kg", "500 g"), ("1 L", "500 mL"), ("0.5 KG", "250 g")])
def test_kilograms_and_litres_are_a_thousand_grams_and_millilitres(one, other):
    first, second = Formulation.parse({"solvents": {"EC": one, "DMC": other}}).components
    assert first.amount.value == 2 * second.amount.value


def test_a_recipe_may_stand_in_one_line():
    assert counts(Formulation.parse("counts: {EC: 60}").box()) == {"EC": 60}
    assert Formulation.parse("solvents: {EC: 1 w/w, DMC: 1 w/w}\n").species == (
        Formulation.parse("EC:DMC 1:1 w/w").species
    )


def test_mole_parts_set_salt_and_solvent_together():
    fields = {"solvents": {"DME": "4 mol"}, "salts": {"LiFSI": "1 mol"}}
    found = counts(Formulation.parse(fields).box(3000))
    assert found["DME"] == 4 * found["Li+"]


def test_weight_percent_of_everything_may_make_the_whole():
    fields = {"solvents": {"EC": "44 wt%", "DMC": "44 wt%"}, "salts": {"LiPF6": "12 wt%"}}
    box = Formulation.parse(fields).box(10_000)
    assert row(box, "LiPF6").mass_fraction == pytest.approx(0.12, rel=0.02)


@pytest.mark.parametrize(
    "text", [LP30, LP30.replace("LiPF6", LIPF6), LP30.replace("EC", "O=C1OCCO1").replace("DMC", "COC(=O)OC"),
             "1M lipf6 in EC/DMC (1:1, w/w)", "1.0 mol/L LiPF6 in EC:DMC 50:50 wt",
             "1 M LiPF6 in EC:DMC w/w 1:1",
             "1 M LiPF6 in 50 wt% EC + 50 wt% DMC"],
)  # fmt: skip
def test_spellings_of_one_electrolyte_give_the_same_box(text):
    assert counts(Formulation.parse(text).box(2000)) == counts(Formulation.parse(LP30).box(2000))


@pytest.mark.parametrize("text", ["EC", "CCOC(C)=O", "1,2-dimethoxyethane", "2-MeTHF", "ethyl acetate"])
def test_a_pure_solvent_is_a_formulation(text):
    box = Formulation.parse(text).box(1000)
    assert len(box.counts) == 1
    assert box.n_atoms == pytest.approx(1000, rel=0.05)


def test_a_divalent_salt_splits_into_its_ions():
    found = counts(Formulation.parse("0.5 M Mg(TFSI)2 in diglyme").box(3000))
    assert found["TFSI-"] == 2 * found["Mg2+"]


def test_a_smiles_salt_of_any_stoichiometry_splits_into_its_ions():
    box = Formulation.parse("0.3 m [Na+].[Na+].[O-]C(=O)C(=O)[O-] in CCOC(C)=O").box(3000)
    sodium, oxalate = counts(box)["Na+"], box.counts[-1][2]
    assert sodium == 2 * oxalate
    assert charge(box) == 0


def test_temperature_can_follow_the_one_line_form():
    assert Formulation.parse("EC at 313.15 K").temperature_K == pytest.approx(313.15)
    assert Formulation.parse("EC at 40 C").temperature_K == pytest.approx(313.15)


def test_box_edge_in_nm_sets_the_size():
    box = Formulation.parse({"composition": LP30, "box_nm": 3.5}).box()
    assert box.edge_nm == pytest.approx(3.5, rel=0.03)


def test_recipe_size_is_used_and_an_argument_goes_before_it():
    formulation = Formulation.parse({"composition": LP30, "atoms": 1000})
    assert formulation.box().n_atoms == pytest.approx(1000, rel=0.05)
    assert formulation.box(3000).n_atoms == pytest.approx(3000, rel=0.05)


def test_a_rough_composition_of_a_small_box_is_told():
    box = Formulation.parse("1 M LiPF6 in EC:DMC 1:1 w/w + 1 wt% VC").box(800)
    assert any(note.startswith("VC:") and "larger box" in note for note in box.notes)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repository_is_read_and_fills_a_box(path):
    formulation = Formulation.parse(str(path))
    assert formulation.name == path.stem
    assert charge(formulation.box(2000)) == 0


@pytest.mark.parametrize(
    "source", [*RECIPES, LP30, "EC=60, DMC=80, Li+=12, PF6-=12", "EC:DMC:VC 49:49:2 mol%",
               {"solvents": [{"name": "mine", "smiles": "CCOCCOCC", "amount": "1 v/v"}], "atoms": 900}],
    ids=str,
)  # fmt: skip
def test_dictionary_form_reads_back_to_the_same_formulation(source):
    formulation = Formulation.parse(source)
    fields = json.loads(json.dumps(formulation.to_dict()))
    assert Formulation.parse(fields) == formulation
    assert Formulation.parse(yaml.safe_dump(fields)) == formulation


def test_box_report_is_plain_data():
    assert json.loads(json.dumps(Formulation.parse(LP30).box().to_dict()))["rows"][2]["requested"] == "1 M"


def test_a_recipe_without_a_name_takes_the_name_of_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("solvents: EC\n")
    assert Formulation.parse(path).name == "mine"


def test_species_are_listed_once_with_library_names():
    formulation = Formulation.parse("0.5 M LiPF6 + 0.5 M LiFSI in EC")
    assert [name for name, _ in formulation.species] == ["EC", "Li+", "PF6-", "FSI-"]


@pytest.mark.parametrize("smiles", ["O=C1OCCO1", "COC(=O)OC", "COCCOC", "F[P-](F)(F)(F)(F)F"])
def test_estimated_molar_volume_is_that_of_a_liquid(smiles):
    assert 30.0 < estimated_molar_volume(smiles) < 120.0


def test_cutoff_check_can_be_left_out():
    formulation = Formulation.parse("EC=2")
    with pytest.raises(InputError, match="cut-off"):
        formulation.box()
    assert formulation.box(cutoff_nm=None).n_atoms == 20
