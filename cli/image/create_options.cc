#include "cli/image/create_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "cli/form.h"
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
  std::string_view form;
  const char* help;
  Result<void> (*apply)(Qcow2CreateOptions& options, const std::string& value);
};

using Options = Qcow2CreateOptions;

template <auto member>
Result<void> set_text(Options& options, const std::string& value) {
  options.*member = value;
  return {};
}

template <auto member>
Result<void> set_size(Options& options, const std::string& value) {
  options.*member = TRY(image::parse_image_size(value));
  return {};
}

template <auto member>
Result<void> set_switch(Options& options, const std::string& value) {
  options.*member = value == "on";
  return {};
}

constexpr std::string_view kPreallocationForm = "off|metadata|falloc|full";

constexpr CreateKey kQcow2Keys[] = {
    {"size", "SIZE", "size of the disk",
     [](Options&, const std::string&) -> Result<void> { return {}; }},
    {"compat", "0.10|1.1|v2|v3", "0.10 or 1.1 (v2, v3)",
     [](Options& o, const std::string& v) -> Result<void> {
       o.version = v == "0.10" || v == "v2" ? 2 : 3;
       return {};
     }},
    {"backing_file", "FILE", "the backing file", set_text<&Options::backing_path>},
    {"backing_fmt", "raw|qcow2", "format of the backing file: raw or qcow2",
     set_text<&Options::backing_format>},
    {"cluster_size", "SIZE", "512 to 2M (64k)", set_size<&Options::cluster_bytes>},
    {"refcount_bits", "N", "1 to 64 (16)", set_size<&Options::refcount_bits>},
    {"lazy_refcounts", "on|off", "update refcounts only when the image is closed",
     set_switch<&Options::lazy_refcounts>},
    {"extended_l2", "on|off", "allocate subclusters", set_switch<&Options::extended_l2>},
    {"compression_type", "zlib|zstd", "for compressed clusters: zlib or zstd",
     [](Options& o, const std::string& v) -> Result<void> {
       using block::qcow2::Compression;
       o.compression = v == "zstd" ? Compression::kZstd : Compression::kZlib;
       return {};
     }},
    {"preallocation", kPreallocationForm, "off, metadata, falloc or full; raw: not metadata",
     [](Options& o, const std::string& v) -> Result<void> {
       o.preallocation = TRY(parse_preallocation(v));
       return {};
     }},
    {"data_file", "FILE", "the file that holds the data", set_text<&Options::data_path>},
    {"data_file_raw", "on|off", "keep the data file readable as a raw disk",
     set_switch<&Options::raw_data>},
};

constexpr std::array<std::string_view, 2> kRawKeys = {"size", "preallocation"};

std::vector<std::string_view> keys_of(Format format) {
  if (format == Format::kRaw) return {kRawKeys.begin(), kRawKeys.end()};
  std::vector<std::string_view> keys;
  for (const CreateKey& key : kQcow2Keys) keys.push_back(key.name);
  return keys;
}

// Returns qemu-img's name for the type of a value.
const char* type_of(std::string_view form) {
  if (form == "on|off") return "bool (on/off)";
  return form == "SIZE" ? "size" : form == "N" ? "num" : "str";
}

std::string list_options(std::vector<std::string_view> keys) {
  std::ranges::sort(keys);
  std::string text;
  for (const std::string_view key : keys) {
    const auto* const row = std::ranges::find(kQcow2Keys, key, &CreateKey::name);
    text +=
        fmt::format("  {:<22} - {}\n", fmt::format("{}=<{}>", key, type_of(row->form)), row->help);
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

std::string create_options_form(Format format) {
  std::string form;
  for (const std::string_view key : keys_of(format))
    form +=
        fmt::format("[,{}={}]", key, std::ranges::find(kQcow2Keys, key, &CreateKey::name)->form);
  return form;
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
  const std::string form = create_options_form(format);
  ParsedCreateOptions parsed;
  Qcow2CreateOptions options;
  for (const std::string& text : texts) {
    for (auto& [key, value] : TRY(parse_spec("-," + text, form)).pairs) {
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
  return static_cast<Preallocation>(TRY(choose(kPreallocationForm, value)));
}

}  // namespace wick::cli
