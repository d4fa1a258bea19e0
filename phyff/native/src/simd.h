// What the inner loops share: one binary for old and new processors, and arithmetic that vectorises on all.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif

namespace phyff {

constexpr double kShift = 0x1.8p52;  // adding it rounds a double to an integer, kept in the low bits

inline double nearest(double x) { return (x + kShift) - kShift; }

/// exp(-x) for 0 <= x <= 700, to 2e-16.
inline double exp_minus(double x) {
    const double shifted = kShift - x * 1.4426950408889634;
    const double n = shifted - kShift;
    const double r = (-x - n * 0x1.62e42fefa38p-1) - n * 0x1.ef35793c7673p-45;  // |r| < ln(2)/2
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * std::bit_cast<double>((std::bit_cast<std::uint64_t>(shifted) + 1023) << 52);
}

/// erfc(x) exp(x^2) for x >= 0 to 1e-13 relative up to 6: Chebyshev fit in s = 2 (t - 1/4) / (3/4) - 1, t = 2 / (2 + x).
inline double scaled_erfc(double x) {
    const double s = (16.0 / 3) / (2 + x) - 5.0 / 3;
    double p = 2.0230359882119033e-09;
    p = p * s + -7.528934113356885e-09;
    p = p * s + -4.0000097446434365e-09;
    p = p * s + 8.619358712293035e-08;
    p = p * s + -2.0091929584055242e-07;
    p = p * s + -2.818121133060439e-07;
    p = p * s + 2.8396308561101215e-06;
    p = p * s + -4.271482273190262e-06;
    p = p * s + -2.2700673066332462e-05;
    p = p * s + 0.00010054202541334604;
    p = p * s + 0.00013358436904086033;
    p = p * s + -0.0016653643889483999;
    p = p * s + -0.0016702444143932306;
    p = p * s + 0.032993429479586216;
    p = p * s + 0.16940759095486704;
    p = p * s + 0.42218758361341;
    p = p * s + 0.3785374169292375;
    return p;
}

}  // namespace phyff
