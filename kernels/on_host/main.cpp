// A GPU of one processor, for the tests: memory and launches over a pipe. Commands are lines on standard input, some
// followed by bytes; answers are lines, or bytes, on standard output:
//
//   alloc N                -> the address, in memory filled with ones (not a number), a page that cannot be touched behind it
//   write ADDRESS N, bytes    no answer
//   read ADDRESS N         -> bytes
//   backwards 0|1             the last threads and blocks first; no answer
//   launch NAME GX GY SHARED COUNT KIND VALUE ...   -> "ok", or what is wrong. Kinds: p address, u number, f bits of an f32
//
// Any fault ends the program.
#include "cuda.h"
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "../decoder_step.cu"

namespace host {
dim3 thread_index, block_index, grid_size;

namespace {
[[noreturn]] void fail(const std::string &why) {
    std::fprintf(stderr, "on_host: %s\n", why.c_str());
    std::exit(3);
}

const size_t STACK = 64 * 1024;
enum class Waits { no, block, warp, over };

struct Fibre {
    Waits waits;
    // How often this thread has met its warp.
    unsigned meetings;
    bool begun;
    jmp_buf here;
    ucontext_t first;
    std::vector<char> stack = std::vector<char>(STACK);
};

struct Warp {
    // What was brought to this meeting and to the one before it, which some may still be looking at.
    float values[2][WARP];
    unsigned apart, arrived;
};

std::vector<Fibre> fibres(THREADS);
Warp warps[WARPS];
unsigned at_barrier, current;
jmp_buf scheduler;
ucontext_t origin;
std::vector<float> room;
bool backwards;
void (*body)();

void pause(Waits why) {
    fibres[current].waits = why;
    if (_setjmp(fibres[current].here) == 0) _longjmp(scheduler, 1);
}

void run_body() {
    body();
    fibres[current].waits = Waits::over;
    _longjmp(scheduler, 1);
}

void resume(unsigned thread) {
    current = thread;
    thread_index = {thread, 0, 0};
    Fibre &f = fibres[thread];
    if (_setjmp(scheduler) != 0) return;
    if (f.begun) _longjmp(f.here, 1);
    f.begun = true;
    getcontext(&f.first);
    f.first.uc_stack.ss_sp = f.stack.data();
    f.first.uc_stack.ss_size = STACK;
    f.first.uc_link = &origin;
    makecontext(&f.first, run_body, 0);
    setcontext(&f.first);
}

void run_block() {
    for (Fibre &f : fibres) f.waits = Waits::no, f.meetings = 0, f.begun = false;
    for (Warp &w : warps) w.arrived = 0;
    at_barrier = 0;
    std::fill(room.begin(), room.end(), NAN);
    for (unsigned over = 0; over < THREADS;) {
        bool moved = false;
        over = 0;
        for (unsigned i = 0; i < THREADS; i++) {
            unsigned t = backwards ? THREADS - 1 - i : i;
            if (fibres[t].waits == Waits::no) resume(t), moved = true;
            over += fibres[t].waits == Waits::over;
        }
        if (!moved && over < THREADS) fail("threads wait for others that never come");
    }
}
} // namespace

float *shared_room() { return room.data(); }

void wait_for_block() {
    if (++at_barrier < THREADS) return pause(Waits::block);
    at_barrier = 0;
    for (Fibre &f : fibres) {
        if (f.waits == Waits::block) f.waits = Waits::no;
    }
}

float exchange(unsigned lanes, float value, unsigned apart) {
    unsigned thread = current, lane = thread % WARP;
    Warp &w = warps[thread / WARP];
    if (lanes != ~0u) fail("a warp exchanges values without all its lanes");
    if (w.arrived > 0 && w.apart != apart) fail("the lanes of a warp exchange values in different places");
    float *values = w.values[fibres[thread].meetings++ % 2];
    values[lane] = value;
    w.apart = apart;
    if (++w.arrived < WARP) {
        pause(Waits::warp);
    } else {
        w.arrived = 0;
        for (unsigned l = 0; l < WARP; l++) {
            Fibre &f = fibres[thread - lane + l];
            if (f.waits == Waits::warp) f.waits = Waits::no;
        }
    }
    return values[lane ^ apart];
}
} // namespace host

namespace {
struct Argument {
    char kind;
    unsigned long long value;
};
typedef std::vector<Argument> Arguments;

template <class T> struct Taken;
template <class T> struct Taken<T *> {
    static const char KIND = 'p';
    static T *of(unsigned long long v) { return (T *)v; }
};
template <> struct Taken<unsigned> {
    static const char KIND = 'u';
    static unsigned of(unsigned long long v) { return (unsigned)v; }
};
template <> struct Taken<float> {
    static const char KIND = 'f';
    static float of(unsigned long long v) { return __uint_as_float((unsigned)v); }
};

template <class... T, size_t... I>
std::string call(void (*kernel)(T...), const Arguments &given, std::index_sequence<I...>) {
    if (given.size() != sizeof...(T)) return "it takes " + std::to_string(sizeof...(T)) + " arguments";
    const char kinds[] = {Taken<T>::KIND...};
    for (size_t i = 0; i < sizeof...(T); i++) {
        if (given[i].kind != kinds[i]) return "argument " + std::to_string(i) + " is of another kind";
    }
    static Arguments arguments;
    static void (*chosen)(T...);
    arguments = given;
    chosen = kernel;
    host::body = [] { chosen(Taken<T>::of(arguments[I].value)...); };
    unsigned blocks = host::grid_size.x * host::grid_size.y;
    for (unsigned i = 0; i < blocks; i++) {
        unsigned b = host::backwards ? blocks - 1 - i : i;
        host::block_index = {b % host::grid_size.x, b / host::grid_size.x, 0};
        host::run_block();
    }
    return "ok";
}

template <class... T> std::string call(void (*kernel)(T...), const Arguments &given) {
    return call(kernel, given, std::index_sequence_for<T...>());
}

std::string launch(const std::string &name, const Arguments &arguments) {
#define KERNEL(k)                                                                                                      \
    if (name == #k) return call(k, arguments);
#define KERNELS(suffix)                                                                                                \
    KERNEL(qkv_##suffix)                                                                                               \
    KERNEL(project_##suffix)                                                                                           \
    KERNEL(gate_up_##suffix)                                                                                           \
    KERNEL(down_##suffix)                                                                                              \
    KERNEL(embed_token_##suffix)                                                                                       \
    KERNEL(head_##suffix)
    KERNELS(f32)
    KERNELS(bf16)
    KERNELS(q8_0)
    KERNEL(attend_f32)
    KERNEL(attend_bf16)
    KERNEL(embed_frame)
    KERNEL(tops)
    KERNEL(bound)
    KERNEL(gather)
    return "there is no such kernel";
}

// Memory that ends where a page begins that cannot be touched.
char *guarded(size_t size) {
    size_t page = sysconf(_SC_PAGESIZE), used = (size + 15) / 16 * 16, whole = (used + page - 1) / page * page;
    char *pages = (char *)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) host::fail("no memory");
    mprotect(pages + whole, page, PROT_NONE);
    std::memset(pages, 0xff, whole);
    return pages + whole - used;
}
} // namespace

int main() {
    char command[32];
    unsigned long long address, size;
    while (std::scanf("%31s", command) == 1) {
        std::string verb = command;
        if (verb == "alloc" && std::scanf("%llu", &size) == 1) {
            std::printf("%llu\n", (unsigned long long)guarded(size));
        } else if (verb == "write" && std::scanf("%llu %llu", &address, &size) == 2) {
            std::getchar();
            if (std::fread((void *)address, 1, size, stdin) != size) host::fail("the bytes are missing");
            continue;
        } else if (verb == "read" && std::scanf("%llu %llu", &address, &size) == 2) {
            std::fwrite((const void *)address, 1, size, stdout);
        } else if (verb == "backwards" && std::scanf("%llu", &size) == 1) {
            host::backwards = size != 0;
            continue;
        } else if (verb == "launch") {
            char name[32], kind;
            unsigned shared, count;
            dim3 &grid = host::grid_size;
            if (std::scanf("%31s %u %u %u %u", name, &grid.x, &grid.y, &shared, &count) != 5) host::fail("no launch");
            Arguments arguments;
            for (unsigned i = 0; i < count && std::scanf(" %c %llu", &kind, &address) == 2; i++) {
                arguments.push_back({kind, address});
            }
            // No more than was asked for: what lies behind is not the block's.
            host::room = std::vector<float>(shared / sizeof(float));
            std::printf("%s\n", launch(name, arguments).c_str());
        } else {
            host::fail("unknown command " + verb);
        }
        std::fflush(stdout);
    }
}
