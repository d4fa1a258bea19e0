#include "near_field.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <set>
#include <stdexcept>

#include "context.h"
#include "openmm/internal/ContextImpl.h"
#include "openmm/internal/CustomCPPForceImpl.h"

using namespace OpenMM;

namespace phyff {

namespace {

/// A Slater overlap and its derivative by the distance.
struct Overlap {
    double value, slope;

    Overlap(double exponent, double r) {
        const double x = exponent * r, fading = std::exp(-x);
        value = (1 + x + x * x / 3) * fading;
        slope = -exponent * x * (1 + x) / 3 * fading;
    }
};

/// A polynomial of two cosines and its derivatives by these.
struct Polynomial {
    double value, by[2];

    Polynomial(double constant, const std::array<double, kDirections>& k, const double (&c)[2]) {
        value = constant + k[0] * c[0] + k[1] * c[1] + k[2] * c[0] * c[0] + k[3] * c[0] * c[1] + k[4] * c[1] * c[1];
        by[0] = k[0] + 2 * k[2] * c[0] + k[3] * c[1];
        by[1] = k[1] + k[3] * c[0] + 2 * k[4] * c[1];
    }
};

/// What one Context keeps of a NearField.
class NearFieldImpl : public CustomCPPForceImpl {
  public:
    explicit NearFieldImpl(const NearField& owner) : CustomCPPForceImpl(owner), owner_(owner) {}
    const NearField& getOwner() const override { return owner_; }
    void initialize(ContextImpl& context) override;
    double computeForce(ContextImpl& context, const std::vector<Vec3>& positions, std::vector<Vec3>& forces) override;

  private:
    void add_share(int thread, const std::vector<Vec3>& positions);
    void add_contact(const NearFieldCation& cation, const NearFieldAtom& atom, const Vec3& way,
                     const std::vector<Vec3>& positions, Sum& sum) const;

    const NearField& owner_;
    std::unique_ptr<Threads> threads_;
    std::unique_ptr<PairList> list_;
    std::vector<int> atom_of_, cation_of_;  // by particle of the System, -1 for others
    std::vector<int> place_of_;             // by particle
    std::vector<Sum> sums_;
};

void NearFieldImpl::initialize(ContextImpl& context) {
    CustomCPPForceImpl::initialize(context);
    threads_ = std::make_unique<Threads>(context);
    const int n_total = context.getSystem().getNumParticles();
    atom_of_.resize(n_total, -1), cation_of_.resize(n_total, -1), place_of_.resize(n_total);
    std::set<int> touched;
    for (std::size_t k = 0; k < owner_.atoms().size(); ++k) {
        const NearFieldAtom& atom = owner_.atoms()[k];
        atom_of_[atom.atom] = static_cast<int>(k);
        touched.insert({atom.atom, atom.references[0], atom.references[1]});
    }
    std::vector<int> particles(touched.begin(), touched.end());
    std::vector<char> inert(particles.size(), true);
    for (std::size_t k = 0; k < owner_.cations().size(); ++k) {
        cation_of_[owner_.cations()[k].atom] = static_cast<int>(k);
        particles.push_back(owner_.cations()[k].atom), inert.push_back(false);
    }
    list_ = std::make_unique<PairList>(particles, inert, std::vector<std::pair<int, int>>(), n_total, owner_.cutoff(),
                                       Listing::both_ways, threads_->number());
    sums_.resize(threads_->number());
    for (Sum& sum : sums_) sum.force.resize(list_->blocks());
}

double NearFieldImpl::computeForce(ContextImpl& context, const std::vector<Vec3>& positions,
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
void NearFieldImpl::add_share(int thread, const std::vector<Vec3>& positions) {
    const Shifts shifts = shifts_of(list_->box());
    const Rows& rows = list_->rows(thread);
    for (const Rows::Row& row : rows.rows) {
        const int cation = cation_of_[list_->order()[row.place]];
        if (cation < 0) continue;  // the row of an atom, with the cations near it
        for (std::size_t k = row.begin; k < row.end; ++k) {
            const Partners& partners = rows.partners[k];
            const Vec3 here = list_->at(row.place) - shifts[partners.image];
            for (unsigned left = partners.bits; left; left &= left - 1) {
                const int place = kLanes * partners.block + std::countr_zero(left);
                const int atom = atom_of_[list_->order()[place]];
                if (atom < 0) continue;
                add_contact(owner_.cations()[cation], owner_.atoms()[atom], here - list_->at(place), positions,
                            sums_[thread]);
            }
        }
    }
}

/// A cation to which it is this way from an atom.
void NearFieldImpl::add_contact(const NearFieldCation& cation, const NearFieldAtom& atom, const Vec3& way,
                                const std::vector<Vec3>& positions, Sum& sum) const {
    const double square = way.dot(way), r = std::sqrt(square);
    if (r >= owner_.cutoff()) return;
    Vec3 edges[2];
    double lengths[2], cosines[2];
    for (int k = 0; k < 2; ++k) {
        edges[k] = positions[atom.references[k]] - positions[atom.atom];  // no image: molecules are whole
        lengths[k] = std::sqrt(edges[k].dot(edges[k]));
        cosines[k] = way.dot(edges[k]) / (r * lengths[k]);
    }
    const Polynomial potential(atom.constant, atom.potential, cosines), shape(0, atom.shape, cosines);
    const double grown = std::exp(shape.value), excess = grown - 1;
    const Overlap near(atom.exponent, r), exchange(atom.exchange_exponent * cation.exchange_exponent, r),
        penetration(atom.penetration_exponent * cation.penetration_exponent, r);
    const double repels = atom.exchange * cation.exchange, attracts = atom.penetration * cation.penetration;
    const double spheres = repels * exchange.value - attracts * penetration.value;
    const double felt = cation.charge * near.value;
    const double energy = felt * potential.value + spheres * excess;
    const double slope = cation.charge * near.slope * potential.value +
                         (repels * exchange.slope - attracts * penetration.slope) * excess;

    const double width = owner_.cutoff() - owner_.switch_start();
    const double t = std::max(0.0, (r - owner_.switch_start()) / width);
    const double part = 1 - t * t * t * (10 - t * (15 - 6 * t)), fall = -30 * t * t * (1 - t) * (1 - t) / width;
    sum.energy += part * energy;
    Vec3 gradient = way * ((part * slope + fall * energy) / r);  // by the way
    Vec3 on_atom;
    for (int k = 0; k < 2; ++k) {
        const double by_cosine = part * (felt * potential.by[k] + spheres * grown * shape.by[k]);
        gradient += edges[k] * (by_cosine / (r * lengths[k])) - way * (by_cosine * cosines[k] / square);
        const Vec3 by_edge = way * (by_cosine / (r * lengths[k])) -
                             edges[k] * (by_cosine * cosines[k] / (lengths[k] * lengths[k]));
        sum.push(place_of_[atom.references[k]], -by_edge);
        on_atom += by_edge;
    }
    sum.push(place_of_[atom.atom], on_atom + gradient);
    sum.push(place_of_[cation.atom], -gradient);
}

std::vector<NearFieldAtom> atoms_of(const CustomHbondForce& stock) {
    if (stock.getNumPerDonorParameters() != 6 + 2 * kDirections || stock.getNumPerAcceptorParameters() != 5)
        throw std::invalid_argument("The kernel and phyff are of different versions; pip install ./phyff/native");
    std::vector<NearFieldAtom> atoms;
    for (int donor = 0; donor < stock.getNumDonors(); ++donor) {
        NearFieldAtom own;
        std::vector<double> row;  // in the order of DONOR_PARAMETERS
        stock.getDonorParameters(donor, own.atom, own.references[0], own.references[1], row);
        own.exchange = row[0], own.exchange_exponent = row[1];
        own.penetration = row[2], own.penetration_exponent = row[3];
        own.exponent = row[4], own.constant = row[5];
        std::copy_n(row.begin() + 6, kDirections, own.potential.begin());
        std::copy_n(row.begin() + 6 + kDirections, kDirections, own.shape.begin());
        atoms.push_back(own);
    }
    return atoms;
}

std::vector<NearFieldCation> cations_of(const CustomHbondForce& stock) {
    std::vector<NearFieldCation> cations;
    for (int acceptor = 0; acceptor < stock.getNumAcceptors(); ++acceptor) {
        int atom, none;
        std::vector<double> row;  // in the order of ACCEPTOR_PARAMETERS
        stock.getAcceptorParameters(acceptor, atom, none, none, row);
        cations.push_back({atom, row[0], row[1], row[2], row[3], row[4]});
    }
    return cations;
}

}  // namespace

NearField::NearField(const CustomHbondForce& stock, double switch_start, double cutoff)
    : atoms_(atoms_of(stock)),
      cations_(cations_of(stock)),
      switch_start_(switch_start),
      cutoff_(cutoff),
      periodic_(stock.usesPeriodicBoundaryConditions()) {
    setName(stock.getName());
    setForceGroup(stock.getForceGroup());
}

ForceImpl* NearField::createImpl() const { return new NearFieldImpl(*this); }

}  // namespace phyff
