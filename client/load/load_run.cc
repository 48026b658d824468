#include "client/load/load_run.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace softloss::load {

absl::Status Validate(const LoadOptions& options) {
  if (options.arrivals == ArrivalKind::kClosed) {
    if (options.in_flight < 1 || options.in_flight > 1'000'000) {
      return absl::InvalidArgumentError(
          absl::StrCat("in_flight: must be from 1 to 1000000; was ", options.in_flight));
    }
  } else if (!(options.rate > 0 && options.rate <= 1e8)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rate: must be above 0 and at most 1e8; was ", options.rate));
  }
  if (options.most_in_flight < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("most_in_flight: must be at least 1; was ", options.most_in_flight));
  }
  for (const auto& [name, value, least] :
       {std::tuple{"warmup", options.warmup, absl::ZeroDuration()},
        std::tuple{"timeout", options.timeout, absl::Milliseconds(1)},
        std::tuple{"duration", options.duration, absl::Milliseconds(1)}}) {
    if (value < least || value > absl::Hours(24)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ": must be from ",
                                                     absl::FormatDuration(least), " to 24h; was ",
                                                     absl::FormatDuration(value)));
    }
  }
  return absl::OkStatus();
}

LoadRun::LoadRun(const LoadOptions& options, absl::Span<const double> weights)
    : options_(options),
      arrivals_(options.arrivals, options.rate, options.seed),
      random_(options.seed + 1),
      kinds_(weights.size()) {
  double sum = 0;
  for (const double weight : weights) share_.push_back(sum += weight);
  for (double& share : share_) share /= sum;
  if (options.arrivals != ArrivalKind::kClosed) due_ = arrivals_.Next();
}

int LoadRun::DrawKind() {
  const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;
  const auto kind = std::upper_bound(share_.begin(), share_.end(), uniform) - share_.begin();
  return static_cast<int>(std::min<std::ptrdiff_t>(kind, std::ssize(share_) - 1));
}

std::optional<Sent> LoadRun::NextSend(absl::Duration now) {
  // What was due by the end is not sent after it: an overload would never be over.
  if (stopped_ || now >= end()) return std::nullopt;
  Sent sent;
  if (options_.arrivals == ArrivalKind::kClosed) {
    if (in_flight_ >= options_.in_flight) return std::nullopt;
    sent.due = now;
  } else {
    if (*due_ > now || in_flight_ >= options_.most_in_flight) return std::nullopt;
    sent.due = *due_;
    due_ = arrivals_.Next();
  }
  sent.kind = DrawKind();
  ++in_flight_;
  if (Measured(sent.due)) {
    ++kinds_[sent.kind].sent;
    lag_.Record(absl::ToInt64Nanoseconds(now - sent.due));
  }
  return sent;
}

std::optional<absl::Duration> LoadRun::NextDue() const {
  if (!due_.has_value() || *due_ >= end() || in_flight_ >= options_.most_in_flight) {
    return std::nullopt;
  }
  return due_;
}

void LoadRun::Complete(const Sent& sent, absl::Duration now, Outcome outcome,
                       absl::StatusCode code) {
  --in_flight_;
  if (!Measured(sent.due)) return;
  KindResult& kind = kinds_[sent.kind];
  if (outcome == Outcome::kFailed) {
    ++kind.failed[code];
    return;
  }
  if (outcome == Outcome::kWrong) {
    ++kind.wrong;
    return;
  }
  ++kind.succeeded;
  kind.completed_in_time += now < end();
  kind.latency.Record(absl::ToInt64Nanoseconds(now - sent.due));
}

std::int64_t LoadRun::Unsent() const {
  if (!due_.has_value()) return 0;
  // The rest of the schedule, drawn from a copy.
  Arrivals rest = arrivals_;
  std::int64_t count = 0;
  for (absl::Duration due = *due_; due < end(); due = rest.Next()) count += Measured(due);
  return count;
}

}  // namespace softloss::load
