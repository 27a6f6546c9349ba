#include "cli/image/name.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/form.h"
#include "cli/spec.h"
#include "image/source.h"

namespace wick::cli {

namespace {

constexpr std::string_view kForm =
    "[,driver=DRIVER][,filename=FILE][,file.driver=DRIVER][,file.filename=FILE]";

Result<ImageName> from_pairs(const std::vector<std::pair<std::string, std::string>>& pairs) {
  ImageName name;
  std::string protocol = "file";
  for (const auto& [key, value] : pairs) {
    if (key == "file.driver") protocol = value;
    if (key == "filename" || key == "file.filename") name.path = value;
    if (key != "driver") continue;
    if (value == "file" || value == "host_device")
      name.format = image::ImageFormat::kRaw;  // the disk's bytes are the file's bytes
    else if (name.format = image::image_format_of_name(value); !name.format)
      return fail("driver '{}': must be raw, qcow2, vdi, vmdk or file", value);
  }
  if (protocol != "file" && protocol != "host_device")
    return fail("file.driver '{}': must be file or host_device", protocol);
  if (name.path.empty()) return fail("file.filename is missing");
  return name;
}

// Converts JSON into pairs: {"a": {"b": "c"}} becomes a.b=c.
Result<void> flatten(const nlohmann::json& json, const std::string& prefix,
                     std::vector<std::pair<std::string, std::string>>& pairs) {
  for (const auto& [key, value] : json.items()) {
    const std::string name = prefix + key;
    if (value.is_object() && prefix.empty() && name == "file") {
      TRY(flatten(value, "file.", pairs));
      continue;
    }
    if (!value.is_string() ||
        std::ranges::none_of(spec_keys(kForm), [&](const auto& is) { return is.name == name; }))
      return fail("'{}': must be driver, filename, file.driver or file.filename", name);
    pairs.emplace_back(name, value.get<std::string>());
  }
  return {};
}

}  // namespace

Result<ImageName> parse_image_name(const std::string& text, bool by_options) {
  if (by_options) return from_pairs(TRY(parse_spec("-," + text, kForm)).pairs);
  if (text.starts_with("json:")) {
    const auto json = nlohmann::json::parse(text.substr(5), nullptr, false);
    if (!json.is_object()) return fail("is not a JSON object");
    std::vector<std::pair<std::string, std::string>> pairs;
    TRY(flatten(json, "", pairs));
    return from_pairs(pairs);
  }
  return ImageName{text.starts_with("file:") ? text.substr(5) : text, std::nullopt};
}

block::Cache cache_of_name(const std::string& mode) {
  if (mode == "none" || mode == "directsync") return block::Cache::kNone;
  return mode == "unsafe" ? block::Cache::kUnsafe : block::Cache::kWriteback;
}

}  // namespace wick::cli
