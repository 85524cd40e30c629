// As much of CUDA as the generated functions use, on the CPU, for tests: include it before their text and compile both
// as C++. The threads of a block take turns, each on a stack of its own; each runs until it waits for others at a barrier
// or in a shuffle. In which order they run is chosen by `backwards`, so that a missing barrier is noticed in one order.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <csetjmp>
#include <ucontext.h>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

struct Three { unsigned x, y, z; };
static Three threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {
struct Barrier { int arrived, generation; };
struct Thread { jmp_buf place; bool begun, done; };
static std::vector<Thread> threads;
static std::vector<std::vector<char>> stacks;
static std::vector<Barrier> warps;
static std::vector<uint64_t> slots;
static Barrier block;
static jmp_buf scheduler;
static ucontext_t fresh, nowhere;
static int running, live, steps;
static void (*body)(void *);
static void *given;

static void yield() {
  if (!_setjmp(threads[running].place)) _longjmp(scheduler, 1);
}
static void entry();
static void resume(Thread &t) {
  if (_setjmp(scheduler)) return;
  if (t.begun) _longjmp(t.place, 1);
  t.begun = true;
  getcontext(&fresh);
  fresh.uc_stack.ss_sp = stacks[running].data(), fresh.uc_stack.ss_size = stacks[running].size();
  fresh.uc_link = &nowhere;
  makecontext(&fresh, entry, 0);
  setcontext(&fresh);
}
static void wait(Barrier &b, int expected) {
  int mine = b.generation;
  if (++b.arrived == expected) { b.arrived = 0, b.generation++, steps++; return; }
  while (b.generation == mine) yield();
}
static void entry() {
  body(given);
  threads[running].done = true, live--, steps++;
  for (;;) yield();
}
// Run one block; false if all of its threads wait.
static bool run_block(int n, bool backwards) {
  while ((int)stacks.size() < n) stacks.emplace_back(1 << 16);
  threads.assign(n, Thread{});
  warps.assign((n + 31) / 32, Barrier{});
  slots.assign(n, 0);
  block = Barrier{}, live = n;
  while (live) {
    steps = 0;
    for (int k = 0; k < n; k++) {
      running = backwards ? n - 1 - k : k;
      if (threads[running].done) continue;
      threadIdx = {(unsigned)running, 0, 0};
      resume(threads[running]);
    }
    if (!steps) return false;
  }
  return true;
}
template <class... P, size_t... I> void call(void (*f)(P...), void **a, std::index_sequence<I...>) { f((P)a[I]...); }
template <class... P> int launch(void (*f)(P...), int blocks, int n, void **a, int count, int backwards) {
  if (count != sizeof...(P)) return 2;
  struct Now { void (*f)(P...); void **a; } now{f, a};
  given = &now;
  body = [](void *p) { auto *t = (Now *)p; call(t->f, t->a, std::index_sequence_for<P...>{}); };
  gridDim = {(unsigned)blocks, 1, 1}, blockDim = {(unsigned)n, 1, 1};
  for (int b = 0; b < blocks; b++) {
    blockIdx = {(unsigned)(backwards ? blocks - 1 - b : b), 0, 0};
    if (!run_block(n, backwards)) return 1;
  }
  return 0;
}
}  // namespace emulation

static void __syncthreads() { emulation::wait(emulation::block, emulation::live); }

template <class T> T __shfl_xor_sync(unsigned mask, T x, int d) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 1 || sizeof(T) == 2);
  int me = emulation::running;
  auto &warp = emulation::warps[me / 32];
  std::memcpy(&emulation::slots[me], &x, sizeof x);
  emulation::wait(warp, 32);
  T y;
  std::memcpy(&y, &emulation::slots[me ^ d], sizeof y);
  emulation::wait(warp, 32);
  return y;
}
inline float __int_as_float(int i) { float x; std::memcpy(&x, &i, 4); return x; }
inline double __longlong_as_double(long long i) { double x; std::memcpy(&x, &i, 8); return x; }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) { return (uint64_t)(((unsigned __int128)a * b) >> 64); }
inline void atomicOr(int *a, int b) { *a |= b; }
