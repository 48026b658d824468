#include "kernels/annotation/consensus.h"

#include <algorithm>

namespace softloss::annotation {

std::vector<std::int32_t> LikeliestClasses(absl::Span<const double> posterior, int num_classes) {
  if (posterior.empty()) return {};
  std::vector<std::int32_t> label(posterior.size() / num_classes);
  for (std::size_t i = 0; i < label.size(); ++i) {
    const auto row = posterior.begin() + static_cast<std::ptrdiff_t>(i * num_classes);
    label[i] = static_cast<std::int32_t>(std::max_element(row, row + num_classes) - row);
  }
  return label;
}

}  // namespace softloss::annotation
