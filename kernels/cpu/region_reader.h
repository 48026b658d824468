// Positions of an image as regional kernels want them: classes that exist in columns, labels as they
// are scored; what is out of the ordinary is counted, and repaired.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "kernels/cpu/class_selection.h"
#include "kernels/cpu/label_transform.h"
#include "kernels/cpu/region_kernels.h"
#include "kernels/cpu/segment_io.h"

namespace softloss::cpu {

// Positions read at a time; a multiple of kRowQuantum that depends on the key alone.
std::size_t RegionReadRows(std::size_t classes);

template <typename T>
class RegionReader {
 public:
  RegionReader(const ScoreKey& key, const Segment& segment, Scratch& scratch);

  std::size_t classes() const { return selection_.count(); }  // that exist
  const ClassSelection& selection() const { return selection_; }

  // Reads rows [row, row + n), n at most RegionReadRows, to block(). INVALID_ARGUMENT for the first that
  // is wrong. What the rows hold is counted in `tally`, if that is not null.
  absl::Status Read(std::int64_t row, std::size_t n, Tally* tally);
  // Makes the block's x predictions, where they are not to be made on the way.
  void Predict(const RegionKernels<T>& kernels, Tally* tally);
  // Counts the block's elements one by one. Of classes that exclude each other this is done.
  void CountElements(Tally& tally) const;
  // Delivers the block's x as the gradient.
  void WriteGradient();

  const RegionBlock<T>& block() const { return block_; }

 private:
  template <class ReadElements>
  void LoadColumns(bool by_rows, T* to, ReadElements read);
  void LoadIds();
  void Transform(Tally* tally);
  // Of a position, the predictions and labels of the classes that exist, in fp64.
  void ReadRow(std::size_t i, double* x, double* t);
  std::int64_t Element(std::size_t c) const;

  SegmentIo<T> io_;
  const LossSpec& spec_;
  Scratch& scratch_;
  const ClassSelection selection_;
  const bool exclusive_, has_ids_;
  const double tolerance_;
  LabelTransform<T> transform_;
  bool transforms_ = false;
  T ignore_ = 0;
  std::int64_t row_ = 0;
  std::size_t rows_ = 0;
  RegionBlock<T> block_;
  T* weight_ = nullptr;
  std::int64_t* ids_ = nullptr;
  RowArrays<T> arrays_;
};

}  // namespace softloss::cpu
