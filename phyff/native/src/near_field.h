// What bare cations feel of a molecule's electrons beside charges and spheres, as an OpenMM force.
#pragma once

#include <array>
#include <vector>

#include "openmm/CustomHbondForce.h"
#include "openmm/Force.h"

namespace phyff {

/// c1, c2, c1^2, c1 c2, c2^2 of the cosines c1, c2 of a direction.
constexpr int kDirections = 5;

/// An atom, and two others that its directions count from. Units: nm, kJ/mol, e.
struct NearFieldAtom {
    int atom, references[2];
    double exchange, exchange_exponent;        // amplitude and exponent, which a cation's are multiplied with
    double penetration, penetration_exponent;  // the same
    double exponent, constant;                 // of the potential
    std::array<double, kDirections> potential, shape;
};

struct NearFieldCation {
    int atom;
    double exchange, exchange_exponent, penetration, penetration_exponent, charge;
};

/// Stands in for the CustomHbondForce of phyff/openmm/near_field.py: same parameters, group and name.
class NearField : public OpenMM::Force {
  public:
    NearField(const OpenMM::CustomHbondForce& stock, double switch_start, double cutoff);
    const std::vector<NearFieldAtom>& atoms() const { return atoms_; }
    const std::vector<NearFieldCation>& cations() const { return cations_; }
    double switch_start() const { return switch_start_; }
    double cutoff() const { return cutoff_; }
    bool usesPeriodicBoundaryConditions() const override { return periodic_; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    std::vector<NearFieldAtom> atoms_;
    std::vector<NearFieldCation> cations_;
    double switch_start_, cutoff_;
    bool periodic_;
};

}  // namespace phyff
