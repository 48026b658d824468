#include "client/python/binding/quality_client.h"

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "client/python/binding/columns.h"
#include "client/python/binding/status.h"
#include "softloss/quality.h"

namespace softloss::python {
namespace {

namespace nb = nanobind;

using Names = std::vector<std::string>;
using Doubles = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OneDouble = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename Array>
auto Copy(const std::optional<Array>& array) {
  using Value = std::remove_cv_t<typename Array::Scalar>;
  return array.has_value() ? std::vector<Value>(array->data(), array->data() + array->size())
                           : std::vector<Value>();
}

// Runs a blocking call without the GIL; raises what it says.
template <typename Call>
auto Blocking(Call call) {
  auto result = [&] {
    nb::gil_scoped_release release;
    return call();
  }();
  if constexpr (std::is_same_v<decltype(result), absl::Status>) {
    if (!result.ok()) Raise(result);
  } else {
    if (!result.ok()) Raise(result.status());
    return *std::move(result);
  }
}

nb::dict ToDict(const CampaignInfo& c) {
  nb::dict out;
  out["name"] = c.name;
  out["classes"] = c.spec.classes;
  out["close_after_votes"] = c.spec.close_after_votes;
  out["close_after_seconds"] = c.spec.close_after_seconds;
  out["items"] = c.items;
  out["closed_items"] = c.closed_items;
  out["annotators"] = c.annotators;
  out["votes"] = c.votes;
  out["predictions"] = c.predictions;
  out["gold"] = c.gold;
  return out;
}

nb::dict ToDict(const FeedReport& report) {
  nb::list errors;
  for (const FeedReport::RowError& error : report.errors) {
    errors.append(nb::make_tuple(error.row, std::string(error.status.message())));
  }
  nb::dict out;
  out["accepted"] = report.accepted;
  out["duplicates"] = report.duplicates;
  out["superseded"] = report.superseded;
  out["errors"] = errors;
  return out;
}

class Client {
 public:
  Client(const std::string& address, double timeout_s, int max_attempts)
      : client_(Blocking([&] {
          QualityClientOptions options;
          options.connect_timeout = absl::Seconds(timeout_s);
          options.max_attempts = max_attempts;
          return QualityClient::Connect(address, options);
        })) {}

  nb::dict Open(const std::string& name, Names classes, int close_after_votes,
                double close_after_seconds) const {
    const CampaignSpec spec{std::move(classes), close_after_votes, close_after_seconds};
    return ToDict(Blocking([&] { return client_.OpenCampaign(name, spec); }));
  }
  nb::list List() const {
    nb::list out;
    for (const CampaignInfo& c : Blocking([&] { return client_.ListCampaigns(); })) {
      out.append(ToDict(c));
    }
    return out;
  }
  void Delete(const std::string& name) const {
    Blocking([&] { return client_.DeleteCampaign(name); });
  }
  nb::dict FeedVotes(const std::string& campaign, Names item, Names annotator,
                     const std::optional<Ids>& class_id, const std::optional<Doubles>& probability,
                     const std::optional<OneDouble>& weight, const std::optional<OneDouble>& time,
                     std::optional<Names> vote_id) const {
    VoteBatch batch{std::move(item),
                    std::move(annotator),
                    Copy(class_id),
                    Copy(probability),
                    Copy(weight),
                    Copy(time),
                    vote_id.has_value() ? *std::move(vote_id) : Names()};
    return ToDict(Blocking([&] { return client_.FeedVotes(campaign, batch); }));
  }
  nb::dict FeedItems(const std::string& campaign, bool gold, Names item,
                     const std::optional<Ids>& class_id,
                     const std::optional<Doubles>& probability) const {
    const ItemBatch batch{std::move(item), Copy(class_id), Copy(probability)};
    return ToDict(Blocking([&] {
      return gold ? client_.FeedGold(campaign, batch) : client_.FeedPredictions(campaign, batch);
    }));
  }
  std::int64_t Close(const std::string& campaign, const Names& items) const {
    return Blocking([&] { return client_.CloseItems(campaign, items); });
  }
  nb::tuple Analyze(const std::string& campaign, bool all_items, int method,
                    std::vector<double> class_values, int bootstrap_replicates, int worklist_items,
                    int drift_windows, bool calibrate_predictions, double min_agreement,
                    double min_votes, double spammer_score, double collapse_share,
                    double collapse_excess) const {
    const QualityRequest request{.all_items = all_items,
                                 .method = method,
                                 .calibrate_predictions = calibrate_predictions,
                                 .class_values = std::move(class_values),
                                 .bootstrap_replicates = bootstrap_replicates,
                                 .worklist_items = worklist_items,
                                 .drift_windows = drift_windows,
                                 .min_agreement = min_agreement,
                                 .min_votes = min_votes,
                                 .spammer_score = spammer_score,
                                 .collapse_share = collapse_share,
                                 .collapse_excess = collapse_excess,
                                 .columns = {}};
    QualityAnalysis analysis = Blocking([&] { return client_.Analyze(campaign, request); });
    std::vector<annotation::Column> columns;
    for (QualityAnalysis::Column& c : analysis.columns) {
      columns.push_back({std::move(c.name), std::move(c.shape), std::move(c.values)});
    }
    return nb::make_tuple(analysis.items, analysis.annotators, analysis.classes,
                          python::ToDict(std::move(columns)));
  }

 private:
  QualityClient client_;
};

}  // namespace

void BindQualityClient(nb::module_& m) {
  using nb::arg;
  nb::class_<Client>(m, "QualityClient")
      .def(nb::init<const std::string&, double, int>(), arg("address"), arg("timeout_s"),
           arg("max_attempts"))
      .def("open_campaign", &Client::Open, arg("name"), arg("classes"), arg("close_after_votes"),
           arg("close_after_seconds"))
      .def("list_campaigns", &Client::List)
      .def("delete_campaign", &Client::Delete, arg("name"))
      .def("feed_votes", &Client::FeedVotes, arg("campaign"), arg("item"), arg("annotator"),
           arg("class_id").none(), arg("probability").none(), arg("weight").none(),
           arg("time").none(), arg("vote_id").none())
      .def("feed_items", &Client::FeedItems, arg("campaign"), arg("gold"), arg("item"),
           arg("class_id").none(), arg("probability").none())
      .def("close_items", &Client::Close, arg("campaign"), arg("items"))
      .def("analyze", &Client::Analyze, arg("campaign"), nb::kw_only(), arg("all_items"),
           arg("method"), arg("class_values"), arg("bootstrap_replicates"), arg("worklist_items"),
           arg("drift_windows"), arg("calibrate_predictions"), arg("min_agreement"),
           arg("min_votes"), arg("spammer_score"), arg("collapse_share"), arg("collapse_excess"));
}

}  // namespace softloss::python
