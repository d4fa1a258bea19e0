#include "pair_force.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <set>

#include "context.h"
#include "openmm/Context.h"
#include "openmm/Platform.h"
#include "openmm/State.h"
#include "openmm/VerletIntegrator.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"

using namespace OpenMM;

namespace phyff {

namespace {

/// What one Context keeps of a PairForce.
class PairForceImpl : public CustomCPPForceImpl {
  public:
    explicit PairForceImpl(const PairForce& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const PairForce& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double calcForcesAndEnergy(ContextImpl& context, bool forces, bool energy, int groups) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    void read_particles();
    void place_parameters();

    const PairForce& owner_;
    std::unique_ptr<Threads> threads_;
    Columns columns_;
    std::vector<int> offset_;  // by particle, of the x of its force in the sums
    std::unique_ptr<PairList> list_;
    std::vector<Sum> sums_;
    bool energy_wanted_ = true;
};

constexpr double kReciprocalCutoff = 0.3;  // nm; OpenMM's own list, without use then, costs least at about this

/// Tail integrals summed over the classes of parameters, n(n+1)/2 for a class with itself, as OpenMM's long-range
/// correction has them for `copies` of these particles; kJ/mol nm^3. Read off particles out of each other's reach.
double tail_integrals(const CustomNonbondedForce& stock, const Parameters& rows, int copies) {
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
double tail_of(const CustomNonbondedForce& stock, const Parameters& rows) {
    const double all = stock.getNumParticles(), once = tail_integrals(stock, rows, 1);
    const double sum = stock.getNumInteractionGroups() ? tail_integrals(stock, rows, 2) - 3 * once : once;
    return sum * all / (all + 1);
}

void PairForceImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    if (static_cast<int>(owner_.pairs().rows.size()) != context.getSystem().getNumParticles())
        throw OpenMMException("PairForce must have exactly as many particles as the System it belongs to.");
    threads_ = std::make_unique<Threads>(context);
    sums_.resize(threads_->number());
    read_particles();
}

void PairForceImpl::read_particles() {
    const Pairs& pairs = owner_.pairs();
    std::vector<int> particles;
    std::vector<char> inert, excepted(pairs.rows.size());
    for (int k = 0; k < pairs.exceptions.size(); ++k)
        excepted[pairs.exceptions.first[k]] = excepted[pairs.exceptions.second[k]] = true;
    for (std::size_t particle = 0; particle < pairs.rows.size(); ++particle) {
        const bool absent = owner_.term().absent(pairs.rows[particle]) && !excepted[particle];
        if (absent || !pairs.taking_part[particle]) continue;
        particles.push_back(static_cast<int>(particle));
        inert.push_back(pairs.passive[particle] || owner_.term().inert(pairs.rows[particle]));
    }
    offset_.assign(pairs.rows.size(), 0);
    list_ = std::make_unique<PairList>(particles, inert, pairs.exclusions, pairs.rows.size(), pairs.range.cutoff,
                                       Listing::once, threads_->number());
    columns_.assign(owner_.term().parameters.size(), std::vector<Lanes>(list_->blocks()));
    for (Sum& sum : sums_) sum.force.resize(list_->blocks());
}

/// computeForce is not told whether the energy is wanted.
double PairForceImpl::calcForcesAndEnergy(ContextImpl& context, bool forces, bool energy, int groups) {
    energy_wanted_ = energy;
    return CustomCPPForceImpl::calcForcesAndEnergy(context, forces, energy, groups);
}

double PairForceImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
                                   std::vector<Vec3>& forces) {
    const Box box = box_of(context);
    if (list_->update(positions, box)) place_parameters();
    const Pairs& pairs = owner_.pairs();
    const Pairing pairing{*list_, columns_, pairs.range, pairs.reciprocal};
    threads_->run([&](int thread) {
        list_->prepare(thread);
        Sum& sum = sums_[thread];
        sum.clear();
        owner_.term().add_pairs(pairing, thread, energy_wanted_, sum);
        add_exceptions(pairing, pairs.exceptions, positions, offset_, thread, threads_->number(), energy_wanted_, sum);
    });
    return add_up(sums_, *list_, forces) + pairs.tail / box.volume();
}

void PairForceImpl::place_parameters() {
    const Pairs& pairs = owner_.pairs();
    for (int k = 0; k < list_->size(); ++k) {
        const int particle = list_->order()[k], block = k / kLanes, lane = k % kLanes;
        offset_[particle] = 3 * kLanes * block + lane;
        for (std::size_t c = 0; c < columns_.size(); ++c) columns_[c][block].of[lane] = pairs.rows[particle][c];
    }
}

std::string without_spaces(std::string text) {
    text.erase(std::remove(text.begin(), text.end(), ' '), text.end());
    return text;
}

/// Whether the force has the term's expression, is periodic, and for all particles, the pairs of one group, or those
/// of a group and of others with it.
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
    return !first.empty() && std::includes(second.begin(), second.end(), first.begin(), first.end());
}

Pairs pairs_of(const CustomNonbondedForce& stock, const Term& term) {
    Pairs pairs;
    std::set<int> active, group;
    if (stock.getNumInteractionGroups() == 1) stock.getInteractionGroupParameters(0, active, group);
    Parameters present;
    for (int particle = 0; particle < stock.getNumParticles(); ++particle) {
        std::vector<double> row;
        stock.getParticleParameters(particle, row);
        pairs.taking_part.push_back(group.empty() || group.count(particle));
        pairs.passive.push_back(group.size() > active.size() && !active.count(particle));
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

/// 1/nm, as OpenMM chooses it for an error tolerance.
double screening_of(const NonbondedForce& force) {
    double screening;
    int x, y, z;
    force.getPMEParameters(screening, x, y, z);
    return screening ? screening : std::sqrt(-std::log(2 * force.getEwaldErrorTolerance())) / force.getCutoffDistance();
}

/// Whether the force has PME and nothing else than charges and one Lennard-Jones diameter.
bool has_direct_space(const NonbondedForce& force) {
    if (force.getNonbondedMethod() != NonbondedForce::PME || force.getUseSwitchingFunction() ||
        !force.getIncludeDirectSpace() || force.getExceptionsUsePeriodicBoundaryConditions() ||
        force.getNumGlobalParameters() || !force.getNumParticles() ||
        screening_of(force) * force.getCutoffDistance() > kMostScreened)
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
        mesh.screening = screening_of(force);
        const double density = 2 * mesh.screening / (3 * std::pow(force.getEwaldErrorTolerance(), 0.2));
        int* sizes[3] = {&mesh.x, &mesh.y, &mesh.z};
        for (int k = 0; k < 3; ++k) *sizes[k] = std::max(6, static_cast<int>(std::ceil(density * box[k][k])));
    }
    return mesh;
}

/// Take over one exception, if it is of the kind asked for.
void add_exception(const NonbondedForce& stock, int k, bool bare, Pairs& pairs) {
    int i, j;
    double product, sigma, epsilon;
    stock.getExceptionParameters(k, i, j, product, sigma, epsilon);
    if (bare != (product != 0 || epsilon != 0)) return;
    pairs.exclusions.push_back({i, j});
    const double reciprocal = pairs.rows[i][0] * pairs.rows[j][0];
    if (!bare && reciprocal == 0) return;
    Exceptions& exceptions = pairs.exceptions;
    exceptions.first.push_back(i), exceptions.second.push_back(j);
    exceptions.own.push_back(product), exceptions.reciprocal.push_back(reciprocal);
    exceptions.c6.push_back(4 * epsilon * std::pow(sigma, 6));
    exceptions.c12.push_back(4 * epsilon * std::pow(sigma, 12));
}

Pairs pairs_of(const NonbondedForce& stock, const Mesh& mesh) {
    Pairs pairs;
    double charge, diameter, depth, sum6 = 0, squares6 = 0;
    const int n = stock.getNumParticles();
    for (int particle = 0; particle < n; ++particle) {
        stock.getParticleParameters(particle, charge, diameter, depth);
        const double s6 = std::sqrt(4 * depth) * std::pow(diameter, 3);
        pairs.rows.push_back({charge, s6});
        sum6 += s6, squares6 += s6 * s6;
    }
    pairs.taking_part.assign(n, 1), pairs.passive.assign(n, 0);
    const double cutoff = stock.getCutoffDistance(), sigma6 = std::pow(diameter, 6);
    pairs.range = {cutoff, cutoff, mesh.screening, sigma6};
    pairs.reciprocal = Reciprocal(mesh.screening, cutoff);
    if (stock.getUseDispersionCorrection()) {
        // n^2 times the mean over the n(n + 1)/2 pairs, a particle with its like included, as OpenMM takes it.
        const double c6 = sum6 * sum6 + squares6, c12 = c6 * sigma6;
        const double integral = c12 / (9 * std::pow(cutoff, 9)) - c6 / (3 * std::pow(cutoff, 3));
        pairs.tail = 2 * std::numbers::pi * n / (n + 1) * integral;
    }
    for (const bool bare : {true, false}) {
        for (int k = 0; k < stock.getNumExceptions(); ++k) add_exception(stock, k, bare, pairs);
        if (bare) pairs.exceptions.bare = pairs.exceptions.size();
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
    force->setCutoffDistance(std::min(kReciprocalCutoff, stock.getCutoffDistance()));
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
