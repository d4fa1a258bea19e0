"""Names of species and salts."""

import re

import pytest

from phyff.errors import InputError
from phyff.species import Molecule
from phyff.species.library import SPECIES, find, ions_of, is_salt, known_names, known_salts, title


@pytest.mark.parametrize("species", SPECIES, ids=lambda species: species.name)
def test_every_known_species_is_found_by_name_title_alias_and_smiles(species):
    for text in (species.name, species.title.upper(), species.smiles, *species.aliases):
        assert find(text) == (species.name, species.smiles)
    assert find(Molecule.from_smiles(species.smiles).mapped_smiles)[0] == species.name


def test_names_are_unique_and_safe_as_file_names_even_without_case():
    names = [name.casefold() for name in known_names()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9+-]+", name) for name in known_names())


def test_a_name_wins_over_its_reading_as_smiles():
    assert find("PC") == ("PC", "CC1COC(=O)O1")
    assert find("pc") == find("PC")


def test_an_unknown_smiles_gets_a_stable_name_of_its_own():
    name, smiles = find("O(CC)CCC")
    assert (name, smiles) == find("CCCOCC")
    assert re.fullmatch(r"C5H12O-[0-9a-f]{6}", name)
    assert find("CCCCOC")[0] != name


@pytest.mark.parametrize("salt", known_salts())
def test_every_known_salt_is_neutral(salt):
    ions = ions_of(salt)
    assert is_salt(salt) and len(ions) == 2
    assert sum(Molecule.from_smiles(smiles).charge * count for _, smiles, count in ions) == 0


def test_salts_split_into_ions_by_name_or_dotted_smiles():
    lipf6 = (("Li+", "[Li+]", 1), ("PF6-", "F[P-](F)(F)(F)(F)F", 1))
    assert ions_of("LiPF6") == ions_of("lipf6") == ions_of("[Li+].F[P-](F)(F)(F)(F)F") == lipf6
    assert [(name, count) for name, _, count in ions_of("Mg(TFSI)2")] == [("Mg2+", 1), ("TFSI-", 2)]
    assert [(name, count) for name, _, count in ions_of("[Na+].[Na+].[O-]C(=O)C(=O)[O-]")][0] == ("Na+", 2)
    assert ions_of("EC") == (("EC", "O=C1OCCO1", 1),)
    for salt in "NaPF6 LiFSI LiTFSI LiBF4 LiClO4 LiBOB LiDFOB KPF6 KFSI NaFSI".split():
        assert is_salt(salt)


def test_titles_are_plain_names():
    assert title("ec") == "ethylene carbonate"
    assert title("C5H12O-abcdef") == "C5H12O-abcdef"


@pytest.mark.parametrize(
    ("text", "says"), [("LiPF6", "is a salt"), ("unobtainium", "neither a known name"), ("C.C", "mixture")]
)
def test_what_is_not_one_species_gets_one_clear_sentence(text, says):
    with pytest.raises(InputError, match=says):
        find(text)
