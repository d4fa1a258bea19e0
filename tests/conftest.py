"""A species library of stand-ins in place of molecules/."""

from pathlib import Path

import pytest
import standin_species

from phyff.species import library


@pytest.fixture
def standin_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of water, Li+, Cl- and a short range that PhyFF takes for its library; its own cache too."""
    folder = tmp_path / "library"
    folder.mkdir()
    for species in standin_species.ALL.values():
        species.save(folder / f"{species.name}.json")
    (folder / "short_range.json").write_text(standin_species.SHORT_RANGE.model_dump_json())
    monkeypatch.setattr(library, "library_directory", lambda: folder)
    monkeypatch.setenv("PHYFF_STORE", str(tmp_path / "cache"))
    return folder
