// What a kernel finds around it on a GPU, on the processor: enough of CUDA's language for `decoder_step.cu`, whose text
// is compiled after this. One block runs at a time; each of its threads is a fibre that runs until it waits for others.
// Stricter than a GPU: a thread that ends, or waits elsewhere, while others wait for it ends the program with a word
// about it.
#pragma once
#define ON_HOST
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __launch_bounds__(...)
// Blocks run one after the other, so what a block shares may outlive it.
#define __shared__ static
#define SHARED_ROOM host::shared_room()

typedef unsigned long long Address;
struct dim3 {
    unsigned x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
// The number that an f16 is.
inline float half_value(unsigned short bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float size = exponent == 0    ? std::ldexp((float)fraction, -24)
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : std::ldexp((float)(fraction + 1024), exponent - 25);
    return bits >> 15 ? -size : size;
}
// Memory has no caches here, and everything happens in order.
template <class T> T __ldcs(const T *from) { return *from; }
template <class T> T __ldcg(const T *from) { return *from; }
inline void __threadfence() {}
inline unsigned atomicAdd(unsigned *to, unsigned by) {
    unsigned before = *to;
    *to += by;
    return before;
}

namespace host {
extern dim3 thread_index, block_index, grid_size;
float *shared_room();
void wait_for_block();
// Waits for the other lanes of the warp; gives the value of the lane whose number differs in the bits of `apart`.
float exchange(unsigned lanes, float value, unsigned apart);
} // namespace host

#define threadIdx host::thread_index
#define blockIdx host::block_index
#define gridDim host::grid_size
inline void __syncthreads() { host::wait_for_block(); }
inline float __shfl_xor_sync(unsigned lanes, float value, int apart) { return host::exchange(lanes, value, apart); }
