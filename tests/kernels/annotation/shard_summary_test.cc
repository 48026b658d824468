#include "kernels/annotation/shard_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/annotation/analysis_columns.h"
#include "tests/kernels/annotation/vote_table.h"
#include "tests/testing/status_matchers.h"

namespace softloss::annotation {
namespace {

using ::testing::HasSubstr;
using testing::IsOk;
using testing::Random;
using testing::RandomRow;
using testing::RandomVotes;
using testing::StatusIs;
using testing::VoteTable;

constexpr int kItems = 40, kAnnotators = 5, kClasses = 3;

std::vector<std::string> Named(const char* prefix, int n) {
  std::vector<std::string> names;
  for (int i = 0; i < n; ++i) names.push_back(absl::StrCat(prefix, i));
  return names;
}

// The same votes, whose items go to shards by their number.
struct Case {
  VoteTable table;
  std::vector<std::string> items = Named("item", kItems), annotators = Named("ann", kAnnotators),
                           classes = Named("c", kClasses);
  Distributions model;

  explicit Case(bool soft) {
    Random random(5);
    table = RandomVotes(random, kItems, kAnnotators, kClasses, soft);
    // Of the hard votes some weigh more.
    if (!soft) {
      for (std::size_t v = 0; v < table.item.size(); ++v) {
        table.weight.push_back(0.5 + 0.25 * static_cast<double>(random.Int(0, 8)));
      }
    }
    for (int i = 0; i < kItems; ++i) {
      const std::vector<double> row = RandomRow(random, kClasses);
      model.probability.insert(model.probability.end(), row.begin(), row.end());
      model.present.push_back(1);
    }
  }

  // Shard `shard` of `shards`: the others' items have no votes.
  State Summarize(int shard, int shards) const {
    VoteTable part;
    part.classes = kClasses;
    for (std::size_t v = 0; v < table.item.size(); ++v) {
      if (table.item[v] % shards != shard) continue;
      if (!table.weight.empty()) part.weight.push_back(table.weight[v]);
      if (table.probabilities.empty()) {
        part.Add(table.item[v], table.annotator[v], table.label[v]);
      } else {
        const auto row = table.probabilities.begin() + static_cast<std::ptrdiff_t>(v) * kClasses;
        part.Add(table.item[v], table.annotator[v], std::vector<double>(row, row + kClasses));
      }
    }
    part.items = kItems;
    part.annotators = kAnnotators;
    auto state = SummarizeShard(absl::StrCat("shard", shard, "/", shards),
                                {items, annotators, classes}, part.Create(), &model, nullptr, 20);
    EXPECT_THAT(state.status(), IsOk());
    return *state;
  }
};

std::vector<Column> ColumnsOf(const State& state) {
  const auto summary = ReadSummary(state, {});
  EXPECT_THAT(summary.status(), IsOk());
  return ToColumns(summary->analysis);
}

class ShardSummaryTest : public ::testing::TestWithParam<bool> {};

TEST_P(ShardSummaryTest, AnyOrderIsTheWhole) {
  const Case votes(GetParam());
  const State whole = votes.Summarize(0, 1);
  const State parts[] = {votes.Summarize(0, 3), votes.Summarize(1, 3), votes.Summarize(2, 3)};
  State forth = parts[0], back = parts[2];
  for (const int s : {1, 2}) ASSERT_THAT(forth.Merge(parts[s]), IsOk());
  for (const int s : {1, 0}) ASSERT_THAT(back.Merge(parts[s]), IsOk());
  EXPECT_EQ(forth.Serialize(), back.Serialize());
  EXPECT_EQ(forth.all_sums(), whole.all_sums());
  EXPECT_EQ(forth.all_counts(), whole.all_counts());
}

TEST_P(ShardSummaryTest, HasTheFiguresOfTheAnalysis) {
  const Case votes(GetParam());
  const auto summary = ReadSummary(votes.Summarize(0, 1), {});
  ASSERT_THAT(summary.status(), IsOk());
  InlineExecutor executor;
  const auto analysis = Analyze(votes.table.Create(), &votes.model, nullptr, {}, executor);
  ASSERT_THAT(analysis.status(), IsOk());
  const Analysis& found = summary->analysis;
  EXPECT_EQ(summary->annotators, votes.annotators);
  EXPECT_EQ(found.annotator.votes, analysis->annotator.votes);
  EXPECT_EQ(found.histogram, analysis->histogram);
  EXPECT_EQ(found.agreement.alpha_soft, analysis->agreement.alpha_soft);
  EXPECT_EQ(found.agreement.alpha_ordinal, analysis->agreement.alpha_ordinal);
  EXPECT_EQ(found.cohen_kappa, analysis->cohen_kappa);
  ASSERT_EQ(found.pair.size(), analysis->pair.size());
  for (int r = 0; r < kAnnotators; ++r) {
    const AnnotatorColumns &a = found.annotator, &b = analysis->annotator;
    EXPECT_EQ(a.agreement_consensus[r].low, b.agreement_consensus[r].low);
    EXPECT_EQ(a.agreement_peers[r].value, b.agreement_peers[r].value);
    EXPECT_EQ(a.agreement_model[r].high, b.agreement_model[r].high);
    EXPECT_EQ(a.brier[r].value, b.brier[r].value);
    EXPECT_LT(a.kl[r].low, a.kl[r].value);
    EXPECT_GT(a.kl[r].high, a.kl[r].value);
  }
  EXPECT_NEAR(found.ece_equal_width, analysis->ece_equal_width, 1e-15);
}

INSTANTIATE_TEST_SUITE_P(HardAndSoft, ShardSummaryTest, ::testing::Bool());

TEST(ShardSummaryErrorsTest, NamesThatDoNotFit) {
  const Case votes(false);
  EXPECT_THAT(SummarizeShard("s", {Named("i", 2), votes.annotators, votes.classes},
                             votes.table.Create(), nullptr, nullptr, 20)
                  .status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("items: must have 40")));
}

TEST(ShardSummaryErrorsTest, OtherStates) {
  EXPECT_THAT(
      ReadSummary(State("test/1", {"a", "b"}), {}).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must be a summary of votes")));
  const State whole = Case(true).Summarize(0, 1);
  State lacking(whole.schema(), whole.classes());
  EXPECT_THAT(ReadSummary(lacking, {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("lacks its totals")));
  State twice = whole;
  EXPECT_THAT(twice.Merge(whole),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("shard0/1")));
}

}  // namespace
}  // namespace softloss::annotation
