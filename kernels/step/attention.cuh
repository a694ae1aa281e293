// Attention to the keys and values of a cache.
#pragma once

// Lanes that share a key; each takes eight of its values: heads are up to 128 wide.
#define KEY_LANES 16
#define LANE_VALUES 8
#define KEYS_AT_ONCE (THREADS / KEY_LANES)
// Query heads that a block looks up together, of those that share keys.
#define QUERIES 4

// Keys and values as a cache holds them. `TOGETHER` are under way at a time.
struct CacheF32 {
    typedef float4 Unit;
    static const unsigned VALUES = 4;
    static const int UNITS = 2, TOGETHER = 2;
    static __device__ void read(Unit u, float *out) { out[0] = u.x, out[1] = u.y, out[2] = u.z, out[3] = u.w; }
};
struct CacheBF16 {
    typedef uint4 Unit;
    static const unsigned VALUES = 8;
    static const int UNITS = 1, TOGETHER = 4;
    static __device__ void read(Unit u, float *out) {
        out[0] = lower(u.x), out[1] = upper(u.x), out[2] = lower(u.y), out[3] = upper(u.y);
        out[4] = lower(u.z), out[5] = upper(u.z), out[6] = lower(u.w), out[7] = upper(u.w);
    }
};

// Attention of up to four heads that share keys (`blockIdx.x` counts them, `group` heads share) to one share of the keys
// they see (`blockIdx.y` of `gridDim.y`): the values mixed, `mixed` [heads, shares, width], with the largest score and the
// sum of weights, `stats` [heads, shares, 2]; a share without keys has the sum 0. The last block to come for its heads,
// as `arrived` [gridDim.x] counts, puts the shares together: `attended` [heads, width].
template <class C>
__device__ inline void attend(const float *q, const unsigned *moment, const Address *caches, float *mixed, float *stats,
                              unsigned *arrived, float *attended, float scale, unsigned group, unsigned width,
                              unsigned layer) {
    __shared__ float tops[QUERIES][KEYS_AT_ONCE], totals[QUERIES][KEYS_AT_ONCE];
    __shared__ float sums[QUERIES][KEYS_AT_ONCE][KEY_LANES * LANE_VALUES];
    __shared__ unsigned is_last;
    unsigned blocks = (group + QUERIES - 1) / QUERIES, kv = blockIdx.x / blocks;
    unsigned of_group = blockIdx.x % blocks * QUERIES, queries = min(group - of_group, QUERIES);
    unsigned head = kv * group + of_group, shares = gridDim.y, share = blockIdx.y;
    unsigned at = moment[0], text = moment[1], begin = moment[2];
    // Seen are the slots before `text` and those after `begin`, this input's own among them.
    unsigned seen = text + (at > begin ? at - begin : 0);
    unsigned per_share = (seen + shares - 1) / shares;
    unsigned from = min(share * per_share, seen), to = min(from + per_share, seen);
    unsigned lane = threadIdx.x % KEY_LANES, owner = threadIdx.x / KEY_LANES, units = width / C::VALUES;
    unsigned long long start = (unsigned long long)kv * moment[3] * units;
    const typename C::Unit *keys = (const typename C::Unit *)caches[2 * layer] + start;
    const typename C::Unit *values = (const typename C::Unit *)caches[2 * layer + 1] + start;

    float query[QUERIES][LANE_VALUES], sum[QUERIES][LANE_VALUES], top[QUERIES], total[QUERIES];
#pragma unroll
    for (unsigned h = 0; h < QUERIES; h++) {
        top[h] = -INFINITY, total[h] = 0.0f;
#pragma unroll
        for (int v = 0; v < LANE_VALUES; v++) {
            unsigned d = (lane + v / C::VALUES * KEY_LANES) * C::VALUES + v % C::VALUES;
            query[h][v] = h < queries && d < width ? q[(head + h) * width + d] * scale : 0.0f;
            sum[h][v] = 0.0f;
        }
    }
    // Every thread makes as many rounds: lanes that exchange values must be together.
    for (unsigned round = from; round < to; round += KEYS_AT_ONCE * C::TOGETHER) {
        typename C::Unit key_units[C::TOGETHER][C::UNITS], value_units[C::TOGETHER][C::UNITS];
#pragma unroll
        for (int t = 0; t < C::TOGETHER; t++) {
            unsigned j = round + t * KEYS_AT_ONCE + owner;
            unsigned long long slot = j < text ? j : begin + 1 + j - text;
#pragma unroll
            for (int k = 0; k < C::UNITS; k++) {
                unsigned u = lane + k * KEY_LANES;
                key_units[t][k] = value_units[t][k] = typename C::Unit();
                if (j < to && u < units) {
                    key_units[t][k] = keys[slot * units + u];
                    value_units[t][k] = values[slot * units + u];
                }
            }
        }
#pragma unroll
        for (int t = 0; t < C::TOGETHER; t++) {
            bool is_key = round + t * KEYS_AT_ONCE + owner < to;
            float key[LANE_VALUES], value[LANE_VALUES];
#pragma unroll
            for (int k = 0; k < C::UNITS; k++) {
                C::read(key_units[t][k], key + k * C::VALUES);
                C::read(value_units[t][k], value + k * C::VALUES);
            }
#pragma unroll
            for (unsigned h = 0; h < QUERIES; h++) {
                if (h >= queries) continue;
                float score = 0.0f;
#pragma unroll
                for (int v = 0; v < LANE_VALUES; v++) score += key[v] * query[h][v];
                for (int apart = KEY_LANES / 2; apart > 0; apart /= 2) {
                    score += __shfl_xor_sync(ALL_LANES, score, apart);
                }
                if (!is_key) continue;
                float new_top = fmaxf(top[h], score);
                float fade = expf(top[h] - new_top), weight = expf(score - new_top);
                top[h] = new_top;
                total[h] = total[h] * fade + weight;
#pragma unroll
                for (int v = 0; v < LANE_VALUES; v++) sum[h][v] = sum[h][v] * fade + weight * value[v];
            }
        }
    }
#pragma unroll
    for (unsigned h = 0; h < QUERIES; h++) {
#pragma unroll
        for (int v = 0; v < LANE_VALUES; v++) {
            sums[h][owner][(lane + v / C::VALUES * KEY_LANES) * C::VALUES + v % C::VALUES] = sum[h][v];
        }
        if (lane == 0) tops[h][owner] = top[h], totals[h][owner] = total[h];
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < queries * width; i += THREADS) {
        unsigned h = i / width, d = i % width, out = (head + h) * shares + share;
        float largest = -INFINITY, value = 0.0f, weights = 0.0f;
        for (int p = 0; p < KEYS_AT_ONCE; p++) largest = fmaxf(largest, tops[h][p]);
        for (int p = 0; p < KEYS_AT_ONCE; p++) {
            if (totals[h][p] > 0.0f) {
                float portion = expf(tops[h][p] - largest);
                value += sums[h][p][d] * portion;
                weights += totals[h][p] * portion;
            }
        }
        mixed[(unsigned long long)out * width + d] = value;
        if (d == 0) stats[2 * out] = largest, stats[2 * out + 1] = weights;
    }
    // What this block wrote is there before it counts as come; what others wrote is read past this processor's own cache.
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) is_last = atomicAdd(arrived + blockIdx.x, 1u) == shares - 1;
    __syncthreads();
    if (!is_last) return;
    __threadfence();
    if (threadIdx.x == 0) arrived[blockIdx.x] = 0;
    for (unsigned i = threadIdx.x; i < queries * width; i += THREADS) {
        unsigned h = i / width, d = i % width, first = (head + h) * shares;
        float largest = -INFINITY, value = 0.0f, weights = 0.0f;
        for (unsigned s = 0; s < shares; s++) {
            if (__ldcg(stats + 2 * (first + s) + 1) > 0.0f) largest = fmaxf(largest, __ldcg(stats + 2 * (first + s)));
        }
        for (unsigned s = 0; s < shares; s++) {
            float of_share = __ldcg(stats + 2 * (first + s) + 1);
            if (of_share > 0.0f) {
                float portion = expf(__ldcg(stats + 2 * (first + s)) - largest);
                value += __ldcg(mixed + (unsigned long long)(first + s) * width + d) * portion;
                weights += of_share * portion;
            }
        }
        attended[(head + h) * width + d] = value / weights;
    }
}

#define FOR_CACHE(C, suffix)                                                                                           \
    extern "C" __global__ void __launch_bounds__(THREADS) attend_##suffix(                                             \
        const float *q, const unsigned *moment, const Address *caches, float *mixed, float *stats, unsigned *arrived, \
        float *attended, float scale, unsigned group, unsigned width, unsigned layer) {                               \
        attend<C>(q, moment, caches, mixed, stats, arrived, attended, scale, group, width, layer);                    \
    }

FOR_CACHE(CacheF32, f32)
FOR_CACHE(CacheBF16, bf16)
