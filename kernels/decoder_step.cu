// One step of a decoder (Llama, Qwen2: RMS norm, rotary positions, grouped queries, SwiGLU), from the last frame's codes
// or the last token to the logits of the next: five kernels a layer, and a few before and after them.
// `src/engine/omni/gpu` launches them.
//
// One sequence, one input. Activations are f32; weights are f32, bf16 or Q8_0; keys and values f32 or bf16. What changes
// from step to step is read from `moment` and `caches`, so that one recorded graph serves every step:
//
//   moment   [0] slots in use: this input's position   [1] slots before this one are seen   [2] slots after this one are
//            seen too, up to this input's own   [3] slots a cache has room for   [4] the last token; or how many codes
//            follow, 0 begins   [5..] the last frame's codes
//   caches   addresses: keys, then values, layer by layer; each [kv heads, room, head width]
//
// Every block has 128 threads. Matrices are [rows, columns], row by row; rows are dealt out to the warps, or the blocks,
// of a grid of any size. The same files compile as C++ with `on_host/cuda.h` before them; the tests run them so.
#ifndef ON_HOST
#include <cuda_fp16.h>
// The block's memory, of the size that the launch asked for.
extern __shared__ float4 room[];
#define SHARED_ROOM ((float *)room)
typedef unsigned long long Address;
__device__ inline float half_value(unsigned short bits) { return __half2float(__ushort_as_half(bits)); }
#endif

#define THREADS 128
#define WARP 32
#define WARPS (THREADS / WARP)
#define ALL_LANES 0xffffffffu
// Registers are shared out so that six blocks fit a processor: the grids are as large.
#define DEALT __launch_bounds__(THREADS, 6)

#include "step/rows.cuh"

#include "step/layer.cuh"

#include "step/attention.cuh"

#include "step/ends.cuh"
