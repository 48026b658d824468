// A campaign: the durable votes, predictions and gold answers of one labelling job.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "kernels/annotation/votes.h"

namespace softloss {

// What a campaign is, for as long as it exists.
struct CampaignOptions {
  std::vector<std::string>
      classes;                // 2 to 4096 names, all different, in the order of the probabilities
  int close_after_votes = 0;  // an item closes with its so-manieth vote; 0 = not by count
  double close_after_seconds = 0;  // … so long after its first vote arrived; 0 = not by time

  friend bool operator==(const CampaignOptions&, const CampaignOptions&) = default;
};
// INVALID_ARGUMENT names field, rule and value.
absl::Status Validate(const CampaignOptions& options);

// One vote: an annotator's class, or distribution over the classes, for an item.
struct VoteRow {
  std::string_view item, annotator;
  std::int32_t label = -1;                 // a class id; not looked at where there are
  absl::Span<const double> probabilities;  // [K], or empty
  double weight = 1;
  double time = 0;           // seconds; when it was given
  std::string_view vote_id;  // the caller's; may be empty
};

// What became of each row of a batch, and in sum.
struct FeedResult {
  std::int64_t accepted = 0;
  std::int64_t duplicates = 0;  // there already, unchanged
  std::int64_t superseded = 0;  // older than the annotator's vote on that item
  struct RowError {
    std::int64_t row;
    absl::Status status;
  };
  std::vector<RowError> errors;  // rows that were refused; the others are stored
};

struct CampaignCounts {
  std::int64_t items = 0, closed_items = 0, annotators = 0, votes = 0, predictions = 0, gold = 0;
};

// All that an analysis reads, numbered by sorted names.
struct CampaignData {
  std::vector<std::string> items, annotators;  // sorted by bytes
  annotation::Votes votes;
  annotation::Distributions predictions, gold;
};

enum class ItemScope { kClosed, kAll };

// A set of votes, at most one of an annotator on an item: of several the one with the greatest
// (time, vote_id, contents) counts. The set is thus the same whatever order votes come in, and
// feeding one again changes nothing. Items that are closed take no further votes.
//
// One file. Every change is durable when the call returns. Not thread-safe; several Campaigns may be
// open on one file, in one process or in several.
class Campaign {
 public:
  // ALREADY_EXISTS if the file is there.
  static absl::StatusOr<Campaign> Create(const std::string& path, const CampaignOptions& options);
  // NOT_FOUND; DATA_LOSS for what is no campaign's file, FAILED_PRECONDITION for one of a newer version.
  static absl::StatusOr<Campaign> Open(const std::string& path);

  const CampaignOptions& options() const;

  // `now`: seconds, for closing by time. Row errors: an empty name, probabilities that are no
  // distribution, a weight that is not positive (INVALID_ARGUMENT); a closed item
  // (FAILED_PRECONDITION); a vote_id that belongs to another vote (ALREADY_EXISTS).
  absl::StatusOr<FeedResult> AddVotes(absl::Span<const VoteRow> votes, double now);

  // A model's distribution, or the true answer, an item; the last one counts. Closed items take them.
  struct ItemRow {
    std::string_view item;
    absl::Span<const double> probabilities;  // [K]
  };
  absl::StatusOr<FeedResult> SetPredictions(absl::Span<const ItemRow> rows);
  absl::StatusOr<FeedResult> SetGold(absl::Span<const ItemRow> rows);

  // Closes the named items, or all with a vote if there are none. Returns how many it closed. Unknown
  // names: NOT_FOUND, and nothing is closed.
  absl::StatusOr<std::int64_t> Close(absl::Span<const std::string_view> items);
  // Closes what is due by close_after_seconds.
  absl::StatusOr<std::int64_t> CloseDue(double now);

  absl::StatusOr<CampaignCounts> Counts();

  // Everything of the items in scope. RESOURCE_EXHAUSTED if it would take more than `max_bytes`.
  absl::StatusOr<CampaignData> Read(ItemScope scope, std::int64_t max_bytes);

  Campaign(Campaign&&) noexcept;
  Campaign& operator=(Campaign&&) noexcept;
  ~Campaign();

 private:
  struct Impl;
  explicit Campaign(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace softloss
