"""Names of common electrolyte species and salts, and where the fitted species files live.

Names and aliases are case-insensitive and are looked up before a text is read as SMILES: "PC" is propylene
carbonate, not phosphinomethane.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from phyff.errors import InputError, StoreError
from phyff.species.molecule import Molecule

SHORT_RANGE_FILE, NEURAL_FILE = "short_range.json", "neural.safetensors"
"""Beside the species files: the short-range model they share, and the neural term that corrects it."""
TRIAL_FILE = "short_range_trial.json"
"""The short range fitted without the scans that judge it, for `phyff info` and benchmarks/physics.py."""


@dataclass(frozen=True)
class KnownSpecies:
    """A named molecule or ion; `name` is safe as a file name."""

    name: str
    smiles: str
    title: str
    """Plain chemical name."""
    aliases: tuple[str, ...] = ()


SPECIES: tuple[KnownSpecies, ...] = (
    # cyclic carbonates
    KnownSpecies("EC", "O=C1OCCO1", "ethylene carbonate"),
    KnownSpecies("PC", "CC1COC(=O)O1", "propylene carbonate"),
    KnownSpecies("BC", "CCC1COC(=O)O1", "1,2-butylene carbonate"),
    KnownSpecies("FEC", "O=C1OCC(F)O1", "fluoroethylene carbonate"),
    KnownSpecies("VC", "O=C1OC=CO1", "vinylene carbonate"),
    KnownSpecies("VEC", "C=CC1COC(=O)O1", "vinyl ethylene carbonate"),
    # linear carbonates
    KnownSpecies("DMC", "COC(=O)OC", "dimethyl carbonate"),
    KnownSpecies("EMC", "CCOC(=O)OC", "ethyl methyl carbonate"),
    KnownSpecies("DEC", "CCOC(=O)OCC", "diethyl carbonate"),
    KnownSpecies("FEMC", "COC(=O)OCC(F)(F)F", "methyl 2,2,2-trifluoroethyl carbonate"),
    # esters and lactones
    KnownSpecies("GBL", "O=C1CCCO1", "gamma-butyrolactone"),
    KnownSpecies("GVL", "CC1CCC(=O)O1", "gamma-valerolactone"),
    KnownSpecies("MF", "COC=O", "methyl formate"),
    KnownSpecies("MA", "COC(C)=O", "methyl acetate"),
    KnownSpecies("EA", "CCOC(C)=O", "ethyl acetate", ("EtOAc",)),
    KnownSpecies("MP", "CCC(=O)OC", "methyl propionate"),
    KnownSpecies("EP", "CCOC(=O)CC", "ethyl propionate"),
    # ethers
    KnownSpecies(
        "DME", "COCCOC", "1,2-dimethoxyethane", ("monoglyme", "G1", "glyme", "ethylene glycol dimethyl ether")
    ),
    KnownSpecies(
        "diglyme",
        "COCCOCCOC",
        "diethylene glycol dimethyl ether",
        ("G2", "DEGDME", "bis(2-methoxyethyl) ether"),
    ),
    KnownSpecies("triglyme", "COCCOCCOCCOC", "triethylene glycol dimethyl ether", ("G3", "TriEGDME")),
    KnownSpecies("tetraglyme", "COCCOCCOCCOCCOC", "tetraethylene glycol dimethyl ether", ("G4", "TEGDME")),
    KnownSpecies("DOL", "C1COCO1", "1,3-dioxolane"),
    KnownSpecies("dioxane", "C1COCCO1", "1,4-dioxane", ("1,4-DX",)),
    KnownSpecies("THF", "C1CCOC1", "tetrahydrofuran"),
    KnownSpecies("MeTHF", "CC1CCCO1", "2-methyltetrahydrofuran", ("2-MeTHF", "2MeTHF")),
    KnownSpecies(
        "TTE",
        "FC(F)C(F)(F)COC(F)(F)C(F)F",
        "1,1,2,2-tetrafluoroethyl 2,2,3,3-tetrafluoropropyl ether",
        ("HFE",),
    ),
    KnownSpecies("BTFE", "FC(F)(F)COCC(F)(F)F", "bis(2,2,2-trifluoroethyl) ether"),
    # nitriles, sulfur and phosphorus compounds, others
    KnownSpecies("AN", "CC#N", "acetonitrile", ("ACN", "MeCN")),
    KnownSpecies("SN", "N#CCCC#N", "succinonitrile"),
    KnownSpecies("ADN", "N#CCCCCC#N", "adiponitrile"),
    KnownSpecies(
        "sulfolane",
        "O=S1(=O)CCCC1",
        "tetrahydrothiophene 1,1-dioxide",
        ("SL", "TMS", "tetramethylene sulfone"),
    ),
    KnownSpecies("EMS", "CCS(=O)(=O)C", "ethyl methyl sulfone"),
    KnownSpecies("PS", "O=S1(=O)CCCO1", "1,3-propane sultone", ("propane sultone",)),
    KnownSpecies("DTD", "O=S1(=O)OCCO1", "ethylene sulfate", ("1,3,2-dioxathiolane 2,2-dioxide",)),
    KnownSpecies("ES", "O=S1OCCO1", "ethylene sulfite"),
    KnownSpecies("DMSO", "CS(C)=O", "dimethyl sulfoxide"),
    KnownSpecies("TMP", "COP(=O)(OC)OC", "trimethyl phosphate"),
    KnownSpecies("TEP", "CCOP(=O)(OCC)OCC", "triethyl phosphate"),
    KnownSpecies("DMF", "CN(C)C=O", "N,N-dimethylformamide"),
    KnownSpecies("NMP", "CN1CCCC1=O", "N-methyl-2-pyrrolidone"),
    KnownSpecies("water", "O", "water", ("H2O",)),
    # cations
    KnownSpecies("Li+", "[Li+]", "lithium ion", ("Li", "lithium")),
    KnownSpecies("Na+", "[Na+]", "sodium ion", ("Na", "sodium")),
    KnownSpecies("K+", "[K+]", "potassium ion", ("potassium",)),
    KnownSpecies("Mg2+", "[Mg+2]", "magnesium ion", ("Mg+2", "Mg++")),
    KnownSpecies("Ca2+", "[Ca+2]", "calcium ion", ("Ca+2", "Ca++")),
    KnownSpecies("Zn2+", "[Zn+2]", "zinc ion", ("Zn+2", "Zn++")),
    # anions
    KnownSpecies("PF6-", "F[P-](F)(F)(F)(F)F", "hexafluorophosphate", ("PF6",)),
    KnownSpecies("BF4-", "F[B-](F)(F)F", "tetrafluoroborate", ("BF4",)),
    KnownSpecies("ClO4-", "[O-]Cl(=O)(=O)=O", "perchlorate", ("ClO4",)),
    KnownSpecies("FSI-", "O=S(=O)(F)[N-]S(=O)(=O)F", "bis(fluorosulfonyl)imide", ("FSI",)),
    KnownSpecies(
        "TFSI-",
        "O=S(=O)([N-]S(=O)(=O)C(F)(F)F)C(F)(F)F",
        "bis(trifluoromethanesulfonyl)imide",
        ("TFSI", "NTf2", "NTf2-", "bistriflimide"),
    ),
    KnownSpecies(
        "FTFSI-",
        "O=S(=O)(F)[N-]S(=O)(=O)C(F)(F)F",
        "(fluorosulfonyl)(trifluoromethanesulfonyl)imide",
        ("FTFSI",),
    ),
    KnownSpecies(
        "BETI-",
        "O=S(=O)([N-]S(=O)(=O)C(F)(F)C(F)(F)F)C(F)(F)C(F)(F)F",
        "bis(pentafluoroethanesulfonyl)imide",
        ("BETI",),
    ),
    KnownSpecies("OTf-", "O=S(=O)([O-])C(F)(F)F", "triflate", ("OTf", "Tf-", "TfO-", "CF3SO3-")),
    KnownSpecies("BOB-", "O=C1O[B-]2(OC1=O)OC(=O)C(=O)O2", "bis(oxalato)borate", ("BOB",)),
    KnownSpecies("DFOB-", "O=C1O[B-](F)(F)OC1=O", "difluoro(oxalato)borate", ("DFOB", "ODFB", "ODFB-")),
    KnownSpecies("PO2F2-", "[O-]P(=O)(F)F", "difluorophosphate", ("DFP", "DFP-", "PO2F2")),
    KnownSpecies("NO3-", "[O-][N+](=O)[O-]", "nitrate", ("NO3",)),
    KnownSpecies("F-", "[F-]", "fluoride"),
    KnownSpecies("Cl-", "[Cl-]", "chloride"),
    KnownSpecies("Br-", "[Br-]", "bromide"),
)

_CATIONS = {
    "Li": ("Li+", 1),
    "Na": ("Na+", 1),
    "K": ("K+", 1),
    "Mg": ("Mg2+", 2),
    "Ca": ("Ca2+", 2),
    "Zn": ("Zn2+", 2),
}
"""Metal of a salt's name -> cation, charge."""
_ANIONS = {
    "PF6": "PF6-",
    "BF4": "BF4-",
    "ClO4": "ClO4-",
    "FSI": "FSI-",
    "TFSI": "TFSI-",
    "NTf2": "TFSI-",
    "FTFSI": "FTFSI-",
    "BETI": "BETI-",
    "OTf": "OTf-",
    "CF3SO3": "OTf-",
    "BOB": "BOB-",
    "DFOB": "DFOB-",
    "ODFB": "DFOB-",
    "PO2F2": "PO2F2-",
    "DFP": "PO2F2-",
    "NO3": "NO3-",
    "F": "F-",
    "Cl": "Cl-",
    "Br": "Br-",
}
"""Rest of a salt's name -> anion."""


def find(name_or_smiles: str) -> tuple[str, str]:
    """File-safe name and SMILES of one molecule or ion, given by a known name, an alias or a SMILES.

    A SMILES of a known species (drawn in any resonance form) gives its library name; an unknown one gets a
    name from its formula and structure, such as "C4H10O-1f0c2a". Raises InputError for salts, mixtures and
    text that is neither a known name nor a SMILES.
    """
    text = name_or_smiles.strip()
    known = _species_by_alias().get(text.casefold())
    if known is not None:
        return known.name, known.smiles
    if text.casefold() in _salts_by_name():
        raise InputError(f"{text!r} is a salt, not one species; give its ions or use it in a formulation.")
    try:
        molecule = Molecule.from_smiles(text)
    except InputError as error:
        if re.fullmatch(r"[A-Za-z0-9+ ,()'-]*", text) and "is not valid" in str(error):
            raise InputError(
                f"{text!r} is neither a known name nor a valid SMILES; "
                f"known names are {', '.join(known_names())}."
            ) from error
        raise
    known = _species_by_graph().get(molecule.graph_key)
    if known is not None:
        return known.name, known.smiles
    return _derived_name(molecule), molecule.smiles


def ions_of(name_or_smiles: str) -> tuple[tuple[str, str, int], ...]:
    """(name, smiles, count) of every species in one formula unit of a salt, molecule, ion or dotted SMILES.

    "LiPF6" gives Li+ and PF6-; "EC" gives itself once; "[Na+].[Na+].[O-]C(=O)C(=O)[O-]" gives sodium twice.
    The unit need not be neutral. Raises InputError as `find` does.
    """
    text = name_or_smiles.strip()
    salt = _salts_by_name().get(text.casefold())
    if salt is not None:
        return tuple((*find(ion), count) for ion, count in salt)
    if text.casefold() in _species_by_alias() or "." not in text:
        return ((*find(text), 1),)
    counts: dict[tuple[str, str], int] = {}
    for fragment in text.split("."):
        species = find(fragment)
        counts[species] = counts.get(species, 0) + 1
    return tuple((name, smiles, count) for (name, smiles), count in counts.items())


def is_salt(name: str) -> bool:
    """Whether the text is the name of a known salt."""
    return name.strip().casefold() in _salts_by_name()


def known_names() -> tuple[str, ...]:
    """Names of all known molecules and ions."""
    return tuple(species.name for species in SPECIES)


def known_salts() -> tuple[str, ...]:
    """Names of all known salts."""
    return tuple(sorted(_salt_ions()))


def title(name: str) -> str:
    """Plain chemical name of a known species, otherwise the name itself."""
    known = _species_by_alias().get(name.strip().casefold())
    return known.title if known else name


def library_directory() -> Path:
    """Directory of fitted species files: molecules/ of the repository, or the copy in the installed package.

    Raises StoreError when neither exists.
    """
    package = Path(__file__).resolve().parents[1]
    repository = package.parent
    if (repository / "pyproject.toml").is_file() and (repository / "molecules").is_dir():
        return repository / "molecules"
    if (package / "molecules").is_dir():
        return package / "molecules"
    raise StoreError(
        f"No species library at {repository / 'molecules'} or {package / 'molecules'}; reinstall phyff."
    )


def library_file(name: str) -> Path | None:
    """File of a fitted species by its file-safe name, or None when the library does not hold it."""
    path = library_directory() / f"{name}.json"
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _species_by_alias() -> dict[str, KnownSpecies]:
    table: dict[str, KnownSpecies] = {}
    for species in SPECIES:
        for alias in (species.name, species.title, *species.aliases):
            if table.setdefault(alias.casefold(), species) is not species:
                raise AssertionError(
                    f"alias {alias!r} names both {table[alias.casefold()].name} and {species.name}"
                )
    return table


@lru_cache(maxsize=1)
def _species_by_graph() -> dict[str, KnownSpecies]:
    return {Molecule.from_smiles(species.smiles).graph_key: species for species in SPECIES}


@lru_cache(maxsize=1)
def _salts_by_name() -> dict[str, tuple[tuple[str, int], ...]]:
    return {name.casefold(): ions for name, ions in _salt_ions().items()}


def _salt_ions() -> dict[str, tuple[tuple[str, int], ...]]:
    """Every cation with every (singly charged) anion: LiPF6, KFSI, Mg(TFSI)2, Zn(OTf)2, MgCl2 ..."""
    salts: dict[str, tuple[tuple[str, int], ...]] = {}
    for metal, (cation, charge) in _CATIONS.items():
        for stem, anion in _ANIONS.items():
            rest = stem if charge == 1 else f"({stem}){charge}" if len(stem) > 2 else f"{stem}{charge}"
            salts[f"{metal}{rest}"] = ((cation, 1), (anion, charge))
    return salts


def _derived_name(molecule: Molecule) -> str:
    sign = "" if not molecule.charge else f"{abs(molecule.charge)}{'+' if molecule.charge > 0 else '-'}"
    return f"{molecule.formula}{sign}-{sha256(molecule.graph_key.encode()).hexdigest()[:6]}"
