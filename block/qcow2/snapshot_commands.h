// Lists, makes, applies and deletes the internal snapshots of a qcow2 disk.
//
// A snapshot is a second L1 table over the same L2 tables and data, whose refcounts it increments.
// Each command first gets the host's space, then changes the counts, then the tables, and then the
// header. So all clusters to which the header leads are counted, and a full host disk is noticed
// before anything has changed. Clusters are freed after that, so that a crash leaves at most leaks.
//
// Thread rule: as for Metadata. Nobody else uses the disk during a command that changes snapshots.
// If such a command fails, the image must be opened anew.
#pragma once

#include <string>
#include <vector>

#include "block/qcow2/metadata.h"
#include "block/qcow2/snapshots.h"

namespace wick::block::qcow2 {

Task<Result<std::vector<Snapshot>>> list_snapshots(const Metadata& metadata);

Task<Result<void>> create_snapshot(Metadata& metadata, const std::string& name);
// `name` is the ID of a snapshot, or its name if no snapshot has that ID.
Task<Result<void>> apply_snapshot(Metadata& metadata, const std::string& name);
Task<Result<void>> delete_snapshot(Metadata& metadata, const std::string& name);
// Makes a read-only disk read as the snapshot. Must be awaited before the first request.
Task<Result<void>> show_snapshot(Metadata& metadata, const std::string& name);

}  // namespace wick::block::qcow2
