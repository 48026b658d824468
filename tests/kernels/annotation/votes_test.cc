#include "kernels/annotation/votes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace softloss::annotation {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Table {
  std::vector<std::int64_t> item;
  std::vector<std::int32_t> annotator, label;
  std::vector<double> probabilities, weight, time;
  int classes = 3;

  absl::StatusOr<Votes> Create() const {
    return Votes::Create({.num_classes = classes,
                          .num_items = 3,
                          .num_annotators = 4,
                          .item = item,
                          .annotator = annotator,
                          .label = label,
                          .probabilities = probabilities,
                          .weight = weight,
                          .time = time});
  }
  std::string Error() const { return std::string(Create().status().message()); }
};

const Table kGood = {.item = {2, 0, 2, 0},
                     .annotator = {3, 1, 0, 0},
                     .label = {2, 1, 0, 1},
                     .weight = {1, 2, 3, 4},
                     .time = {10, 20, 30, 40}};

TEST(VotesTest, AreSortedByItemThenAnnotator) {
  const auto votes = kGood.Create();
  ASSERT_TRUE(votes.ok()) << votes.status();
  EXPECT_EQ(votes->size(), 4);
  EXPECT_EQ(votes->item_begin(0), 0);
  EXPECT_EQ(votes->item_begin(1), 2);
  EXPECT_EQ(votes->item_begin(2), 2);  // item 1 has no vote
  EXPECT_EQ(votes->item_begin(3), 4);
  const std::vector<std::int32_t> annotator = {0, 1, 0, 3}, label = {1, 1, 0, 2};
  const std::vector<double> weight = {4, 2, 3, 1}, time = {40, 20, 30, 10};
  const std::vector<std::int64_t> row = {3, 1, 2, 0};
  for (int v = 0; v < 4; ++v) {
    EXPECT_EQ(votes->annotator(v), annotator[v]);
    EXPECT_EQ(votes->label(v), label[v]);
    EXPECT_EQ(votes->weight(v), weight[v]);
    EXPECT_EQ(votes->time(v), time[v]);
    EXPECT_EQ(votes->row(v), row[v]);
    for (int k = 0; k < 3; ++k) EXPECT_EQ(votes->probability(v, k), label[v] == k ? 1 : 0);
  }
}

TEST(VotesTest, SoftVotesAreNormalisedAndHaveALikeliestClass) {
  Table t = kGood;
  t.label.clear();
  t.probabilities = {0.2, 0.3, 0.5, 0.4, 0.4, 0.2, 1, 0, 0, 0.5004, 0.25, 0.25};
  const auto votes = t.Create();
  ASSERT_TRUE(votes.ok()) << votes.status();
  EXPECT_TRUE(votes->soft());
  EXPECT_DOUBLE_EQ(votes->probability(0, 0), 0.5004 / 1.0004);
  EXPECT_EQ(votes->label(0), 0);
  EXPECT_EQ(votes->label(1), 0);  // the lower of equals
  EXPECT_THAT(votes->probabilities(2), ElementsAre(1, 0, 0));
  EXPECT_EQ(votes->label(3), 2);
}

TEST(VotesTest, NoVotesAtAllIsAnEmptyTable) {
  const auto votes = Table{}.Create();
  ASSERT_TRUE(votes.ok()) << votes.status();
  EXPECT_EQ(votes->size(), 0);
  EXPECT_EQ(votes->num_items(), 3);
}

TEST(VotesTest, BadInputIsNamed) {
  Table t = kGood;
  t.classes = 1;
  EXPECT_EQ(t.Error(), "num_classes: must be at least 2; was 1");
  t = kGood;
  t.annotator.pop_back();
  EXPECT_EQ(t.Error(), "annotator: must have a value a vote (4); has 3");
  t = kGood;
  t.label[1] = 3;
  EXPECT_EQ(t.Error(), "label[1]: must be from 0 to 2; was 3");
  t = kGood;
  t.item[2] = -1;
  EXPECT_EQ(t.Error(), "item[2]: must be from 0 to 2; was -1");
  t = kGood;
  t.annotator[0] = 4;
  EXPECT_EQ(t.Error(), "annotator[0]: must be from 0 to 3; was 4");
  t = kGood;
  t.weight[3] = 0;
  EXPECT_EQ(t.Error(), "weight[3]: must be positive and finite; was 0");
  t = kGood;
  t.time[3] = std::numeric_limits<double>::infinity();
  EXPECT_EQ(t.Error(), "time[3]: must be finite; was inf");
  t = kGood;
  t.annotator[3] = 1;  // rows 1 and 3 are both of item 0
  EXPECT_THAT(t.Error(), HasSubstr("annotator 1 votes on item 0 in rows 1 and 3"));
  t = kGood;
  t.probabilities = std::vector<double>(12, 1 / 3.0);
  EXPECT_EQ(t.Error(), "votes: give either labels or probabilities");
  t.label.clear();
  t.probabilities[4] = 0.5;
  EXPECT_THAT(t.Error(), HasSubstr("probabilities[1]: must sum to 1 within 0.001; sum to 1.16"));
  t.probabilities[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(t.Error(), "probabilities[1][1]: must be finite and not negative; was nan");
  t.probabilities.pop_back();
  EXPECT_THAT(t.Error(), HasSubstr("probabilities: must have 3 values a vote (4 votes); has 11"));
}

TEST(AnnotatorIndexTest, ListsEachAnnotatorsVotesInTheOrderOfItems) {
  const auto votes = kGood.Create();
  ASSERT_TRUE(votes.ok());
  const AnnotatorIndex index(*votes);
  EXPECT_THAT(index.of(0), ElementsAre(0, 2));
  EXPECT_THAT(index.of(1), ElementsAre(1));
  EXPECT_THAT(index.of(2), ElementsAre());
  EXPECT_THAT(index.of(3), ElementsAre(3));
}

}  // namespace
}  // namespace softloss::annotation
