// The products of a layer.
#pragma once

// To the nearest bf16, even on a tie; what is not a number stays none.
__device__ inline unsigned short to_bf16(float value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return 0x7fff;
    return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

// Norm, queries, keys and values, and their rotation. A warp makes the two values of a head that turn together; queries go
// to `q` [heads, width], keys and values to their slot, in bf16 when `narrow`. `weights` [(heads + 2 kv_heads) * width,
// hidden]; `bias` as many values, or nothing; `cosines` and `sines` [positions, width / 2].
template <class W>
__device__ inline void qkv(const float *x, const float *norm, const void *weights, const float *bias,
                           const float *cosines, const float *sines, const unsigned *moment, const Address *caches,
                           float *q, float eps, unsigned hidden, unsigned heads, unsigned kv_heads, unsigned width,
                           unsigned layer, unsigned narrow) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, half = width / 2;
    unsigned pairs = (heads + 2 * kv_heads) * half;
    unsigned pair = blockIdx.x * WARPS + threadIdx.x / WARP;
    Rows<W, 2, WARP> rows;
    // A warp past the end works on the last pair until the block has met, and keeps nothing.
    unsigned row = min(pair, pairs - 1) / half * width + min(pair, pairs - 1) % half;
    rows.load(weights, {row, row + half}, hidden, lane);
    normalise(x, norm, eps, hidden, W::PLANES, input);
    while (pair < pairs) {
        unsigned head = pair / half, i = pair % half, first = head * width + i;
        float sums[2];
        rows.dot(input, sums);
        pair += gridDim.x * WARPS;
        if (pair < pairs) {
            row = pair / half * width + pair % half;
            rows.load(weights, {row, row + half}, hidden, lane);
        }
        float a = warp_sum(sums[0]), b = warp_sum(sums[1]);
        if (lane != 0) continue;
        if (bias) a += bias[first], b += bias[first + half];
        unsigned at = moment[0];
        if (head < heads + kv_heads) {
            float c = cosines[at * half + i], s = sines[at * half + i];
            float turned = a * c - b * s;
            b = a * s + b * c;
            a = turned;
        }
        if (head < heads) {
            q[first] = a;
            q[first + half] = b;
            continue;
        }
        unsigned of_values = head >= heads + kv_heads;
        unsigned kv = head - heads - of_values * kv_heads;
        unsigned long long to = ((unsigned long long)kv * moment[3] + at) * width + i;
        Address slots = caches[2 * layer + of_values];
        if (narrow) {
            ((unsigned short *)slots)[to] = to_bf16(a);
            ((unsigned short *)slots)[to + half] = to_bf16(b);
        } else {
            ((float *)slots)[to] = a;
            ((float *)slots)[to + half] = b;
        }
    }
}

// What the heads attended to, times the output projection, added to `x`. A warp makes a row. `weights` [hidden, columns].
template <class W>
__device__ inline void project(const float *attended, const void *weights, float *x, unsigned hidden,
                               unsigned columns) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, row = blockIdx.x * WARPS + threadIdx.x / WARP;
    Rows<W, 1, WARP> rows;
    rows.load(weights, {min(row, hidden - 1)}, columns, lane);
    for (unsigned i = threadIdx.x; i < columns; i += THREADS) input[place(i, columns, W::PLANES)] = attended[i];
    __syncthreads();
    while (row < hidden) {
        unsigned out = row;
        float sums[1];
        rows.dot(input, sums);
        row += gridDim.x * WARPS;
        if (row < hidden) rows.load(weights, {row}, columns, lane);
        float sum = warp_sum(sums[0]);
        if (lane == 0) x[out] += sum;
    }
}

// Norm, gate and up: `inner` [ffn] = silu(gate) * up, in as many planes as who reads it says. A warp makes a value.
// `weights` [2 ffn, hidden].
template <class W>
__device__ inline void gate_up(const float *x, const float *norm, const void *weights, float *inner, float eps,
                               unsigned hidden, unsigned ffn, unsigned planes) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, row = blockIdx.x * WARPS + threadIdx.x / WARP, mine = min(row, ffn - 1);
    Rows<W, 2, WARP> rows;
    rows.load(weights, {mine, ffn + mine}, hidden, lane);
    normalise(x, norm, eps, hidden, W::PLANES, input);
    while (row < ffn) {
        unsigned out = row;
        float sums[2];
        rows.dot(input, sums);
        row += gridDim.x * WARPS;
        if (row < ffn) rows.load(weights, {row, ffn + row}, hidden, lane);
        float gate = warp_sum(sums[0]), up = warp_sum(sums[1]);
        if (lane == 0) inner[place(out, ffn, planes)] = gate / (1.0f + expf(-gate)) * up;
    }
}

// `inner` times the down projection, added to `x`. A block makes four rows. `weights` [hidden, ffn].
template <class W>
__device__ inline void down(const float *inner, const void *weights, float *x, unsigned hidden, unsigned ffn) {
    __shared__ float sums[WARPS][4];
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, last = hidden - 1;
    Rows<W, 4, THREADS> rows;
    for (unsigned row = blockIdx.x * 4; row < hidden; row += gridDim.x * 4) {
        rows.load(weights, {row, min(row + 1, last), min(row + 2, last), min(row + 3, last)}, ffn, threadIdx.x);
        float mine[4];
        rows.dot(inner, mine);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            float sum = warp_sum(mine[r]);
            if (lane == 0) sums[warp][r] = sum;
        }
        __syncthreads();
        if (threadIdx.x < 4 && row + threadIdx.x < hidden) {
            float sum = 0.0f;
            for (int w = 0; w < WARPS; w++) sum += sums[w][threadIdx.x];
            x[row + threadIdx.x] += sum;
        }
        __syncthreads();
    }
}

#define FOR_WEIGHTS(W, suffix)                                                                                         \
    extern "C" __global__ void DEALT qkv_##suffix(                                                                     \
        const float *x, const float *norm, const void *weights, const float *bias, const float *cosines,              \
        const float *sines, const unsigned *moment, const Address *caches, float *q, float eps, unsigned hidden,      \
        unsigned heads, unsigned kv_heads, unsigned width, unsigned layer, unsigned narrow) {                         \
        qkv<W>(x, norm, weights, bias, cosines, sines, moment, caches, q, eps, hidden, heads, kv_heads, width, layer, \
               narrow);                                                                                                \
    }                                                                                                                  \
    extern "C" __global__ void DEALT project_##suffix(const float *attended, const void *weights, float *x,           \
                                                      unsigned hidden, unsigned columns) {                            \
        project<W>(attended, weights, x, hidden, columns);                                                            \
    }                                                                                                                  \
    extern "C" __global__ void DEALT gate_up_##suffix(const float *x, const float *norm, const void *weights,         \
                                                      float *inner, float eps, unsigned hidden, unsigned ffn,         \
                                                      unsigned planes) {                                              \
        gate_up<W>(x, norm, weights, inner, eps, hidden, ffn, planes);                                                \
    }                                                                                                                  \
    extern "C" __global__ void DEALT down_##suffix(const float *inner, const void *weights, float *x,                 \
                                                   unsigned hidden, unsigned ffn) {                                   \
        down<W>(inner, weights, x, hidden, ffn);                                                                      \
    }

FOR_WEIGHTS(F32, f32)
FOR_WEIGHTS(BF16, bf16)
FOR_WEIGHTS(Q8_0, q8_0)
