#include "pair_force.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
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

    void read_particles();
    void place_parameters();
    void sum_pairs(int thread);
    void sum_exceptions(int thread);
    void in_parallel(const std::function<void(int)>& work);

    const PairForce& owner_;
    std::unique_ptr<ThreadPool> pool_;
    std::vector<int> particles_, place_of_;  // by slot; by particle
    Columns columns_;                        // by place
    Exceptions exceptions_;                  // by place
    std::unique_ptr<PairList> list_;
    std::vector<Sum> sums_;
};

constexpr double kReciprocalCutoff = 0.1;  // nm; OpenMM's own neighbour list is without use then, and short

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
    if (static_cast<int>(owner_.pairs().rows.size()) != context.getSystem().getNumParticles())
        throw OpenMMException("PairForce must have exactly as many particles as the System it belongs to.");
    pool_ = std::make_unique<ThreadPool>(threads_of(context));
    sums_.resize(pool_->getNumThreads());
    read_particles();
}

void PairForceImpl::read_particles() {
    const Pairs& pairs = owner_.pairs();
    const int n_total = static_cast<int>(pairs.rows.size());
    std::vector<char> inert;
    for (int particle = 0; particle < n_total; ++particle) {
        if (!pairs.taking_part[particle] || owner_.term().absent(pairs.rows[particle])) continue;
        particles_.push_back(particle);
        inert.push_back(owner_.term().inert(pairs.rows[particle]));
    }
    place_of_.assign(n_total, -1);
    exceptions_ = pairs.exceptions;
    list_ = std::make_unique<PairList>(particles_, inert, pairs.exclusions, n_total, pairs.range.cutoff,
                                       pool_->getNumThreads());
}

double PairForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                   std::vector<Vec3>& forces) {
    Vec3 a, b, c;
    context.getPeriodicBoxVectors(a, b, c);
    const Box box{a[0], b[0], b[1], c[0], c[1], c[2]};
    if (list_->update(positions, box, [this](const auto& work) { in_parallel(work); })) place_parameters();
    in_parallel([this](int thread) {
        sum_pairs(thread);
        sum_exceptions(thread);
    });
    std::fill(forces.begin(), forces.end(), Vec3());
    double energy = owner_.pairs().tail / box.volume();
    for (const Sum& sum : sums_) {
        energy += sum.energy;
        for (int k = 0; k < list_->size(); ++k)
            forces[particles_[list_->order()[k]]] += Vec3(sum.force[4 * k], sum.force[4 * k + 1], sum.force[4 * k + 2]);
    }
    return energy;
}

void PairForceImpl::place_parameters() {
    const Pairs& pairs = owner_.pairs();
    columns_.assign(owner_.term().parameters.size(), std::vector<double>(list_->size()));
    for (int k = 0; k < list_->size(); ++k) {
        const int particle = particles_[list_->order()[k]];
        place_of_[particle] = k;
        for (std::size_t c = 0; c < columns_.size(); ++c) columns_[c][k] = pairs.rows[particle][c];
    }
    for (int k = 0; k < exceptions_.size(); ++k) {
        exceptions_.first[k] = place_of_[pairs.exceptions.first[k]];
        exceptions_.second[k] = place_of_[pairs.exceptions.second[k]];
    }
}

void PairForceImpl::sum_pairs(int thread) {
    Sum& sum = sums_[thread];
    sum.energy = 0;
    sum.force.assign(4 * list_->size(), 0.0);
    double* force = sum.force.data();
    const Range range = owner_.pairs().range;
    Batch batch;
    list_->visit(thread, [&](int i, const int* partners, int number) {
        double fx = 0, fy = 0, fz = 0;
        for (int first = 0; first < number; first += kBatch) {
            const int kept = within_cutoff(list_->positions(), list_->box(), i, partners + first,
                                           std::min(kBatch, number - first), range.cutoff, batch);
            owner_.term().evaluate(columns_, i, range, kept, batch);
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

void PairForceImpl::sum_exceptions(int thread) {
    Sum& sum = sums_[thread];
    Batch batch;
    for (int begin = kBatch * thread; begin < exceptions_.size(); begin += kBatch * pool_->getNumThreads()) {
        const int number = std::min(kBatch, exceptions_.size() - begin);
        separate(list_->positions(), list_->box(), exceptions_, begin, number, batch);
        evaluate_exceptions(exceptions_, begin, number, owner_.pairs().range.screening, batch);
        for (int k = 0; k < number; ++k) {
            double *one = &sum.force[4 * exceptions_.first[begin + k]],
                   *other = &sum.force[4 * exceptions_.second[begin + k]];
            const double x = batch.push[k] * batch.dx[k], y = batch.push[k] * batch.dy[k],
                         z = batch.push[k] * batch.dz[k];
            one[0] += x, one[1] += y, one[2] += z;
            other[0] -= x, other[1] -= y, other[2] -= z;
            sum.energy += batch.energy[k];
        }
    }
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

Pairs pairs_of(const CustomNonbondedForce& stock, const Term& term) {
    Pairs pairs;
    std::set<int> group, other;
    if (stock.getNumInteractionGroups() == 1) stock.getInteractionGroupParameters(0, group, other);
    Columns present;
    for (int particle = 0; particle < stock.getNumParticles(); ++particle) {
        std::vector<double> row;
        stock.getParticleParameters(particle, row);
        pairs.taking_part.push_back(group.empty() || group.count(particle));
        if (pairs.taking_part.back() && !term.absent(row)) present.push_back(row);
        pairs.rows.push_back(row);
    }
    pairs.exclusions.resize(stock.getNumExclusions());
    for (std::size_t k = 0; k < pairs.exclusions.size(); ++k)
        stock.getExclusionParticles(k, pairs.exclusions[k].first, pairs.exclusions[k].second);
    pairs.range.cutoff = stock.getCutoffDistance();
    pairs.range.switch_start = stock.getUseSwitchingFunction() ? stock.getSwitchingDistance() : pairs.range.cutoff;
    if (stock.getUseLongRangeCorrection() && !present.empty()) pairs.tail = tail_of(stock, present);
    return pairs;
}

/// Whether the force has PME and nothing else than charges and one Lennard-Jones diameter.
bool has_direct_space(const NonbondedForce& force) {
    if (force.getNonbondedMethod() != NonbondedForce::PME || force.getUseSwitchingFunction() ||
        !force.getIncludeDirectSpace() || force.getNumGlobalParameters() || !force.getNumParticles())
        return false;
    double first_charge, diameter, first_depth;
    force.getParticleParameters(0, first_charge, diameter, first_depth);
    for (int k = 0; k < force.getNumParticles(); ++k) {
        double charge, sigma, epsilon;
        force.getParticleParameters(k, charge, sigma, epsilon);
        if (sigma != diameter || epsilon < 0) return false;
    }
    return true;
}

/// Screening (1/nm) and mesh of a NonbondedForce, as OpenMM chooses them for its error tolerance.
struct Mesh {
    double screening;
    int x, y, z;
};

Mesh mesh_of(const NonbondedForce& force, const System& system) {
    Mesh mesh;
    force.getPMEParameters(mesh.screening, mesh.x, mesh.y, mesh.z);
    if (mesh.screening == 0) {
        Vec3 box[3];
        system.getDefaultPeriodicBoxVectors(box[0], box[1], box[2]);
        const double tolerance = force.getEwaldErrorTolerance();
        mesh.screening = std::sqrt(-std::log(2 * tolerance)) / force.getCutoffDistance();
        const double density = 2 * mesh.screening / (3 * std::pow(tolerance, 0.2));
        int* sizes[3] = {&mesh.x, &mesh.y, &mesh.z};
        for (int k = 0; k < 3; ++k) *sizes[k] = std::max(6, static_cast<int>(std::ceil(density * box[k][k])));
    }
    return mesh;
}

Pairs pairs_of(const NonbondedForce& stock, const Mesh& mesh) {
    Pairs pairs;
    double sum6 = 0, squares6 = 0, sum12 = 0, squares12 = 0;
    const int n = stock.getNumParticles();
    for (int particle = 0; particle < n; ++particle) {
        double charge, sigma, epsilon;
        stock.getParticleParameters(particle, charge, sigma, epsilon);
        const double s6 = std::sqrt(4 * epsilon) * std::pow(sigma, 3), s12 = std::sqrt(4 * epsilon) * std::pow(sigma, 6);
        pairs.rows.push_back({charge, s6, s12});
        sum6 += s6, squares6 += s6 * s6, sum12 += s12, squares12 += s12 * s12;
    }
    pairs.taking_part.assign(n, 1);
    const double cutoff = stock.getCutoffDistance();
    pairs.range = {cutoff, cutoff, mesh.screening};
    if (stock.getUseDispersionCorrection()) {
        // n^2 times the mean over the n(n + 1)/2 pairs, a particle with its like included, as OpenMM takes it.
        const double c6 = sum6 * sum6 + squares6, c12 = sum12 * sum12 + squares12;
        pairs.tail = 2 * std::numbers::pi * n / (n + 1) * (c12 / (9 * std::pow(cutoff, 9)) - c6 / (3 * std::pow(cutoff, 3)));
    }
    Exceptions& exceptions = pairs.exceptions;
    for (int k = 0; k < stock.getNumExceptions(); ++k) {
        int i, j;
        double product, sigma, epsilon;
        stock.getExceptionParameters(k, i, j, product, sigma, epsilon);
        pairs.exclusions.push_back({i, j});
        const double reciprocal = pairs.rows[i][0] * pairs.rows[j][0];
        if (product == 0 && reciprocal == 0 && epsilon == 0) continue;
        exceptions.first.push_back(i), exceptions.second.push_back(j);
        exceptions.own.push_back(product), exceptions.reciprocal.push_back(reciprocal);
        exceptions.c6.push_back(4 * epsilon * std::pow(sigma, 6));
        exceptions.c12.push_back(4 * epsilon * std::pow(sigma, 12));
    }
    return pairs;
}

/// The reciprocal space of a NonbondedForce alone.
NonbondedForce* reciprocal_space(const NonbondedForce& stock, const Mesh& mesh) {
    auto* force = new NonbondedForce();
    force->setName(stock.getName() + ", reciprocal space");
    const int group = stock.getReciprocalSpaceForceGroup();
    force->setForceGroup(group < 0 ? stock.getForceGroup() : group);
    force->setNonbondedMethod(NonbondedForce::PME);
    force->setIncludeDirectSpace(false);
    force->setUseDispersionCorrection(false);
    force->setCutoffDistance(kReciprocalCutoff);
    force->setPMEParameters(mesh.screening, mesh.x, mesh.y, mesh.z);
    for (int k = 0; k < stock.getNumParticles(); ++k) {
        double charge, sigma, epsilon;
        stock.getParticleParameters(k, charge, sigma, epsilon);
        force->addParticle(charge, 1.0, 0.0);
    }
    return force;
}

}  // namespace

PairForce::PairForce(const Force& stock, Pairs pairs, const Term& term) : pairs_(std::move(pairs)), term_(term) {
    setName(stock.getName());
    setForceGroup(stock.getForceGroup());
}

ForceImpl* PairForce::createImpl() const { return new PairForceImpl(*this); }

const Term* term_for(const Force& force) {
    if (const auto* charges = dynamic_cast<const NonbondedForce*>(&force))
        return has_direct_space(*charges) ? &direct_space() : nullptr;
    const auto* stock = dynamic_cast<const CustomNonbondedForce*>(&force);
    if (stock != nullptr)
        for (const Term& term : terms())
            if (stands_for(term, *stock)) return &term;
    return nullptr;
}

void replace_forces(System& system) {
    for (int k = system.getNumForces() - 1; k >= 0; --k) {
        const Force& force = system.getForce(k);
        const Term* term = term_for(force);
        if (term == nullptr) continue;
        if (const auto* charges = dynamic_cast<const NonbondedForce*>(&force)) {
            const Mesh mesh = mesh_of(*charges, system);
            system.addForce(new PairForce(force, pairs_of(*charges, mesh), *term));
            system.addForce(reciprocal_space(*charges, mesh));
        } else {
            const auto& stock = dynamic_cast<const CustomNonbondedForce&>(force);
            system.addForce(new PairForce(force, pairs_of(stock, *term), *term));
        }
        system.removeForce(k);
    }
}

}  // namespace phyff
