// Reads and writes the header of a qcow2 image (qcow2 specification, "Header").
//
// Thread rule: as for File.
#pragma once

#include <span>

#include "block/file.h"
#include "block/qcow2/format.h"

namespace wick::block::qcow2 {

// Reads the header of any image, even of one that must not be opened as a disk.
Task<Result<Header>> read_header(File& file, Parse parse = Parse::kStrict);

// Replaces the header, in one sector if it fits, and syncs the file. No disk may be open on the
// file.
Task<Result<void>> write_header(File& file, const Header& header);

// Replaces fields of the header that are in one sector, and syncs the file. After an error the
// file has the old fields or the new ones.
Task<Result<void>> write_header_fields(File& file, uint64_t offset_bytes,
                                       std::span<const std::byte> fields);

Task<Result<void>> write_refcount_table_fields(File& file, uint64_t table_offset,
                                               uint64_t table_clusters);

}  // namespace wick::block::qcow2
