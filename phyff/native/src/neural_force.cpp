#include "neural_force.h"

#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "context.h"
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
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    const NeuralForce& owner_;
    std::unique_ptr<Threads> threads_;
    std::unique_ptr<PairList> list_;
    std::vector<int> kind_of_, kinds_;  // by particle of the System, and by place
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
    CustomCPPForceImpl::initialize(context);
    threads_ = std::make_unique<Threads>(context);
    const NeuralAtoms& atoms = owner_.atoms();
    const int n_total = context.getSystem().getNumParticles();
    list_ = std::make_unique<PairList>(atoms.particles, std::vector<char>(atoms.particles.size()), pairs_within(atoms),
                                       n_total, owner_.committee().cutoff, Listing::both_ways, threads_->number());
    kind_of_.resize(n_total);
    for (std::size_t k = 0; k < atoms.particles.size(); ++k) kind_of_[atoms.particles[k]] = atoms.kinds[k];
    kinds_.resize(list_->blocks() * kLanes);
    workspaces_.resize(threads_->number());
    sums_.resize(threads_->number());
    for (Sum& sum : sums_) sum.force.resize(list_->blocks());
}

double NeuralForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                     std::vector<Vec3>& forces) {
    const bool periodic = owner_.usesPeriodicBoundaryConditions();
    if (periodic ? list_->update(positions, box_of(context)) : list_->update(positions))
        for (int place = 0; place < list_->size(); ++place) kinds_[place] = kind_of_[list_->order()[place]];
    threads_->run([&](int thread) {
        list_->prepare(thread);
        sums_[thread].clear();
        add_neural(owner_.committee(), *list_, kinds_, thread, workspaces_[thread], sums_[thread]);
    });
    return add_up(sums_, *list_, forces);
}

}  // namespace

NeuralForce::NeuralForce(Committee committee, NeuralAtoms atoms, bool periodic)
    : committee_(std::move(committee)), atoms_(std::move(atoms)), periodic_(periodic) {
    const std::size_t functions = committee_.centres.size();
    if (functions != kRadial && functions != kRadial + kAngular)
        throw std::invalid_argument("The kernel has been built for other functions of the distance.");
}

ForceImpl* NeuralForce::createImpl() const { return new NeuralForceImpl(*this); }

}  // namespace phyff
