// Charge that flows along the bonds of molecules as they move, felt by bare cations, as an OpenMM force.
#pragma once

#include <utility>
#include <vector>

#include "openmm/CustomHbondForce.h"
#include "openmm/Force.h"

namespace phyff {

/// Along it the charge bond |r| - at_rest, and what angles add, goes from a centre to an atom if it carries any: there
/// are also lines to atoms further away, whose lengths others know. Units: nm, e.
struct FlowBond {
    int atom;
    double bond = 0, at_rest = 0;
    bool carries = false;
};

/// Two bonds of a centre: the charge of each goes with the length of the other, with the angle between them, and with
/// one over the distance of their ends.
struct FlowAngle {
    int bonds[2];
    double next_bond[2] = {}, bend[2] = {}, through[2] = {};

    /// Otherwise the angle may be straight, and has no derivative.
    bool bends() const { return bend[0] != 0 || bend[1] != 0; }
};

/// An atom that charge goes from.
struct FlowCentre {
    int atom;
    std::vector<FlowBond> bonds;
    std::vector<FlowAngle> angles;
};

/// Where a cation meets a bond's charge.
struct FlowRange {
    double switch_start, cutoff;  // of the mean of a cation's distances from both ends of a bond, nm
    double reach;                 // of its distance from the end that charge goes to, nm
};

/// Stands in for the CustomHbondForce of phyff/openmm/charge_flow.py: same parameters, group and name.
class ChargeFlow : public OpenMM::Force {
  public:
    ChargeFlow(const OpenMM::CustomHbondForce& stock, double coulomb, const FlowRange& range);
    const std::vector<FlowCentre>& centres() const { return centres_; }
    /// Particles, and their charges times Coulomb's constant (kJ/mol nm/e).
    const std::vector<std::pair<int, double>>& cations() const { return cations_; }
    const FlowRange& range() const { return range_; }
    bool usesPeriodicBoundaryConditions() const override { return periodic_; }

  protected:
    OpenMM::ForceImpl* createImpl() const override;

  private:
    std::vector<FlowCentre> centres_;
    std::vector<std::pair<int, double>> cations_;
    FlowRange range_;
    bool periodic_;
};

}  // namespace phyff
