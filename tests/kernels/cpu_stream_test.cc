// Gradients that are larger than the caches are written past them: the same bits as in small parts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/backends.h"
#include "kernels/engine.h"
#include "tests/testing/random.h"

namespace softloss::testing {
namespace {

constexpr std::int64_t kElements = 9 << 20;  // of fp32: 36 MiB

struct Shape {
  Loss loss;
  std::int64_t classes;
  std::int64_t inner = 1;
  DType gradient = DType::kF32;
};

class CpuStreamTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    Random random(5);
    std::vector<float> noise(99991);
    for (float& v : noise) v = static_cast<float>(3 * random.Normal());
    x_ = new std::vector<float>(kElements);
    t_ = new std::vector<float>(kElements);
    for (std::size_t i = 0; i < x_->size(); ++i) {
      (*x_)[i] = noise[i % noise.size()];
      (*t_)[i] = std::fabs(noise[(3 * i + 1) % noise.size()]) / 100;
    }
    for (std::size_t i = 12345; i < x_->size(); i += 1234567) {
      (*x_)[i] = std::numeric_limits<float>::quiet_NaN();
      (*t_)[i / 2] = -1e15f;  // out of range, and scored exactly
    }
  }
  static void TearDownTestSuite() {
    delete x_;
    delete t_;
  }

  // Images [begin, begin + n) of `shape`, to `gradient`.
  void Score(const Shape& shape, std::int64_t begin, std::int64_t n, std::byte* gradient) {
    ItemShape item;
    item.shape = {n, shape.classes, shape.inner};
    item.class_axis = 1;
    item.gradient = shape.gradient;
    LossSpec spec;
    spec.loss = shape.loss;
    InlineExecutor executor;
    const std::int64_t from = begin * shape.classes * shape.inner;
    const auto totals =
        ScoreItem(*backend_, executor, spec, item, {x_->data() + from, t_->data() + from},
                  {gradient + static_cast<std::size_t>(from) * SizeOf(shape.gradient)});
    ASSERT_TRUE(totals.ok()) << totals.status();
  }

  void ExpectSameAsInParts(const Shape& shape, std::size_t misalign) {
    const std::int64_t image = shape.classes * shape.inner, images = kElements / image;
    const std::size_t size = static_cast<std::size_t>(images * image) * SizeOf(shape.gradient);
    std::vector<std::byte> whole(size + 2 * misalign), parts(size);
    Score(shape, 0, images, whole.data() + misalign);
    const std::int64_t leaf_images = std::max<std::int64_t>(1, 256 / shape.inner);
    const std::int64_t step = (images / 3 + leaf_images - 1) / leaf_images * leaf_images;
    for (std::int64_t begin = 0; begin < images; begin += step) {
      Score(shape, begin, std::min(step, images - begin), parts.data());
    }
    EXPECT_EQ(std::memcmp(whole.data() + misalign, parts.data(), size), 0)
        << shape.classes << " classes, " << shape.inner << " inner, misaligned by " << misalign;
    for (std::size_t i = 0; i < misalign; ++i) {
      EXPECT_EQ(whole[i], std::byte{0});
      EXPECT_EQ(whole[misalign + size + i], std::byte{0});
    }
  }

  const std::unique_ptr<Backend> backend_ = MakeCpuBackend();
  static std::vector<float>*x_, *t_;
};

std::vector<float>*CpuStreamTest::x_ = nullptr, *CpuStreamTest::t_ = nullptr;

TEST_F(CpuStreamTest, GivesTheBitsOfSmallParts) {
  for (const std::size_t misalign : {0, 4, 32}) {
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 2}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 21}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 1000}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 1001}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 40000}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 5, 1024}, misalign);
    ExpectSameAsInParts({Loss::kSigmoidCrossEntropy, 3}, misalign);
    ExpectSameAsInParts({Loss::kSoftmaxCrossEntropy, 1000, 1, DType::kF64}, misalign);
  }
}

}  // namespace
}  // namespace softloss::testing
