// Which campaigns there are, and whose.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/campaign.h"
#include "store/sqlite.h"

namespace softloss {

// A folder: catalogue.db, and a file a campaign under campaigns/. Names are unique to an owner, and
// an owner finds nothing but its own. Durable when a call returns. Not thread-safe; the folder belongs
// to one Catalogue at a time.
class Catalogue {
 public:
  // Makes the folder, for this user only, if it is not there. Removes files of campaigns whose creation or deletion was
  // interrupted.
  static absl::StatusOr<Catalogue> Open(const std::string& folder);

  struct Entry {
    std::int64_t id = 0;  // never used again
    std::string owner, name;
  };

  // The campaign, created if it is not there. FAILED_PRECONDITION if it is there with other options;
  // RESOURCE_EXHAUSTED if the owner would have more than `max_campaigns`.
  absl::StatusOr<Entry> OpenOrCreate(std::string_view owner, std::string_view name,
                                     const CampaignOptions& options, std::int64_t max_campaigns);
  // NOT_FOUND.
  absl::StatusOr<Entry> Find(std::string_view owner, std::string_view name);
  absl::StatusOr<std::vector<Entry>> List(std::string_view owner);
  absl::StatusOr<std::vector<Entry>> ListAll();
  // For good. NOT_FOUND.
  absl::Status Delete(std::string_view owner, std::string_view name);

  std::string PathOf(const Entry& entry) const;

 private:
  Catalogue(std::string folder, SqlDatabase database)
      : folder_(std::move(folder)), database_(std::move(database)) {}
  std::string PathOf(std::int64_t id) const;
  absl::Status RemoveOrphans();

  std::string folder_;
  SqlDatabase database_;
};

}  // namespace softloss
