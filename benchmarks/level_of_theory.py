"""Which level of theory: candidates against published CCSD(T)/CBS interaction energies of dimers.

    python benchmarks/level_of_theory.py                     compute what is missing, then write the page
    python benchmarks/level_of_theory.py --report            only write level_of_theory.md
    python benchmarks/level_of_theory.py --focal-point       only recompute the reference energies made here

level_of_theory.json holds the dimers (rigid monomers, angstrom) and where each number is from;
level_of_theory_results.json what the candidates give for them, found by the hash of dimer and level, so that
nothing there is computed again. New results go to the record store first and a stopped run goes on. Every
energy is counterpoise corrected and made of the package's own parts (phyff.qm.scf: density fitting, dense
Fock build, VV10 once after the SCF); the project's level is phyff.qm.eda.decompose itself. D3 and D4 need
`pip install dftd3 dftd4`, but only where their numbers are not in the results yet.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import cc, df, dft, gto, mp, scf
from pyscf.data.elements import charge as nuclear_charge

from phyff.qm.dimers import decomposition_key, eda_job
from phyff.qm.eda import CONVERGENCE, NONLOCAL_GRID, heitler_london_density
from phyff.qm.executor import Job, run_jobs
from phyff.qm.level import PHYFF_2026A, LevelOfTheory
from phyff.qm.scf import (
    GRID_BLOCK,
    NEGLIGIBLE,
    DenseBasis,
    DenseRKS,
    _exchange_matrix,
    converge,
    coulomb_matrix,
    density_on_grid,
    nonlocal_grid,
    occupied_factor,
    vv10_energy,
)
from phyff.qm.store import RecordStore, record_key
from phyff.units import BOHR_ANGSTROM, HARTREE_KJ, KCAL_KJ

DATA = Path(__file__).with_suffix(".json")
RESULTS = Path(__file__).with_name("level_of_theory_results.json")
PAGE = Path(__file__).with_suffix(".md")

PROJECT = "wB97X-V"
BASES = ("def2-SVPD", "def2-TZVPD")
TRIPLE_ZETA_ATOMS = 7
TRIPLE_ZETA_ALSO = ("ethylammonium + Cl-",)
"""Dimers computed in the larger basis too: those of few atoms, and these; the others are too dear."""
VV10_DIMERS = ("water + water", "Cl- + water", "Li+ + water", "water + acetonitrile")
"""Small dimers on which VV10 inside the SCF is compared with VV10 after it."""
ALKALI = ("Li", "Na", "K")
COUNTERPOISE = (("first", "second"), ("first",), ("second",))
"""Sides with nuclei and electrons: the dimer, and each monomer in its basis."""
GROUPS = {
    "neutral": "neutral",
    "anion": "anion + neutral",
    "cation": "cation + neutral",
    "ion pair": "ion pair",
    "own": "Li+, reference made here",
}


@dataclass(frozen=True)
class Functional:
    """A candidate without its basis.

    Attributes:
        name: as in the tables.
        libxc: its semilocal and exact exchange part.
        grid_level: PySCF's; a meta-GGA needs the finer one.
        dispersion: "VV10", or models of the packages dftd3 and dftd4; the first is the main one.
    """

    name: str
    libxc: str
    grid_level: int
    dispersion: tuple[str, ...]


FUNCTIONALS = (
    Functional(PROJECT, "wb97x_v", PHYFF_2026A.grid_level, ("VV10",)),
    Functional("wB97M-V", "wb97m_v", 2, ("VV10",)),
    Functional("r2SCAN", "r2scan", 2, ("D4, no bare cation", "D4", "D3(BJ)")),
    Functional("PBE0", "pbe0", PHYFF_2026A.grid_level, ("D4, no bare cation", "D4", "D3(BJ)")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--report", action="store_true", help="write the page from the results there are")
    parser.add_argument("--focal-point", action="store_true", help="recompute the references made here")
    parser.add_argument("--store", type=Path, help="folder of the record store")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    dimers = load_dimers()
    if arguments.focal_point:
        for dimer in dimers:
            if dimer["set"] == "phyff":
                print(f"{dimer['name']}: {focal_point(dimer):.3f} kcal/mol")
        return
    jobs = [job for dimer in dimers for job in dimer_jobs(dimer)]
    jobs.sort(
        key=lambda job: job.spec.get("level", {}).get("basis") == BASES[1].lower()
    )  # the dear ones last
    results = Results.load()
    if not arguments.report:
        results.run(jobs, RecordStore(arguments.store), arguments.workers)
    PAGE.write_text(page(dimers, results))
    print(PAGE)


def load_dimers() -> list[dict[str, Any]]:
    """The dimers of level_of_theory.json, each with the source of its set; cheap ones first."""
    data = json.loads(DATA.read_text())
    dimers = [{**dimer, "source": data["sources"][dimer["set"]]} for dimer in data["dimers"]]
    return sorted(dimers, key=heavy_atoms)


def heavy_atoms(dimer: dict[str, Any]) -> int:
    return sum(element != "H" for monomer in dimer["monomers"] for element in monomer["elements"])


def level_of(functional: Functional, basis: str) -> LevelOfTheory:
    """The project's level with another functional or basis; the cations keep their polarization functions."""
    return replace(
        PHYFF_2026A, functional=functional.libxc, basis=basis.lower(), grid_level=functional.grid_level
    )


class Results:
    """Records by key: the committed ones, and those of this run."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = {row["key"]: row for row in rows}

    @classmethod
    def load(cls) -> "Results":
        return cls(json.loads(RESULTS.read_text()) if RESULTS.exists() else [])

    def get(self, job: Job) -> dict[str, Any] | None:
        row = self.rows.get(record_key(job.kind, job.spec))
        return None if row is None else row["record"]

    def run(self, jobs: Sequence[Job], store: RecordStore, workers: int) -> None:
        """Compute what is missing; what an interrupted run had finished is kept too."""
        missing = [job for job in jobs if self.get(job) is None]
        try:
            run_jobs(missing, store, workers=workers, label="level of theory")
        finally:
            for job in missing:
                record = store.get(job.kind, job.spec)
                if record is not None:
                    key = record_key(job.kind, job.spec)
                    self.rows[key] = {"key": key, "kind": job.kind, "name": job.name, "record": record}
            wanted = [record_key(job.kind, job.spec) for job in jobs]
            lines = [json.dumps(self.rows[key]) for key in wanted if key in self.rows]
            RESULTS.write_text("[\n" + ",\n".join(lines) + "\n]\n")


# What is computed


def dimer_jobs(dimer: dict[str, Any]) -> list[Job]:
    """Every job of one dimer."""
    jobs = []
    for basis in BASES:
        for functional in FUNCTIONALS:
            if basis == BASES[0] or in_larger_basis(dimer):
                jobs.append(energy_job_of(dimer, functional, basis))
    for functional in FUNCTIONALS:
        jobs += [dispersion_job_of(dimer, functional, m) for m in functional.dispersion if m != "VV10"]
    if dimer["name"] in VV10_DIMERS:
        jobs.append(Job("lot_vv10", sides(dimer), vv10_job, f"{dimer['name']}, VV10 inside the SCF"))
    return jobs


def in_larger_basis(dimer: dict[str, Any]) -> bool:
    atoms = sum(len(monomer["elements"]) for monomer in dimer["monomers"])
    return atoms <= TRIPLE_ZETA_ATOMS or dimer["name"] in TRIPLE_ZETA_ALSO


def sides(dimer: dict[str, Any]) -> dict[str, Any]:
    """The monomers as job specifications have them."""
    kept = ("elements", "charge", "xyz_angstrom")
    return {
        side: {name: monomer[name] for name in kept}
        for side, monomer in zip(("first", "second"), dimer["monomers"], strict=True)
    }


def energy_job_of(dimer: dict[str, Any], functional: Functional, basis: str) -> Job:
    level = level_of(functional, basis)
    function = project_job if functional.name == PROJECT else candidate_job
    spec = {**sides(dimer), "level": decomposition_key(level)}
    return Job("lot_energy", spec, function, f"{dimer['name']}, {functional.name}/{basis}")


def dispersion_job_of(dimer: dict[str, Any], functional: Functional, model: str) -> Job:
    spec = {**sides(dimer), "functional": functional.libxc, "model": model}
    return Job("lot_dispersion", spec, dispersion_job, f"{dimer['name']}, {functional.name}-{model}")


def project_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Interaction energy by the package's own decomposition, kJ/mol, and processor seconds."""
    start = time.process_time()
    return {"energy": eda_job(spec)["total"], "cpu_s": round(time.process_time() - start, 2)}


def candidate_job(spec: dict[str, Any]) -> dict[str, Any]:
    """Interaction energy of another functional, VV10 after the SCF where it has it, kJ/mol."""
    start = time.process_time()
    energy = interaction(spec) * HARTREE_KJ
    return {"energy": round(energy, 5), "cpu_s": round(time.process_time() - start, 2)}


def interaction(spec: dict[str, Any]) -> float:
    """Counterpoise-corrected interaction energy, hartree, along the same path as `decompose`."""
    key = spec["level"]
    functional, grid_level = key["functional"], key["grid_level"]
    dimer, first, second = (molecule(spec, key, real) for real in COUNTERPOISE)
    basis = DenseBasis.build(dimer, functional, key["auxbasis"], grid_level)
    own = []
    for side in ("first", "second"):
        mol = molecule({side: spec[side]}, key, (side,))
        alone = DenseBasis.build(mol, functional, key["auxbasis"], grid_level)
        own.append(converge(kohn_sham(mol, functional, alone)).make_rdm1())
    fields, start = [], 0
    for mol, dm in zip((first, second), own, strict=True):
        guess = np.zeros((mol.nao,) * 2)
        guess[start : start + len(dm), start : start + len(dm)] = dm
        fields.append(converge(kohn_sham(mol, functional, basis, CONVERGENCE), guess))
        start += len(dm)
    densities = [mf.make_rdm1() for mf in fields]
    product = heitler_london_density(dimer.intor_symmetric("int1e_ovlp"), densities)
    whole = converge(kohn_sham(dimer, functional, basis, CONVERGENCE), product)
    energy = whole.e_tot - sum(mf.e_tot for mf in fields)
    if not dft.libxc.is_nlc(functional):
        return float(energy)
    points, weights, orbitals = nonlocal_grid(dimer, NONLOCAL_GRID)
    b, c = dft.libxc.nlc_coeff(functional)[0][0]
    of_dimer, *of_monomers = (
        vv10_energy(points, weights, density_on_grid(orbitals, occupied_factor(dm)), b, c)
        for dm in (whole.make_rdm1(), *densities)
    )
    return float(energy + of_dimer - sum(of_monomers))


def molecule(spec: dict[str, Any], key: dict[str, Any], real: Sequence[str]) -> gto.Mole:
    """The dimer (or one monomer alone) with only `real` sides' nuclei and electrons, the rest ghosts."""
    present = [side for side in ("first", "second") if side in spec]
    atoms = [
        (("" if side in real else "ghost-") + element, xyz)
        for side in present
        for element, xyz in zip(spec[side]["elements"], spec[side]["xyz_angstrom"], strict=True)
    ]
    overrides = {element: basis for element, basis in key["basis_overrides"]}
    elements = {element for side in present for element in spec[side]["elements"]}
    basis = {prefix + e: overrides.get(e, key["basis"]) for e in elements for prefix in ("", "ghost-")}
    charge = sum(spec[side]["charge"] for side in real)
    return gto.M(atom=atoms, charge=charge, basis=basis, unit="angstrom", verbose=0)


def kohn_sham(
    mol: gto.Mole, functional: str, basis: DenseBasis, convergence: tuple[float, float] | None = None
) -> DenseRKS:
    """The package's Kohn-Sham, or its meta-GGA sister."""
    kind = DenseMetaRKS if dft.libxc.xc_type(functional) == "MGGA" else DenseRKS
    mf = kind(mol, functional, basis)
    if convergence is not None:
        mf.conv_tol, mf.conv_tol_grad = convergence
    return mf


class DenseMetaRKS(DenseRKS):
    """`DenseRKS` with the kinetic energy density."""

    def get_veff(
        self, mol: Any = None, dm: Any = None, dm_last: Any = None, vhf_last: Any = None, hermi: int = 1
    ) -> np.ndarray:
        dm = np.asarray(self.make_rdm1() if dm is None else dm)
        occupied = occupied_factor(dm)
        coulomb = coulomb_matrix(self.dense, dm)
        exc, potential = self._meta_exchange_correlation(occupied)
        if self.dense.exchange is not None:
            exchange = _exchange_matrix(self.dense.exchange, occupied)
            potential -= 0.5 * exchange
            exc -= 0.25 * float(np.vdot(exchange, dm))
        veff = coulomb + potential
        return dft.rks.lib.tag_array(veff, ecoul=0.5 * float(np.vdot(coulomb, dm)), exc=exc, vj=None, vk=None)

    def _meta_exchange_correlation(self, occupied: np.ndarray) -> tuple[float, np.ndarray]:
        orbitals, weights = self.dense.orbitals, self.grids.weights
        occupied = occupied.astype(orbitals.dtype)
        half = np.zeros((orbitals.shape[2],) * 2, dtype=orbitals.dtype)
        exc_total = 0.0
        for start in range(0, len(weights), GRID_BLOCK):
            block, weight = orbitals[:, start : start + GRID_BLOCK], weights[start : start + GRID_BLOCK]
            value, *slopes = (table @ occupied for table in block)
            rho = np.empty((5, len(weight)))
            rho[0] = np.einsum("gi,gi->g", value, value)
            rho[1:4] = [2.0 * np.einsum("gi,gi->g", value, slope) for slope in slopes]
            rho[4] = 0.5 * sum(np.einsum("gi,gi->g", slope, slope) for slope in slopes)
            exc, vxc = self._numint.eval_xc_eff(self.xc, rho, deriv=1, xctype="MGGA")[:2]
            exc_total += float(np.dot(weight * rho[0], exc))
            weighted = (weight * vxc).astype(orbitals.dtype)
            weighted[np.abs(weighted) < NEGLIGIBLE] = 0.0
            scaled = block[0] * (0.5 * weighted[0])[:, None]
            for table, factor in zip(block[1:], weighted[1:4], strict=True):
                scaled += table * factor[:, None]
                half += table.T @ (table * (0.25 * weighted[4])[:, None])
            half += block[0].T @ scaled
        return exc_total, (half + half.T).astype(float)


def dispersion_job(spec: dict[str, Any]) -> dict[str, Any]:
    """D3(BJ) or D4 (with its three-body term) part of the interaction energy, kJ/mol.

    Both give bare alkali cations the dispersion of something like the neutral atom (D4: C6 of Li+ 720 a.u.,
    right about 0.08), so "no bare cation" leaves them out, which is what their true C6 all but amounts to.
    """
    pair = [spec[side] for side in ("first", "second")]
    if spec["model"].endswith("no bare cation") and any(m["elements"][0] in ALKALI for m in pair):
        return {"energy": 0.0}
    energies = [
        _dispersion([m["elements"]], [m["xyz_angstrom"]], m["charge"], spec["functional"], spec["model"])
        for m in pair
    ]
    elements, xyz = [m["elements"] for m in pair], [m["xyz_angstrom"] for m in pair]
    whole = _dispersion(elements, xyz, sum(m["charge"] for m in pair), spec["functional"], spec["model"])
    return {"energy": round((whole - sum(energies)) * HARTREE_KJ, 5)}


def _dispersion(elements: Any, xyz: Any, charge: int, functional: str, model: str) -> float:
    numbers = np.array([nuclear_charge(e) for monomer in elements for e in monomer])
    positions = np.vstack([np.array(x) for x in xyz]) / BOHR_ANGSTROM
    if model == "D3(BJ)":
        from dftd3.interface import DispersionModel, RationalDampingParam

        found = DispersionModel(numbers, positions).get_dispersion(
            RationalDampingParam(method=functional), grad=False
        )
    else:
        from dftd4.interface import DampingParam
        from dftd4.interface import DispersionModel as D4Model

        found = D4Model(numbers, positions, charge=float(charge)).get_dispersion(
            DampingParam(method=functional), grad=False
        )
    return float(found["energy"])


def vv10_job(spec: dict[str, Any]) -> dict[str, Any]:
    """wB97X-V/def2-SVPD by plain PySCF with VV10 inside the SCF and after it, kJ/mol, on the same grids."""
    key = decomposition_key(level_of(FUNCTIONALS[0], BASES[0]))
    inside, after = [], []
    for real in COUNTERPOISE:
        sign = 1.0 if len(real) == 2 else -1.0
        mol = molecule(spec, key, real)
        for energies, in_scf in ((inside, True), (after, False)):
            mf = dft.RKS(mol, xc=key["functional"]).density_fit(auxbasis=key["auxbasis"])
            mf.grids.level, mf.nlc = key["grid_level"], "" if in_scf else 0
            mf.nlcgrids.atom_grid = {mol.atom_symbol(i): NONLOCAL_GRID for i in range(mol.natm)}
            mf.conv_tol = 1e-8
            energy = mf.kernel()
            if not in_scf:
                mf.nlcgrids.build()
                energy += mf._numint.nr_nlc_vxc(mol, mf.nlcgrids, mf.xc, mf.make_rdm1())[1]
            energies.append(sign * energy)
    return {name: round(float(sum(e)) * HARTREE_KJ, 4) for name, e in (("inside", inside), ("after", after))}


def focal_point(dimer: dict[str, Any]) -> float:
    """CCSD(T)/CBS estimate of a small dimer, kcal/mol, counterpoise corrected.

    HF/aug-cc-pVQZ + MP2 correlation extrapolated (X^-3) from aug-cc-pVTZ and aug-cc-pVQZ + (CCSD(T) - MP2) in
    aug-cc-pVDZ; 1s of C, N, O and F is frozen, that of Li correlated.
    """
    triple, quadruple = (_mp2_parts(dimer, f"aug-cc-pv{zeta}z") for zeta in "tq")
    correlation = (64.0 * quadruple[1] - 27.0 * triple[1]) / 37.0
    return float((quadruple[0] + correlation + _beyond_mp2(dimer, "aug-cc-pvdz")) * HARTREE_KJ / KCAL_KJ)


def _counterpoise(dimer: dict[str, Any], basis: str) -> list[tuple[float, gto.Mole, int]]:
    """Sign, molecule and frozen orbitals of the dimer and of each monomer in its basis."""
    spec, key = sides(dimer), {"basis": basis, "basis_overrides": []}
    found = []
    for real in COUNTERPOISE:
        frozen = sum(e not in ("H", "Li") for side in real for e in spec[side]["elements"])
        found.append((1.0 if len(real) == 2 else -1.0, molecule(spec, key, real), frozen))
    return found


def _mp2_parts(dimer: dict[str, Any], basis: str) -> tuple[float, float]:
    hartree_fock = correlation = 0.0
    for sign, mol, frozen in _counterpoise(dimer, basis):
        mf = scf.RHF(mol).density_fit(auxbasis=df.aug_etb(mol)).set(conv_tol=1e-9)
        hartree_fock += sign * mf.kernel()
        correlation += sign * mp.dfmp2.DFMP2(mf, frozen=frozen or None).kernel()[0]
    return hartree_fock, correlation


def _beyond_mp2(dimer: dict[str, Any], basis: str) -> float:
    total = 0.0
    for sign, mol, frozen in _counterpoise(dimer, basis):
        mf = scf.RHF(mol).set(conv_tol=1e-10).run()
        solved = cc.CCSD(mf, frozen=frozen or None).run()
        total += sign * (solved.e_corr + solved.ccsd_t() - solved.emp2)
    return total


# What is reported


@dataclass(frozen=True)
class Level:
    """A column of the tables: functional, basis and dispersion."""

    functional: Functional
    basis: str
    dispersion: str

    @property
    def name(self) -> str:
        added = "" if self.dispersion == "VV10" else f"-{self.dispersion.replace(', no bare cation', '*')}"
        return f"{self.functional.name}{added}/{self.basis.removeprefix('def2-')}"

    def energy(self, dimer: dict[str, Any], results: Results) -> float | None:
        """Interaction energy, kJ/mol; None where it was not computed."""
        found = results.get(energy_job_of(dimer, self.functional, self.basis))
        if found is None or self.dispersion == "VV10":
            return None if found is None else float(found["energy"])
        added = results.get(dispersion_job_of(dimer, self.functional, self.dispersion))
        return None if added is None else float(found["energy"] + added["energy"])

    def error(self, dimer: dict[str, Any], results: Results) -> float | None:
        energy = self.energy(dimer, results)
        return None if energy is None else energy - reference(dimer)


def reference(dimer: dict[str, Any]) -> float:
    """Published interaction energy, kJ/mol."""
    return float(dimer["reference_kcal_mol"]) * KCAL_KJ


def page(dimers: list[dict[str, Any]], results: Results) -> str:
    """level_of_theory.md."""
    main_levels = [Level(f, basis, f.dispersion[0]) for basis in BASES for f in FUNCTIONALS]
    variants = [Level(f, BASES[0], m) for f in FUNCTIONALS for m in f.dispersion]
    complete = [d for d in dimers if all(level.energy(d, results) is not None for level in variants)]
    both = [d for d in complete if all(level.energy(d, results) is not None for level in main_levels)]
    parts = [INTRODUCTION, CONCLUSION]
    parts += ["## Every dimer", EVERY_DIMER, dimer_table(dimers, main_levels, results)]
    parts += ["## Summary", SUMMARY, "In the smaller basis, other dispersion models too:"]
    parts += [summary_table(complete, variants, results)]
    parts += [f"The {len(both)} dimers computed in both bases:", summary_table(both, main_levels, results)]
    parts += ["## Cost", COST, cost_table(dimers, main_levels, results)]
    parts += ["## VV10 after or inside the SCF", VV10, vv10_table(dimers, results)]
    parts += ["## Sources", source_list(dimers)]
    return "\n\n".join(parts) + "\n"


def dimer_table(dimers: list[dict[str, Any]], levels: list[Level], results: Results) -> str:
    rows = []
    for group in GROUPS:
        for dimer in (d for d in dimers if d["group"] == group):
            errors = [level.error(dimer, results) for level in levels]
            cells = ["" if error is None else f"{error:+.2f}" for error in errors]
            rows.append([GROUPS[group], dimer["name"], dimer["set"], f"{reference(dimer):.2f}", *cells])
    return table(["group", "dimer", "set", "reference", *(level.name for level in levels)], rows)


def summary_table(dimers: list[dict[str, Any]], levels: list[Level], results: Results) -> str:
    """Of dimers that every one of the levels has."""
    groups = [group for group in GROUPS if any(d["group"] == group for d in dimers)]
    header = ["level"]
    for group in groups:
        header.append(f"{GROUPS[group]} ({sum(d['group'] == group for d in dimers)})")
    rows = []
    for level in levels:
        row = [level.name]
        for group in groups:
            members = [d for d in dimers if d["group"] == group]
            energies = np.array([level.energy(d, results) for d in members])
            row.append(statistics(energies, np.array([reference(d) for d in members])))
        rows.append(row)
    return table(header, rows)


def statistics(energies: np.ndarray, references: np.ndarray) -> str:
    errors = energies - references
    largest, percent = errors[np.abs(errors).argmax()], 100.0 * np.abs(errors / references).mean()
    return f"{errors.mean():+.2f} / {np.abs(errors).mean():.2f} / {largest:+.2f} ({percent:.1f} %)"


def cost_table(dimers: list[dict[str, Any]], levels: list[Level], results: Results) -> str:
    rows = []
    for level in levels:
        spent, base = [], []
        for dimer in dimers:
            found = results.get(energy_job_of(dimer, level.functional, level.basis))
            own = results.get(energy_job_of(dimer, FUNCTIONALS[0], BASES[0]))
            if found is not None and own is not None:
                spent.append(found["cpu_s"])
                base.append(own["cpu_s"])
        if spent:
            dearest = int(np.argmax(base))
            ratios = [f"{sum(spent) / sum(base):.1f}", f"{spent[dearest] / base[dearest]:.1f}"]
            seconds = [f"{np.median(spent):.1f}", f"{max(spent):.0f}"]
            rows.append([level.name, str(len(spent)), *seconds, *ratios])
    return table(["level", "dimers", "median s", "largest s", "ratio of sums", "ratio, dearest"], rows)


def vv10_table(dimers: list[dict[str, Any]], results: Results) -> str:
    rows = []
    for dimer in dimers:
        found = results.get(Job("lot_vv10", sides(dimer), vv10_job, ""))
        if found is not None:
            own = Level(FUNCTIONALS[0], BASES[0], "VV10").energy(dimer, results)
            assert own is not None
            inside, after = found["inside"], found["after"]
            rows.append([dimer["name"], f"{inside:.2f}", f"{after - inside:+.3f}", f"{own - inside:+.3f}"])
    return table(["dimer", "inside", "after - inside", "the package - inside"], rows)


def source_list(dimers: list[dict[str, Any]]) -> str:
    sources = {dimer["set"]: dimer["source"] for dimer in dimers}
    return "\n".join(f"- {name}: {s['paper']}; {s['method']}. {s['file']}." for name, s in sources.items())


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


INTRODUCTION = """# Level of theory

`python benchmarks/level_of_theory.py`: counterpoise-corrected interaction energies of rigid dimers at
candidate levels against published CCSD(T)/CBS numbers ([level_of_theory.json](level_of_theory.json),
sources at the end; no fit sees them). Errors are candidate minus reference in kJ/mol: negative binds too
strongly. wB97X-V/SVPD is the project's level phyff-2026a, computed by the package's own decomposition; its
VV10 and that of wB97M-V are evaluated once after the SCF. SVPD and TZVPD are def2-SVPD and def2-TZVPD; Li, Na
and K have def2-TZVPPD in both. Functionals without VV10 carry D4; `*` leaves bare alkali cations out of it,
since D4 gives Li+ a C6 of 720 a.u. (right: about 0.08). Grids: PySCF's level 1, for the meta-GGAs 2 (4 moves
them 0.006 kJ/mol at most on three small dimers). The four Li+ dimers of set `phyff` have no published
reference: theirs is made here (`--focal-point`), by a recipe that gives the published Li+ + water of CHB6
0.7 kJ/mol (0.5 %) too weak, so it judges to about 1 kJ/mol only."""
CONCLUSION = """## Conclusion (2026-11-21)

- **The functional stays.** wB97X-V has the smallest mean absolute error of the four in def2-SVPD for
  neutral dimers (0.5 kJ/mol) and for cations with neutrals (2.0), and is on a par with wB97M-V, at half its
  time, for anions with neutrals (0.9). The stacked dimer of 2-oxazolidinone, ethylene carbonate with NH for
  O, is within 2 %. r2SCAN-D4 binds Li+ too weakly and anions too strongly, PBE0-D4 both too strongly;
  leaving Li+ in D4, or D3 for D4, does not change that.
- **Organic ion pairs are its weak side.** Ethylammonium with Cl-, nitrate and perchlorate is 6 to 9 kJ/mol
  (1.3 to 1.8 %) too weak, and the larger basis mends a third of it in the one pair tried; wB97M-V shares
  that, while r2SCAN-D4 and PBE0-D4 are within 1.2 kJ/mol here (2 to 3 too strong in the larger basis). The
  pair of Li+ and F- is 2.9 kJ/mol (0.4 %) too weak. No published pair of Li+ with an electrolyte's anion
  was found.
- **Li+ and Na+ with donors are the basis set's weak side.** Water, benzene, formaldehyde and HCN bind 2 to
  5 kJ/mol (1.7 to 3.5 %) too strongly, which is all that a fit may miss (3 kJ/mol or 3 %). def2-TZVPD
  weakens every ion with a neutral tried by 0.4 to 2.8 kJ/mol (and strengthens both ion pairs): over Li+ and
  Na+ with water, formaldehyde, HCN and fluoromethane the mean absolute error goes from 3.0 to 1.8, while
  that of K+ and water goes from 0.4 to 2.1. It takes 2.3 times as long for 12 atoms; larger dimers were not
  tried. Part of it is the donors' dipoles (water 1.91 D and 1.87 D), so monomers and dimers would have to
  move to it together.
- So wB97X-V/def2-SVPD is supported for solvents and anions, and no other functional tried is better over
  all. wB97X-V/def2-TZVPD is better for what Li+ and Na+ do at contact and is worth its time in a next
  library; until then 2 to 3 % of such a binding energy is the level's own error. VV10 after the SCF is no
  issue (0.01 kJ/mol); evaluating it on the monomers' product adds 0.04 to 0.15 kJ/mol."""
EVERY_DIMER = "kJ/mol. Empty: not computed (time)."
SUMMARY = """Mean signed / mean absolute / largest error in kJ/mol, and the mean absolute error in percent of
the reference; in brackets how many dimers."""
COST = """Processor seconds a dimer (its monomers included) on one core of a shared 2-core AMD EPYC, all with
the same dense Fock build, and their ratio to the project's level: summed over the dimers of the row, and for
the dearest of them. Those of the larger basis have few atoms, where overheads hide most of what it costs."""
VV10 = """wB97X-V/SVPD, kJ/mol. Inside and after: plain PySCF on the package's grids, VV10 in every cycle or
once on the converged density. The package evaluates it on the product of the monomers' densities instead, so
that dispersion is a part of its own."""


if __name__ == "__main__":
    main()
