// One step of the speech model's decoder (Llama: RMS norm, rotary positions, SwiGLU), from the last frame's codes to the
// logits of the next: seven kernels, five of them once a layer. `src/engine/omni/gpu/step.rs` launches them.
//
// One sequence, one input. Activations, keys and values are f32; weights are f32, or bf16 where that loses nothing. What
// changes from step to step is read from `moment` and `caches`, so that one recorded graph serves every step:
//
//   moment   [0] slots in use: this input's position   [1] text slots before this one are seen   [2] the slot of [Ptts]:
//            later ones are seen   [3] slots a cache has room for   [4] how many codes follow; 0 begins   [5..] the codes
//   caches   addresses: keys, then values, layer by layer; each [kv heads, room, head width]
//
// Every block has 128 threads. Matrices are [rows, columns], row by row, their columns a multiple of a unit (16 bytes).
// The same file compiles as C++ with `on_host/cuda.h` before it; the tests run it so.
#ifndef ON_HOST
// The block's memory, of the size that the launch asked for.
extern __shared__ float room[];
#define SHARED_ROOM room
typedef unsigned long long Address;
#endif

#define THREADS 128
#define WARP 32
#define WARPS (THREADS / WARP)
#define ALL_LANES 0xffffffffu
// Units of a row that a thread loads ahead: all of 768 columns of bf16 for a warp, of 3072 for a block.
#define AHEAD 3
// Lanes that share a key, and the most units of four values each of them takes: heads up to 128 wide.
#define KEY_LANES 16
#define KEY_UNITS 2
#define KEYS_AT_ONCE (THREADS / KEY_LANES)

// ---------------------------------------------------------------- weights in units of 16 bytes

struct F32 {
    typedef float4 Unit;
    static const unsigned VALUES = 4;
    static __device__ float dot(Unit w, const float *x) { return w.x * x[0] + w.y * x[1] + w.z * x[2] + w.w * x[3]; }
};

// A bf16 is the upper half of an f32. Two lie in a word, the first of them below.
__device__ inline float pair_dot(unsigned pair, const float *x) {
    return __uint_as_float(pair << 16) * x[0] + __uint_as_float(pair & 0xffff0000u) * x[1];
}

struct BF16 {
    typedef uint4 Unit;
    static const unsigned VALUES = 8;
    static __device__ float dot(Unit w, const float *x) {
        return pair_dot(w.x, x) + pair_dot(w.y, x + 2) + pair_dot(w.z, x + 4) + pair_dot(w.w, x + 6);
    }
};

// Rows that are multiplied with one vector by threads that stand `STRIDE` units apart. Loading begins before the vector
// is known, so that waiting for the memory and making the vector overlap.
template <class W, int ROWS, int STRIDE> struct Rows {
    const typename W::Unit *row[ROWS];
    typename W::Unit held[ROWS][AHEAD];
    unsigned first, units;

    __device__ void load(const void *weights, const unsigned (&rows)[ROWS], unsigned columns, unsigned thread) {
        units = columns / W::VALUES;
        first = thread;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            row[r] = (const typename W::Unit *)weights + (unsigned long long)rows[r] * units;
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                unsigned u = first + a * STRIDE;
                if (u < units) held[r][a] = row[r][u];
            }
        }
    }

    // This thread's part of each product.
    __device__ void dot(const float *x, float (&sums)[ROWS]) const {
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            sums[r] = 0.0f;
#pragma unroll
            for (int a = 0; a < AHEAD; a++) {
                unsigned u = first + a * STRIDE;
                if (u < units) sums[r] += W::dot(held[r][a], x + u * W::VALUES);
            }
            for (unsigned u = first + AHEAD * STRIDE; u < units; u += STRIDE) {
                sums[r] += W::dot(row[r][u], x + u * W::VALUES);
            }
        }
    }
};

__device__ inline float warp_sum(float v) {
    for (int apart = WARP / 2; apart > 0; apart /= 2) v += __shfl_xor_sync(ALL_LANES, v, apart);
    return v;
}

// The RMS norm of `x` into `out` (shared), for the whole block.
__device__ inline void normalise(const float *x, const float *weight, float eps, unsigned n, float *out) {
    __shared__ float sums[WARPS];
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < n; i += THREADS) {
        float v = x[i];
        out[i] = v;
        sum += v * v;
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) sums[threadIdx.x / WARP] = sum;
    __syncthreads();
    float total = 0.0f;
    for (int w = 0; w < WARPS; w++) total += sums[w];
    float root = sqrtf(total / n + eps);
    for (unsigned i = threadIdx.x; i < n; i += THREADS) out[i] = out[i] / root * weight[i];
    __syncthreads();
}

// ---------------------------------------------------------------- the kernels

// The input: the sum of the last frame's codes, or the beginning's embedding. `codes` [codebooks * size, hidden].
extern "C" __global__ void embed(const unsigned *moment, const float *codes, const float *beginning, float *x,
                                 unsigned size, unsigned hidden) {
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= hidden) return;
    unsigned books = moment[4];
    float sum = books == 0 ? beginning[i] : 0.0f;
    for (unsigned q = 0; q < books; q++) sum += codes[(unsigned long long)(q * size + moment[5 + q]) * hidden + i];
    x[i] = sum;
}

// Norm, queries, keys and values, and their rotation. A warp makes the two values of a head that turn together; queries go
// to `q` [heads, width], keys and values to their slot. `weights` [(heads + 2 kv_heads) * width, hidden]; `cosines` and
// `sines` [positions, width / 2].
template <class W>
__device__ inline void qkv(const float *x, const float *norm, const void *weights, const float *cosines,
                           const float *sines, const unsigned *moment, const Address *caches, float *q, float eps,
                           unsigned hidden, unsigned heads, unsigned kv_heads, unsigned width, unsigned layer) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, half = width / 2;
    unsigned pairs = (heads + 2 * kv_heads) * half;
    unsigned pair = blockIdx.x * WARPS + threadIdx.x / WARP;
    // A warp past the end works on the last pair, for the block's sake, and keeps nothing.
    unsigned mine = min(pair, pairs - 1), head = mine / half, i = mine % half;
    Rows<W, 2, WARP> rows;
    rows.load(weights, {head * width + i, head * width + i + half}, hidden, lane);
    normalise(x, norm, eps, hidden, input);
    float sums[2];
    rows.dot(input, sums);
    float a = warp_sum(sums[0]), b = warp_sum(sums[1]);
    if (lane != 0 || pair >= pairs) return;
    unsigned at = moment[0];
    if (head < heads + kv_heads) {
        float c = cosines[at * half + i], s = sines[at * half + i];
        float turned = a * c - b * s;
        b = a * s + b * c;
        a = turned;
    }
    float *out = q + head * width;
    if (head >= heads) {
        unsigned of_values = head >= heads + kv_heads;
        unsigned kv = head - heads - of_values * kv_heads;
        out = (float *)caches[2 * layer + of_values] + ((unsigned long long)kv * moment[3] + at) * width;
    }
    out[i] = a;
    out[i + half] = b;
}

// Attention of one head (`blockIdx.x`) to one share of the keys it sees (`blockIdx.y` of `gridDim.y`): the values mixed,
// `mixed` [heads, shares, width], with the largest score and the sum of weights, `stats` [heads, shares, 2]. A share
// without keys has the sum 0.
extern "C" __global__ void attend(const float *q, const unsigned *moment, const Address *caches, float *mixed,
                                  float *stats, float scale, unsigned group, unsigned width, unsigned layer) {
    __shared__ float tops[KEYS_AT_ONCE], totals[KEYS_AT_ONCE];
    __shared__ float4 sums[KEYS_AT_ONCE][KEY_LANES * KEY_UNITS];
    unsigned head = blockIdx.x, shares = gridDim.y, share = blockIdx.y;
    unsigned at = moment[0], text = moment[1], begin = moment[2];
    // Seen are the slots before `text` and those after `begin`, this input's own among them.
    unsigned seen = text + (at > begin ? at - begin : 0);
    unsigned per_share = (seen + shares - 1) / shares;
    unsigned from = share * per_share, to = min(from + per_share, seen);
    unsigned lane = threadIdx.x % KEY_LANES, place = threadIdx.x / KEY_LANES, units = width / 4;
    unsigned long long start = (unsigned long long)(head / group) * moment[3] * units;
    const float4 *keys = (const float4 *)caches[2 * layer] + start;
    const float4 *values = (const float4 *)caches[2 * layer + 1] + start;

    float4 query[KEY_UNITS], sum[KEY_UNITS];
#pragma unroll
    for (int k = 0; k < KEY_UNITS; k++) {
        unsigned u = lane + k * KEY_LANES;
        query[k] = u < units ? ((const float4 *)q)[head * units + u] : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        query[k].x *= scale, query[k].y *= scale, query[k].z *= scale, query[k].w *= scale;
        sum[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    float top = -INFINITY, total = 0.0f;
    // Every place makes as many rounds: lanes that exchange values must be together.
    for (unsigned round = from; round < to; round += KEYS_AT_ONCE) {
        unsigned j = round + place;
        bool is_key = j < to;
        unsigned slot = j < text ? j : begin + 1 + j - text;
        float4 value[KEY_UNITS];
        float score = 0.0f;
#pragma unroll
        for (int k = 0; k < KEY_UNITS; k++) {
            unsigned u = lane + k * KEY_LANES;
            value[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (is_key && u < units) {
                float4 key = keys[(unsigned long long)slot * units + u];
                value[k] = values[(unsigned long long)slot * units + u];
                score += key.x * query[k].x + key.y * query[k].y + key.z * query[k].z + key.w * query[k].w;
            }
        }
        for (int apart = KEY_LANES / 2; apart > 0; apart /= 2) score += __shfl_xor_sync(ALL_LANES, score, apart);
        if (!is_key) continue;
        float new_top = fmaxf(top, score);
        float fade = expf(top - new_top), weight = expf(score - new_top);
        top = new_top;
        total = total * fade + weight;
#pragma unroll
        for (int k = 0; k < KEY_UNITS; k++) {
            sum[k].x = sum[k].x * fade + weight * value[k].x;
            sum[k].y = sum[k].y * fade + weight * value[k].y;
            sum[k].z = sum[k].z * fade + weight * value[k].z;
            sum[k].w = sum[k].w * fade + weight * value[k].w;
        }
    }
#pragma unroll
    for (int k = 0; k < KEY_UNITS; k++) sums[place][lane + k * KEY_LANES] = sum[k];
    if (lane == 0) tops[place] = top, totals[place] = total;
    __syncthreads();
    top = -INFINITY;
    for (int p = 0; p < KEYS_AT_ONCE; p++) top = fmaxf(top, tops[p]);
    unsigned out = head * shares + share;
    for (unsigned d = threadIdx.x; d < width; d += THREADS) {
        float value = 0.0f;
        for (int p = 0; p < KEYS_AT_ONCE; p++) {
            if (totals[p] > 0.0f) value += ((const float *)sums[p])[d] * expf(tops[p] - top);
        }
        mixed[(unsigned long long)out * width + d] = value;
    }
    if (threadIdx.x == 0) {
        total = 0.0f;
        for (int p = 0; p < KEYS_AT_ONCE; p++) {
            if (totals[p] > 0.0f) total += totals[p] * expf(tops[p] - top);
        }
        stats[2 * out] = top;
        stats[2 * out + 1] = total;
    }
}

// The shares put together, times the output projection, added to `x`. A warp makes a row. `weights` [hidden, heads * width].
template <class W>
__device__ inline void project(const float *mixed, const float *stats, const void *weights, float *x, unsigned hidden,
                               unsigned heads, unsigned width, unsigned shares) {
    float *input = SHARED_ROOM;
    unsigned columns = heads * width, lane = threadIdx.x % WARP;
    float *portions = input + columns;
    unsigned row = blockIdx.x * WARPS + threadIdx.x / WARP;
    Rows<W, 1, WARP> rows;
    rows.load(weights, {min(row, hidden - 1)}, columns, lane);
    for (unsigned i = threadIdx.x; i < heads * shares; i += THREADS) {
        const float *of_head = stats + i / shares * shares * 2;
        float top = -INFINITY, total = 0.0f;
        for (unsigned s = 0; s < shares; s++) {
            if (of_head[2 * s + 1] > 0.0f) top = fmaxf(top, of_head[2 * s]);
        }
        for (unsigned s = 0; s < shares; s++) {
            if (of_head[2 * s + 1] > 0.0f) total += of_head[2 * s + 1] * expf(of_head[2 * s] - top);
        }
        portions[i] = stats[2 * i + 1] > 0.0f ? expf(stats[2 * i] - top) / total : 0.0f;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < columns; i += THREADS) {
        unsigned head = i / width, d = i % width;
        float value = 0.0f;
        for (unsigned s = 0; s < shares; s++) {
            value += mixed[(unsigned long long)(head * shares + s) * width + d] * portions[head * shares + s];
        }
        input[i] = value;
    }
    __syncthreads();
    float sums[1];
    rows.dot(input, sums);
    float sum = warp_sum(sums[0]);
    if (lane == 0 && row < hidden) x[row] += sum;
}

// Norm, gate and up: `inner` [ffn] = silu(gate) * up. A warp makes a value. `weights` [2 ffn, hidden].
template <class W>
__device__ inline void gate_up(const float *x, const float *norm, const void *weights, float *inner, float eps,
                               unsigned hidden, unsigned ffn) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, row = blockIdx.x * WARPS + threadIdx.x / WARP, mine = min(row, ffn - 1);
    Rows<W, 2, WARP> rows;
    rows.load(weights, {mine, ffn + mine}, hidden, lane);
    normalise(x, norm, eps, hidden, input);
    float sums[2];
    rows.dot(input, sums);
    float gate = warp_sum(sums[0]), up = warp_sum(sums[1]);
    if (lane == 0 && row < ffn) inner[row] = gate / (1.0f + expf(-gate)) * up;
}

// `inner` times the down projection, added to `x`. A block makes four rows. `weights` [hidden, ffn].
template <class W>
__device__ inline void down(const float *inner, const void *weights, float *x, unsigned hidden, unsigned ffn) {
    __shared__ float sums[WARPS][4];
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, row = blockIdx.x * 4, last = hidden - 1;
    Rows<W, 4, THREADS> rows;
    rows.load(weights, {min(row, last), min(row + 1, last), min(row + 2, last), min(row + 3, last)}, ffn, threadIdx.x);
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
}

// The last norm, which is the hidden state, and the heads: a warp makes a logit. `weights` [codebooks * codes, hidden], f32.
extern "C" __global__ void heads(const float *x, const float *norm, const void *weights, float *state, float *logits,
                                 float eps, unsigned hidden, unsigned outputs) {
    float *input = SHARED_ROOM;
    unsigned lane = threadIdx.x % WARP, row = blockIdx.x * WARPS + threadIdx.x / WARP;
    Rows<F32, 1, WARP> rows;
    rows.load(weights, {min(row, outputs - 1)}, hidden, lane);
    normalise(x, norm, eps, hidden, input);
    if (blockIdx.x == 0) {
        for (unsigned i = threadIdx.x; i < hidden; i += THREADS) state[i] = input[i];
    }
    float sums[1];
    rows.dot(input, sums);
    float sum = warp_sum(sums[0]);
    if (lane == 0 && row < outputs) logits[row] = sum;
}

#define FOR_WEIGHTS(W, suffix)                                                                                         \
    extern "C" __global__ void qkv_##suffix(const float *x, const float *norm, const void *weights,                   \
                                            const float *cosines, const float *sines, const unsigned *moment,         \
                                            const Address *caches, float *q, float eps, unsigned hidden,              \
                                            unsigned heads, unsigned kv_heads, unsigned width, unsigned layer) {      \
        qkv<W>(x, norm, weights, cosines, sines, moment, caches, q, eps, hidden, heads, kv_heads, width, layer);      \
    }                                                                                                                  \
    extern "C" __global__ void project_##suffix(const float *mixed, const float *stats, const void *weights, float *x, \
                                                unsigned hidden, unsigned heads, unsigned width, unsigned shares) {   \
        project<W>(mixed, stats, weights, x, hidden, heads, width, shares);                                           \
    }                                                                                                                  \
    extern "C" __global__ void gate_up_##suffix(const float *x, const float *norm, const void *weights, float *inner, \
                                                float eps, unsigned hidden, unsigned ffn) {                           \
        gate_up<W>(x, norm, weights, inner, eps, hidden, ffn);                                                        \
    }                                                                                                                  \
    extern "C" __global__ void down_##suffix(const float *inner, const void *weights, float *x, unsigned hidden,      \
                                             unsigned ffn) {                                                           \
        down<W>(inner, weights, x, hidden, ffn);                                                                      \
    }

FOR_WEIGHTS(F32, f32)
FOR_WEIGHTS(BF16, bf16)
