// E_nn of atoms with their neighbours, as phyff/model/neural.py has it: the committee's mean and its forces. Single
// precision; nm and kJ/mol.
#pragma once

#include <vector>

#include "pair_list.h"

namespace phyff {

constexpr int kRadial = 8, kAngular = 4;  // functions of the distance; the last of both is of exchange
constexpr int kRadialCentres = kRadial - 1, kAngularCentres = kAngular - 1;  // the others are Gaussians
constexpr int kAlong = 3 * kAngular;      // what an atom's own bonds make of the directions of neighbours

/// What an atom sees of its neighbours: how far they are, in which direction, and how that lies to its own bonds.
enum class Sight { distances, directions, bonds };

/// The weights, contracted by kind of atom. Shapes: M members, T kinds, C channels, H hidden, F features of a network,
/// S scalar functions of a pair: kRadial, and kAlong more with bonds.
struct Committee {
    int members = 0, kinds = 0, channels = 0, hidden = 0, features = 0, scalars = 0;
    double cutoff = 0, wall = 0, saturation = 0;
    std::vector<float> centres, widths;         // of the radial Gaussians and then, if there are any, the angular ones
    std::vector<float> exponents, amplitudes;   // (T,) of exchange
    std::vector<float> strengths;               // (T, T, S) of an atom's functions of another, kJ/mol
    std::vector<float> embedding, gate;         // (T, M, C)
    std::vector<float> own;                     // (T, M, H) enters the first layer
    std::vector<float> offset;                  // (T, M) output of the network of an atom on its own
    std::vector<float> in, middle, bias, out;   // (M, F, H), (M, H, H), (M, H), (M, H)

    Sight sight() const {
        if (scalars > kRadial) return Sight::bonds;
        return centres.size() > kRadialCentres ? Sight::directions : Sight::distances;
    }
};

/// What is known of the atoms of a list, by place.
struct AtomTable {
    std::vector<int> kind;
    std::vector<int> end, bonded;  // of each atom's bonds; the places at their other ends, those of one after another

    int begin(int place) const { return place ? end[place - 1] : 0; }
};

/// Atoms that are computed side by side, one a lane.
constexpr int kBatch = 16;

struct alignas(4 * kBatch) Batch {
    float of[kBatch] = {};
};

/// Neighbours of the atoms of a batch, those of one atom after those of another.
struct Neighbours {
    static constexpr int kGaussians = 16, kDirections = 8;  // fill registers: 8 + 4 functions of r; 3 + 5 of direction

    struct alignas(4 * kGaussians) Gaussians {
        float of[kGaussians];
    };
    struct alignas(4 * kDirections) Directions {
        float of[kDirections];
    };

    int begin(int atom) const { return atom ? end[atom - 1] : 0; }

    int end[kBatch];  // of each atom's
    std::vector<int> place, kind;  // the kind as a number among those seen
    std::vector<float> x, y, z, steepness, amplitude;  // the vector to the neighbour, and of the pair's exchange
    std::vector<float> r, per_r, weight, weight_slope, contact, contact_slope, push;
    std::vector<Gaussians> gaussians;
    std::vector<Directions> directions, torque;  // direction and its traceless square; slopes of the energy with them

    void reserve(std::size_t size);
};

/// Sums over the bonds of an atom: directions and traceless squares; and the traceless square of the former. Or slopes
/// of the energy with these.
struct alignas(4 * Neighbours::kDirections) Frame {
    float own[Neighbours::kDirections] = {}, squared[Neighbours::kDirections] = {};
};

/// One of them.
struct Bond {
    int place;
    float direction[3], per_r;
};

/// What a thread works with.
struct Workspace {
    Neighbours near;
    int place[kBatch], kind[kBatch];             // of the atoms
    std::vector<int> seen, slot;                 // kinds of neighbours in the batch, and by kind its number there or -1
    std::vector<float> rows, embedding;          // sums or slopes of one atom by kind seen; embedding of those
    std::vector<float> moments;                  // by atom and kind seen, its sums over directions
    Frame frames[kBatch];
    std::vector<Bond> bonds;  // of the atoms, those of one after those of another
    int bonds_end[kBatch];
    std::vector<Batch> sums, mixed, gate, own, offset;
    std::vector<Batch> features, first, second, back, slopes;  // of the networks, through their layers and back
    double energy[kBatch] = {};
};

/// Add what the atoms have for which this thread has rows.
void add_neural(const Committee& committee, const PairList& list, const AtomTable& table, int thread, Workspace& work,
                Sum& sum);

}  // namespace phyff
