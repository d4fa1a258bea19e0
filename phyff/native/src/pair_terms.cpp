#include "pair_terms.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "simd.h"

namespace phyff {

namespace {

constexpr double kCoulomb = 138.93545764498;
constexpr double kTwoPerRootPi = 2 * std::numbers::inv_sqrtpi;

// The tail of exchange between molecules; four fifths of an exponent, so that one exponential serves both.
constexpr double kTailShare = 0.05, kTailExponent = 0.8;

constexpr const char* kShortRange =
    "ax*((1 + x + x^2/3)*exp(-br) - 0.05*(1 + (0.8*x) + (0.8*x)^2/3)*exp(-0.8*br)) + -(ap + at)*(1 + v + v^2/3)*exp(-bar)"
    " + (c6*decay*p6 - (c8*(1 - decay*p8) + c10*(1 - decay*p10)/r^2)/r^2)/r^6;"
    " p10 = p8 + 2.7557319223985893e-06*y^9 + 2.755731922398589e-07*y^10;"
    " p8 = p6 + 0.0001984126984126984*y^7 + 2.48015873015873e-05*y^8;"
    " p6 = 1.0*y^0 + 1.0*y^1 + 0.5*y^2 + 0.16666666666666666*y^3 + 0.041666666666666664*y^4"
    " + 0.008333333333333333*y^5 + 0.001388888888888889*y^6;"
    " decay = exp(-y); y = z - (2*z^2 + 3*z)/(z^2 + 3*z + 3); z = min(60.0, bdr); v = min(60.0, bar);"
    " x = min(60.0, br);"
    " ax = ax1*ax2; ap = ap1*ap2; at = at1*at2; c6 = s61*s62; c8 = s81*s82; c10 = s101*s102;"
    " br = b1*b2*r; bar = ba1*ba2*r; bdr = bd1*bd2*r";

constexpr const char* kWithCations =
    "ax1*ax2*(1 + x + x^2/3)*exp(-bxr) + -ap1*ap2*(1 + v + v^2/3)*exp(-bpr) + -at1*at2*(1 + w + w^2/3)*exp(-btr);"
    " x = min(60.0, bxr); v = min(60.0, bpr); w = min(60.0, btr);"
    " bxr = bx1*bx2*r; bpr = bp1*bp2*r; btr = bt1*bt2*r";

constexpr const char* kDamping =
    "-138.93545764498*(q1*q2 - p1*p2)*(1 + 0.5*u)*exp(-u)/r; u = min(60.0, r/(w1*w2))";

/// By bits of Partners, what takes a squared distance beyond the cut-off where a bit is missing.
constexpr auto kFar = [] {
    std::array<Lanes, 1 << kLanes> far{};
    for (unsigned bits = 0; bits < far.size(); ++bits)
        for (int lane = 0; lane < kLanes; ++lane) far[bits].of[lane] = bits >> lane & 1 ? 0 : 1e30;
    return far;
}();

struct Value {
    double energy, push;  // kJ/mol, and -(dE/dr)/r, kJ/mol/nm^2
};

/// Call `act` with the function, or with a cheaper one that says the same for the particle it has taken.
template <class Function, class Act>
INLINED void with_kind_of(const Function& function, Act act) {
    act(function);
}

/// Add a pair function, which holds the parameters of a pair's first particle.
template <bool kEnergy, class Function>
INLINED void add(Function function, const Pairing& pairing, int thread, Sum& sum) {
    const Vectors* positions = pairing.list.positions().data();
    Vectors* forces = sum.force.data();
    const Shifts shifts = shifts_of(pairing.list.box());
    const double limit = pairing.range.cutoff * pairing.range.cutoff;
    Lanes energy;
    const Rows& rows = pairing.list.rows(thread);
    for (const Rows::Row& row : rows.rows) {
        const int block = row.place / kLanes, lane = row.place % kLanes;
        const Vectors& here = positions[block];
        const double x = here.x.of[lane], y = here.y.of[lane], z = here.z.of[lane];
        function.take(block, lane);
        Lanes fx, fy, fz;
        with_kind_of(function, [&](const auto& own) INLINED_LAMBDA {
            for (std::size_t k = row.begin; k < row.end; ++k) {
                const Partners partners = rows.partners[k];
                const Vectors& there = positions[partners.block];
                Vectors& force = forces[partners.block];
                const Lanes& far = kFar[partners.bits];
                const OpenMM::Vec3& shift = shifts[partners.image];
                const double sx = x - shift[0], sy = y - shift[1], sz = z - shift[2];
#pragma omp simd
                for (int j = 0; j < kLanes; ++j) {
                    const double dx = sx - there.x.of[j], dy = sy - there.y.of[j], dz = sz - there.z.of[j];
                    const double square = dx * dx + dy * dy + dz * dz + far.of[j];
                    const Value value = own(partners.block, j, at_most(square, limit));
                    const double push = square < limit ? value.push : 0;
                    fx.of[j] += push * dx, fy.of[j] += push * dy, fz.of[j] += push * dz;
                    force.x.of[j] -= push * dx, force.y.of[j] -= push * dy, force.z.of[j] -= push * dz;
                    if (kEnergy) energy.of[j] += square < limit ? value.energy : 0;
                }
            }
        });
        Vectors& force = forces[block];
        force.x.of[lane] += total(fx), force.y.of[lane] += total(fy), force.z.of[lane] += total(fz);
    }
    sum.energy += total(energy);
}

/// A bare pair under OpenMM's switching function.
INLINED Value switched(const Range& range, double r, double per_r, const Value& bare) {
    const double width = range.cutoff - range.switch_start;
    const double scale = width > 0 ? 1 / width : 0;
    const double past = (r - range.switch_start) * scale, t = past > 0 ? past : 0, rising = t * (1 - t);
    const double s = 1 + t * t * t * (-10 + t * (15 - t * 6));
    return {s * bare.energy, s * bare.push + 30 * scale * rising * rising * bare.energy * per_r};
}

struct ShortRange {
    struct Parameters {
        double b, ba, bd, ax, ap, at, s6, s8, s10;
    };
    INLINED Parameters at(int block, int lane) const {
        return {c[0][block].of[lane], c[1][block].of[lane], c[2][block].of[lane],
                c[3][block].of[lane], c[4][block].of[lane], c[5][block].of[lane],
                c[6][block].of[lane], c[7][block].of[lane], c[8][block].of[lane]};
    }
    INLINED void take(int block, int lane) { one = at(block, lane); }
    /// Without the bounds on br, bar and bdr, beyond which all is below 1e-20.
    INLINED Value operator()(int block, int lane, double square) const {
        const Parameters other = at(block, lane);
        const double per_r = 1 / std::sqrt(square), r = square * per_r, per_square = per_r * per_r;

        const double steep = one.b * other.b, x = steep * r;
        const double fifth = exp_minus(0.2 * x), fading = fifth * fifth * (fifth * fifth);  // exp(-t)
        const double t = kTailExponent * x, tail = one.ax * other.ax * kTailShare * fading;
        const double repulsion = one.ax * other.ax * (fading * fifth);
        const double flat = one.ba * other.ba, v = flat * r;
        const double attraction = (one.ap * other.ap + one.at * other.at) * exp_minus(v);
        const double overlap =
            repulsion * (1 + x * (1 + x * (1.0 / 3))) - tail * (1 + t * (1 + t * (1.0 / 3))) -
            attraction * (1 + v * (1 + v * (1.0 / 3)));
        const double overlap_push =
            ((repulsion * (1 + x) - tail * kTailExponent * kTailExponent * (1 + t)) * steep * steep -
             attraction * flat * flat * (1 + v)) *
            (1.0 / 3);

        const double bd = one.bd * other.bd, z = bd * r, per_q = 1 / (3 + z * (3 + z));
        const double y = z - z * (3 + 2 * z) * per_q, y_slope = bd * (1 - 3 * per_q * (1 + z * per_q));
        const double decay = exp_minus(y), y2 = y * y, y6 = y2 * y2 * y2;
        const double top = 1.0 / 24 + y * (1.0 / 120 + y * (1.0 / 720));
        const double p6 = 1 + y * (1 + y * (1.0 / 2 + y * (1.0 / 6 + y * top)));
        const double p8 = p6 + y6 * y * (1.0 / 5040 + y * (1.0 / 40320));
        const double p10 = p8 + y6 * y2 * y * (1.0 / 362880 + y * (1.0 / 3628800));
        // With f_n = 1 - decay p_n, df_n/dy = decay y^n/n!.
        const double c6 = one.s6 * other.s6, c8 = one.s8 * other.s8 * per_square,
                     c10 = one.s10 * other.s10 * per_square * per_square;
        const double e6 = c6 * decay * p6, e8 = c8 * (decay * p8 - 1), e10 = c10 * (decay * p10 - 1);
        const double per_r6 = per_square * per_square * per_square;
        const double growth = decay * y6 * (c6 * (1.0 / 720) + y2 * (c8 * (1.0 / 40320) + y2 * c10 * (1.0 / 3628800)));
        const double dispersion_push = (6 * e6 + 8 * e8 + 10 * e10) * per_square + growth * y_slope * per_r;
        return switched(range, r, per_r,
                        {overlap + (e6 + e8 + e10) * per_r6, overlap_push + dispersion_push * per_r6});
    }
    const Lanes* c[9];
    Range range;
    Parameters one{};
};

/// Slater terms of pairs with a bare cation.
struct WithCations {
    struct Parameters {
        double bx, bp, bt, ax, ap, at;
    };
    INLINED Parameters at(int block, int lane) const {
        return {c[0][block].of[lane], c[1][block].of[lane], c[2][block].of[lane],
                c[3][block].of[lane], c[4][block].of[lane], c[5][block].of[lane]};
    }
    INLINED void take(int block, int lane) { one = at(block, lane); }
    static INLINED Value overlap(double strength, double exponent, double r) {
        const double x = exponent * r, fading = strength * exp_minus(x);
        return {fading * (1 + x * (1 + x * (1.0 / 3))), fading * exponent * exponent * (1 + x) * (1.0 / 3)};
    }
    /// Without the bounds on the arguments, beyond which all is below 1e-20.
    INLINED Value operator()(int block, int lane, double square) const {
        const Parameters other = at(block, lane);
        const double per_r = 1 / std::sqrt(square), r = square * per_r;
        const Value exchange = overlap(one.ax * other.ax, one.bx * other.bx, r);
        const Value penetration = overlap(one.ap * other.ap, one.bp * other.bp, r);
        const Value transfer = overlap(one.at * other.at, one.bt * other.bt, r);
        return switched(range, r, per_r,
                        {exchange.energy - penetration.energy - transfer.energy,
                         exchange.push - penetration.push - transfer.push});
    }
    const Lanes* c[6];
    Range range;
    Parameters one{};
};

struct Damping {
    struct Parameters {
        double q, p, w;
    };
    INLINED Parameters at(int block, int lane) const {
        return {c[0][block].of[lane], c[1][block].of[lane], c[2][block].of[lane]};
    }
    INLINED void take(int block, int lane) { one = at(block, lane); }
    INLINED Value operator()(int block, int lane, double square) const {
        const Parameters other = at(block, lane);
        const double per_r = 1 / std::sqrt(square), r = square * per_r, u = r / (one.w * other.w);
        const double coulomb = -kCoulomb * (one.q * other.q - one.p * other.p) * per_r * exp_minus(u);
        return switched(range, r, per_r, {coulomb * (1 + 0.5 * u), coulomb * per_r * per_r * (1 + u * (1 + 0.5 * u))});
    }
    const Lanes* c[3];
    Range range;
    Parameters one{};
};

/// Without dispersion for a particle that has none, as oscillators and off-atom charges.
template <bool kDispersion>
struct DirectSpace {
    struct Parameters {
        double q, s6;
    };
    INLINED void take(int block, int lane) { one = {kCoulomb * c[0][block].of[lane], c[1][block].of[lane]}; }
    INLINED Value operator()(int block, int lane, double square) const {
        const double per_r = 1 / std::sqrt(square), per_square = per_r * per_r;
        const double product = one.q * c[0][block].of[lane], t = square * scale - 1;
        Value value = {product * (per_r - polynomial(reciprocal.energy, t)),
                       product * (per_r * per_square - polynomial(reciprocal.push, t))};
        if (kDispersion) {
            const double per_r6 = per_square * per_square * per_square;
            const double e6 = one.s6 * c[1][block].of[lane] * per_r6, ratio = sigma6 * per_r6;
            value.energy += e6 * (ratio - 1), value.push += e6 * per_square * (12 * ratio - 6);
        }
        return value;
    }
    const Lanes* c[2];
    double sigma6, scale;
    Reciprocal reciprocal;
    Parameters one{};
};

template <class Act>
INLINED void with_kind_of(const DirectSpace<true>& function, Act act) {
    const auto& [c, sigma6, scale, reciprocal, one] = function;
    if (one.s6 != 0)
        act(function);
    else
        act(DirectSpace<false>{{c[0], c[1]}, sigma6, scale, reciprocal, {one.q, 0}});
}

template <class Function>
INLINED void add(const Function& function, const Pairing& pairing, int thread, bool energy_wanted, Sum& sum) {
    if (energy_wanted)
        add<true>(function, pairing, thread, sum);
    else
        add<false>(function, pairing, thread, sum);
}

FOR_EVERY_PROCESSOR
void add_short_range(const Pairing& pairing, int thread, bool energy_wanted, Sum& sum) {
    const Columns& c = pairing.columns;
    const ShortRange function{{c[0].data(), c[1].data(), c[2].data(), c[3].data(), c[4].data(), c[5].data(),
                               c[6].data(), c[7].data(), c[8].data()},
                              pairing.range};
    add(function, pairing, thread, energy_wanted, sum);
}

FOR_EVERY_PROCESSOR
void add_with_cations(const Pairing& pairing, int thread, bool energy_wanted, Sum& sum) {
    const Columns& c = pairing.columns;
    const WithCations function{{c[0].data(), c[1].data(), c[2].data(), c[3].data(), c[4].data(), c[5].data()},
                               pairing.range};
    add(function, pairing, thread, energy_wanted, sum);
}

FOR_EVERY_PROCESSOR
void add_damping(const Pairing& pairing, int thread, bool energy_wanted, Sum& sum) {
    const Columns& c = pairing.columns;
    add(Damping{{c[0].data(), c[1].data(), c[2].data()}, pairing.range}, pairing, thread, energy_wanted, sum);
}

FOR_EVERY_PROCESSOR
void add_direct_space(const Pairing& pairing, int thread, bool energy_wanted, Sum& sum) {
    const Range& range = pairing.range;
    const Columns& c = pairing.columns;
    const double scale = 2 / (range.cutoff * range.cutoff);
    const DirectSpace<true> function{{c[0].data(), c[1].data()}, range.sigma6, scale, pairing.reciprocal};
    add(function, pairing, thread, energy_wanted, sum);
}

/// What Reciprocal approximates, at any distance.
Value from_reciprocal_space(double screening, double r) {
    const double x = screening * r, energy = std::erf(x) / r;
    return {energy, (energy - kTwoPerRootPi * screening * std::exp(-x * x)) / (r * r)};
}

bool no_amplitude(const std::vector<double>& row) {
    return std::all_of(row.begin() + 3, row.end(), [](double value) { return value == 0; });
}

bool no_force(const std::vector<double>& row) { return row[0] == 0 && row[1] == 0; }
bool never(const std::vector<double>&) { return false; }
bool no_charge(const std::vector<double>& row) { return row[0] == 0 && row[1] == 0; }
bool permanent_only(const std::vector<double>& row) { return row[0] == row[1]; }

}  // namespace

const std::vector<Term>& terms() {
    static const std::vector<Term> all = {
        {kShortRange, {"b", "ba", "bd", "ax", "ap", "at", "s6", "s8", "s10"}, add_short_range, no_amplitude, never},
        {kWithCations, {"bx", "bp", "bt", "ax", "ap", "at"}, add_with_cations, no_amplitude, never},
        {kDamping, {"q", "p", "w"}, add_damping, no_charge, permanent_only},
    };
    return all;
}

const Term& direct_space() {
    static const Term term = {nullptr, {"q", "s6"}, add_direct_space, no_force, never};
    return term;
}

/// Chebyshev interpolation of the push, which then is integrated.
Reciprocal::Reciprocal(double screening, double cutoff) {
    constexpr int n = std::tuple_size_v<decltype(push)>;
    std::array<double, n> values;
    for (int k = 0; k < n; ++k) {
        const double r = cutoff * std::sqrt(0.5 + 0.5 * std::cos(std::numbers::pi * (k + 0.5) / n));
        values[k] = from_reciprocal_space(screening, r).push;
    }
    std::array<double, n> before{}, now{1.0};  // the Chebyshev polynomials of orders m - 1 and m
    for (int m = 0; m < n; ++m) {
        const int factor = m ? 2 : 1;
        double weight = 0;
        for (int k = 0; k < n; ++k) weight += factor * values[k] * std::cos(std::numbers::pi * m * (k + 0.5) / n) / n;
        std::array<double, n> next{};
        for (int k = 0; k < n; ++k) push[k] += weight * now[k];
        for (int k = 0; k < n; ++k) next[k] = (k ? factor * now[k - 1] : 0) - before[k];
        before = now, now = next;
    }
    for (int k = 0; k < n; ++k) energy[k + 1] = -0.25 * cutoff * cutoff * push[k] / (k + 1);
    energy[0] = from_reciprocal_space(screening, cutoff).energy - polynomial(energy, 1.0);
}

template <bool kEnergy>
INLINED void add_exceptions(const Pairing& pairing, const Exceptions& exceptions,
                            const std::vector<OpenMM::Vec3>& positions, const std::vector<int>& offset, int thread,
                            int threads, Sum& sum) {
    constexpr int kBatch = 32 * kLanes, kY = kLanes, kZ = 2 * kLanes;
    static_assert(sizeof(OpenMM::Vec3) == 3 * sizeof(double));
    alignas(64) double dxs[kBatch], dys[kBatch], dzs[kBatch], squares[kBatch], energies[kBatch], pushes[kBatch];
    const double* xyz = reinterpret_cast<const double*>(positions.data());
    double* forces = sum.force.data()->x.of;
    const Reciprocal reciprocal = pairing.reciprocal;
    const double screening = pairing.range.screening, limit = pairing.range.cutoff * pairing.range.cutoff;
    for (int begin = kBatch * thread; begin < exceptions.size(); begin += kBatch * threads) {
        const int number = std::min(kBatch, exceptions.size() - begin);
        const int* first = &exceptions.first[begin];
        const int* second = &exceptions.second[begin];
        const double* products = &exceptions.reciprocal[begin];
#pragma omp simd
        for (int k = 0; k < number; ++k) {
            const double *one = xyz + 3 * first[k], *other = xyz + 3 * second[k];
            const double dx = one[0] - other[0], dy = one[1] - other[1], dz = one[2] - other[2];
            const double square = dx * dx + dy * dy + dz * dz, t = at_most(square, limit) * (2 / limit) - 1;
            dxs[k] = dx, dys[k] = dy, dzs[k] = dz, squares[k] = square;
            if (kEnergy) energies[k] = -kCoulomb * products[k] * polynomial(reciprocal.energy, t);
            pushes[k] = -kCoulomb * products[k] * polynomial(reciprocal.push, t);
        }
        for (int k = 0; k < number; ++k) {
            if (squares[k] <= limit) continue;
            const Value far = from_reciprocal_space(screening, std::sqrt(squares[k]));
            energies[k] = -kCoulomb * products[k] * far.energy;
            pushes[k] = -kCoulomb * products[k] * far.push;
        }
        const double *own = &exceptions.own[begin], *c6 = &exceptions.c6[begin], *c12 = &exceptions.c12[begin];
#pragma omp simd
        for (int k = 0; k < std::min(number, exceptions.bare - begin); ++k) {
            const double per_square = 1 / squares[k], per_r6 = per_square * per_square * per_square;
            const double coulomb = kCoulomb * own[k] * std::sqrt(per_square);
            const double e6 = c6[k] * per_r6, e12 = c12[k] * per_r6 * per_r6;
            if (kEnergy) energies[k] += coulomb + e12 - e6;
            pushes[k] += (coulomb + 12 * e12 - 6 * e6) * per_square;
        }
        for (int k = 0; k < number; ++k) {
            double *one = forces + offset[first[k]], *other = forces + offset[second[k]];
            const double x = pushes[k] * dxs[k], y = pushes[k] * dys[k], z = pushes[k] * dzs[k];
            one[0] += x, one[kY] += y, one[kZ] += z;
            other[0] -= x, other[kY] -= y, other[kZ] -= z;
            if (kEnergy) sum.energy += energies[k];
        }
    }
}

FOR_EVERY_PROCESSOR
void add_exceptions(const Pairing& pairing, const Exceptions& exceptions, const std::vector<OpenMM::Vec3>& positions,
                    const std::vector<int>& offset, int thread, int threads, bool energy_wanted, Sum& sum) {
    if (energy_wanted)
        add_exceptions<true>(pairing, exceptions, positions, offset, thread, threads, sum);
    else
        add_exceptions<false>(pairing, exceptions, positions, offset, thread, threads, sum);
}

}  // namespace phyff
