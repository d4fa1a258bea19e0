// Pair forces of phyff, evaluated by compiled pair functions.
#pragma once

#include "openmm/CustomNonbondedForce.h"
#include "openmm/Force.h"
#include "openmm/NonbondedForce.h"
#include "openmm/System.h"
#include "pair_terms.h"

namespace phyff {

using Parameters = std::vector<std::vector<double>>;

/// What a PairForce needs of the force it stands in for.
struct Pairs {
    Parameters rows;               // parameters by particle of the System
    std::vector<char> taking_part;          // by particle
    std::vector<char> passive;              // by particle, whether without effect on others that are so too
    std::vector<std::pair<int, int>> exclusions;
    Exceptions exceptions;  // by particle
    Range range;
    Reciprocal reciprocal;
    double tail = 0;  // long-range correction times volume, kJ/mol nm^3
};

/// Stands in for a force of the System: same parameters, group, name, exclusions, switch and long-range correction.
class PairForce : public OpenMM::Force {
  public:
    PairForce(const OpenMM::Force& stock, Pairs pairs, const Term& term);
    const Pairs& pairs() const { return pairs_; }
    const Term& term() const { return term_; }
    bool usesPeriodicBoundaryConditions() const override { return true; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    Pairs pairs_;
    const Term& term_;
};

/// The compiled term that does what a force of a System does, nullptr if none does.
const Term* term_for(const OpenMM::Force& force);

/// Replace every force that there is a term for. Of a NonbondedForce the reciprocal space remains.
void replace_forces(OpenMM::System& system);

}  // namespace phyff
