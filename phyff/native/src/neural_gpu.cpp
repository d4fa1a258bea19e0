#include "neural_gpu.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <map>
#include <numeric>
#include <sstream>
#include <string>

#include "neural_kernels.h"
#include "openmm/OpenMMException.h"
#include "openmm/Platform.h"

using namespace OpenMM;

namespace phyff {

namespace {

constexpr int kBlock = 64;        // threads of a work group: one a sum that an atom has over neighbours of a kind
constexpr int kCapacity = 384;    // of a list; in liquids an atom has 130 neighbours within cut-off and skin
constexpr float kSkin = 0.07f;    // nm
static_assert(kBlock >= kRadial + kAngular * Neighbours::kDirections);

/// How OpenCLPlatform::PlatformData and CudaPlatform::PlatformData begin. Their headers ask for those of OpenCL and
/// CUDA, which pip does not bring; the devices they point to are ComputeContexts by their only base class.
struct PlatformData {
    ContextImpl* context;
    std::vector<ComputeContext*> devices;
};

/// Makes a device the one that its thread speaks to.
class Current {
  public:
    explicit Current(ComputeContext& device) : device_(device) { device_.pushAsCurrent(); }
    ~Current() { device_.popAsCurrent(); }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

  private:
    ComputeContext& device_;
};

std::string in_single(double value) {
    std::ostringstream text;
    text.precision(9);
    text << std::scientific << value << "f";
    return text.str();
}

/// Weights one after another, and where each begins as a definition for the kernels.
class Packed {
  public:
    void add(const std::string& name, const std::vector<float>& values) {
        defines[name] = std::to_string(all.size());
        all.insert(all.end(), values.begin(), values.end());
    }

    std::vector<float> all;
    std::map<std::string, std::string> defines;
};

Packed packed(const Committee& committee) {
    Packed weights;
    std::vector<float> scales(committee.widths);
    for (float& width : scales) width = 1 / width;
    weights.add("CENTRES", committee.centres);
    weights.add("SCALES", scales);
    weights.add("EXPONENTS", committee.exponents);
    weights.add("AMPLITUDES", committee.amplitudes);
    weights.add("STRENGTHS", committee.strengths);
    weights.add("EMBEDDING", committee.embedding);
    weights.add("GATE", committee.gate);
    weights.add("OWN", committee.own);
    weights.add("OFFSET", committee.offset);
    weights.add("IN", committee.in);
    weights.add("MIDDLE", committee.middle);
    weights.add("BIAS", committee.bias);
    weights.add("OUT", committee.out);
    return weights;
}

}  // namespace

ComputeContext* device_of(ContextImpl& context) {
    const std::string& platform = context.getPlatform().getName();
    if (platform != "OpenCL" && platform != "CUDA") return nullptr;
    return static_cast<PlatformData*>(context.getPlatformData())->devices.front();
}

template <class T>
NeuralGpu::Array NeuralGpu::array(const char* name, std::size_t size) {
    Array made(device_.createArray());
    made->initialize(device_, std::max<std::size_t>(size, 1), sizeof(T), name);
    return made;
}

template <class T>
NeuralGpu::Array NeuralGpu::array(const char* name, const std::vector<T>& values) {
    Array made = array<T>(name, values.size());
    if (!values.empty()) made->upload(values);
    return made;
}

NeuralGpu::NeuralGpu(const NeuralForce& force, ComputeContext& device)
    : device_(device), atoms_(static_cast<int>(force.atoms().particles.size())) {
    if (!device.getSupports64BitGlobalAtomics())
        throw OpenMMException("The neural term needs a device with 64 bit atomics; use the CPU platform.");
    const Current current(device);
    const Committee& committee = force.committee();
    const NeuralAtoms& atoms = force.atoms();
    // Atoms numbered by kind.
    std::vector<int> order(atoms_);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return atoms.kinds[a] < atoms.kinds[b]; });
    std::vector<int> atom_of(device.getNumAtoms(), -1), molecules, kinds;
    for (int k = 0; k < atoms_; ++k) {
        atom_of[atoms.particles[order[k]]] = k;
        molecules.push_back(atoms.molecules[order[k]]);
        kinds.push_back(atoms.kinds[order[k]]);
    }
    std::vector<std::vector<int>> bonded_to(atoms_);
    for (const auto& [one, other] : atoms.bonds) {
        bonded_to[atom_of[one]].push_back(atom_of[other]);
        bonded_to[atom_of[other]].push_back(atom_of[one]);
    }
    std::vector<int> bonds_end, bonded;
    std::size_t most_bonds = 1;
    for (const auto& own : bonded_to) {
        bonded.insert(bonded.end(), own.begin(), own.end());
        bonds_end.push_back(static_cast<int>(bonded.size()));
        most_bonds = std::max(most_bonds, own.size());
    }

    const bool directions = committee.sight() != Sight::distances, bonds = committee.sight() == Sight::bonds;
    const int sums = committee.scalars + (directions ? kAngular * Neighbours::kDirections : 0);
    Packed weights = packed(committee);
    std::map<std::string, std::string> defines = weights.defines;
    const std::map<std::string, long> numbers = {
        {"ATOMS", atoms_},
        {"PARTICLES", device.getNumAtoms()},
        {"PADDED", device.getPaddedNumAtoms()},
        {"KINDS", committee.kinds},
        {"MEMBERS", committee.members},
        {"CHANNELS", committee.channels},
        {"HIDDEN", committee.hidden},
        {"FEATURES", committee.features},
        {"SCALARS", committee.scalars},
        {"SUMS", sums},
        {"RADIAL", kRadial},
        {"ANGULAR", kAngular},
        {"DIRECTIONS", Neighbours::kDirections},
        {"SEE_DIRECTIONS", directions},
        {"SEE_BONDS", bonds},
        {"MOST_BONDS", static_cast<long>(most_bonds)},
        {"BLOCK", kBlock},
        {"CAPACITY", kCapacity},
    };
    for (const auto& [name, value] : numbers) defines[name] = std::to_string(value);
    defines["CUTOFF"] = in_single(committee.cutoff);
    defines["SKIN"] = in_single(kSkin);
    defines["PER_WALL"] = in_single(1 / committee.wall);
    defines["SHARE"] = in_single(committee.members ? committee.saturation / committee.members : 0);
    defines["PER_ROOT_3"] = in_single(1 / std::sqrt(3.0));
    if (force.usesPeriodicBoundaryConditions()) defines["PERIODIC"] = "1";

    const std::size_t position = device.getUseDoublePrecision() ? sizeof(mm_double4) : sizeof(mm_float4);
    const std::size_t groups = device.getNumThreadBlocks();
    weights_ = array("neural weights", weights.all);
    atom_of_ = array("neural atoms", atom_of);
    place_ = array<int>("neural places", atoms_);
    molecule_ = array("neural molecules", molecules);
    kinds_ = array("neural kinds", kinds);
    bonds_end_ = array("neural ends of bonds", bonds_end);
    bonded_ = array("neural bonds", bonded);
    listed_.reset(device.createArray());
    listed_->initialize(device, atoms_ + 3, static_cast<int>(position), "neural positions");
    state_ = array("neural state", std::vector<int>{1});
    list_ = array<int>("neural list", static_cast<std::size_t>(kCapacity) * atoms_);
    number_ = array<int>("neural neighbours", atoms_);
    scratch_ = array<float>("neural sums", groups * 2 * committee.kinds * sums);

    ComputeProgram program = device.compileProgram(kNeuralKernels, defines);
    const auto kernel = [&](const char* name, std::initializer_list<ArrayInterface*> arrays, bool box) {
        ComputeKernel made = program->createKernel(name);
        for (ArrayInterface* array : arrays) made->addArg(*array);
        for (int k = 0; box && k < 5; ++k) made->addArg();
        return made;
    };
    ArrayInterface *posq = &device.getPosq(), *places = place_.get();
    find_places_ = kernel("findPlaces", {&device.getAtomIndexArray(), atom_of_.get(), places}, false);
    check_list_ = kernel("checkList", {posq, places, listed_.get(), state_.get()}, true);
    make_list_ = kernel(
        "makeList", {posq, places, molecule_.get(), state_.get(), listed_.get(), list_.get(), number_.get()}, true);
    list_made_ = kernel("listMade", {state_.get()}, false);
    add_neural_ = kernel("addNeural",
                         {&device.getLongForceBuffer(), &device.getEnergyBuffer(), posq, places, molecule_.get(),
                          kinds_.get(), bonds_end_.get(), bonded_.get(), list_.get(), number_.get(), weights_.get(),
                          scratch_.get()},
                         true);
}

/// Box vectors as the macros of OpenMM's kernels know them, from that argument on.
void NeuralGpu::set_box(ComputeKernel& kernel, int index) {
    Vec3 a, b, c;
    device_.getPeriodicBoxVectors(a, b, c);
    const double rows[5][3] = {{a[0], b[1], c[2]},
                               {1 / a[0], 1 / b[1], 1 / c[2]},
                               {a[0], a[1], a[2]},
                               {b[0], b[1], b[2]},
                               {c[0], c[1], c[2]}};
    for (const auto& [x, y, z] : rows) {
        if (device_.getUseDoublePrecision())
            kernel->setArg(index++, mm_double4(x, y, z, 0));
        else
            kernel->setArg(index++, mm_float4(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z), 0));
    }
}

void NeuralGpu::execute() {
    const Current current(device_);
    set_box(check_list_, 4);
    set_box(make_list_, 7);
    set_box(add_neural_, 12);
    find_places_->execute(device_.getNumAtoms());
    check_list_->execute(atoms_);
    make_list_->execute(atoms_);
    list_made_->execute(1);
    add_neural_->execute(atoms_ * kBlock, kBlock);
}

}  // namespace phyff
