// Reading a campaign's file as an analysis wants it: numbered by sorted names.
#pragma once

#include "store/campaign.h"
#include "store/sqlite.h"

namespace softloss {

absl::StatusOr<CampaignCounts> ReadCampaignCounts(SqlDatabase& database);

// As Campaign::Read; one snapshot, whoever writes meanwhile.
absl::StatusOr<CampaignData> ReadCampaign(SqlDatabase& database, const CampaignOptions& options,
                                          ItemScope scope, std::int64_t max_bytes);

}  // namespace softloss
