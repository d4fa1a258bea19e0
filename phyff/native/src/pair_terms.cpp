#include "pair_terms.h"

#include <cmath>

#include "simd.h"

namespace phyff {

namespace {

constexpr double kMaxArgument = 60.0;
constexpr double kUnderflow = 700.0;
constexpr double kCoulomb = 138.93545764498;
constexpr double kTwoPerRootPi = 1.1283791670955126;
constexpr double kClosest = 1e-4;  // nm; nearer than this an oscillator counts as on its atom
constexpr int kLanes = 8;

constexpr const char* kShortRange =
    "(ax - ap - at)*(1 + x + x^2/3)*exp(-br)"
    " + (c6*decay*p6 - (c8*(1 - decay*p8) + c10*(1 - decay*p10)/r^2)/r^2)/r^6;"
    " p10 = p8 + 2.7557319223985893e-06*y^9 + 2.755731922398589e-07*y^10;"
    " p8 = p6 + 0.0001984126984126984*y^7 + 2.48015873015873e-05*y^8;"
    " p6 = 1.0*y^0 + 1.0*y^1 + 0.5*y^2 + 0.16666666666666666*y^3 + 0.041666666666666664*y^4"
    " + 0.008333333333333333*y^5 + 0.001388888888888889*y^6;"
    " decay = exp(-y); y = z - (2*z^2 + 3*z)/(z^2 + 3*z + 3); z = min(60.0, bdr); x = min(60.0, br);"
    " ax = ax1*ax2; ap = ap1*ap2; at = at1*at2; c6 = s61*s62; c8 = s81*s82; c10 = s101*s102;"
    " br = b1*b2*r; bdr = bd1*bd2*r";

constexpr const char* kDamping =
    "-138.93545764498*(q1*q2 - p1*p2)*(1 + 0.5*u)*exp(-u)/r; u = min(60.0, r/(w1*w2))";

inline double at_most(double x, double limit) { return x < limit ? x : limit; }

/// Energy and push of a pair under OpenMM's switching function, from the bare energy and its derivative.
inline void store(Range range, double r, double energy, double slope, double& switched, double& push) {
    const double width = range.cutoff - range.switch_start;
    const double scale = width > 0 ? 1 / width : 0;
    const double past = (r - range.switch_start) * scale, t = past > 0 ? past : 0;
    const double s = 1 + t * t * t * (-10 + t * (15 - t * 6));
    const double ds = t * t * (-30 + t * (60 - t * 30)) * scale;
    switched = s * energy;
    push = -(s * slope + ds * energy) / r;
}

FOR_EVERY_PROCESSOR
void short_range(const Columns& columns, int i, Range range, int number, Batch& batch) {
    const double *b = columns[0].data(), *bd = columns[1].data(), *ax = columns[2].data(), *ap = columns[3].data(),
                 *at = columns[4].data(), *s6 = columns[5].data(), *s8 = columns[6].data(), *s10 = columns[7].data();
    const double b_i = b[i], bd_i = bd[i], ax_i = ax[i], ap_i = ap[i], at_i = at[i], s6_i = s6[i], s8_i = s8[i],
                 s10_i = s10[i];
#pragma omp simd
    for (int k = 0; k < (number + kLanes - 1) / kLanes * kLanes; ++k) {
        const int j = batch.j[k];
        const double square = batch.square[k], r = std::sqrt(square), per_square = 1 / square;

        const double slater = b_i * b[j], br = slater * r, x = at_most(br, kMaxArgument);
        const double amplitude = (ax_i * ax[j] - ap_i * ap[j] - at_i * at[j]) * exp_minus(at_most(br, kUnderflow));
        const double polynomial = 1 + x + x * x * (1.0 / 3);
        const double polynomial_slope = br < kMaxArgument ? 1 + x * (2.0 / 3) : 0;
        double energy = amplitude * polynomial;
        double slope = amplitude * slater * (polynomial_slope - polynomial);

        const double bd_ij = bd_i * bd[j], bdr = bd_ij * r, z = at_most(bdr, kMaxArgument);
        const double per_q = 1 / (z * z + 3 * z + 3);
        const double y = z - (2 * z * z + 3 * z) * per_q;
        const double y_slope = bdr < kMaxArgument ? bd_ij * (1 - 3 * (z + 1) * (z + 3) * per_q * per_q) : 0;
        const double decay = exp_minus(y), y2 = y * y, y6 = y2 * y2 * y2;
        const double top = 1.0 / 24 + y * (1.0 / 120 + y * (1.0 / 720));
        const double p6 = 1 + y * (1 + y * (1.0 / 2 + y * (1.0 / 6 + y * top)));
        const double p8 = p6 + y6 * y * (1.0 / 5040 + y * (1.0 / 40320));
        const double p10 = p8 + y6 * y2 * y * (1.0 / 362880 + y * (1.0 / 3628800));
        // With f_n = 1 - decay p_n, df_n/dy = decay y^n/n!.
        const double c6 = s6_i * s6[j], c8 = s8_i * s8[j] * per_square, c10 = s10_i * s10[j] * per_square * per_square;
        const double e6 = c6 * decay * p6, e8 = -c8 * (1 - decay * p8), e10 = -c10 * (1 - decay * p10);
        const double per_r6 = per_square * per_square * per_square;
        const double growth = decay * y6 * (c6 * (1.0 / 720) + y2 * (c8 * (1.0 / 40320) + y2 * c10 * (1.0 / 3628800)));
        energy += (e6 + e8 + e10) * per_r6;
        slope -= ((6 * e6 + 8 * e8 + 10 * e10) * per_square * r + growth * y_slope) * per_r6;

        store(range, r, energy, slope, batch.energy[k], batch.push[k]);
    }
}

FOR_EVERY_PROCESSOR
void damping(const Columns& columns, int i, Range range, int number, Batch& batch) {
    const double *q = columns[0].data(), *p = columns[1].data(), *w = columns[2].data();
    const double q_i = q[i], p_i = p[i], w_i = w[i];
#pragma omp simd
    for (int k = 0; k < (number + kLanes - 1) / kLanes * kLanes; ++k) {
        const int j = batch.j[k];
        const double r = std::sqrt(batch.square[k]), per_r = 1 / r, per_width = 1 / (w_i * w[j]);
        const double ratio = r * per_width, u = at_most(ratio, kMaxArgument);
        const double coulomb = -kCoulomb * (q_i * q[j] - p_i * p[j]) * per_r * exp_minus(u);
        const double rest = 1 + 0.5 * u;
        const double rest_slope = ratio < kMaxArgument ? -0.5 * (1 + u) * per_width : 0;
        store(range, r, coulomb * rest, coulomb * (rest_slope - rest * per_r), batch.energy[k], batch.push[k]);
    }
}

FOR_EVERY_PROCESSOR
void screened(const Columns& columns, int i, Range range, int number, Batch& batch) {
    const double *q = columns[0].data(), *s6 = columns[1].data(), *s12 = columns[2].data();
    const double q_i = kCoulomb * q[i], s6_i = s6[i], s12_i = s12[i], screening = range.screening;
#pragma omp simd
    for (int k = 0; k < (number + kLanes - 1) / kLanes * kLanes; ++k) {
        const int j = batch.j[k];
        const double square = batch.square[k], per_r = 1 / std::sqrt(square), per_square = per_r * per_r;
        const double x = screening * square * per_r, gauss = exp_minus(at_most(x * x, kUnderflow));
        const double coulomb = q_i * q[j] * per_r, left = coulomb * gauss * scaled_erfc(x);
        const double per_r6 = per_square * per_square * per_square;
        const double e6 = s6_i * s6[j] * per_r6, e12 = s12_i * s12[j] * per_r6 * per_r6;
        batch.energy[k] = left + e12 - e6;
        batch.push[k] = (left + coulomb * kTwoPerRootPi * x * gauss + 12 * e12 - 6 * e6) * per_square;
    }
}

bool no_amplitude(const std::vector<double>& row) {
    for (int k = 2; k < 8; ++k)
        if (row[k] != 0) return false;
    return true;
}

bool no_force(const std::vector<double>& row) { return row[0] == 0 && row[1] == 0 && row[2] == 0; }
bool never(const std::vector<double>&) { return false; }
bool no_charge(const std::vector<double>& row) { return row[0] == 0 && row[1] == 0; }
bool permanent_only(const std::vector<double>& row) { return row[0] == row[1]; }

}  // namespace

const std::vector<Term>& terms() {
    static const std::vector<Term> all = {
        {kShortRange, {"b", "bd", "ax", "ap", "at", "s6", "s8", "s10"}, short_range, no_amplitude, never},
        {kDamping, {"q", "p", "w"}, damping, no_charge, permanent_only},
    };
    return all;
}

const Term& direct_space() {
    static const Term term = {nullptr, {"q", "s6", "s12"}, screened, no_force, never};
    return term;
}

FOR_EVERY_PROCESSOR
void evaluate_exceptions(const Exceptions& exceptions, int begin, int number, double screening, Batch& batch) {
    const double *own = &exceptions.own[begin], *reciprocal = &exceptions.reciprocal[begin],
                 *c6 = &exceptions.c6[begin], *c12 = &exceptions.c12[begin];
#pragma omp simd
    for (int k = 0; k < number; ++k) {
        const double found = std::sqrt(batch.square[k]), r = found > kClosest ? found : kClosest, per_r = 1 / r;
        const double x = screening * r, gauss = exp_minus(at_most(x * x, kUnderflow));
        const double bare = kCoulomb * own[k] * per_r, inside = kCoulomb * reciprocal[k] * per_r;
        const double screened = inside * (1 - gauss * scaled_erfc(x));
        const double per_square = per_r * per_r, per_r6 = per_square * per_square * per_square;
        const double e6 = c6[k] * per_r6, e12 = c12[k] * per_r6 * per_r6;
        batch.energy[k] = bare - screened + e12 - e6;
        batch.push[k] = (bare - screened + inside * kTwoPerRootPi * x * gauss + 12 * e12 - 6 * e6) * per_square;
    }
}

FOR_EVERY_PROCESSOR
void separate(const Coordinates& positions, const Box& box, const Exceptions& exceptions, int begin, int number,
              Batch& batch) {
    const double *xs = positions.x.data(), *ys = positions.y.data(), *zs = positions.z.data();
    const int *first = &exceptions.first[begin], *second = &exceptions.second[begin];
    const NearestImage to_nearest(box);
#pragma omp simd
    for (int k = 0; k < number; ++k) {
        const int i = first[k], j = second[k];
        double dx = xs[i] - xs[j], dy = ys[i] - ys[j], dz = zs[i] - zs[j];
        to_nearest(dx, dy, dz);
        batch.dx[k] = dx, batch.dy[k] = dy, batch.dz[k] = dz;
        batch.square[k] = dx * dx + dy * dy + dz * dz;
    }
}

FOR_EVERY_PROCESSOR
int within_cutoff(const Coordinates& positions, const Box& box, int i, const int* partners, int number, double cutoff,
                  Batch& batch) {
    const double *xs = positions.x.data(), *ys = positions.y.data(), *zs = positions.z.data();
    const double x = xs[i], y = ys[i], z = zs[i], limit = cutoff * cutoff;
    const NearestImage to_nearest(box);
#pragma omp simd
    for (int k = 0; k < number; ++k) {
        const int j = partners[k];
        double dx = x - xs[j], dy = y - ys[j], dz = z - zs[j];
        to_nearest(dx, dy, dz);
        batch.dx[k] = dx, batch.dy[k] = dy, batch.dz[k] = dz;
        batch.square[k] = dx * dx + dy * dy + dz * dz;
    }
    int kept = 0;
    for (int k = 0; k < number; ++k) {
        const double square = batch.square[k];
        batch.j[kept] = partners[k];
        batch.dx[kept] = batch.dx[k], batch.dy[kept] = batch.dy[k], batch.dz[kept] = batch.dz[k];
        batch.square[kept] = square;
        kept += square < limit;
    }
    for (int k = kept; k < (kept + kLanes - 1) / kLanes * kLanes; ++k) batch.j[k] = i, batch.square[k] = limit;
    return kept;
}

}  // namespace phyff
