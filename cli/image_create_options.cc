#include "cli/image_create_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "cli/image_size.h"
#include "cli/spec.h"

namespace wick::cli {

namespace {

using block::Format;
using block::Preallocation;
using block::Qcow2CreateOptions;
using block::RawCreateOptions;

struct CreateKey {
  std::string_view name;
  Result<void> (*apply)(Qcow2CreateOptions& options, const std::string& value);
};

constexpr CreateKey kQcow2Keys[] = {
    {"size", [](Qcow2CreateOptions&, const std::string&) -> Result<void> { return {}; }},
    {"compat",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.version = v == "0.10" || v == "v2" ? 2 : 3;
       if (o.version == 3 && v != "1.1" && v != "v3") return fail("must be 0.10 or 1.1 (v2, v3)");
       return {};
     }},
    {"backing_file",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.backing_path = v;
       return {};
     }},
    {"backing_fmt",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       if (!block::format_of_name(v)) return fail("must be raw or qcow2");
       o.backing_format = v;
       return {};
     }},
    {"cluster_size",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.cluster_bytes = TRY(parse_image_size(v));
       return {};
     }},
    {"refcount_bits",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.refcount_bits = TRY(parse_image_size(v));
       return {};
     }},
    {"lazy_refcounts",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.lazy_refcounts = TRY(parse_switch(v));
       return {};
     }},
    {"extended_l2",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.extended_l2 = TRY(parse_switch(v));
       return {};
     }},
    {"compression_type",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       using block::qcow2::Compression;
       o.compression = v == "zstd" ? Compression::kZstd : Compression::kZlib;
       if (v != "zstd" && v != "zlib") return fail("must be zlib or zstd");
       return {};
     }},
    {"preallocation",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.preallocation = TRY(parse_preallocation(v));
       return {};
     }},
    {"data_file",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.data_path = v;
       return {};
     }},
    {"data_file_raw",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.raw_data = TRY(parse_switch(v));
       return {};
     }},
};

constexpr std::array<std::string_view, 2> kRawKeys = {"size", "preallocation"};

}  // namespace

Result<ParsedCreateOptions> parse_create_options(Format format,
                                                 std::span<const std::string> texts) {
  std::vector<std::string_view> keys(kRawKeys.begin(), kRawKeys.end());
  if (format == Format::kQcow2) {
    keys.clear();
    for (const CreateKey& key : kQcow2Keys) keys.push_back(key.name);
  }
  ParsedCreateOptions parsed;
  Qcow2CreateOptions options;
  for (const std::string& text : texts) {
    for (auto& [key, value] : TRY(parse_spec("-," + text, keys)).pairs) {
      const auto* const row = std::ranges::find(kQcow2Keys, key, &CreateKey::name);
      if (auto applied = row->apply(options, value); !applied) {
        applied.error().context = fmt::format("{}={}: {}", key, value, applied.error().context);
        return failure(applied);
      }
      parsed.pairs.emplace_back(std::move(key), std::move(value));
    }
  }
  if (format == Format::kQcow2) {
    parsed.options = std::move(options);
    return parsed;
  }
  if (options.preallocation == Preallocation::kMetadata)
    return fail("preallocation=metadata: raw has off, falloc and full");
  parsed.options = RawCreateOptions{.preallocation = options.preallocation};
  return parsed;
}

Result<Preallocation> parse_preallocation(const std::string& value) {
  constexpr std::array kNames = {"off", "metadata", "falloc", "full"};
  const auto found = std::ranges::find(kNames, value);
  if (found == kNames.end()) return fail("must be {}", fmt::join(kNames, ", "));
  return static_cast<Preallocation>(found - kNames.begin());
}

}  // namespace wick::cli
