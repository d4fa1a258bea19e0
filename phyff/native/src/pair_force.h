// A CustomNonbondedForce of phyff, evaluated by a compiled pair function.
#pragma once

#include "openmm/CustomNonbondedForce.h"
#include "openmm/Force.h"
#include "openmm/System.h"
#include "pair_terms.h"

namespace phyff {

/// Stands in for `stock`: same parameters, group, name, exclusions, switch and long-range correction.
class PairForce : public OpenMM::Force {
  public:
    PairForce(const OpenMM::CustomNonbondedForce& stock, const Term& term);
    const OpenMM::CustomNonbondedForce& stock() const { return stock_; }
    const Term& term() const { return term_; }
    bool usesPeriodicBoundaryConditions() const override { return true; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    OpenMM::CustomNonbondedForce stock_;
    const Term& term_;
};

/// The compiled term that does what a force of a System does, nullptr if none does.
const Term* term_for(const OpenMM::Force& force);

/// Replace every force that there is a term for.
void replace_forces(OpenMM::System& system);

}  // namespace phyff
