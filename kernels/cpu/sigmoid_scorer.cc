#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cpu/element_loss.h"
#include "kernels/cpu/scorer.h"
#include "kernels/cpu/segment_io.h"
#include "kernels/cpu/sigmoid_cross_entropy.h"

namespace softloss::cpu {
namespace {

constexpr std::size_t kMaxLeafRows = 256;
// Elements scored at a time. Sums depend on it: a leaf is always cut in the same places.
constexpr std::size_t kBlock = 4096;
// Lines of a tile that are shorter than this are gathered into blocks.
constexpr std::size_t kMinLine = 64;

template <typename T>
class SigmoidScorer {
 public:
  SigmoidScorer(const ScoreKey& key, const Segment& segment, Scratch& scratch, Tally& tally)
      : io_(key, segment, scratch),
        spec_(*segment.spec),
        scratch_(scratch),
        tally_(tally),
        classes_(static_cast<std::size_t>(key.classes)),
        ids_are_labels_(key.label.kind == LabelKind::kClassId),
        // Of a tile, whose lines are not its rows.
        sparse_tile_(key.label.kind == LabelKind::kSparse && !key.class_last),
        dense_(!ids_are_labels_ && !sparse_tile_),
        weighted_(!segment.mask.empty() || !segment.row_weight.empty() ||
                  !spec_.class_weight.empty() || !spec_.class_mask.empty() || ids_are_labels_),
        score_(FindElementLoss<T>(spec_)) {
    row_weight_ = scratch.rows.Get<T>(kMaxLeafRows);
    ids_ = scratch.ids.Get<std::int64_t>(kMaxLeafRows);
    run_.smoothing = static_cast<T>(spec_.label_smoothing);
    if (spec_.ignore_value.has_value()) {
      // A value that the type of computation cannot hold equals no label.
      const T value = static_cast<T>(*spec_.ignore_value);
      if (std::isnan(value) || static_cast<double>(value) == *spec_.ignore_value) {
        run_.ignore = value;
      }
    }
  }

  absl::Status ScoreLeaf(std::int64_t row, std::size_t n, LeafSum& sum) {
    if (weighted_ || io_.sparse()) {
      absl::Status status = io_.ReadRows(row, n, row_weight_, ids_);
      if (!status.ok()) return status;
    }
    if (sparse_tile_) {
      rows_of_labels_ = scratch_.decoded.template Get<T>(n * classes_);
      io_.Labels(row * io_.key().classes, n * classes_, rows_of_labels_);
    }
    sum = LeafSum();
    if (io_.key().class_last) {
      const std::size_t elements = n * classes_;
      for (std::size_t i = 0; i < elements; i += kBlock) {
        ScoreRange(row * io_.key().classes, i, std::min(kBlock, elements - i), sum);
      }
    } else if (n >= kMinLine) {
      for (std::size_t c = 0; c < classes_; ++c) ScoreLines(row, n, c, 1, sum);
    } else {
      const std::size_t lines = kBlock / n;
      for (std::size_t c = 0; c < classes_; c += lines) {
        ScoreLines(row, n, c, std::min(lines, classes_ - c), sum);
      }
    }
    return absl::OkStatus();
  }

 private:
  // Elements [begin, begin + n) of the leaf whose first element is `leaf`; class axis last.
  void ScoreRange(std::int64_t leaf, std::size_t begin, std::size_t n, LeafSum& sum) {
    const std::int64_t at = leaf + static_cast<std::int64_t>(begin);
    run_.n = n;
    run_.x = io_.Predictions(at, n, scratch_.x.template Get<T>(kBlock));
    T* t = scratch_.t.template Get<T>(kBlock);
    run_.t = dense_ ? io_.Labels(at, n, t) : t;
    Expand(begin / classes_, begin % classes_, n, 1, t);
    T* gradient_scratch = scratch_.g.template Get<T>(kBlock);
    T* loss_scratch = scratch_.loss.template Get<T>(kBlock);
    run_.gradient = io_.wants_gradient() ? io_.GradientPlace(at, n, gradient_scratch) : nullptr;
    run_.loss = io_.wants_row_loss() ? io_.RowLossPlace(at, n, loss_scratch) : nullptr;
    ScoreRun(sum);
    if (run_.gradient != nullptr) io_.WriteGradient(at, n, run_.gradient);
    if (run_.loss != nullptr) io_.WriteRowLoss(at, n, run_.loss);
  }

  void ScoreRun(LeafSum& sum) {
    if (score_ != nullptr) {
      score_(run_, spec_, sum, tally_);
    } else {
      ScoreSigmoid(run_, sum, tally_);
    }
  }

  // Classes [begin, begin + lines) of rows [row, row + n); class axis first.
  void ScoreLines(std::int64_t row, std::size_t n, std::size_t begin, std::size_t lines,
                  LeafSum& sum) {
    const auto element = [&](std::size_t line) {
      return static_cast<std::int64_t>(begin + line) * io_.segment().rows + row;
    };
    T* const x = scratch_.x.template Get<T>(kBlock);
    T* const t = scratch_.t.template Get<T>(kBlock);
    T* const gradient = scratch_.g.template Get<T>(kBlock);
    T* const loss = scratch_.loss.template Get<T>(kBlock);
    run_.n = n * lines;
    run_.x = x;
    run_.t = t;
    run_.gradient = io_.wants_gradient() ? gradient : nullptr;
    run_.loss = io_.wants_row_loss() ? loss : nullptr;
    if (lines == 1) {
      run_.x = io_.Predictions(element(0), n, x);
      if (dense_) run_.t = io_.Labels(element(0), n, t);
      if (run_.gradient != nullptr) run_.gradient = io_.GradientPlace(element(0), n, gradient);
      if (run_.loss != nullptr) run_.loss = io_.RowLossPlace(element(0), n, loss);
    } else {
      for (std::size_t line = 0; line < lines; ++line) {
        const auto copy = [&](const T* from, T* to) {
          if (from != to) std::memcpy(to, from, n * sizeof(T));
        };
        copy(io_.Predictions(element(line), n, x + line * n), x + line * n);
        if (dense_) copy(io_.Labels(element(line), n, t + line * n), t + line * n);
      }
    }
    Expand(0, begin, run_.n, n, t);
    ScoreRun(sum);
    for (std::size_t line = 0; line < lines; ++line) {
      if (run_.gradient != nullptr) {
        io_.WriteGradient(element(line), n, run_.gradient + line * n);
      }
      if (run_.loss != nullptr) io_.WriteRowLoss(element(line), n, run_.loss + line * n);
    }
  }

  // Makes arrays of `n` elements of what is given by rows and classes: weights, pos_weight, and the
  // labels of class ids (to `labels`). The elements go on from (row, cls). Class axis last: `line` =
  // 1, and classes run fastest. First: `line` rows a class, from row 0.
  void Expand(std::size_t row, std::size_t cls, std::size_t n, std::size_t line, T* labels) {
    const bool class_last = io_.key().class_last;
    const auto for_each = [&](auto visit) {
      std::size_t r = row, c = cls;
      for (std::size_t i = 0; i < n; ++i) {
        visit(i, r, c);
        if (class_last) {
          if (++c == classes_) c = 0, ++r;
        } else {
          if (++r == line) r = 0, ++c;
        }
      }
    };
    if (weighted_) {
      T* weight = scratch_.weight.template Get<T>(kBlock);
      const std::vector<float>& by_class = spec_.class_weight;
      const std::vector<std::uint8_t>& exists = spec_.class_mask;
      for_each([&](std::size_t i, std::size_t r, std::size_t c) {
        const T w = exists.empty() || exists[c] != 0 ? row_weight_[r] : T(-1);
        weight[i] = w > 0 ? (by_class.empty() ? w : w * static_cast<T>(by_class[c]))
                          : T(w < 0 ? kMaskedWeight : kZeroRowWeight);
      });
      run_.weight = weight;
    }
    if (!spec_.pos_weight.empty()) {
      T* pos_weight = scratch_.pos_weight.template Get<T>(kBlock);
      const std::vector<float>& values = spec_.pos_weight;
      for_each([&](std::size_t i, std::size_t, std::size_t c) {
        pos_weight[i] = static_cast<T>(values[values.size() == 1 ? 0 : c]);
      });
      run_.pos_weight = pos_weight;
    }
    if (!dense_) {
      for_each([&](std::size_t i, std::size_t r, std::size_t c) {
        labels[i] = sparse_tile_                              ? rows_of_labels_[r * classes_ + c]
                    : ids_[r] == static_cast<std::int64_t>(c) ? T(1)
                                                              : T(0);
      });
    }
  }

  SegmentIo<T> io_;
  const LossSpec& spec_;
  Scratch& scratch_;
  Tally& tally_;
  const std::size_t classes_;
  const bool ids_are_labels_, sparse_tile_, dense_;
  const bool weighted_;
  const ScoreElements<T> score_;  // null: ScoreSigmoid
  SigmoidRun<T> run_;
  T* row_weight_ = nullptr;
  T* rows_of_labels_ = nullptr;  // of a leaf
  std::int64_t* ids_ = nullptr;
};

}  // namespace

template <typename T>
absl::Status ScoreSigmoidLeaves(const ScoreKey& key, const Segment& segment,
                                std::int64_t leaf_begin, std::int64_t leaf_end, Scratch& scratch,
                                Tally& tally) {
  return ScoreEachLeaf(SigmoidScorer<T>(key, segment, scratch, tally), key, segment, leaf_begin,
                       leaf_end);
}

template absl::Status ScoreSigmoidLeaves<float>(const ScoreKey&, const Segment&, std::int64_t,
                                                std::int64_t, Scratch&, Tally&);
template absl::Status ScoreSigmoidLeaves<double>(const ScoreKey&, const Segment&, std::int64_t,
                                                 std::int64_t, Scratch&, Tally&);

}  // namespace softloss::cpu
