// What a kernel finds around it on a GPU, on the processor: enough of CUDA's language for `speech_step.cu`, whose text is
// compiled after this. One block runs at a time; each of its threads is a fibre that runs until it waits for others.
// Stricter than a GPU: a thread that ends, or waits elsewhere, while others wait for it ends the program with a word
// about it.
#pragma once
#define ON_HOST
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
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
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
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
