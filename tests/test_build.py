"""Library species are read, others are built once and kept; what is written runs in stock OpenMM."""

import subprocess
import sys

import numpy as np
import openmm
import pytest
from openmm import app
from standin_species import SHORT_RANGE, WATER
from typer.testing import CliRunner

import phyff
from phyff import builder, cli
from phyff.errors import InputError, StoreError
from phyff.formulation import Formulation
from phyff.qm.level import PHYFF_2026A

METHANE = "C"


@pytest.fixture
def built(monkeypatch) -> list[str]:
    """Names of the species that quantum chemistry was asked for; it answers with water under their name."""
    asked: list[str] = []

    def build_species(name, smiles, level, store, short_range, workers):
        asked.append(name)
        provenance = {"level_of_theory": level.to_dict()}
        return WATER.model_copy(update={"name": name, "smiles": smiles, "provenance": provenance})

    monkeypatch.setattr(builder, "build_species", build_species)
    return asked


def test_species_of_the_library_are_read_not_built(standin_library, built, tmp_path):
    forcefield = builder.build("water=90, Li+=2, Cl-=2", tmp_path / "out")
    assert [s.name for s in forcefield.species] == ["water", "Li+", "Cl-"]
    assert forcefield.short_range == SHORT_RANGE
    assert built == []
    assert not (tmp_path / "out").exists()


def test_a_species_is_built_once_and_read_the_second_time(standin_library, built, tmp_path):
    first = phyff.build(METHANE, tmp_path)
    again = phyff.build(METHANE, tmp_path)
    assert len(built) == 1
    assert (tmp_path / "species" / f"{built[0]}.json").is_file()
    assert first.species == again.species
    assert first.species[0].provenance["level_of_theory"] == PHYFF_2026A.to_dict()


def test_a_species_fitted_beside_another_short_range_model_is_fitted_again(standin_library, built, tmp_path):
    phyff.build(METHANE, tmp_path)
    other = SHORT_RANGE.model_copy(update={"damping": 2.0})
    (standin_library / "short_range.json").write_text(other.model_dump_json())
    phyff.build(METHANE, tmp_path)
    assert len(built) == 2


def test_without_a_folder_built_species_go_to_the_users_cache(standin_library, built, tmp_path):
    phyff.build(METHANE)
    assert (tmp_path / "cache" / "species" / f"{built[0]}.json").is_file()


def test_a_build_that_fails_leaves_no_species_file(standin_library, monkeypatch, tmp_path):
    def fail(*arguments):
        raise InputError("no")

    monkeypatch.setattr(builder, "build_species", fail)
    with pytest.raises(InputError):
        phyff.build(METHANE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_box_of_another_force_field_does_not_stay_beside_a_new_one(standin_library, tmp_path):
    for name in ("system.xml", "topology.pdb"):
        (tmp_path / name).write_text("of an electrolyte")
    called = CliRunner().invoke(cli.app, ["build", "water", "--out", str(tmp_path)])
    assert called.exit_code == 0 and "was of another force field, removed" in called.stderr
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["forcefield.json"]


def test_a_library_without_short_range_says_so(standin_library, tmp_path):
    (standin_library / "short_range.json").unlink()
    with pytest.raises(StoreError, match=r"short_range\.json is missing"):
        phyff.build("water", tmp_path)


@pytest.mark.parametrize("text", ["water", "O", "H2O", "PF6-", "[Li+]"])
def test_a_name_or_smiles_is_one_species(text):
    assert not isinstance(builder.read_source(text), Formulation)


@pytest.mark.parametrize("text", ["1 M LiPF6 in EC", "recipes/lp30.yaml", "EC:DMC 1:1 w/w"])
def test_a_recipe_or_line_is_a_formulation(text):
    assert isinstance(builder.read_source(text), Formulation)


def test_the_written_system_and_pdb_belong_together_and_run_without_phyff(standin_library, tmp_path):
    box = Formulation.parse("water=170, Li+=2, Cl-=2").box()
    forcefield = builder.build("water=170, Li+=2, Cl-=2")
    builder.write_system(forcefield, box, 0.8, tmp_path)
    system = openmm.XmlSerializer.deserialize((tmp_path / "system.xml").read_text())
    pdb = app.PDBFile(str(tmp_path / "topology.pdb"))
    assert pdb.topology.getNumAtoms() == system.getNumParticles() == 4 * 170 + 2 * 2 + 2 * 2
    assert sum(atom.element is not None for atom in pdb.topology.atoms()) == box.n_atoms
    context = openmm.Context(
        system, openmm.DrudeLangevinIntegrator(300, 5, 1, 20, 0.001), openmm.Platform.getPlatform("Reference")
    )
    context.setPositions(pdb.positions)
    assert np.isfinite(context.getState(energy=True).getPotentialEnergy()._value)


def test_importing_phyff_loads_no_heavy_package():
    code = (
        "import sys, phyff, phyff.cli; print([m for m in ('torch', 'openmm', 'pyscf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there():
    from phyff.openmm.forcefield import ForceField

    assert phyff.ForceField is ForceField
    assert phyff.Formulation is Formulation
    assert phyff.build is builder.build
    with pytest.raises(AttributeError, match="nothing"):
        _ = phyff.nothing
