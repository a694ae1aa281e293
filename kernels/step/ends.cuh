// What comes before the layers and after them: embeddings, logits, and the likeliest of them.
#pragma once

// The speech model's input: the sum of the last frame's codes, or what begins the sound. `codes` [books * size, hidden].
extern "C" __global__ void embed_frame(const unsigned *moment, const float *codes, const float *beginning, float *x,
                                       unsigned size, unsigned hidden) {
    unsigned i = blockIdx.x * THREADS + threadIdx.x, books = moment[4];
    if (i >= hidden) return;
    float sum = books == 0 ? beginning[i] : 0.0f;
    for (unsigned q = 0; q < books; q++) sum += codes[(unsigned long long)(q * size + moment[5 + q]) * hidden + i];
    x[i] = sum;
}

// The language model's input: the last token's row of `table` [vocabulary, hidden]. A thread makes a unit.
template <class W>
__device__ inline void embed_token(const unsigned *moment, const void *table, float *x, unsigned hidden) {
    unsigned u = blockIdx.x * THREADS + threadIdx.x;
    if (u >= hidden / W::VALUES) return;
    float4 values[W::PLANES];
    W::values(W::load((const char *)table + moment[4] * W::bytes(hidden), u), values);
#pragma unroll
    for (unsigned p = 0; p < W::PLANES; p++) ((float4 *)x)[u * W::PLANES + p] = values[p];
}

// The last norm, which is the hidden state, and the logits: a warp makes two. `weights` [outputs, hidden].
template <class W>
__device__ inline void head(const float *x, const float *norm, const void *weights, float *state, float *logits,
                            float eps, unsigned hidden, unsigned outputs) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, row = 2 * (blockIdx.x * WARPS + threadIdx.x / WARP), last = outputs - 1;
    Rows<W, 2, WARP> rows;
    rows.load(weights, {min(row, last), min(row + 1, last)}, hidden, lane);
    normalise(x, norm, eps, hidden, W::PLANES, input);
    if (blockIdx.x == 0) {
        for (unsigned i = threadIdx.x; i < hidden; i += THREADS) state[i] = input[place(i, hidden, W::PLANES)];
    }
    while (row < outputs) {
        unsigned out = row;
        float sums[2];
        rows.dot(input, sums);
        row += 2 * gridDim.x * WARPS;
        if (row < outputs) rows.load(weights, {row, min(row + 1, last)}, hidden, lane);
        float one = warp_sum(sums[0]), other = warp_sum(sums[1]);
        if (lane == 0) logits[out] = one;
        if (lane == 0 && out < last) logits[out + 1] = other;
    }
}

#define FOR_ENDS(W, suffix)                                                                                            \
    extern "C" __global__ void embed_token_##suffix(const unsigned *moment, const void *table, float *x,              \
                                                    unsigned hidden) {                                                \
        embed_token<W>(moment, table, x, hidden);                                                                     \
    }                                                                                                                  \
    extern "C" __global__ void DEALT head_##suffix(const float *x, const float *norm, const void *weights,            \
                                                   float *state, float *logits, float eps, unsigned hidden,           \
                                                   unsigned outputs) {                                                \
        head<W>(x, norm, weights, state, logits, eps, hidden, outputs);                                               \
    }

FOR_ENDS(F32, f32)
FOR_ENDS(BF16, bf16)
FOR_ENDS(Q8_0, q8_0)

// A number that grows with the value; the largest of all for what is not a number, 0 for no value.
__device__ inline unsigned order_of(float value) {
    unsigned bits = __float_as_uint(value);
    if (value != value) return 0xffffffffu;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

// The likeliest tokens, in three steps: the logits are dealt out to as many heaps as there are threads, and of each the
// largest is found; the `wanted` largest of these are at least `wanted` logits, so that the least of them is a bound that
// the `wanted` largest of all logits reach; all that reach it are gathered, usually few more than `wanted`.
extern "C" __global__ void tops(const float *logits, unsigned *largest, unsigned outputs) {
    unsigned heap = blockIdx.x * THREADS + threadIdx.x, top = 0;
    for (unsigned i = heap; i < outputs; i += gridDim.x * THREADS) top = max(top, order_of(logits[i]));
    largest[heap] = top;
}

// One block. `found` [2 + 2 capacity]: how many were gathered, the bound, then pairs of a token and its logit's bits.
extern "C" __global__ void bound(const unsigned *largest, unsigned *found, unsigned heaps, unsigned wanted) {
    unsigned *kept = (unsigned *)SHARED_ROOM, least = 0;
    for (unsigned i = threadIdx.x; i < heaps; i += THREADS) kept[i] = largest[i];
    __syncthreads();
    for (unsigned bit = 0x80000000u; bit > 0; bit >>= 1) {
        unsigned reached = 0;
        for (unsigned i = threadIdx.x; i < heaps; i += THREADS) reached += kept[i] >= (least | bit);
        if (block_sum((float)reached) >= (float)wanted) least |= bit;
    }
    if (threadIdx.x == 0) found[0] = 0, found[1] = least;
}

extern "C" __global__ void gather(const float *logits, unsigned *found, unsigned outputs, unsigned capacity) {
    unsigned least = found[1];
    for (unsigned i = blockIdx.x * THREADS + threadIdx.x; i < outputs; i += gridDim.x * THREADS) {
        float logit = logits[i];
        if (order_of(logit) < least) continue;
        unsigned to = atomicAdd(found, 1u);
        if (to < capacity) found[2 + 2 * to] = i, found[3 + 2 * to] = __float_as_uint(logit);
    }
}
