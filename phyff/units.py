"""Physical constants and the one door between atomic units (phyff/qm) and nm, kJ/mol, e, ps (all the rest).

Values: CODATA 2018.
"""

import math

BOHR_NM = 0.0529177210903
BOHR_ANGSTROM = 0.529177210903
ANGSTROM_NM = 0.1
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
INVERSE_PS_CM = 1.0 / (2.0 * math.pi * 0.0299792458)
"""cm^-1 of an angular frequency of 1/ps."""
