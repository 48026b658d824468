#include "store/campaign.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <random>
#include <vector>

#include "tests/store/temporary_folder.h"

namespace softloss {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const CampaignOptions kOptions{.classes = {"cat", "dog", "owl"}};

struct OwnedVote {
  std::string item, annotator;
  int label = -1;
  std::vector<double> probabilities;
  double weight = 1, time = 0;
  std::string id;

  VoteRow row() const { return {item, annotator, label, probabilities, weight, time, id}; }
};

FeedResult Add(Campaign& campaign, const std::vector<OwnedVote>& votes, double now = 0) {
  std::vector<VoteRow> rows;
  for (const OwnedVote& vote : votes) rows.push_back(vote.row());
  absl::StatusOr<FeedResult> result = campaign.AddVotes(rows, now);
  EXPECT_TRUE(result.ok()) << result.status();
  return *std::move(result);
}

CampaignData Read(Campaign& campaign, ItemScope scope = ItemScope::kAll) {
  absl::StatusOr<CampaignData> data = campaign.Read(scope, std::int64_t{1} << 30);
  EXPECT_TRUE(data.ok()) << data.status();
  return *std::move(data);
}

// Everything that an analysis can see, as bits.
std::string Bits(const CampaignData& d) {
  std::string out;
  const auto put = [&out](auto value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  for (const auto& names : {d.items, d.annotators}) {
    for (const std::string& name : names) out += name + '\0';
  }
  for (std::int64_t i = 0; i <= d.votes.num_items(); ++i) put(d.votes.item_begin(i));
  for (std::int64_t v = 0; v < d.votes.size(); ++v) {
    put(d.votes.annotator(v));
    for (int k = 0; k < d.votes.num_classes(); ++k) put(d.votes.probability(v, k));
    put(d.votes.weight(v));
    put(d.votes.time(v));
  }
  for (const auto& part : {d.predictions, d.gold}) {
    for (double p : part.probability) put(p);
    for (std::uint8_t p : part.present) put(p);
  }
  return out;
}

class CampaignTest : public ::testing::Test {
 protected:
  Campaign Make(const CampaignOptions& options = kOptions) {
    absl::StatusOr<Campaign> campaign = Campaign::Create(path_, options);
    EXPECT_TRUE(campaign.ok()) << campaign.status();
    return *std::move(campaign);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "c.db";
};

TEST_F(CampaignTest, GivesBackWhatItWasFedNumberedByName) {
  Campaign campaign = Make();
  const FeedResult result = Add(campaign, {{"b", "zoe", 1, {}, 2, 5},
                                           {"a", "zoe", -1, {0.2, 0.3, 0.5}, 1, 6},
                                           {"b", "amy", -1, {0, 0, 1}, 1, 7}});
  EXPECT_EQ(result.accepted, 3);
  EXPECT_TRUE(result.errors.empty());
  const std::vector<double> p = {0.5, 0.25, 0.25}, g = {1, 0, 0};
  ASSERT_TRUE(campaign.SetPredictions({{{"b", p}}}).ok());
  ASSERT_TRUE(campaign.SetGold({{{"c", g}}}).ok());

  const CampaignData data = Read(campaign);
  EXPECT_THAT(data.items, ElementsAre("a", "b", "c"));
  EXPECT_THAT(data.annotators, ElementsAre("amy", "zoe"));
  ASSERT_EQ(data.votes.size(), 3);
  EXPECT_THAT(data.votes.probabilities(0), ElementsAre(0.2, 0.3, 0.5));
  EXPECT_EQ(data.votes.annotator(0), 1);
  EXPECT_EQ(data.votes.item_begin(1), 1);
  EXPECT_EQ(data.votes.annotator(1), 0);
  EXPECT_THAT(data.votes.probabilities(1), ElementsAre(0, 0, 1));
  EXPECT_EQ(data.votes.weight(2), 2);
  EXPECT_EQ(data.votes.time(2), 5);
  EXPECT_THAT(data.predictions.present, ElementsAre(0, 1, 0));
  EXPECT_THAT(data.predictions.probability, ElementsAre(0, 0, 0, 0.5, 0.25, 0.25, 0, 0, 0));
  EXPECT_THAT(data.gold.present, ElementsAre(0, 0, 1));

  const CampaignCounts counts = *campaign.Counts();
  EXPECT_EQ(counts.items, 3);
  EXPECT_EQ(counts.votes, 3);
  EXPECT_EQ(counts.annotators, 2);
  EXPECT_EQ(counts.predictions, 1);
  EXPECT_EQ(counts.gold, 1);
  EXPECT_EQ(counts.closed_items, 0);
}

TEST_F(CampaignTest, OneHotDistributionsAreClasses) {
  Campaign campaign = Make();
  Add(campaign, {{"a", "amy", 2}, {"b", "amy", -1, {0, 1, 0}}});
  EXPECT_FALSE(Read(campaign).votes.soft());
  EXPECT_EQ(Read(campaign).votes.label(1), 1);
}

TEST_F(CampaignTest, AReplayChangesNothing) {
  Campaign campaign = Make();
  const std::vector<OwnedVote> votes = {{"a", "amy", 1, {}, 1, 1, "v1"},
                                        {"a", "zoe", -1, {0.5, 0.5, 0}, 1, 1, "v2"}};
  Add(campaign, votes);
  const std::string before = Bits(Read(campaign));
  const FeedResult again = Add(campaign, votes);
  EXPECT_EQ(again.accepted, 0);
  EXPECT_EQ(again.duplicates, 2);
  EXPECT_EQ(Bits(Read(campaign)), before);
  // Not even once the item is closed is a replay an error.
  ASSERT_EQ(*campaign.Close({}), 1);
  EXPECT_EQ(Add(campaign, votes).duplicates, 2);
}

TEST_F(CampaignTest, TheLaterVoteCountsWhicheverComesFirst) {
  const std::vector<OwnedVote> votes = {{"a", "amy", 0, {}, 1, 1, "v1"},
                                        {"a", "amy", 1, {}, 1, 2, "v2"},
                                        {"a", "amy", 2, {}, 1, 2, "v3"},  // the greater id
                                        {"a", "zoe", 2, {}, 1, 2},
                                        {"a", "zoe", 1, {}, 3, 2}};  // the greater class
  std::vector<int> order = {0, 1, 2, 3, 4};
  std::string bits;
  do {
    TemporaryFolder folder;
    absl::StatusOr<Campaign> campaign = Campaign::Create(folder / "c.db", kOptions);
    ASSERT_TRUE(campaign.ok());
    std::int64_t seen = 0;
    for (const int i : order) {
      const FeedResult r = Add(*campaign, {votes[i]});
      seen += r.accepted + r.superseded;
      EXPECT_TRUE(r.errors.empty());
    }
    EXPECT_EQ(seen, 5);
    const CampaignData data = Read(*campaign);
    ASSERT_EQ(data.votes.size(), 2);
    EXPECT_EQ(data.votes.label(0), 2);
    EXPECT_EQ(data.votes.label(1), 2);
    EXPECT_EQ(campaign->Counts()->votes, 2);
    if (bits.empty()) bits = Bits(data);
    EXPECT_EQ(Bits(data), bits);
  } while (std::next_permutation(order.begin(), order.end()) && order[0] < 1);
}

TEST_F(CampaignTest, BadRowsAreNamedAndTheOthersAreStored) {
  Campaign campaign = Make();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const FeedResult result = Add(campaign, {{"a", "amy", 1, {}, 1, 0, "v1"},
                                           {"", "amy", 1},
                                           {"a", "", 1},
                                           {"a", "zoe", 3},
                                           {"a", "zoe", -1, {0.5, 0.5}},
                                           {"a", "zoe", -1, {0.5, 0.5, 0.5}},
                                           {"a", "zoe", -1, {nan, 0.5, 0.5}},
                                           {"a", "zoe", 1, {}, 0},
                                           {"a", "zoe", 1, {}, 1, nan},
                                           {"b", "amy", 1, {}, 1, 0, "v1"},
                                           {std::string(1025, 'x'), "amy", 1},
                                           {"b", "zoe", 0}});
  EXPECT_EQ(result.accepted, 2);
  ASSERT_EQ(result.errors.size(), 10u);
  const char* const message[] = {"item: must not be empty",
                                 "annotator: must not be empty",
                                 "label: must be from 0 to 2; was 3",
                                 "probabilities: must have 3 values, one a class; has 2",
                                 "probabilities: must sum to 1 within 0.001; sum to 1.5",
                                 "probabilities[0]: must be finite and not negative; was nan",
                                 "weight: must be positive and finite; was 0",
                                 "time: must be finite; was nan",
                                 "vote_id: belongs to another vote: \"v1\"",
                                 "item: at most 1024 bytes; was 1025"};
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(result.errors[i].row, i + 1);
    EXPECT_EQ(std::string(result.errors[i].status.message()), message[i]);
  }
  EXPECT_EQ(Read(campaign).votes.size(), 2);
}

TEST_F(CampaignTest, ItemsCloseByCountByTimeAndByCommand) {
  CampaignOptions options = kOptions;
  options.close_after_votes = 2;
  options.close_after_seconds = 100;
  Campaign campaign = Make(options);
  const FeedResult result =
      Add(campaign, {{"a", "amy", 1}, {"a", "bob", 1}, {"a", "cyd", 1}, {"b", "amy", 0}}, 1000);
  EXPECT_EQ(result.accepted, 3);
  ASSERT_EQ(result.errors.size(), 1u);
  EXPECT_EQ(result.errors[0].status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(result.errors[0].status.message()), HasSubstr("item: \"a\" is closed"));
  EXPECT_THAT(Read(campaign, ItemScope::kClosed).items, ElementsAre("a"));

  Add(campaign, {{"c", "amy", 0}}, 1050);
  EXPECT_EQ(*campaign.CloseDue(1099), 0);
  EXPECT_EQ(*campaign.CloseDue(1100), 1);
  EXPECT_THAT(Read(campaign, ItemScope::kClosed).items, ElementsAre("a", "b"));

  const std::string_view unknown[] = {"c", "d"};
  EXPECT_EQ(campaign.Close(unknown).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(campaign.Counts()->closed_items, 2);
  const std::string_view known[] = {"c", "a"};
  EXPECT_EQ(*campaign.Close(known), 1);
  EXPECT_EQ(campaign.Counts()->closed_items, 3);
}

TEST_F(CampaignTest, AnOpenItemsAnnotatorsAreNotInTheClosedScope) {
  Campaign campaign = Make();
  Add(campaign, {{"a", "zoe", 1}, {"b", "amy", 1}});
  const std::string_view a[] = {"a"};
  ASSERT_TRUE(campaign.Close(a).ok());
  const CampaignData data = Read(campaign, ItemScope::kClosed);
  EXPECT_THAT(data.annotators, ElementsAre("zoe"));
  EXPECT_EQ(data.votes.size(), 1);
}

TEST_F(CampaignTest, ReadRefusesWhatDoesNotFit) {
  Campaign campaign = Make();
  Add(campaign, {{"a", "zoe", 1}, {"b", "amy", 1}});
  const absl::Status status = campaign.Read(ItemScope::kAll, 100).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 votes on 2 items need about"));
}

// A process that dies between batches, in the middle of one, at any moment: what was answered is
// there, once; the rest can be sent again.
TEST_F(CampaignTest, SurvivesBeingKilled) {
  std::vector<OwnedVote> votes;
  std::mt19937 random(7);
  for (int i = 0; i < 600; ++i) {
    OwnedVote vote{"item" + std::to_string(i % 60), "ann" + std::to_string(i / 60),
                   static_cast<int>(random() % 3)};
    vote.id = "v" + std::to_string(i);
    votes.push_back(vote);
  }
  constexpr int kBatch = 20;
  Make();
  std::size_t answered = 0;
  for (int life = 0; answered < votes.size(); ++life) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      absl::StatusOr<Campaign> campaign = Campaign::Open(path_);
      for (std::size_t at = answered; campaign.ok() && at < votes.size(); at += kBatch) {
        std::vector<VoteRow> rows;
        for (int i = 0; i < kBatch; ++i) rows.push_back(votes[at + i].row());
        if (!campaign->AddVotes(rows, 0).ok()) break;
        if (write(pipe_ends[1], "x", 1) != 1) break;
      }
      _exit(0);
    }
    close(pipe_ends[1]);
    // Killed as soon as it has answered so many batches, whatever it is doing then.
    char byte;
    for (int n = 0; n < 3 + life && read(pipe_ends[0], &byte, 1) == 1; ++n) answered += kBatch;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    while (read(pipe_ends[0], &byte, 1) == 1) answered += kBatch;
    close(pipe_ends[0]);

    absl::StatusOr<Campaign> campaign = Campaign::Open(path_);
    ASSERT_TRUE(campaign.ok()) << campaign.status();
    EXPECT_GE(campaign->Counts()->votes, static_cast<std::int64_t>(answered));
    // The last answer may have been lost: the client sends that batch again.
    answered = std::min(answered, votes.size()) - (answered < votes.size() ? kBatch : 0);
  }
  TemporaryFolder folder;
  absl::StatusOr<Campaign> at_once = Campaign::Create(folder / "c.db", kOptions);
  ASSERT_TRUE(at_once.ok());
  std::shuffle(votes.begin(), votes.end(), random);
  Add(*at_once, votes);
  absl::StatusOr<Campaign> campaign = Campaign::Open(path_);
  ASSERT_TRUE(campaign.ok());
  EXPECT_EQ(Bits(Read(*campaign)), Bits(Read(*at_once)));
}

TEST_F(CampaignTest, BadOptionsAreNamed) {
  const auto error = [&](const CampaignOptions& options) {
    return std::string(Campaign::Create(path_, options).status().message());
  };
  EXPECT_EQ(error({.classes = {"a"}}), "classes: a campaign has at least 2; were 1");
  EXPECT_EQ(error({.classes = {"a", "a"}}), "classes: \"a\" is there twice");
  EXPECT_EQ(error({.classes = {"a", ""}}), "classes: must not be empty");
  EXPECT_EQ(error({.classes = std::vector<std::string>(4097, "a")}),
            "classes: a campaign has at most 4096; were 4097");
  EXPECT_EQ(error({.classes = {"a", "b"}, .close_after_votes = -1}),
            "close_after_votes: must not be negative; was -1");
  EXPECT_EQ(error({.classes = {"a", "b"}, .close_after_seconds = -2}),
            "close_after_seconds: must be finite and not negative; was -2");
}

TEST_F(CampaignTest, ForeignAndBrokenFilesAreRefused) {
  EXPECT_EQ(Campaign::Open(path_).status().code(), absl::StatusCode::kNotFound);
  std::ofstream(path_) << "not a database, but long enough to be looked at as if it were one";
  EXPECT_EQ(Campaign::Open(path_).status().code(), absl::StatusCode::kDataLoss);
  std::ofstream(path_, std::ios::trunc);  // empty: a database, but not ours
  EXPECT_EQ(Campaign::Open(path_).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Campaign::Create(path_, kOptions).status().code(), absl::StatusCode::kAlreadyExists);
}

}  // namespace
}  // namespace softloss
