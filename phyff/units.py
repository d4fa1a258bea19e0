"""Physical constants and the one door between atomic units (phyff/qm) and nm, kJ/mol, e, ps (all the rest).

Values: CODATA 2018.
"""

BOHR_NM = 0.0529177210903
BOHR_ANGSTROM = 0.529177210903
HARTREE_KJ = 2625.4996394799
KCAL_KJ = 4.184
AVOGADRO = 6.02214076e23
BOLTZMANN = 1.380649e-23
"""J/K."""
GAS_CONSTANT = 0.00831446261815324
"""kJ/mol/K."""
ELEMENTARY_CHARGE = 1.602176634e-19
"""C."""
COULOMB = 138.93545764498
"""kJ/mol nm e^-2: 1/(4 pi epsilon_0), the value OpenMM uses."""
DEBYE_E_NM = 0.020819433
"""e nm in one debye."""
AMU_NM3_TO_G_CM3 = 1.66053906660e-3
"""g/cm3 of one amu per nm3."""
