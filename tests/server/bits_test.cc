// The bit contract over real connections: chunks, streams, workers and company change nothing.

#include <cmath>
#include <cstring>
#include <thread>
#include <tuple>

#include <gtest/gtest.h>

#include "kernels/backends.h"
#include "kernels/engine.h"
#include "layout/tile.h"
#include "tests/server/server_fixture.h"

namespace softloss {
namespace {

// An f32 item of softmax cross entropy, [outer, classes, inner] or, with inner = 1, [rows, classes].
struct TestItem {
  Geometry geometry;
  std::vector<float> x;
  std::vector<float> t;
};

TestItem MakeItem(std::int64_t outer, std::int64_t classes, std::int64_t inner, int seed) {
  TestItem item;
  item.geometry = {.outer = outer, .classes = classes, .inner = inner, .batch = outer};
  const std::int64_t n = item.geometry.elements();
  for (std::int64_t i = 0; i < n; ++i) {
    item.x.push_back(std::sin(static_cast<float>(i * (seed + 1))) * 9);
    item.t.push_back(std::abs(std::cos(static_cast<float>(i + seed))) / classes);
  }
  return item;
}

struct Bits {
  double loss = 0;
  double gradient_l2_norm = 0;
  std::vector<float> gradient;
  friend bool operator==(const Bits& a, const Bits& b) {
    return std::memcmp(&a.loss, &b.loss, 8) == 0 &&
           std::memcmp(&a.gradient_l2_norm, &b.gradient_l2_norm, 8) == 0 &&
           a.gradient.size() == b.gradient.size() &&
           std::memcmp(a.gradient.data(), b.gradient.data(), 4 * a.gradient.size()) == 0;
  }
};

Bits InProcess(const TestItem& item, Loss loss = Loss::kSoftmaxCrossEntropy) {
  ItemShape shape;
  shape.shape = {item.geometry.outer, item.geometry.classes, item.geometry.inner};
  shape.class_axis = 1;
  shape.gradient = DType::kF32;
  LossSpec spec;
  spec.loss = loss;
  Bits bits;
  bits.gradient.resize(item.x.size());
  const std::unique_ptr<Backend> backend = MakeCpuBackend();
  InlineExecutor executor;
  const absl::StatusOr<ItemTotals> totals = ScoreItem(
      *backend, executor, spec, shape, {.prediction = item.x.data(), .label = item.t.data()},
      {.gradient = bits.gradient.data()});
  EXPECT_TRUE(totals.ok()) << totals.status();
  bits.loss = totals->loss;
  bits.gradient_l2_norm = totals->gradient_l2_norm;
  return bits;
}

class BitsTest : public ServerTest {
 protected:
  ServerOptions Options() const override {
    ServerOptions options = ServerTest::Options();
    options.io_threads = 2;
    options.cpu_threads = 2;
    options.spill_bytes = 1;  // whenever a worker is idle
    return options;
  }

  void Send(Stream* stream, std::uint64_t id, const TestItem& item, std::int64_t chunk_leaves) {
    const Geometry& g = item.geometry;
    const std::int64_t step = chunk_leaves * LeafRows(g.classes);
    for (std::int64_t row = 0; row < g.rows(); row += step) {
      const std::int64_t rows = std::min(step, g.rows() - row);
      v1::StreamRequest request;
      v1::Chunk& chunk = *request.mutable_chunk();
      chunk.set_id(id);
      chunk.set_row_begin(row);
      chunk.set_rows(rows);
      chunk.set_last(row + rows == g.rows());
      if (row == 0) {
        v1::Item& header = *chunk.mutable_item();
        header.set_spec_id(1);
        header.mutable_prediction()->set_dtype(v1::FLOAT32);
        for (std::int64_t dim : {g.outer, g.classes, g.inner}) {
          header.mutable_prediction()->add_shape(dim);
        }
        header.mutable_prediction()->set_class_axis(1);
        header.mutable_label()->mutable_dense()->set_dtype(v1::FLOAT32);
        header.set_gradient_dtype(v1::FLOAT32);
      }
      ForEachPiece(g, row, rows, [&](std::int64_t offset, std::int64_t n) {
        request.mutable_prediction()->append(reinterpret_cast<const char*>(item.x.data() + offset),
                                             4 * n);
        request.mutable_label()->append(reinterpret_cast<const char*>(item.t.data() + offset),
                                        4 * n);
      });
      ASSERT_TRUE(stream->Write(request));
    }
  }

  // Takes replies until `items` are whole.
  std::vector<Bits> Receive(Stream* stream, const std::vector<const TestItem*>& items) {
    std::vector<Bits> bits(items.size());
    for (std::size_t i = 0; i < items.size(); ++i) bits[i].gradient.resize(items[i]->x.size());
    for (std::size_t done = 0; done < items.size();) {
      const v1::StreamResponse reply = Next(stream);
      const v1::ChunkResult& chunk = reply.chunk();
      if (chunk.has_error() || chunk.id() >= items.size()) {
        ADD_FAILURE() << chunk.DebugString();
        return bits;
      }
      Bits& b = bits[chunk.id()];
      const char* from = reply.gradient().data();
      ForEachPiece(items[chunk.id()]->geometry, chunk.row_begin(), chunk.rows(),
                   [&](std::int64_t offset, std::int64_t n) {
                     std::memcpy(b.gradient.data() + offset, from, 4 * n);
                     from += 4 * n;
                   });
      if (chunk.has_result()) {
        b.loss = chunk.result().loss();
        b.gradient_l2_norm = chunk.result().gradient_l2_norm();
        ++done;
      }
    }
    return bits;
  }
};

TEST_F(BitsTest, AloneChunkedAtEveryLeafAndInProcessAreTheSame) {
  const TestItem items[] = {
      MakeItem(2000, 10, 1, 1),     // lanes are rows
      MakeItem(700, 100, 1, 2),     // a row's classes fill vectors
      MakeItem(5, 9000, 1, 3),      // a leaf is one row
      MakeItem(3, 21, 30 * 31, 4),  // tiles that cross images
      MakeItem(3000, 1, 1, 5),
  };
  for (const TestItem& item : items) {
    SCOPED_TRACE(item.geometry.classes);
    const Bits expected = InProcess(item);
    for (std::int64_t leaves : {1, 2, 3, 1000000}) {
      grpc::ClientContext context;
      auto stream = Open(&context);
      stream->Write(Define(1, v1::SOFTMAX_CROSS_ENTROPY));
      Send(stream.get(), 0, item, leaves);
      EXPECT_TRUE(Receive(stream.get(), {&item})[0] == expected) << leaves << " leaves a chunk";
    }
  }
}

// Every chunk is kept until the last is there; images and classes that straddle chunks, tiles among them.
TEST_F(BitsTest, RegionsInAnyChunksAndInProcessAreTheSame) {
  const TestItem items[] = {
      MakeItem(2000, 10, 1, 1),
      MakeItem(3, 21, 30 * 31, 4),
      MakeItem(2, 40, 5000, 6),  // more than a message holds
      MakeItem(1, 700, 50, 7),
  };
  for (const TestItem& item : items) {
    SCOPED_TRACE(item.geometry.classes);
    const Bits expected = InProcess(item, Loss::kSoftDice);
    for (std::int64_t leaves : {1, 2, 7}) {
      grpc::ClientContext context;
      auto stream = Open(&context);
      stream->Write(Define(1, v1::SOFT_DICE));
      Send(stream.get(), 0, item, leaves);
      EXPECT_TRUE(Receive(stream.get(), {&item})[0] == expected) << leaves << " leaves a chunk";
    }
  }
}

TEST_F(BitsTest, AmongAThousandOthersOnEightStreamsIsTheSame) {
  constexpr int kStreams = 8;
  constexpr int kItems = 125;
  std::vector<TestItem> items;
  std::vector<Bits> expected;
  for (int i = 0; i < 25; ++i) {
    items.push_back(i % 3 == 0 ? MakeItem(2, 3 + i, 40, i) : MakeItem(20 + 37 * i, 1 + i, 1, i));
    expected.push_back(InProcess(items.back()));
  }
  std::vector<std::thread> clients;
  for (int s = 0; s < kStreams; ++s) {
    clients.emplace_back([&, s] {
      grpc::ClientContext context;
      auto stream = Open(&context);
      stream->Write(Define(1, v1::SOFTMAX_CROSS_ENTROPY));
      std::vector<const TestItem*> order;
      for (int i = 0; i < kItems; ++i) order.push_back(&items[(i * 7 + s) % items.size()]);
      std::thread sender([&] {
        for (int i = 0; i < kItems; ++i) Send(stream.get(), i, *order[i], 1 + (i + s) % 4);
      });
      const std::vector<Bits> got = Receive(stream.get(), order);
      sender.join();
      for (int i = 0; i < kItems; ++i) {
        EXPECT_TRUE(got[i] == expected[(i * 7 + s) % items.size()])
            << "stream " << s << " item " << i;
      }
      stream->WritesDone();
      EXPECT_TRUE(stream->Finish().ok());
    });
  }
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace softloss
