#include "pair_force.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "openmm/Context.h"
#include "openmm/Platform.h"
#include "openmm/State.h"
#include "openmm/VerletIntegrator.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"
#include "openmm/internal/ThreadPool.h"

using namespace OpenMM;

namespace phyff {

namespace {

/// What one Context keeps of a PairForce.
class PairForceImpl : public CustomCPPForceImpl {
  public:
    explicit PairForceImpl(const PairForce& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const PairForce& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    struct Sum {
        double energy;
        std::vector<double> force;  // x, y, z and a blank for each place
    };

    void read_particles(int n_total);
    void place_parameters();
    void sum_pairs(int thread);
    void in_parallel(const std::function<void(int)>& work);

    const PairForce& owner_;
    Range range_{};
    double tail_ = 0;  // long-range correction times volume, kJ/mol nm^3
    std::unique_ptr<ThreadPool> pool_;
    std::vector<int> particles_;
    Columns rows_, columns_;  // rows_ by slot of particles_, columns_ by place
    std::unique_ptr<PairList> list_;
    std::vector<Sum> sums_;
};

int threads_of(ContextImpl& context) {
    Platform& platform = context.getPlatform();
    const auto& names = platform.getPropertyNames();
    if (std::find(names.begin(), names.end(), "Threads") == names.end()) return 1;
    return std::max(1, std::stoi(platform.getPropertyValue(context.getOwner(), "Threads")));
}

/// Tail integrals summed over the classes of parameters, n(n+1)/2 for a class with itself, as OpenMM's long-range
/// correction has them for `copies` of these particles; kJ/mol nm^3. Read off particles out of each other's reach.
double tail_integrals(const CustomNonbondedForce& stock, const Columns& rows, int copies) {
    auto force = std::make_unique<CustomNonbondedForce>(stock.getEnergyFunction());
    for (int k = 0; k < stock.getNumPerParticleParameters(); ++k)
        force->addPerParticleParameter(stock.getPerParticleParameterName(k));
    force->setNonbondedMethod(CustomNonbondedForce::CutoffPeriodic);
    force->setCutoffDistance(stock.getCutoffDistance());
    force->setUseSwitchingFunction(stock.getUseSwitchingFunction());
    force->setSwitchingDistance(stock.getSwitchingDistance());
    force->setUseLongRangeCorrection(true);
    const int n = copies * static_cast<int>(rows.size()), edge = static_cast<int>(std::ceil(std::cbrt(n)));
    const double spacing = 2 * stock.getCutoffDistance(), length = spacing * (edge + 1);
    System system;
    std::vector<Vec3> apart;
    for (int k = 0; k < n; ++k) {
        system.addParticle(1.0);
        force->addParticle(rows[k % rows.size()]);
        apart.push_back(Vec3(k % edge, k / edge % edge, k / edge / edge) * spacing);
    }
    system.setDefaultPeriodicBoxVectors(Vec3(length, 0, 0), Vec3(0, length, 0), Vec3(0, 0, length));
    system.addForce(force.release());
    VerletIntegrator integrator(0.001);
    Context context(system, integrator, Platform::getPlatform("Reference"));
    context.setPositions(apart);
    return context.getState(State::Energy).getPotentialEnergy() * length * length * length * (n + 1) / n;
}

/// Long-range correction times volume, kJ/mol nm^3. Within a group OpenMM counts n(n-1)/2 pairs of a class with
/// itself, in a time that grows as the square of the particles; two sets without a group give the same number.
double tail_of(const CustomNonbondedForce& stock, const Columns& rows) {
    const double all = stock.getNumParticles(), once = tail_integrals(stock, rows, 1);
    const double sum = stock.getNumInteractionGroups() ? tail_integrals(stock, rows, 2) - 3 * once : once;
    return sum * all / (all + 1);
}

void PairForceImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    const CustomNonbondedForce& stock = owner_.stock();
    if (stock.getNumParticles() != context.getSystem().getNumParticles())
        throw OpenMMException("PairForce must have exactly as many particles as the System it belongs to.");
    range_.cutoff = stock.getCutoffDistance();
    range_.switch_start = stock.getUseSwitchingFunction() ? stock.getSwitchingDistance() : range_.cutoff;
    pool_ = std::make_unique<ThreadPool>(threads_of(context));
    sums_.resize(pool_->getNumThreads());
    read_particles(context.getSystem().getNumParticles());
    if (stock.getUseLongRangeCorrection() && !rows_.empty()) tail_ = tail_of(stock, rows_);
}

void PairForceImpl::read_particles(int n_total) {
    const CustomNonbondedForce& stock = owner_.stock();
    std::set<int> group, other;
    if (stock.getNumInteractionGroups() == 1) stock.getInteractionGroupParameters(0, group, other);
    std::vector<char> inert;
    std::vector<double> row;
    for (int particle = 0; particle < n_total; ++particle) {
        stock.getParticleParameters(particle, row);
        if ((!group.empty() && !group.count(particle)) || owner_.term().absent(row)) continue;
        particles_.push_back(particle);
        inert.push_back(owner_.term().inert(row));
        rows_.push_back(row);
    }
    std::vector<std::pair<int, int>> exclusions(stock.getNumExclusions());
    for (std::size_t k = 0; k < exclusions.size(); ++k)
        stock.getExclusionParticles(k, exclusions[k].first, exclusions[k].second);
    list_ = std::make_unique<PairList>(particles_, inert, exclusions, n_total, range_.cutoff, pool_->getNumThreads());
}

double PairForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                   std::vector<Vec3>& forces) {
    Vec3 a, b, c;
    context.getPeriodicBoxVectors(a, b, c);
    const Box box{a[0], b[0], b[1], c[0], c[1], c[2]};
    if (list_->update(positions, box, [this](const auto& work) { in_parallel(work); })) place_parameters();
    in_parallel([this](int thread) { sum_pairs(thread); });
    std::fill(forces.begin(), forces.end(), Vec3());
    double energy = tail_ / box.volume();
    for (const Sum& sum : sums_) {
        energy += sum.energy;
        for (int k = 0; k < list_->size(); ++k)
            forces[particles_[list_->order()[k]]] += Vec3(sum.force[4 * k], sum.force[4 * k + 1], sum.force[4 * k + 2]);
    }
    return energy;
}

void PairForceImpl::place_parameters() {
    columns_.assign(owner_.term().parameters.size(), std::vector<double>(list_->size()));
    for (std::size_t c = 0; c < columns_.size(); ++c)
        for (int k = 0; k < list_->size(); ++k) columns_[c][k] = rows_[list_->order()[k]][c];
}

void PairForceImpl::sum_pairs(int thread) {
    Sum& sum = sums_[thread];
    sum.energy = 0;
    sum.force.assign(4 * list_->size(), 0.0);
    double* force = sum.force.data();
    Batch batch;
    list_->visit(thread, [&](int i, const int* partners, int number) {
        double fx = 0, fy = 0, fz = 0;
        for (int first = 0; first < number; first += kBatch) {
            const int kept = within_cutoff(list_->positions(), list_->box(), i, partners + first,
                                           std::min(kBatch, number - first), range_.cutoff, batch);
            owner_.term().evaluate(columns_, i, range_, kept, batch);
            for (int k = 0; k < kept; ++k) {
                const double x = batch.push[k] * batch.dx[k], y = batch.push[k] * batch.dy[k],
                             z = batch.push[k] * batch.dz[k];
                double* other = force + 4 * batch.j[k];
                other[0] -= x, other[1] -= y, other[2] -= z;
                fx += x, fy += y, fz += z;
                sum.energy += batch.energy[k];
            }
        }
        force[4 * i] += fx, force[4 * i + 1] += fy, force[4 * i + 2] += fz;
    });
}

void PairForceImpl::in_parallel(const std::function<void(int)>& work) {
    if (pool_->getNumThreads() == 1) return work(0);
    pool_->execute([&work](ThreadPool&, int thread) { work(thread); });
    pool_->waitForThreads();
}

std::string without_spaces(std::string text) {
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    return text;
}

/// Whether the force has the term's expression, is periodic, and for all particles or the pairs of one group.
bool stands_for(const Term& term, const CustomNonbondedForce& force) {
    if (without_spaces(force.getEnergyFunction()) != without_spaces(term.expression)) return false;
    if (force.getNonbondedMethod() != CustomNonbondedForce::CutoffPeriodic || force.getNumGlobalParameters() ||
        force.getNumComputedValues() || force.getNumInteractionGroups() > 1)
        return false;
    if (force.getNumPerParticleParameters() != static_cast<int>(term.parameters.size())) return false;
    for (int k = 0; k < force.getNumPerParticleParameters(); ++k)
        if (force.getPerParticleParameterName(k) != term.parameters[k]) return false;
    if (force.getNumInteractionGroups() == 0) return true;
    std::set<int> first, second;
    force.getInteractionGroupParameters(0, first, second);
    return !first.empty() && first == second;
}

}  // namespace

PairForce::PairForce(const CustomNonbondedForce& stock, const Term& term) : stock_(stock), term_(term) {
    setName(stock.getName());
    setForceGroup(stock.getForceGroup());
}

ForceImpl* PairForce::createImpl() const { return new PairForceImpl(*this); }

const Term* term_for(const Force& force) {
    const auto* stock = dynamic_cast<const CustomNonbondedForce*>(&force);
    if (stock != nullptr)
        for (const Term& term : terms())
            if (stands_for(term, *stock)) return &term;
    return nullptr;
}

void replace_forces(System& system) {
    for (int k = system.getNumForces() - 1; k >= 0; --k)
        if (const Term* term = term_for(system.getForce(k))) {
            system.addForce(new PairForce(dynamic_cast<const CustomNonbondedForce&>(system.getForce(k)), *term));
            system.removeForce(k);
        }
}

}  // namespace phyff
