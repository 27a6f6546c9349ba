// wick image check
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/printable.h"
#include "block/io_thread.h"
#include "block/qcow2/check.h"
#include "image/commands.h"
#include "image/source.h"

namespace wick::image {

namespace {

using block::CheckReport;

// qemu-img's exit statuses.
constexpr int kNotDone = 1;
constexpr int kCorrupt = 2;
constexpr int kLeaks = 3;
constexpr int kUnsupported = 63;

// The maximum number of findings that are shown, one line each. A damaged image may have millions;
// the report has their number.
constexpr uint64_t kMaxFindingsShown = 200;

std::string to_json(const CheckReport& report, const std::string& path, ImageFormat format) {
  nlohmann::ordered_json json;
  const auto put = [&](const char* key, uint64_t value) {
    if (value != 0) json[key] = value;
  };
  put("image-end-offset", report.image_end_bytes);
  put("total-clusters", report.total_clusters);
  json["check-errors"] = report.check_errors;
  put("corruptions", report.corruptions);
  put("corruptions-fixed", report.corruptions_fixed);
  put("leaks", report.leaks);
  put("leaks-fixed", report.leaks_fixed);
  put("compressed-clusters", report.compressed_clusters);
  put("allocated-clusters", report.allocated_clusters);
  put("fragmented-clusters", report.fragmented_clusters);
  json["filename"] = path;
  json["format"] = format_name(format);
  return json.dump(4, ' ', true, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string to_text(const CheckReport& report) {
  std::string text;
  if (report.corruptions_fixed + report.leaks_fixed > 0)
    text += fmt::format(
        "The following inconsistencies were found and repaired:\n\n    {} leaked clusters\n    {} "
        "corruptions\n\nDouble checking the fixed image now...\n",
        report.leaks_fixed, report.corruptions_fixed);
  if (report.clean()) text += "No errors were found on the image.\n";
  if (report.corruptions > 0)
    text += fmt::format(
        "\n{} errors were found on the image.\nData may be corrupted, or further writes to the "
        "image may corrupt it.\n",
        report.corruptions);
  if (report.leaks > 0)
    text += fmt::format(
        "\n{} leaked clusters were found on the image.\nThis means waste of disk space, but no "
        "harm to data.\n",
        report.leaks);
  if (report.check_errors > 0)
    text +=
        fmt::format("\n{} internal errors have occurred during the check.\n", report.check_errors);
  if (report.total_clusters > 0 && report.allocated_clusters > 0) {
    const auto percent = [](uint64_t part, uint64_t whole) {
      return static_cast<double>(part) * 100 / static_cast<double>(whole);
    };
    text +=
        fmt::format("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n",
                    report.allocated_clusters, report.total_clusters,
                    percent(report.allocated_clusters, report.total_clusters),
                    percent(report.fragmented_clusters, report.allocated_clusters),
                    percent(report.compressed_clusters, report.allocated_clusters));
  }
  if (report.image_end_bytes > 0)
    text += fmt::format("Image end offset: {}\n", report.image_end_bytes);
  return text;
}

int status_of(const CheckReport& report) {
  if (report.check_errors > 0) return kNotDone;
  if (report.corruptions > 0) return kCorrupt;
  return report.leaks > 0 ? kLeaks : 0;
}

void show(const ImageCheck& command, const CheckReport& report, ImageFormat format) {
  if (command.quiet && !command.json) return;
  const std::string text = command.json ? to_json(report, command.path, format) : to_text(report);
  std::fputs(text.c_str(), stdout);
}

// Checks a vdi or vmdk image. These have no refcounts, so it only checks that their map stays
// inside the file.
Result<int> check_map(block::IoThread& thread, const ImageCheck& command, ImageFormat format) {
  if (command.repair != block::Repair::kNone) {
    fmt::print(stderr, "wick: {}: wick cannot repair {}; convert what can be read\n",
               printable(command.path), format_name(format));
    return kUnsupported;
  }
  const auto disk =
      TRY(open_source(thread, command.path, {.format = format, .share = command.share})).disk;
  CheckReport report;
  for (uint64_t offset = 0; offset < disk->size_bytes();) {
    const auto extent =
        thread.run([&] { return disk->extent(offset, disk->size_bytes() - offset); });
    if (!extent) {
      fmt::print(stderr, "{}\n", printable(extent.error().message()));
      report.corruptions = 1;
      break;
    }
    offset += extent->length_bytes;
  }
  show(command, report, format);
  return status_of(report);
}

}  // namespace

Result<int> execute(const ImageCheck& command) {
  const auto thread = TRY(block::IoThread::create("image"));
  const ImageFormat format = TRY(format_of(*thread, command.path, command.format));
  if (is_foreign(format)) return check_map(*thread, command, format);
  block::ImageOptions options;
  options.format = block_format(format);
  options.read_only = command.repair == block::Repair::kNone;
  options.lock = !command.share;
  auto opened = TRY(block::open_image_file(command.path, options, thread->io()));
  if (opened.format != block::Format::kQcow2) {
    fmt::print(stderr, "wick: {}: a raw image has nothing to check\n", printable(command.path));
    return kUnsupported;
  }
  uint64_t findings = 0;
  const auto tell = [&](const std::string& finding) {
    if (++findings <= kMaxFindingsShown) std::fputs((printable(finding) + "\n").c_str(), stderr);
  };
  const auto report =
      thread->run([&] { return block::check_qcow2(*opened.file, command.repair, tell); });
  if (findings > kMaxFindingsShown)
    fmt::print(stderr, "and {} more\n", findings - kMaxFindingsShown);
  if (!report) return std::unexpected(report.error());
  show(command, *report, format);
  return status_of(*report);
}

}  // namespace wick::image
