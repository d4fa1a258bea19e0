#include "neural_force.h"

#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "context.h"
#include "neural_gpu.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"

using namespace OpenMM;

namespace phyff {

namespace {

/// What one Context keeps of a NeuralForce.
class NeuralForceImpl : public CustomCPPForceImpl {
  public:
    explicit NeuralForceImpl(const NeuralForce& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const NeuralForce& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double calcForcesAndEnergy(ContextImpl& context, bool forces, bool energy, int groups) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    void find_places();

    const NeuralForce& owner_;
    std::unique_ptr<NeuralGpu> gpu_;  // or what follows
    std::unique_ptr<Threads> threads_;
    std::unique_ptr<PairList> list_;
    std::vector<int> kind_of_;                 // by particle of the System
    std::vector<std::vector<int>> bonded_to_;  // the same
    AtomTable table_;
    std::vector<Workspace> workspaces_;
    std::vector<Sum> sums_;
};

std::vector<std::pair<int, int>> pairs_within(const NeuralAtoms& atoms) {
    std::map<int, std::vector<int>> molecules;
    for (std::size_t k = 0; k < atoms.particles.size(); ++k)
        molecules[atoms.molecules[k]].push_back(atoms.particles[k]);
    std::vector<std::pair<int, int>> pairs;
    for (const auto& [number, particles] : molecules)
        for (std::size_t j = 0; j < particles.size(); ++j)
            for (std::size_t i = 0; i < j; ++i) pairs.push_back({particles[i], particles[j]});
    return pairs;
}

void NeuralForceImpl::initialize(ContextImpl& context) {
    if (ComputeContext* device = device_of(context)) {
        gpu_ = std::make_unique<NeuralGpu>(owner_, *device);
        return;
    }
    CustomCPPForceImpl::initialize(context);
    threads_ = std::make_unique<Threads>(context);
    const NeuralAtoms& atoms = owner_.atoms();
    const int n_total = context.getSystem().getNumParticles();
    list_ = std::make_unique<PairList>(atoms.particles, std::vector<char>(atoms.particles.size()), pairs_within(atoms),
                                       n_total, owner_.committee().cutoff, Listing::both_ways, threads_->number());
    kind_of_.resize(n_total);
    for (std::size_t k = 0; k < atoms.particles.size(); ++k) kind_of_[atoms.particles[k]] = atoms.kinds[k];
    bonded_to_.resize(n_total);
    for (const auto& [one, other] : atoms.bonds) bonded_to_[one].push_back(other), bonded_to_[other].push_back(one);
    workspaces_.resize(threads_->number());
    sums_.resize(threads_->number());
    for (Sum& sum : sums_) sum.force.resize(list_->blocks());
}

double NeuralForceImpl::calcForcesAndEnergy(ContextImpl& context, bool forces, bool energy, int groups) {
    if (!gpu_) return CustomCPPForceImpl::calcForcesAndEnergy(context, forces, energy, groups);
    if (groups & (1 << owner_.getForceGroup())) gpu_->execute();
    return 0;  // the device adds up energies itself
}

/// After the list has given the atoms new places.
void NeuralForceImpl::find_places() {
    std::vector<int> place_of(kind_of_.size());
    for (int place = 0; place < list_->size(); ++place) place_of[list_->order()[place]] = place;
    table_.kind.resize(list_->blocks() * kLanes);
    table_.end.resize(list_->size());
    table_.bonded.clear();
    for (int place = 0; place < list_->size(); ++place) {
        const int particle = list_->order()[place];
        table_.kind[place] = kind_of_[particle];
        for (const int other : bonded_to_[particle]) table_.bonded.push_back(place_of[other]);
        table_.end[place] = static_cast<int>(table_.bonded.size());
    }
}

double NeuralForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                     std::vector<Vec3>& forces) {
    const bool periodic = owner_.usesPeriodicBoundaryConditions();
    if (periodic ? list_->update(positions, box_of(context)) : list_->update(positions)) find_places();
    threads_->run([&](int thread) {
        list_->prepare(thread);
        sums_[thread].clear();
        add_neural(owner_.committee(), *list_, table_, thread, workspaces_[thread], sums_[thread]);
    });
    return add_up(sums_, *list_, forces);
}

}  // namespace

NeuralForce::NeuralForce(Committee committee, NeuralAtoms atoms, bool periodic)
    : committee_(std::move(committee)), atoms_(std::move(atoms)), periodic_(periodic) {
    const std::size_t functions = committee_.centres.size();
    const bool known = functions == kRadialCentres || functions == kRadialCentres + kAngularCentres;
    const bool along = functions > kRadialCentres && committee_.scalars == kRadial + kAlong;
    if (!known || (committee_.scalars != kRadial && !along))
        throw std::invalid_argument("The kernel has been built for other functions of the distance.");
}

ForceImpl* NeuralForce::createImpl() const { return new NeuralForceImpl(*this); }

}  // namespace phyff
