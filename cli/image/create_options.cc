#include "cli/image/create_options.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "cli/spec.h"
#include "image/commands.h"
#include "image/size.h"

namespace wick::cli {

namespace {

using block::Format;
using block::Preallocation;
using block::Qcow2CreateOptions;
using image::RawCreateOptions;

struct CreateKey {
  std::string_view name;
  const char* value;
  const char* help;
  Result<void> (*apply)(Qcow2CreateOptions& options, const std::string& value);
};

constexpr CreateKey kQcow2Keys[] = {
    {"size", "size", "size of the disk",
     [](Qcow2CreateOptions&, const std::string&) -> Result<void> { return {}; }},
    {"compat", "str", "0.10 or 1.1 (v2, v3)",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.version = v == "0.10" || v == "v2" ? 2 : 3;
       if (o.version == 3 && v != "1.1" && v != "v3") return fail("must be 0.10 or 1.1 (v2, v3)");
       return {};
     }},
    {"backing_file", "str", "the backing file",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.backing_path = v;
       return {};
     }},
    {"backing_fmt", "str", "format of the backing file: raw or qcow2",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       if (!block::format_of_name(v)) return fail("must be raw or qcow2");
       o.backing_format = v;
       return {};
     }},
    {"cluster_size", "size", "512 to 2M (64k)",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.cluster_bytes = TRY(image::parse_image_size(v));
       return {};
     }},
    {"refcount_bits", "num", "1 to 64 (16)",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.refcount_bits = TRY(image::parse_image_size(v));
       return {};
     }},
    {"lazy_refcounts", "bool (on/off)", "update refcounts only when the image is closed",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.lazy_refcounts = TRY(parse_switch(v));
       return {};
     }},
    {"extended_l2", "bool (on/off)", "allocate subclusters",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.extended_l2 = TRY(parse_switch(v));
       return {};
     }},
    {"compression_type", "str", "for compressed clusters: zlib or zstd",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       using block::qcow2::Compression;
       o.compression = v == "zstd" ? Compression::kZstd : Compression::kZlib;
       if (v != "zstd" && v != "zlib") return fail("must be zlib or zstd");
       return {};
     }},
    {"preallocation", "str", "off, metadata, falloc or full; raw: not metadata",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.preallocation = TRY(parse_preallocation(v));
       return {};
     }},
    {"data_file", "str", "the file that holds the data",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.data_path = v;
       return {};
     }},
    {"data_file_raw", "bool (on/off)", "keep the data file readable as a raw disk",
     [](Qcow2CreateOptions& o, const std::string& v) -> Result<void> {
       o.raw_data = TRY(parse_switch(v));
       return {};
     }},
};

constexpr std::array<std::string_view, 2> kRawKeys = {"size", "preallocation"};

std::vector<std::string_view> keys_of(Format format) {
  if (format == Format::kRaw) return {kRawKeys.begin(), kRawKeys.end()};
  std::vector<std::string_view> keys;
  for (const CreateKey& key : kQcow2Keys) keys.push_back(key.name);
  return keys;
}

std::string list_options(std::vector<std::string_view> keys) {
  std::ranges::sort(keys);
  std::string text;
  for (const std::string_view key : keys) {
    const auto* const row = std::ranges::find(kQcow2Keys, key, &CreateKey::name);
    text += fmt::format("  {:<22} - {}\n", fmt::format("{}=<{}>", key, row->value), row->help);
  }
  return text;
}

}  // namespace

bool asks_for_options(std::span<const std::string> texts) {
  return std::ranges::any_of(texts, [](const std::string& text) {
    const std::string whole = "," + text + ",";
    return whole.find(",help,") != whole.npos || whole.find(",?,") != whole.npos;
  });
}

std::string help_on_create_options(Format format) {
  return fmt::format("Supported {} options:\n{}", format_name(format),
                     list_options(keys_of(format)));
}

std::string help_on_amend_options(std::span<const std::string_view> keys) {
  return fmt::format("Amend options for 'qcow2':\n{}", list_options({keys.begin(), keys.end()}));
}

Result<ParsedCreateOptions> parse_create_options(Format format,
                                                 std::span<const std::string> texts) {
  const std::vector<std::string_view> keys = keys_of(format);
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
  parsed.options = image::RawCreateOptions{.preallocation = options.preallocation};
  return parsed;
}

Result<Preallocation> parse_preallocation(const std::string& value) {
  constexpr std::array kNames = {"off", "metadata", "falloc", "full"};
  const auto found = std::ranges::find(kNames, value);
  if (found == kNames.end()) return fail("must be {}", fmt::join(kNames, ", "));
  return static_cast<Preallocation>(found - kNames.begin());
}

}  // namespace wick::cli
