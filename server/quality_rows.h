// Rows of the AnnotationQuality wire as rows of the store.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "kernels/annotation/analysis.h"
#include "softloss/v1/quality.pb.h"
#include "store/campaign.h"

namespace softloss {

// Refer to the message. INVALID_ARGUMENT names the column whose length is not that of `item`, or says
// that neither or both of class_id and probability are there.
absl::StatusOr<std::vector<VoteRow>> VoteRowsOf(const v1::Votes& votes, std::size_t classes);

// `one_hot` holds the rows that were class ids, and must live as long.
absl::StatusOr<std::vector<Campaign::ItemRow>> ItemRowsOf(const v1::Distributions& rows,
                                                          std::size_t classes,
                                                          std::vector<double>* one_hot);

CampaignOptions OptionsOf(const v1::CampaignOptions& options);
v1::CampaignOptions ToProto(const CampaignOptions& options);

absl::StatusOr<annotation::AnalysisOptions> OptionsOf(const v1::AnalyzeRequest& request);

}  // namespace softloss
