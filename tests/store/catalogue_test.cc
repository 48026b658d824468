#include "store/catalogue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/store/temporary_folder.h"

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;

const CampaignOptions kOptions{.classes = {"no", "yes"}};
constexpr std::int64_t kMax = 10;

class CatalogueTest : public ::testing::Test {
 protected:
  Catalogue Open() {
    absl::StatusOr<Catalogue> catalogue = Catalogue::Open(folder_ / "store");
    EXPECT_TRUE(catalogue.ok()) << catalogue.status();
    return *std::move(catalogue);
  }
  TemporaryFolder folder_;
};

TEST_F(CatalogueTest, FindsAgainWhatItMade) {
  std::string path;
  {
    Catalogue catalogue = Open();
    const auto made = catalogue.OpenOrCreate("lab", "birds", kOptions, kMax);
    ASSERT_TRUE(made.ok()) << made.status();
    path = catalogue.PathOf(*made);
  }
  Catalogue catalogue = Open();
  const auto found = catalogue.Find("lab", "birds");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(catalogue.PathOf(*found), path);
  const auto campaign = Campaign::Open(path);
  ASSERT_TRUE(campaign.ok()) << campaign.status();
  EXPECT_EQ(campaign->options(), kOptions);
  EXPECT_EQ(catalogue.OpenOrCreate("lab", "birds", kOptions, kMax)->id, found->id);
  EXPECT_EQ(catalogue.OpenOrCreate("lab", "birds", {.classes = {"a", "b"}}, kMax).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(CatalogueTest, OwnersDoNotSeeEachOther) {
  Catalogue catalogue = Open();
  ASSERT_TRUE(catalogue.OpenOrCreate("lab", "birds", kOptions, kMax).ok());
  EXPECT_EQ(catalogue.Find("vendor", "birds").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(catalogue.OpenOrCreate("vendor", "birds", kOptions, kMax).ok());
  ASSERT_TRUE(catalogue.OpenOrCreate("vendor", "ants", kOptions, kMax).ok());
  EXPECT_NE(catalogue.Find("vendor", "birds")->id, catalogue.Find("lab", "birds")->id);
  EXPECT_THAT(*catalogue.List("vendor"), ElementsAre(Field(&Catalogue::Entry::name, "ants"),
                                                     Field(&Catalogue::Entry::name, "birds")));
  EXPECT_EQ(catalogue.ListAll()->size(), 3u);
}

TEST_F(CatalogueTest, DeletesForGood) {
  Catalogue catalogue = Open();
  const auto made = catalogue.OpenOrCreate("lab", "birds", kOptions, kMax);
  ASSERT_TRUE(made.ok());
  ASSERT_TRUE(catalogue.Delete("lab", "birds").ok());
  EXPECT_FALSE(std::filesystem::exists(catalogue.PathOf(*made)));
  EXPECT_EQ(catalogue.Delete("lab", "birds").code(), absl::StatusCode::kNotFound);
  EXPECT_NE(catalogue.OpenOrCreate("lab", "birds", kOptions, kMax)->id, made->id);
}

TEST_F(CatalogueTest, LimitsAnOwnersCampaigns) {
  Catalogue catalogue = Open();
  ASSERT_TRUE(catalogue.OpenOrCreate("lab", "a", kOptions, 1).ok());
  EXPECT_EQ(catalogue.OpenOrCreate("lab", "b", kOptions, 1).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(catalogue.OpenOrCreate("lab", "a", kOptions, 1).ok());
  EXPECT_TRUE(catalogue.OpenOrCreate("other", "a", kOptions, 1).ok());
  EXPECT_EQ(catalogue.OpenOrCreate("lab", "", kOptions, 9).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(CatalogueTest, AFolderThatItMakesIsForItsUserOnly) {
  Open();
  const auto perms = std::filesystem::status(folder_ / "store").permissions();
  EXPECT_EQ(perms, std::filesystem::perms::owner_all);
}

TEST_F(CatalogueTest, SaysWhichFolderItCannotMake) {
  std::ofstream(folder_ / "file") << "in the way";
  const auto status = Catalogue::Open(folder_ / "file/store").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("file/store"));
}

TEST_F(CatalogueTest, RemovesWhatAnInterruptedCreationLeft) {
  { Open(); }
  const std::string orphan = folder_ / "store/campaigns/77.db";
  std::ofstream(orphan) << "half";
  Catalogue catalogue = Open();
  EXPECT_FALSE(std::filesystem::exists(orphan));
}

}  // namespace
}  // namespace softloss
