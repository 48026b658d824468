// What a request costs the I/O thread: bytes copied, allocations, locks. This program's own malloc,
// memcpy and pthread_mutex_lock count the calls of threads named "softloss-io", and forward them.
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "tests/server/server_fixture.h"

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
extern const char __executable_start, etext;
}

namespace {

struct Counter {
  std::atomic<std::int64_t> here{0};   // calls from this program: softloss, and templates of others
  std::atomic<std::int64_t> other{0};  // from shared libraries: gRPC, protobuf

  void Add(std::int64_t n, const void* caller) {
    const auto* address = static_cast<const char*>(caller);
    (address >= &__executable_start && address < &etext ? here : other) += n;
  }
};
Counter allocations, locks, copied;
std::atomic<bool> counting{false};
thread_local bool counted_thread = false;

bool Counting() { return counted_thread && counting.load(std::memory_order_relaxed); }

template <typename F>
F* Real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

void* Allocate(std::size_t size, const void* caller) {
  if (Counting()) allocations.Add(1, caller);
  return __libc_malloc(size);
}

// Short ones are fields and headers, which are moved about wherever they are handled.
constexpr std::size_t kLongCopy = 512;

}  // namespace

extern "C" {
void* malloc(std::size_t size) { return Allocate(size, __builtin_return_address(0)); }
void* calloc(std::size_t n, std::size_t size) {
  if (Counting()) allocations.Add(1, __builtin_return_address(0));
  return __libc_calloc(n, size);
}
void* realloc(void* memory, std::size_t size) {
  if (Counting()) allocations.Add(1, __builtin_return_address(0));
  return __libc_realloc(memory, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  if (Counting()) allocations.Add(1, __builtin_return_address(0));
  return __libc_memalign(alignment, size);
}
void* memcpy(void* to, const void* from, std::size_t size) {
  static auto* const real = Real<void*(void*, const void*, std::size_t)>("memcpy");
  if (size >= kLongCopy && Counting()) {
    copied.Add(static_cast<std::int64_t>(size), __builtin_return_address(0));
  }
  return real(to, from, size);
}
void* memmove(void* to, const void* from, std::size_t size) {
  static auto* const real = Real<void*(void*, const void*, std::size_t)>("memmove");
  if (size >= kLongCopy && Counting()) {
    copied.Add(static_cast<std::int64_t>(size), __builtin_return_address(0));
  }
  return real(to, from, size);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static auto* const real = Real<int(pthread_mutex_t*)>("pthread_mutex_lock");
  if (Counting()) locks.Add(1, __builtin_return_address(0));
  return real(mutex);
}
int pthread_setname_np(pthread_t thread, const char* name) {
  static auto* const real = Real<int(pthread_t, const char*)>("pthread_setname_np");
  counted_thread = pthread_equal(thread, pthread_self()) && std::string(name) == "softloss-io";
  return real(thread, name);
}
}

void* operator new(std::size_t size) { return Allocate(size, __builtin_return_address(0)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace softloss {
namespace {

class RequestCostsTest : public ServerTest {
 protected:
  static constexpr int kItems = 300;

  ServerOptions Options() const override {
    ServerOptions options = ServerTest::Options();
    options.io_threads = 1;
    options.spill_bytes = std::int64_t{1} << 40;  // all on the thread that is counted
    return options;
  }

  // An item of `rows` rows of 64 classes: f32 logits and labels, f32 gradient.
  static v1::StreamRequest Item(std::uint64_t id, std::int64_t rows) {
    v1::StreamRequest request;
    v1::Chunk& chunk = *request.mutable_chunk();
    chunk.set_id(id);
    chunk.set_rows(rows);
    chunk.set_last(true);
    v1::Item& item = *chunk.mutable_item();
    item.set_spec_id(1);
    item.mutable_prediction()->set_dtype(v1::FLOAT32);
    item.mutable_prediction()->add_shape(rows);
    item.mutable_prediction()->add_shape(64);
    item.mutable_prediction()->set_class_axis(-1);
    item.mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
    item.set_gradient_dtype(v1::FLOAT32);
    request.set_prediction(Bytes(std::vector<float>(rows * 64, 0.5f)));
    request.set_label(Bytes(std::vector<float>(rows * 64, 1.0f / 64)));
    return request;
  }

  struct Costs {
    double own_allocations, grpc_allocations, own_locks, grpc_locks, own_copied, grpc_copied;
  };

  // Costs an item, once pools are filled; copied bytes a byte that the item brings.
  Costs Measure(std::int64_t rows, int batch) {
    grpc::ClientContext context;
    auto stream = Open(&context);
    EXPECT_TRUE(stream->Write(Define(1, v1::SOFTMAX_CROSS_ENTROPY)));
    const auto run = [&](int items, std::uint64_t first_id) {
      for (int i = 0; i < items; i += batch) {
        v1::StreamRequest message;
        for (int k = 0; k < batch; ++k) {
          const v1::StreamRequest item = Item(first_id + i + k, rows);
          if (batch == 1) message = item;
          if (batch > 1) message.add_batch(item.SerializeAsString());
        }
        EXPECT_TRUE(stream->Write(message));
        for (int answered = 0; answered < batch;) {
          v1::StreamResponse reply;
          if (!stream->Read(&reply)) return false;
          if (reply.has_chunk() && !reply.chunk().has_result()) return false;
          answered += reply.has_chunk() + reply.batch_size();
        }
      }
      return true;
    };
    EXPECT_TRUE(run(60, 1));
    for (Counter* c : {&allocations, &locks, &copied}) c->here = c->other = 0;
    counting = true;
    EXPECT_TRUE(run(kItems, 1000));
    counting = false;
    const double bytes = static_cast<double>(rows * 64 * 8) * kItems;
    const Costs costs = {allocations.here / double{kItems},
                         allocations.other / double{kItems},
                         locks.here / double{kItems},
                         locks.other / double{kItems},
                         copied.here / bytes,
                         copied.other / bytes};
    std::printf(
        "%4ld KiB, %2d a message: allocations %5.1f + %5.1f, locks %5.1f + %5.1f, copies a "
        "byte %.3f + %.3f (softloss + gRPC)\n",
        static_cast<long>(rows * 64 * 8 / 1024), batch, costs.own_allocations,
        costs.grpc_allocations, costs.own_locks, costs.grpc_locks, costs.own_copied,
        costs.grpc_copied);
    return costs;
  }
};

TEST_F(RequestCostsTest, PayloadsAreNotCopiedAndAllocationsAreFew) {
  const Costs small = Measure(16, 1), batched = Measure(16, 12), middle = Measure(128, 1),
              large = Measure(2048, 1);
  for (const Costs& c : {small, batched, middle, large}) {
    EXPECT_GT(c.own_allocations + c.grpc_allocations, 1);  // it does count
    EXPECT_LE(c.own_allocations, 50);
    EXPECT_LE(c.own_locks, 16);
  }
  // Blocks of rows that straddle two of gRPC's slices are gathered; nothing else is copied.
  for (const Costs& c : {middle, large}) {
    EXPECT_LE(c.own_copied, 0.20);
    EXPECT_LE(c.grpc_copied, 0.05);
  }
  // A hundred times the bytes come in more slices, but that is all.
  EXPECT_LE(large.own_allocations, small.own_allocations + 25);
  EXPECT_LT(batched.grpc_allocations, small.grpc_allocations);
  EXPECT_LT(batched.own_locks, small.own_locks);
}

}  // namespace
}  // namespace softloss
