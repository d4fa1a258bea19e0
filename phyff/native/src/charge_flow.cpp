#include "charge_flow.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>

#include "context.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"

using namespace OpenMM;

namespace phyff {

namespace {

/// A bond of a centre in one evaluation.
struct Moved {
    Vec3 direction;
    double length, charge;  // nm, e
    double potential = 0;   // difference that the charge has gone through, kJ/mol/e
    Vec3 gradient = {};     // of the energy by the vector of the bond
};

/// Of one thread. Each works out the charges near its own cations.
struct Workspace {
    std::vector<std::vector<Moved>> moved;  // bonds by centre; none where no cation is near
    std::vector<int> near;                  // the other centres
};

/// From the end of the second to that of the first.
Vec3 across(const Moved& one, const Moved& other) {
    return one.direction * one.length - other.direction * other.length;
}

double cosine_between(const Moved& one, const Moved& other) {
    constexpr double most = 1 - 1e-12;  // a sine that one can divide by
    return std::clamp(one.direction.dot(other.direction), -most, most);
}

/// The charges that have gone from a centre.
void move_charges(const FlowCentre& centre, const std::vector<Vec3>& positions, std::vector<Moved>& moved) {
    for (const FlowBond& bond : centre.bonds) {
        const Vec3 r = positions[bond.atom] - positions[centre.atom];
        const double length = std::sqrt(r.dot(r));
        moved.push_back({r / length, length, bond.bond * length - bond.at_rest});
    }
    for (const FlowAngle& angle : centre.angles) {
        Moved &one = moved[angle.bonds[0]], &other = moved[angle.bonds[1]];
        one.charge += angle.next_bond[0] * other.length;
        other.charge += angle.next_bond[1] * one.length;
        const Vec3 apart = across(one, other);
        const double per_apart = 1 / std::sqrt(apart.dot(apart));
        one.charge += angle.through[0] * per_apart;
        other.charge += angle.through[1] * per_apart;
        if (!angle.bends()) continue;
        const double theta = std::acos(cosine_between(one, other));
        one.charge += angle.bend[0] * theta;
        other.charge += angle.bend[1] * theta;
    }
}

/// The forces that go with these charges in their potentials.
void add_pulls(const FlowCentre& centre, const std::vector<int>& place_of, std::vector<Moved>& moved, Sum& sum) {
    for (const FlowAngle& angle : centre.angles) {
        Moved &one = moved[angle.bonds[0]], &other = moved[angle.bonds[1]];
        one.gradient += one.direction * (angle.next_bond[1] * other.potential);
        other.gradient += other.direction * (angle.next_bond[0] * one.potential);
        const Vec3 apart = across(one, other);
        const double square = apart.dot(apart);
        const Vec3 push = apart * ((angle.through[0] * one.potential + angle.through[1] * other.potential) /
                                   (square * std::sqrt(square)));
        one.gradient -= push;
        other.gradient += push;
        if (!angle.bends()) continue;
        const double cosine = cosine_between(one, other);
        const double torque = angle.bend[0] * one.potential + angle.bend[1] * other.potential;
        const double turn = torque / std::sqrt(1 - cosine * cosine);
        one.gradient += (one.direction * cosine - other.direction) * (turn / one.length);
        other.gradient += (other.direction * cosine - one.direction) * (turn / other.length);
    }
    for (std::size_t k = 0; k < moved.size(); ++k) {
        const FlowBond& bond = centre.bonds[k];
        const Vec3 pull = moved[k].gradient + moved[k].direction * (bond.bond * moved[k].potential);
        sum.push(place_of[bond.atom], -pull);
        sum.push(place_of[centre.atom], pull);
    }
}

/// What one Context keeps of a ChargeFlow.
class ChargeFlowImpl : public CustomCPPForceImpl {
  public:
    explicit ChargeFlowImpl(const ChargeFlow& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const ChargeFlow& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    void add_share(int thread, const std::vector<Vec3>& positions);
    void add_contact(int cation, int atom, const Vec3& r, const std::vector<Vec3>& positions, Workspace& work,
                     Sum& sum) const;

    const ChargeFlow& owner_;
    std::unique_ptr<Threads> threads_;
    std::unique_ptr<PairList> list_;
    std::vector<double> charge_of_;                     // by particle of the System; zero but for cations
    std::vector<std::vector<std::pair<int, int>>> to_;  // by particle, centres and which of their bonds ends there
    std::vector<int> place_of_;                         // by particle
    std::vector<Workspace> workspaces_;
    std::vector<Sum> sums_;
};

void ChargeFlowImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    threads_ = std::make_unique<Threads>(context);
    const int n_total = context.getSystem().getNumParticles();
    charge_of_.resize(n_total), to_.resize(n_total), place_of_.resize(n_total);
    std::set<int> atoms;
    for (std::size_t c = 0; c < owner_.centres().size(); ++c) {
        const FlowCentre& centre = owner_.centres()[c];
        atoms.insert(centre.atom);
        for (std::size_t k = 0; k < centre.bonds.size(); ++k) {
            atoms.insert(centre.bonds[k].atom);
            if (centre.bonds[k].carries) to_[centre.bonds[k].atom].push_back({c, k});
        }
    }
    std::vector<int> particles(atoms.begin(), atoms.end());
    std::vector<char> inert(particles.size(), true);
    for (const auto& [particle, charge] : owner_.cations()) {
        particles.push_back(particle), inert.push_back(false);
        charge_of_[particle] = charge;
    }
    list_ = std::make_unique<PairList>(particles, inert, std::vector<std::pair<int, int>>(), n_total,
                                       owner_.range().reach, Listing::both_ways, threads_->number());
    workspaces_.resize(threads_->number()), sums_.resize(threads_->number());
    for (Workspace& work : workspaces_) work.moved.resize(owner_.centres().size());
    for (Sum& sum : sums_) sum.force.resize(list_->blocks());
}

double ChargeFlowImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                    std::vector<Vec3>& forces) {
    const bool periodic = owner_.usesPeriodicBoundaryConditions();
    if (periodic ? list_->update(positions, box_of(context)) : list_->update(positions))
        for (int place = 0; place < list_->size(); ++place) place_of_[list_->order()[place]] = place;
    threads_->run([&](int thread) {
        list_->prepare(thread);
        sums_[thread].clear();
        add_share(thread, positions);
    });
    return add_up(sums_, *list_, forces);
}

/// What the cations of one thread feel.
void ChargeFlowImpl::add_share(int thread, const std::vector<Vec3>& positions) {
    Workspace& work = workspaces_[thread];
    Sum& sum = sums_[thread];
    const Shifts shifts = shifts_of(list_->box());
    const Rows& rows = list_->rows(thread);
    for (const Rows::Row& row : rows.rows) {
        const int cation = list_->order()[row.place];
        if (charge_of_[cation] == 0) continue;  // the row of an atom, with the cations near it
        for (std::size_t k = row.begin; k < row.end; ++k) {
            const Partners& partners = rows.partners[k];
            const Vec3 here = list_->at(row.place) - shifts[partners.image];
            for (unsigned left = partners.bits; left; left &= left - 1) {
                const int place = kLanes * partners.block + std::countr_zero(left);
                add_contact(cation, list_->order()[place], list_->at(place) - here, positions, work, sum);
            }
        }
    }
    for (const int c : work.near) {
        add_pulls(owner_.centres()[c], place_of_, work.moved[c], sum);
        work.moved[c].clear();
    }
    work.near.clear();
}

/// A cation with the bonds along which charge goes to an atom that is r away from it.
void ChargeFlowImpl::add_contact(int cation, int atom, const Vec3& r, const std::vector<Vec3>& positions,
                                 Workspace& work, Sum& sum) const {
    const auto& [switch_start, cutoff, reach] = owner_.range();
    const double near = std::sqrt(r.dot(r));
    if (near >= reach) return;
    for (const auto& [c, k] : to_[atom]) {
        const FlowCentre& centre = owner_.centres()[c];
        const Vec3 s = r + positions[centre.atom] - positions[atom];  // no image: molecules are whole
        const double far = std::sqrt(s.dot(s)), mean = 0.5 * (near + far);
        if (mean >= cutoff) continue;
        std::vector<Moved>& moved = work.moved[c];
        if (moved.empty()) {
            move_charges(centre, positions, moved);
            work.near.push_back(c);
        }
        const double t = std::max(0.0, (mean - switch_start) / (cutoff - switch_start));
        const double part = 1 - t * t * t * (10 - t * (15 - 6 * t));
        const double slope = -15 * t * t * (1 - t) * (1 - t) / (cutoff - switch_start);  // by either distance
        const double from_cation = charge_of_[cation], difference = from_cation * (1 / near - 1 / far);
        const double charge = moved[k].charge;
        const Vec3 push = r * (charge * (from_cation * part / (near * near) - difference * slope) / near);
        const Vec3 pull = s * (charge * (from_cation * part / (far * far) + difference * slope) / far);
        moved[k].potential += difference * part;
        sum.energy += charge * difference * part;
        sum.push(place_of_[atom], push);
        sum.push(place_of_[centre.atom], -pull);
        sum.push(place_of_[cation], pull - push);
    }
}

/// Number of a centre's bond to an atom, which may be new.
int bond_to(FlowCentre& centre, int atom) {
    const auto known = std::find_if(centre.bonds.begin(), centre.bonds.end(),
                                    [&](const FlowBond& bond) { return bond.atom == atom; });
    const int number = static_cast<int>(known - centre.bonds.begin());
    if (known == centre.bonds.end()) centre.bonds.push_back({atom});
    return number;
}

/// The angle between two bonds of a centre, which may be new.
FlowAngle& angle_between(FlowCentre& centre, int one, int other) {
    for (FlowAngle& angle : centre.angles)
        if (angle.bonds[0] == one && angle.bonds[1] == other) return angle;
    return centre.angles.emplace_back(FlowAngle{{one, other}});
}

std::vector<FlowCentre> centres_of(const CustomHbondForce& stock) {
    if (stock.getNumPerDonorParameters() != 5)
        throw std::invalid_argument("The kernel and phyff are of different versions; pip install ./phyff/native");
    std::map<int, FlowCentre> centres;
    for (int donor = 0; donor < stock.getNumDonors(); ++donor) {
        int i, j, k;
        std::vector<double> row;  // bond, nextbond, bend, through, atrest
        stock.getDonorParameters(donor, i, j, k, row);
        FlowCentre& centre = centres.try_emplace(j, FlowCentre{j, {}, {}}).first->second;
        const int own = bond_to(centre, i), next = bond_to(centre, k);
        centre.bonds[own].bond += row[0];
        centre.bonds[own].at_rest += row[4];
        centre.bonds[own].carries = true;
        FlowAngle& angle = angle_between(centre, std::min(own, next), std::max(own, next));
        angle.next_bond[own > next] += row[1];
        angle.bend[own > next] += row[2];
        angle.through[own > next] += row[3];
    }
    std::vector<FlowCentre> found;
    for (auto& [atom, centre] : centres) found.push_back(std::move(centre));
    return found;
}

std::vector<std::pair<int, double>> cations_of(const CustomHbondForce& stock, double coulomb) {
    std::vector<std::pair<int, double>> cations;
    for (int acceptor = 0; acceptor < stock.getNumAcceptors(); ++acceptor) {
        int atom, none;
        std::vector<double> row;
        stock.getAcceptorParameters(acceptor, atom, none, none, row);
        cations.push_back({atom, coulomb * row[0]});
    }
    return cations;
}

}  // namespace

ChargeFlow::ChargeFlow(const CustomHbondForce& stock, double coulomb, const FlowRange& range)
    : centres_(centres_of(stock)),
      cations_(cations_of(stock, coulomb)),
      range_(range),
      periodic_(stock.usesPeriodicBoundaryConditions()) {
    setName(stock.getName());
    setForceGroup(stock.getForceGroup());
}

ForceImpl* ChargeFlow::createImpl() const { return new ChargeFlowImpl(*this); }

}  // namespace phyff
