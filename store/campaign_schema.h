// A campaign's file: its tables, and what it says about itself.
#pragma once

#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/campaign.h"
#include "store/sqlite.h"

namespace softloss {

// Of items, annotators, classes, campaigns and vote ids.
inline constexpr std::size_t kMaxNameBytes = 1024;
// Some figures have a number for each pair of classes.
inline constexpr std::size_t kMaxClasses = 4096;

absl::Status CreateCampaignSchema(SqlDatabase& database, const CampaignOptions& options);
absl::StatusOr<CampaignOptions> ReadCampaignOptions(SqlDatabase& database);

}  // namespace softloss
