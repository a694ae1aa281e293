// Weights in units, and rows of them multiplied with a vector.
//
// A vector that is multiplied lies in planes of four values a unit, so that threads that stand side by side read side by
// side: the first four values of every unit, then the second four. `place` tells where a value lies.
#pragma once

// Memory that is read once: not to be kept.
template <class T> __device__ inline T once(const T *from) { return __ldcs(from); }

__device__ inline unsigned place(unsigned i, unsigned n, unsigned planes) {
    return planes == 1 ? i : i % 8 / 4 * (n / 2) + i / 8 * 4 + i % 4;
}

__device__ inline float dot4(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

struct F32 {
    typedef float4 Unit;
    static const unsigned VALUES = 4, PLANES = 1;
    static __device__ unsigned long long bytes(unsigned columns) { return columns * 4ull; }
    static __device__ Unit load(const void *row, unsigned u) { return once((const float4 *)row + u); }
    static __device__ void values(Unit w, float4 (&out)[PLANES]) { out[0] = w; }
    static __device__ float dot(Unit w, const float4 (&x)[PLANES]) { return dot4(w, x[0]); }
};

// A bf16 is the upper half of an f32. Two lie in a word, the first of them below.
__device__ inline float lower(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float upper(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }

struct BF16 {
    typedef uint4 Unit;
    static const unsigned VALUES = 8, PLANES = 2;
    static __device__ unsigned long long bytes(unsigned columns) { return columns * 2ull; }
    static __device__ Unit load(const void *row, unsigned u) { return once((const uint4 *)row + u); }
    static __device__ void values(Unit w, float4 (&out)[PLANES]) {
        out[0] = make_float4(lower(w.x), upper(w.x), lower(w.y), upper(w.y));
        out[1] = make_float4(lower(w.z), upper(w.z), lower(w.w), upper(w.w));
    }
    static __device__ float dot(Unit w, const float4 (&x)[PLANES]) {
        float4 all[PLANES];
        values(w, all);
        return dot4(all[0], x[0]) + dot4(all[1], x[1]);
    }
};

// GGUF's Q8_0: blocks of 34 bytes, a scale in f16 before 32 signed bytes. A unit is a quarter of one.
struct Q8_0 {
    struct Unit {
        unsigned low, high;
        float scale;
    };
    static const unsigned VALUES = 8, PLANES = 2;
    static __device__ unsigned long long bytes(unsigned columns) { return columns / 32 * 34ull; }
    static __device__ Unit load(const void *row, unsigned u) {
        const unsigned short *block = (const unsigned short *)row + u / 4 * 17, *at = block + 1 + u % 4 * 4;
        unsigned a = once(at), b = once(at + 1), c = once(at + 2), d = once(at + 3);
        return {a | b << 16, c | d << 16, half_value(once(block))};
    }
    // Signed bytes as numbers: each, made positive, becomes the lowest byte of a float that counts from 2^23.
    static __device__ float4 numbers(unsigned bytes) {
        unsigned positive = bytes ^ 0x80808080u;
        const float zero = 8388608.0f + 128.0f;
        return make_float4(__uint_as_float((positive & 0xff) | 0x4b000000u) - zero,
                           __uint_as_float((positive >> 8 & 0xff) | 0x4b000000u) - zero,
                           __uint_as_float((positive >> 16 & 0xff) | 0x4b000000u) - zero,
                           __uint_as_float(positive >> 24 | 0x4b000000u) - zero);
    }
    static __device__ float4 scaled(float by, float4 v) { return make_float4(by * v.x, by * v.y, by * v.z, by * v.w); }
    static __device__ void values(Unit w, float4 (&out)[PLANES]) {
        out[0] = scaled(w.scale, numbers(w.low));
        out[1] = scaled(w.scale, numbers(w.high));
    }
    static __device__ float dot(Unit w, const float4 (&x)[PLANES]) {
        return w.scale * (dot4(numbers(w.low), x[0]) + dot4(numbers(w.high), x[1]));
    }
};

// Units of its rows that a thread has under way.
#define UNDER_WAY 8

// Rows that are multiplied with one vector by threads that stand `STRIDE` units apart. Loading begins before the vector
// is known, and goes on ahead of the products, so that the memory is never waited for without more being asked of it.
template <class W, int ROWS, int STRIDE> struct Rows {
    static const int AHEAD = UNDER_WAY / ROWS;
    const char *row[ROWS];
    typename W::Unit held[ROWS][AHEAD];
    unsigned first, units;

    __device__ void load(const void *weights, const unsigned (&rows)[ROWS], unsigned columns, unsigned thread) {
        units = columns / W::VALUES;
        first = thread;
#pragma unroll
        for (int r = 0; r < ROWS; r++) row[r] = (const char *)weights + rows[r] * W::bytes(columns);
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            unsigned u = first + a * STRIDE;
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                if (u < units) held[r][a] = W::load(row[r], u);
            }
        }
    }

    // This thread's part of each product with `x`, which lies in planes.
    __device__ void dot(const float *x, float (&sums)[ROWS]) {
        const float4 *input = (const float4 *)x;
#pragma unroll
        for (int r = 0; r < ROWS; r++) sums[r] = 0.0f;
        for (unsigned from = first; from < units; from += AHEAD * STRIDE) {
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                unsigned u = from + a * STRIDE, next = u + AHEAD * STRIDE;
                if (u >= units) continue;
                float4 values[W::PLANES];
#pragma unroll
                for (unsigned p = 0; p < W::PLANES; p++) values[p] = input[p * units + u];
#pragma unroll
                for (int r = 0; r < ROWS; r++) {
                    sums[r] += W::dot(held[r][a], values);
                    if (next < units) held[r][a] = W::load(row[r], next);
                }
            }
        }
    }
};

__device__ inline float warp_sum(float v) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) v += __shfl_xor_sync(ALL_LANES, v, apart);
    return v;
}

// The sum over the whole block, for every thread.
__device__ inline float block_sum(float v) {
    __shared__ float sums[WARPS];
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = v;
    __syncthreads();
    float total = 0.0f;
    for (int w = 0; w < WARPS; w++) total += sums[w];
    // Before anyone sums again.
    __syncthreads();
    return total;
}

// The RMS norm of `x` into `out` (shared), in planes, for the whole block.
__device__ inline void normalise(const float *x, const float *weight, float eps, unsigned n, unsigned planes,
                                 float *out) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < n; i += THREADS) {
        float v = x[i];
        out[place(i, n, planes)] = v;
        sum += v * v;
    }
    float root = sqrtf(block_sum(sum) / n + eps);
    for (unsigned i = threadIdx.x; i < n; i += THREADS) {
        float *value = out + place(i, n, planes);
        *value = *value / root * weight[i];
    }
    __syncthreads();
}
