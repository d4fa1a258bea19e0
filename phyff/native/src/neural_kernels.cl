// E_nn as phyff/model/neural.py has it, in the dialect that OpenMM compiles for OpenCL and CUDA when a Context is
// made. One work group an atom; single precision but for the differences of positions. Atoms are numbered by kind, so
// that neighbours come kind by kind. Lengths and other numbers are defined by neural_gpu.cpp.

#define RADIAL_CENTRES (RADIAL - 1)
#define ANGULAR_CENTRES (ANGULAR - 1)
#define COLUMNS (MEMBERS*CHANNELS)
#define FIRST_MOMENT SCALARS
#define FUNCTIONS (RADIAL + (SEE_DIRECTIONS ? ANGULAR : 0))
#define RAW (RADIAL + (SEE_DIRECTIONS ? ANGULAR*DIRECTIONS : 0))
#define LEAST_SQUARE 1e-12f
#define BOX \
    real4 periodicBoxSize, real4 invPeriodicBoxSize, real4 periodicBoxVecX, real4 periodicBoxVecY, real4 periodicBoxVecZ
#define SAME_BOX periodicBoxSize, invPeriodicBoxSize, periodicBoxVecX, periodicBoxVecY, periodicBoxVecZ

// What an atom sees of a neighbour.
typedef struct {
    float r, perR, weight, weightSlope, contact, contactSlope;
    float direction[DIRECTIONS];
    float functions[RADIAL + ANGULAR];
} Sight;

// The vector from one atom to another, the nearest image.
DEVICE inline real3 wayTo(real4 from, real4 to, BOX) {
    real3 delta = make_real3(to.x - from.x, to.y - from.y, to.z - from.z);
#ifdef PERIODIC
    APPLY_PERIODIC_TO_DELTA(delta)
#endif
    return delta;
}

// The traceless square of a vector, five numbers.
DEVICE inline void traceless(float x, float y, float z, float* to) {
    to[0] = x*y;
    to[1] = y*z;
    to[2] = x*z;
    to[3] = 0.5f*(x*x - y*y);
    to[4] = PER_ROOT_3*(z*z - 0.5f*(x*x + y*y));
}

// From slopes of the energy with a vector (3) and its traceless square (5) that with the vector.
DEVICE inline void slopeWith(const float* vector, const float* slopes, float* out) {
    float x = vector[0], y = vector[1], z = vector[2];
    out[0] = slopes[0] + slopes[3]*y + slopes[5]*z + (slopes[6] - PER_ROOT_3*slopes[7])*x;
    out[1] = slopes[1] + slopes[3]*x + slopes[4]*z - (slopes[6] + PER_ROOT_3*slopes[7])*y;
    out[2] = slopes[2] + slopes[4]*y + slopes[5]*x + 2*PER_ROOT_3*slopes[7]*z;
}

// The same with the way in a direction, which is 1/perR long.
DEVICE inline void slopeWithWay(const float* direction, float perR, const float* slopes, float* out) {
    slopeWith(direction, slopes, out);
    float along = out[0]*direction[0] + out[1]*direction[1] + out[2]*direction[2];
    for (int d = 0; d < 3; d++)
        out[d] = perR*(out[d] - along*direction[d]);
}

// Of exponentials, which stay accurate where compilers take fast approximations of tanh.
DEVICE inline float tanhOf(float x) {
    float decay = exp(-2*fabs(x)), t = (1 - decay)/(1 + decay);
    return x < 0 ? -t : t;
}

// False beyond the cut-off.
DEVICE inline bool look(real3 way, float steepness, float amplitude, GLOBAL const float* RESTRICT weights,
        Sight* sight) {
    float x = (float) way.x, y = (float) way.y, z = (float) way.z;
    float r2 = x*x + y*y + z*z;
    if (r2 >= CUTOFF*CUTOFF)
        return false;
    float perR = 1/sqrt(r2 > LEAST_SQUARE ? r2 : LEAST_SQUARE), r = r2*perR;
    float perLimit = 1/(CUTOFF*CUTOFF), t = 1 - r2*perLimit;
    float s = steepness*r, decay = amplitude*exp(-s);
    float exchange = decay*(1 + s*(1 + s*(1.0f/3))), exchangeSlope = -steepness*decay*s*(1 + s)*(1.0f/3);
    float wall = 1/(1 + exchange*exchange);
    sight->r = r;
    sight->perR = perR;
    sight->contact = 2*exchange;
    sight->contactSlope = 2*exchangeSlope;
    sight->weight = t*t*t*wall;
    sight->weightSlope = t*t*wall*(-6*r*perLimit - 2*t*exchange*exchangeSlope*wall);
    for (int k = 0; k < RADIAL_CENTRES; k++) {
        float u = (r - weights[CENTRES + k])*weights[SCALES + k];
        sight->functions[k] = exp(-u*u);
    }
    sight->functions[RADIAL - 1] = sight->contact;
    if (SEE_DIRECTIONS) {
        for (int k = 0; k < ANGULAR_CENTRES; k++) {
            float u = (r - weights[CENTRES + RADIAL_CENTRES + k])*weights[SCALES + RADIAL_CENTRES + k];
            sight->functions[RADIAL + k] = exp(-u*u);
        }
        sight->functions[RADIAL + ANGULAR - 1] = sight->contact;
    }
    sight->direction[0] = x*perR;
    sight->direction[1] = y*perR;
    sight->direction[2] = z*perR;
    traceless(sight->direction[0], sight->direction[1], sight->direction[2], &sight->direction[3]);
    return true;
}

DEVICE inline void push(GLOBAL mm_ulong* RESTRICT forces, int place, float x, float y, float z) {
    ATOMIC_ADD(&forces[place], (mm_ulong) realToFixedPoint((real) x));
    ATOMIC_ADD(&forces[place + PADDED], (mm_ulong) realToFixedPoint((real) y));
    ATOMIC_ADD(&forces[place + 2*PADDED], (mm_ulong) realToFixedPoint((real) z));
}

// Where OpenMM keeps each atom, which it may change.
KERNEL void findPlaces(GLOBAL const int* RESTRICT particleAt, GLOBAL const int* RESTRICT atomOf,
        GLOBAL int* RESTRICT place) {
    for (int k = GLOBAL_ID; k < PARTICLES; k += GLOBAL_SIZE) {
        int atom = atomOf[particleAt[k]];
        if (atom >= 0)
            place[atom] = k;
    }
}

// Whether an atom may have come within the cut-off unlisted: state[0] says so. listed: where atoms were when they were
// listed; the vectors of that box follow.
KERNEL void checkList(GLOBAL const real4* RESTRICT posq, GLOBAL const int* RESTRICT place,
        GLOBAL const real4* RESTRICT listed, GLOBAL int* RESTRICT state, BOX) {
    real strain = 0;
#ifdef PERIODIC
    real4 a = listed[ATOMS], b = listed[ATOMS + 1], c = listed[ATOMS + 2];
    strain = fabs(a.x - periodicBoxVecX.x) + fabs(b.x - periodicBoxVecY.x) + fabs(b.y - periodicBoxVecY.y) +
            fabs(c.x - periodicBoxVecZ.x) + fabs(c.y - periodicBoxVecZ.y) + fabs(c.z - periodicBoxVecZ.z);
#endif
    for (int k = GLOBAL_ID; k < ATOMS; k += GLOBAL_SIZE) {
        real3 moved = wayTo(listed[k], posq[place[k]], SAME_BOX);
        real most = (real) 0.5f*((real) SKIN - strain);
        if (most < 0 || !(moved.x*moved.x + moved.y*moved.y + moved.z*moved.z < most*most))
            state[0] = 1;
    }
}

// Neighbours of each atom in other molecules, list[n*ATOMS + atom], and how many. More than CAPACITY are counted, not
// listed: such an atom looks at all others.
KERNEL void makeList(GLOBAL const real4* RESTRICT posq, GLOBAL const int* RESTRICT place,
        GLOBAL const int* RESTRICT molecule, GLOBAL const int* RESTRICT state, GLOBAL real4* RESTRICT listed,
        GLOBAL int* RESTRICT list, GLOBAL int* RESTRICT number, BOX) {
    if (state[0] == 0)
        return;
    real reach = (real) (CUTOFF + SKIN);
    for (int k = GLOBAL_ID; k < ATOMS; k += GLOBAL_SIZE) {
        real4 here = posq[place[k]];
        int own = molecule[k], found = 0;
        for (int j = 0; j < ATOMS; j++) {
            if (molecule[j] == own)
                continue;
            real3 way = wayTo(here, posq[place[j]], SAME_BOX);
            if (!(way.x*way.x + way.y*way.y + way.z*way.z >= reach*reach)) {  // a lost atom is everybody's neighbour
                if (found < CAPACITY)
                    list[found*ATOMS + k] = j;
                found++;
            }
        }
        number[k] = found;
        listed[k] = here;
    }
    if (GLOBAL_ID == 0) {
        listed[ATOMS] = periodicBoxVecX;
        listed[ATOMS + 1] = periodicBoxVecY;
        listed[ATOMS + 2] = periodicBoxVecZ;
    }
}

KERNEL void listMade(GLOBAL int* RESTRICT state) {
    if (GLOBAL_ID == 0)
        state[0] = 0;
}

// Energy and forces. scratch: for each work group the sums of an atom by kind seen, SUMS numbers a kind, and the slopes
// of the energy with these.
KERNEL void addNeural(GLOBAL mm_ulong* RESTRICT forces, GLOBAL mixed* RESTRICT energies,
        GLOBAL const real4* RESTRICT posq, GLOBAL const int* RESTRICT place, GLOBAL const int* RESTRICT molecule,
        GLOBAL const int* RESTRICT kinds, GLOBAL const int* RESTRICT bondsEnd, GLOBAL const int* RESTRICT bonded,
        GLOBAL const int* RESTRICT list, GLOBAL const int* RESTRICT number, GLOBAL const float* RESTRICT weights,
        GLOBAL float* RESTRICT scratch, BOX) {
    LOCAL int seen[KINDS], slotOf[KINDS];
    LOCAL int chunkKind[BLOCK];
    LOCAL float chunkFunctions[BLOCK*(RADIAL + ANGULAR)], chunkDirection[BLOCK*DIRECTIONS];
    LOCAL float bondDirection[4*MOST_BONDS], frame[2*DIRECTIONS], turn[2*DIRECTIONS];
    LOCAL float blended[SUMS*COLUMNS + 1], features[MEMBERS*FEATURES + 1], slopes[MEMBERS*FEATURES + 1];
    LOCAL float first[MEMBERS*HIDDEN + 1], second[MEMBERS*HIDDEN + 1], back[MEMBERS*HIDDEN + 1];
    LOCAL float outSlope[MEMBERS + 1];
    LOCAL float total[3*BLOCK];
    int thread = LOCAL_ID;
    GLOBAL float* sums = &scratch[GROUP_ID*2*KINDS*SUMS];
    GLOBAL float* sumSlopes = &sums[KINDS*SUMS];
    mixed energy = 0;
    for (int atom = GROUP_ID; atom < ATOMS; atom += NUM_GROUPS) {
        real4 here = posq[place[atom]];
        int kind = kinds[atom], own = molecule[atom];
        bool all = number[atom] > CAPACITY;
        int listedNeighbours = all ? ATOMS : number[atom];
        float fx = 0, fy = 0, fz = 0;

        // Directions of the atom's own bonds.
        int firstBond = SEE_BONDS && atom > 0 ? bondsEnd[atom - 1] : 0;
        int bonds = SEE_BONDS ? bondsEnd[atom] - firstBond : 0;
        for (int b = thread; b < bonds; b += BLOCK) {
            real3 way = wayTo(here, posq[place[bonded[firstBond + b]]], SAME_BOX);
            float x = (float) way.x, y = (float) way.y, z = (float) way.z, r2 = x*x + y*y + z*z;
            float perR = 1/sqrt(r2 > LEAST_SQUARE ? r2 : LEAST_SQUARE);
            bondDirection[4*b] = x*perR;
            bondDirection[4*b + 1] = y*perR;
            bondDirection[4*b + 2] = z*perR;
            bondDirection[4*b + 3] = perR;
        }
        SYNC_THREADS
        if (SEE_BONDS && thread == 0) {
            float sum[2*DIRECTIONS], to[DIRECTIONS];
            for (int d = 0; d < 2*DIRECTIONS; d++)
                sum[d] = 0;
            for (int b = 0; b < bonds; b++) {
                for (int d = 0; d < 3; d++)
                    to[d] = bondDirection[4*b + d];
                traceless(to[0], to[1], to[2], &to[3]);
                for (int d = 0; d < DIRECTIONS; d++)
                    sum[d] += to[d];
            }
            traceless(sum[0], sum[1], sum[2], &sum[DIRECTIONS + 3]);
            for (int d = 0; d < 2*DIRECTIONS; d++)
                frame[d] = sum[d];
        }

        // Sums over neighbours, kind by kind: each thread has one of the RAW sums.
        int current = -1, kindsSeen = 0;
        float sum = 0;
        int column = thread < RADIAL ? thread : RADIAL + (thread - RADIAL)/DIRECTIONS;
        int direction = thread < RADIAL ? 0 : (thread - RADIAL)%DIRECTIONS;
        int row = thread < RADIAL ? thread : FIRST_MOMENT + thread - RADIAL;
        for (int base = 0; base < listedNeighbours; base += BLOCK) {
            chunkKind[thread] = -1;
            int k = base + thread;
            int other = k < listedNeighbours ? (all ? k : list[k*ATOMS + atom]) : atom;
            if (molecule[other] != own) {
                int otherKind = kinds[other];
                Sight sight;
                float steepness = weights[EXPONENTS + kind]*weights[EXPONENTS + otherKind];
                float amplitude = weights[AMPLITUDES + kind]*weights[AMPLITUDES + otherKind]*PER_WALL;
                if (look(wayTo(here, posq[place[other]], SAME_BOX), steepness, amplitude, weights, &sight)) {
                    chunkKind[thread] = otherKind;
                    for (int f = 0; f < FUNCTIONS; f++)
                        chunkFunctions[f*BLOCK + thread] = sight.weight*sight.functions[f];
                    for (int d = 0; d < DIRECTIONS; d++)
                        chunkDirection[d*BLOCK + thread] = sight.direction[d];
                }
            }
            SYNC_THREADS
            for (int p = 0; p < BLOCK; p++) {
                int otherKind = chunkKind[p];
                if (otherKind < 0)
                    continue;
                if (otherKind != current) {
                    if (kindsSeen > 0 && thread < RAW)
                        sums[(kindsSeen - 1)*SUMS + row] = sum;
                    if (thread == 0) {
                        seen[kindsSeen] = otherKind;
                        slotOf[otherKind] = kindsSeen;
                    }
                    current = otherKind;
                    kindsSeen++;
                    sum = 0;
                }
                if (thread < RADIAL)
                    sum += chunkFunctions[column*BLOCK + p];
                else if (thread < RAW)
                    sum += chunkFunctions[column*BLOCK + p]*chunkDirection[direction*BLOCK + p];
            }
            SYNC_THREADS
        }
        if (kindsSeen == 0)
            continue;  // the same for all threads of the group
        if (thread < RAW)
            sums[(kindsSeen - 1)*SUMS + row] = sum;
        SYNC_THREADS

        // How neighbours lie to the atom's bonds.
        if (SEE_BONDS) {
            for (int k = thread; k < kindsSeen*3*ANGULAR; k += BLOCK) {
                int slot = k/(3*ANGULAR), which = k%(3*ANGULAR)/ANGULAR, l = k%ANGULAR;
                GLOBAL const float* moment = &sums[slot*SUMS + FIRST_MOMENT + l*DIRECTIONS];
                float along = 0;
                for (int d = which == 0 ? 0 : 3; d < (which == 0 ? 3 : DIRECTIONS); d++)
                    along += moment[d]*frame[which == 2 ? DIRECTIONS + d : d];
                sums[slot*SUMS + RADIAL + which*ANGULAR + l] = along;
            }
            SYNC_THREADS
        }
        for (int k = thread; k < kindsSeen*SCALARS; k += BLOCK) {
            int slot = k/SCALARS, scalar = k%SCALARS;
            energy += weights[STRENGTHS + (kind*KINDS + seen[slot])*SCALARS + scalar]*sums[slot*SUMS + scalar];
        }

#if MEMBERS > 0
        // Inputs of the networks.
        for (int k = thread; k < SUMS*COLUMNS; k += BLOCK) {
            int f = k/COLUMNS, c = k%COLUMNS;
            float x = 0;
            for (int slot = 0; slot < kindsSeen; slot++)
                x += weights[EMBEDDING + seen[slot]*COLUMNS + c]*sums[slot*SUMS + f];
            blended[k] = x;
        }
        SYNC_THREADS
        for (int k = thread; k < SCALARS*COLUMNS; k += BLOCK) {
            int f = k/COLUMNS, c = k%COLUMNS;
            features[c/CHANNELS*FEATURES + f*CHANNELS + c%CHANNELS] = blended[k]*weights[GATE + kind*COLUMNS + c];
        }
        if (SEE_DIRECTIONS) {
            for (int k = thread; k < ANGULAR*COLUMNS; k += BLOCK) {
                int l = k/COLUMNS, c = k%COLUMNS;
                int input = c/CHANNELS*FEATURES + (SCALARS + l)*CHANNELS + c%CHANNELS;
                float odd = 1, even = 1;
                for (int d = 0; d < DIRECTIONS; d++) {
                    float v = blended[(FIRST_MOMENT + l*DIRECTIONS + d)*COLUMNS + c];
                    if (d < 3)
                        odd += v*v;
                    else
                        even += v*v;
                }
                features[input] = sqrt(odd) - 1;
                features[input + ANGULAR*CHANNELS] = sqrt(even) - 1;
            }
        }
        SYNC_THREADS

        // The networks, and back to slopes of the energy with their inputs.
        for (int k = thread; k < MEMBERS*HIDDEN; k += BLOCK) {
            int m = k/HIDDEN, h = k%HIDDEN;
            float x = weights[OWN + kind*MEMBERS*HIDDEN + k];
            for (int f = 0; f < FEATURES; f++)
                x += weights[IN + (m*FEATURES + f)*HIDDEN + h]*features[m*FEATURES + f];
            first[k] = tanhOf(x);
        }
        SYNC_THREADS
        for (int k = thread; k < MEMBERS*HIDDEN; k += BLOCK) {
            int m = k/HIDDEN, h = k%HIDDEN;
            float x = weights[BIAS + k];
            for (int g = 0; g < HIDDEN; g++)
                x += weights[MIDDLE + (m*HIDDEN + g)*HIDDEN + h]*first[m*HIDDEN + g];
            second[k] = tanhOf(x);
        }
        SYNC_THREADS
        for (int m = thread; m < MEMBERS; m += BLOCK) {
            float x = -weights[OFFSET + kind*MEMBERS + m];
            for (int h = 0; h < HIDDEN; h++)
                x += weights[OUT + m*HIDDEN + h]*second[m*HIDDEN + h];
            float t = tanhOf(x);
            energy += SHARE*t;
            outSlope[m] = SHARE*(1 - t*t);
        }
        SYNC_THREADS
        for (int k = thread; k < MEMBERS*HIDDEN; k += BLOCK)
            second[k] = outSlope[k/HIDDEN]*weights[OUT + k]*(1 - second[k]*second[k]);
        SYNC_THREADS
        for (int k = thread; k < MEMBERS*HIDDEN; k += BLOCK) {
            int m = k/HIDDEN;
            float x = 0;
            for (int h = 0; h < HIDDEN; h++)
                x += weights[MIDDLE + k*HIDDEN + h]*second[m*HIDDEN + h];
            back[k] = x*(1 - first[k]*first[k]);
        }
        SYNC_THREADS
        for (int k = thread; k < MEMBERS*FEATURES; k += BLOCK) {
            int m = k/FEATURES;
            float x = 0;
            for (int h = 0; h < HIDDEN; h++)
                x += weights[IN + k*HIDDEN + h]*back[m*HIDDEN + h];
            slopes[k] = x;
        }
        SYNC_THREADS

        // Slopes with the sums.
        for (int k = thread; k < SCALARS*COLUMNS; k += BLOCK) {
            int f = k/COLUMNS, c = k%COLUMNS;
            blended[k] = slopes[c/CHANNELS*FEATURES + f*CHANNELS + c%CHANNELS]*weights[GATE + kind*COLUMNS + c];
        }
        if (SEE_DIRECTIONS) {
            for (int k = thread; k < ANGULAR*COLUMNS; k += BLOCK) {
                int l = k/COLUMNS, c = k%COLUMNS;
                int input = c/CHANNELS*FEATURES + (SCALARS + l)*CHANNELS + c%CHANNELS;
                float odd = slopes[input]/(1 + features[input]);
                float even = slopes[input + ANGULAR*CHANNELS]/(1 + features[input + ANGULAR*CHANNELS]);
                for (int d = 0; d < DIRECTIONS; d++)
                    blended[(FIRST_MOMENT + l*DIRECTIONS + d)*COLUMNS + c] *= d < 3 ? odd : even;
            }
        }
        SYNC_THREADS
#endif
        for (int k = thread; k < kindsSeen*SUMS; k += BLOCK) {
            int slot = k/SUMS, f = k%SUMS;
            float x = f < SCALARS ? weights[STRENGTHS + (kind*KINDS + seen[slot])*SCALARS + f] : 0;
#if MEMBERS > 0
            for (int c = 0; c < COLUMNS; c++)
                x += weights[EMBEDDING + seen[slot]*COLUMNS + c]*blended[f*COLUMNS + c];
#endif
            sumSlopes[k] = x;
        }
        SYNC_THREADS

        // Forces along and across the atom's bonds.
        if (SEE_BONDS) {
            if (thread < DIRECTIONS) {
                float withOwn = 0, withSquared = 0;
                for (int k = 0; k < kindsSeen*ANGULAR; k++) {
                    int slot = k/ANGULAR, l = k%ANGULAR;
                    GLOBAL const float* along = &sumSlopes[slot*SUMS + RADIAL + l];
                    int moment = slot*SUMS + FIRST_MOMENT + l*DIRECTIONS + thread;
                    float plain = thread < 3 ? along[0] : along[ANGULAR], squared = thread < 3 ? 0 : along[2*ANGULAR];
                    withOwn += plain*sums[moment];
                    withSquared += squared*sums[moment];
                    sumSlopes[moment] += plain*frame[thread] + squared*frame[DIRECTIONS + thread];
                }
                turn[thread] = withOwn;
                turn[DIRECTIONS + thread] = withSquared;
            }
            SYNC_THREADS
            for (int b = thread; b < bonds; b += BLOCK) {
                float with[DIRECTIONS], withSum[DIRECTIONS], ofSum[3], to[3], slope[3];
                for (int d = 0; d < DIRECTIONS; d++) {
                    with[d] = turn[d];
                    withSum[d] = d < 3 ? 0 : turn[DIRECTIONS + d];
                }
                for (int d = 0; d < 3; d++)
                    to[d] = frame[d];
                slopeWith(to, withSum, ofSum);
                for (int d = 0; d < 3; d++) {
                    with[d] += ofSum[d];
                    to[d] = bondDirection[4*b + d];
                }
                slopeWithWay(to, bondDirection[4*b + 3], with, slope);
                push(forces, place[bonded[firstBond + b]], -slope[0], -slope[1], -slope[2]);
                fx += slope[0];
                fy += slope[1];
                fz += slope[2];
            }
        }

        // Forces of the neighbours.
        for (int k = thread; k < listedNeighbours; k += BLOCK) {
            int other = all ? k : list[k*ATOMS + atom];
            if (molecule[other] == own)
                continue;
            int otherKind = kinds[other], otherPlace = place[other];
            Sight sight;
            float steepness = weights[EXPONENTS + kind]*weights[EXPONENTS + otherKind];
            float amplitude = weights[AMPLITUDES + kind]*weights[AMPLITUDES + otherKind]*PER_WALL;
            if (!look(wayTo(here, posq[otherPlace], SAME_BOX), steepness, amplitude, weights, &sight))
                continue;
            GLOBAL const float* slope = &sumSlopes[slotOf[otherKind]*SUMS];
            float away = 0, torque[DIRECTIONS], changeOfContact = sight.weight*sight.contactSlope, force[3];
            for (int d = 0; d < DIRECTIONS; d++)
                torque[d] = 0;
            for (int f = 0; f < RADIAL; f++) {
                float scale = f < RADIAL_CENTRES ? weights[SCALES + f] : 0;
                float centre = f < RADIAL_CENTRES ? weights[CENTRES + f] : 0;
                float fall = (sight.weightSlope - 2*sight.weight*(sight.r - centre)*scale*scale)*sight.functions[f];
                away += slope[f]*(f < RADIAL_CENTRES ? fall : fall + changeOfContact);
            }
            if (SEE_DIRECTIONS) {
                for (int l = 0; l < ANGULAR; l++) {
                    int f = RADIAL_CENTRES + l;
                    float scale = l < ANGULAR_CENTRES ? weights[SCALES + f] : 0;
                    float centre = l < ANGULAR_CENTRES ? weights[CENTRES + f] : 0;
                    float g = sight.functions[RADIAL + l];
                    float fall = (sight.weightSlope - 2*sight.weight*(sight.r - centre)*scale*scale)*g;
                    if (l == ANGULAR_CENTRES)
                        fall += changeOfContact;
                    for (int d = 0; d < DIRECTIONS; d++) {
                        float s = slope[FIRST_MOMENT + l*DIRECTIONS + d];
                        torque[d] += s*sight.weight*g;
                        away += s*fall*sight.direction[d];
                    }
                }
                slopeWithWay(sight.direction, sight.perR, torque, force);
            }
            else {
                for (int d = 0; d < 3; d++)
                    force[d] = 0;
            }
            for (int d = 0; d < 3; d++)
                force[d] += away*sight.direction[d];
            push(forces, otherPlace, -force[0], -force[1], -force[2]);
            fx += force[0];
            fy += force[1];
            fz += force[2];
        }
        total[thread] = fx;
        total[BLOCK + thread] = fy;
        total[2*BLOCK + thread] = fz;
        SYNC_THREADS
        if (thread < 3) {
            float x = 0;
            for (int k = 0; k < BLOCK; k++)
                x += total[thread*BLOCK + k];
            ATOMIC_ADD(&forces[place[atom] + thread*PADDED], (mm_ulong) realToFixedPoint((real) x));
        }
        SYNC_THREADS
    }
    energies[GLOBAL_ID] += energy;
}
