#include "store/catalogue.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/campaign_schema.h"

namespace softloss {
namespace {

namespace fs = std::filesystem;

constexpr char kTables[] =
    "CREATE TABLE IF NOT EXISTS campaign (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " owner TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (owner, name))";

// The file, its log and its index.
void RemoveFiles(const std::string& path) {
  std::error_code ignored;
  for (const char* suffix : {"", "-wal", "-shm"}) fs::remove(path + suffix, ignored);
}

absl::StatusOr<std::vector<Catalogue::Entry>> Entries(SqlStatement& statement) {
  std::vector<Catalogue::Entry> out;
  absl::StatusOr<bool> row = statement.Step();
  for (; row.ok() && *row; row = statement.Step()) {
    out.push_back(
        {statement.Int(0), std::string(statement.Text(1)), std::string(statement.Text(2))});
  }
  if (!row.ok()) return row.status();
  return out;
}

}  // namespace

std::string Catalogue::PathOf(std::int64_t id) const {
  return absl::StrCat(folder_, "/campaigns/", id, ".db");
}
std::string Catalogue::PathOf(const Entry& entry) const { return PathOf(entry.id); }

absl::StatusOr<Catalogue> Catalogue::Open(const std::string& folder) {
  std::error_code error;
  // Votes are their owners' alone: a folder that is made here is for this user only.
  if (fs::create_directories(folder, error)) {
    fs::permissions(folder, fs::perms::owner_all, error);
  }
  if (!error) fs::create_directories(folder + "/campaigns", error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrCat("store: cannot make the folder ", folder, ": ", error.message()));
  }
  absl::StatusOr<SqlDatabase> database = SqlDatabase::Open(folder + "/catalogue.db");
  if (!database.ok()) return database.status();
  if (auto s = database->Execute(kTables); !s.ok()) return s;
  Catalogue catalogue(folder, *std::move(database));
  if (auto s = catalogue.RemoveOrphans(); !s.ok()) return s;
  return catalogue;
}

absl::Status Catalogue::RemoveOrphans() {
  const absl::StatusOr<std::vector<Entry>> entries = ListAll();
  if (!entries.ok()) return entries.status();
  std::set<std::string> known;
  for (const Entry& entry : *entries) known.insert(PathOf(entry));
  std::error_code error;
  std::vector<std::string> orphans;
  for (const fs::directory_entry& file : fs::directory_iterator(folder_ + "/campaigns", error)) {
    const std::string path = file.path().string();
    if (file.path().extension() == ".db" && !known.contains(path)) orphans.push_back(path);
  }
  if (error) {
    return absl::InternalError(absl::StrCat("store: cannot list ", folder_, ": ", error.message()));
  }
  for (const std::string& path : orphans) RemoveFiles(path);
  return absl::OkStatus();
}

absl::StatusOr<Catalogue::Entry> Catalogue::OpenOrCreate(std::string_view owner,
                                                         std::string_view name,
                                                         const CampaignOptions& options,
                                                         std::int64_t max_campaigns) {
  if (auto s = Validate(options); !s.ok()) return s;
  if (name.empty() || name.size() > kMaxNameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("campaign: a name has 1 to ", kMaxNameBytes, " bytes; was of ", name.size()));
  }
  absl::StatusOr<Entry> there = Find(owner, name);
  if (there.ok()) {
    absl::StatusOr<Campaign> campaign = Campaign::Open(PathOf(*there));
    if (!campaign.ok()) return campaign.status();
    if (campaign->options() == options) return there;
    return absl::FailedPreconditionError(absl::StrCat(
        "campaign: \"", std::string(name), "\" is there with other classes or closing rules"));
  }
  if (!absl::IsNotFound(there.status())) return there.status();

  absl::StatusOr<std::vector<Entry>> owned = List(owner);
  if (!owned.ok()) return owned.status();
  if (static_cast<std::int64_t>(owned->size()) >= max_campaigns) {
    return absl::ResourceExhaustedError(
        absl::StrCat("campaign: at most ", max_campaigns, " campaigns; delete one first"));
  }
  // The entry is there only once the file is whole.
  absl::StatusOr<SqlTransaction> transaction = SqlTransaction::Begin(database_);
  if (!transaction.ok()) return transaction.status();
  absl::StatusOr<SqlStatement> insert =
      database_.Prepare("INSERT INTO campaign (owner, name) VALUES (?1, ?2)");
  if (!insert.ok()) return insert.status();
  if (auto s = insert->Bind(1, owner).Bind(2, name).Run(); !s.ok()) return s;
  Entry entry{database_.last_insert_id(), std::string(owner), std::string(name)};
  RemoveFiles(PathOf(entry));
  if (absl::StatusOr<Campaign> made = Campaign::Create(PathOf(entry), options); !made.ok()) {
    return made.status();
  }
  if (auto s = transaction->Commit(); !s.ok()) return s;
  return entry;
}

absl::StatusOr<Catalogue::Entry> Catalogue::Find(std::string_view owner, std::string_view name) {
  absl::StatusOr<SqlStatement> select =
      database_.Prepare("SELECT id, owner, name FROM campaign WHERE owner = ?1 AND name = ?2");
  if (!select.ok()) return select.status();
  absl::StatusOr<std::vector<Entry>> found = Entries(select->Bind(1, owner).Bind(2, name));
  if (!found.ok()) return found.status();
  if (found->empty()) {
    return absl::NotFoundError(absl::StrCat("campaign: there is no \"", std::string(name), "\""));
  }
  return found->front();
}

absl::StatusOr<std::vector<Catalogue::Entry>> Catalogue::List(std::string_view owner) {
  absl::StatusOr<SqlStatement> select =
      database_.Prepare("SELECT id, owner, name FROM campaign WHERE owner = ?1 ORDER BY name");
  if (!select.ok()) return select.status();
  return Entries(select->Bind(1, owner));
}

absl::StatusOr<std::vector<Catalogue::Entry>> Catalogue::ListAll() {
  absl::StatusOr<SqlStatement> select =
      database_.Prepare("SELECT id, owner, name FROM campaign ORDER BY id");
  if (!select.ok()) return select.status();
  return Entries(*select);
}

absl::Status Catalogue::Delete(std::string_view owner, std::string_view name) {
  const absl::StatusOr<Entry> entry = Find(owner, name);
  if (!entry.ok()) return entry.status();
  absl::StatusOr<SqlStatement> remove = database_.Prepare("DELETE FROM campaign WHERE id = ?1");
  if (!remove.ok()) return remove.status();
  if (auto s = remove->Bind(1, entry->id).Run(); !s.ok()) return s;
  RemoveFiles(PathOf(*entry));
  return absl::OkStatus();
}

}  // namespace softloss
